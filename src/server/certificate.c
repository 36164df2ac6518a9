/* certificate: see certificate.h. */
#include "server/certificate.h"

#include "core/base/base.h"
#include "core/base/dirs.h"
#include "core/base/log.h"
#include "core/io/addr.h"
#include "core/mux/crypt_ctx.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* Whence certificate and key are. */
enum own { OWN_NONE, OWN_FILES, OWN_MEMORY };

static enum own source; /* of the one in use: a key stays what it is until the program ends */
static char shown[512]; /* its file */

static void certificate_warn(void *arg, const char *text)
{
    (void)arg;
    log_at(LOG_WARN, "tls", "%s", text);
}

/* Days before the end from which on a certificate is renewed, if we made it, or warned about. */
#define EXPIRY_NEAR 30

static const char *certificate_how_old(const struct crypt_dates *dates, char *text, size_t size)
{
    snprintf(text, size, dates->days < 0 ? "has expired, %ld days ago" : "expires in %ld days",
             labs(dates->days));
    return text;
}

/* Clients that trust our CA, and not the key, refuse us when it has expired. */
static void certificate_look_at_ca(const char *dir)
{
    struct crypt_dates dates;
    char ca[512], age[48];

    snprintf(ca, sizeof(ca), "%s/ca.pem", dir);
    if (!crypt_certificate_dates(ca, &dates) || dates.days >= EXPIRY_NEAR)
        return;
    log_at(LOG_WARN, "tls",
           "the CA %s %s: clients that trust it (--tls-ca) then refuse this server, "
           "those with a pin do not; to get a new CA move ca.pem and ca.key away, call culvert "
           "gen-cert, and send SIGHUP (%s)",
           ca, certificate_how_old(&dates, age, sizeof(age)), dates.text);
}

/* One of ours that is not valid yet was made while the clock was ahead, unless the clock is not
 * set. */
static bool certificate_renewal_is_due(const struct crypt_dates *dates)
{
    return dates->days < EXPIRY_NEAR || (dates->early && dates->clock_is_set);
}

/* `own`: made by us, in the state directory. Its names, its key and with it the pin stay when it is
 * renewed. One that is not valid yet is told of when it is loaded. */
static void certificate_look_at_expiry(const char *cert, const char *own)
{
    struct crypt_dates dates;
    char why[512], not_renewed[560] = "", age[48];

    if (!crypt_certificate_dates(cert, &dates) || !certificate_renewal_is_due(&dates))
        return;
    if (own != NULL && crypt_renew_certificate(own, why, sizeof(why))) {
        log_at(LOG_INFO, "tls", "renewed the certificate %s (%s): same names, same key", cert,
               dates.text);
        return;
    }
    if (own != NULL)
        snprintf(not_renewed, sizeof(not_renewed), " (it could not be renewed: %s)", why);
    if (dates.days < EXPIRY_NEAR || own != NULL)
        log_at(LOG_WARN, "tls",
               "the certificate %s %s (%s)%s: make a new one (culvert gen-cert), then "
               "send SIGHUP%s",
               cert, certificate_how_old(&dates, age, sizeof(age)), dates.text,
               dates.days < 0 ? ", clients refuse it" : "", not_renewed);
}

static bool certificate_can_read(const char *cert, const char *key)
{
    return access(cert, R_OK) == 0 && access(key, R_OK) == 0;
}

/* Of our certificate beside localhost: the address of --addr, "" if that is every address. */
static const char *certificate_own_name(const struct config *config, char *name, size_t size)
{
    union sock_addr addr;

    if (!addr_from_host(config->listen.host, 0, &addr) || sock_addr_is_any(&addr))
        return "";
    return addr_drop_zone(config->listen.host, name, size);
}

static bool certificate_make_files(const struct config *config, char *why, size_t size)
{
    char text[sizeof(config->listen.host)];
    const char *name = certificate_own_name(config, text, sizeof(text));

    return crypt_make_certificate(config->state_dir, name[0] != '\0' ? name : NULL, why, size);
}

/* Another server, which starts at the same time, may make them. */
static bool certificate_make_or_find(const struct config *config, const char *cert, const char *key,
                                     char *why, size_t size)
{
    const char *dir = config->state_dir;
    int error = dirs_make(dir);
    int lock = error == 0 ? dirs_lock(dir) : error;
    bool ok = false;

    if (error != 0) {
        snprintf(why, size, "cannot make the directory %s: %s", dir, strerror(-error));
    } else if (lock == -ETIMEDOUT) {
        snprintf(why, size, "another program makes files in %s, and does not end", dir);
    } else if (certificate_can_read(cert, key)) {
        ok = true;
    } else {
        ok = certificate_make_files(config, why, size);
        if (ok)
            log_at(LOG_INFO, "tls", "made a certificate: %s", cert);
    }
    if (lock >= 0)
        close(lock);
    return ok;
}

/* Whether the state directory can be done without: nobody has named it, and it holds no key of
 * ours. */
static bool certificate_may_do_without(const struct config *config, const char *key)
{
    return !config->state_dir_named && access(key, F_OK) != 0;
}

/* The files of the state directory, which only a start makes: at a reload another key would lock
 * out every client that has the pin. */
static enum own certificate_own_state(const struct config *config, const char *cert,
                                      const char *key)
{
    char why[512];

    if (certificate_can_read(cert, key)) {
        certificate_look_at_expiry(cert, config->state_dir);
        certificate_look_at_ca(config->state_dir);
        return OWN_FILES;
    }
    if (source != OWN_NONE) {
        log_at(LOG_ERROR, "tls", "cannot read %s and %s: put them back and send SIGHUP", cert, key);
        return OWN_NONE;
    }
    if (certificate_make_or_find(config, cert, key, why, sizeof(why)))
        return OWN_FILES;
    if (certificate_may_do_without(config, key)) {
        log_at(LOG_WARN, "tls",
               "%s; the server's key lives in memory, so the pin changes at each start: name a "
               "directory with --state-dir",
               why);
        return OWN_MEMORY;
    }
    log_at(LOG_ERROR, "tls",
           "cannot make a certificate: %s; name another directory with --state-dir, or give "
           "--tls-cert and --tls-key",
           why);
    return OWN_NONE;
}

static enum own certificate_own_files(const struct config *config, char *cert, char *key,
                                      size_t size)
{
    if (config->tls_cert[0] != '\0') {
        snprintf(cert, size, "%s", config->tls_cert);
        snprintf(key, size, "%s", config->tls_key);
        certificate_look_at_expiry(cert, NULL);
        return OWN_FILES;
    }
    snprintf(cert, size, "%s/server.pem", config->state_dir);
    snprintf(key, size, "%s/server.key", config->state_dir);
    if (config->state_dir[0] != '\0' && source != OWN_MEMORY)
        return certificate_own_state(config, cert, key);
    cert[0] = key[0] = '\0';
    return OWN_MEMORY;
}

static struct crypt_ctx *certificate_open_ctx(const struct config *config)
{
    char cert[512], key[512], why[512], name[sizeof(config->listen.host)];
    enum own own = certificate_own_files(config, cert, key, sizeof(cert));
    struct crypt_config crypt = { .server = true,
                                  .allow_12 = true, /* v1 peers; a v2 peer on 1.2 is refused */
                                  .cert = own == OWN_FILES ? cert : "",
                                  .key = own == OWN_FILES ? key : "",
                                  .in_memory = own == OWN_MEMORY,
                                  .name = certificate_own_name(config, name, sizeof(name)),
                                  .ca = config->tls_ca,
                                  .pin = "",
                                  .known_servers = "",
                                  .keylog = config->keylog,
                                  .warn = certificate_warn };

    if (own == OWN_NONE)
        return NULL;
    struct crypt_ctx *ctx = crypt_ctx_open(&crypt, why, sizeof(why));
    if (ctx == NULL) {
        log_at(LOG_ERROR, "tls", "%s", why);
        return NULL;
    }
    source = own;
    snprintf(shown, sizeof(shown), "%s", own == OWN_FILES ? cert : "");
    return ctx;
}

/* The name by which clients reach this server: that of --addr, else of its certificate. */
static void certificate_find_host(const struct config *config, const union sock_addr *listen,
                                  char *host, size_t size)
{
    bool any = config->listen.host[0] == '\0' || sock_addr_is_any(listen);

    if (!any)
        addr_format_host(&listen->sa, host, size);
    else if (shown[0] == '\0' || !crypt_certificate_name(shown, host, size))
        snprintf(host, size, "THIS-HOST");
}

/* As one word of a shell. */
static const char *certificate_quoted(const char *word, char *text, size_t size)
{
    size_t n = 0;

    if (word[strcspn(word, " \t\n'\"\\$`;&|<>()*?[]#~!{}")] == '\0')
        return word;
    text[n++] = '\'';
    for (; *word != '\0' && n + 6 < size; word++)
        n += (size_t)snprintf(text + n, size - n, *word == '\'' ? "'\\''" : "%c", *word);
    snprintf(text + n, size - n, "'");
    return text;
}

/* The whole command of a client. A token that is no file's is not printed. */
static void certificate_print_command(const struct config *config, const union sock_addr *listen,
                                      const struct crypt_ctx *ctx)
{
    struct config_endpoint at = { .port = sock_addr_port(listen) };
    char text[ADDR_ENDPOINT_TEXT_MAX], word[1024];
    const char *file = config->token_file != NULL
                           ? certificate_quoted(config->token_file, word, sizeof(word))
                           : "FILE";

    certificate_find_host(config, listen, at.host, sizeof(at.host));
    addr_format_endpoint(&at, text, sizeof(text));
    log_out("tls: culvert client --server %s --local HOST:PORT --tls-pin %s%s%s%s", text,
            crypt_ctx_pin(ctx), config->token_is_default ? "" : " --token-file ",
            config->token_is_default ? "" : file,
            config->tls_ca[0] == '\0' ? "" : " --tls-cert client.pem --tls-key client.key");
}

struct crypt_ctx *certificate_open(const struct config *config, const union sock_addr *listen)
{
    bool for_others = config->tls == CONFIG_ON || !sock_addr_is_loopback(listen);
    struct crypt_ctx *ctx = certificate_open_ctx(config);

    if (ctx != NULL && source == OWN_MEMORY && config->state_dir[0] == '\0' && for_others)
        log_at(LOG_WARN, "tls",
               "there is no directory for the server's key, which lives in memory, so the pin "
               "changes at each start: name one with --state-dir");
    if (ctx != NULL && for_others)
        certificate_print_command(config, listen, ctx);
    return ctx;
}

struct crypt_ctx *certificate_read_again(const struct config *config)
{
    if (source == OWN_MEMORY && config->tls_ca[0] == '\0')
        return NULL; /* there is nothing to read */
    struct crypt_ctx *fresh = certificate_open_ctx(config);

    if (fresh == NULL)
        log_at(LOG_WARN, "tls", "the certificate in use stays, and the CA file as it was read");
    return fresh;
}

/* Whether somebody has set the clock since the last look. */
static bool certificate_clock_was_set(uint64_t now)
{
    static time_t before;
    time_t ahead = time(NULL) - (time_t)(now / NSEC_PER_SEC);
    bool was_set = labs((long)(ahead - before)) > 60;

    before = ahead;
    return was_set;
}

/* After a look that came to nothing. */
#define LOOK_IN_VAIN (3600 * NSEC_PER_SEC)

bool certificate_is_own(const struct config *config)
{
    return config->tls_cert[0] == '\0' && shown[0] != '\0';
}

static bool certificate_own_is_due(const struct config *config)
{
    struct crypt_dates dates;

    return certificate_is_own(config) && crypt_certificate_dates(shown, &dates) &&
           certificate_renewal_is_due(&dates);
}

struct crypt_ctx *certificate_look(const struct config *config, uint64_t now)
{
    static uint64_t next;
    bool was_set = certificate_clock_was_set(now);

    if ((now < next && !was_set) || !certificate_own_is_due(config))
        return NULL;
    struct crypt_ctx *fresh = certificate_read_again(config);
    next = certificate_own_is_due(config) ? now + LOOK_IN_VAIN : now;
    return fresh;
}
