/* trust: see trust.h. */
#include "client/trust.h"

#include "core/base/cure.h"
#include "core/base/dirs.h"
#include "core/base/log.h"
#include "core/base/sink.h"
#include "core/io/addr.h"
#include "core/mux/crypt.h"
#include "core/mux/crypt_ctx.h"
#include "core/run/worker.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct crypt_ctx *current; /* read-only while workers run */

static void trust_warn(void *arg, const char *text)
{
    (void)arg;
    log_at(LOG_WARN, "tls", "%s", text);
}

bool trust_wants_tls(const struct config *config, const struct config_endpoint *server)
{
    return config->tls == CONFIG_ON ||
           (config->tls == CONFIG_AUTO && !addr_host_is_loopback(server->host));
}

static bool trust_any_wants_tls(const struct config *config)
{
    unsigned i = 0;

    while (i < config->server_count && !trust_wants_tls(config, &config->servers[i]))
        i++;
    return i < config->server_count;
}

/* Without a file every server is new. */
static void trust_open_known(const struct config *config, char *known, size_t size)
{
    const char *dir = config->state_dir;

    snprintf(known, size, "/dev/null");
    int error = dir[0] != '\0' ? dirs_make(dir) : -ENOENT;
    if (error == 0)
        snprintf(known, size, "%s/known_servers", dir);
    else
        log_at(LOG_WARN, "tls",
               "cannot make the directory %s for known_servers: %s; no server's key is "
               "remembered: name another one with --state-dir, or give --tls-pin or --tls-ca",
               dir[0] != '\0' ? dir : "(there is no home)", strerror(-error));
}

bool trust_open(const struct config *config)
{
    char known[512] = "", why[512];
    bool by_key = config->tls_ca[0] == '\0' && config->tls_pin[0] == '\0';

    if (!trust_any_wants_tls(config))
        return true;
    if (by_key)
        trust_open_known(config, known, sizeof(known));
    struct crypt_config crypt = { .allow_12 = config->wire != CONFIG_WIRE_V2,
                                  .cert = config->tls_cert,
                                  .key = config->tls_key,
                                  .ca = config->tls_ca,
                                  .pin = config->tls_pin,
                                  .known_servers = known,
                                  .accept_new = config->tls_accept_new,
                                  .ask = isatty(STDIN_FILENO) && isatty(STDERR_FILENO),
                                  .keylog = config->keylog,
                                  .warn = trust_warn };
    current = crypt_ctx_open(&crypt, why, sizeof(why));
    if (current == NULL)
        log_at(LOG_ERROR, "tls", "%s", why);
    return current != NULL;
}

void trust_close(void)
{
    crypt_ctx_unref(current);
    current = NULL;
}

struct crypt *trust_crypt(const struct config_endpoint *server)
{
    char known_as[ADDR_ENDPOINT_TEXT_MAX], name[sizeof(server->host)];

    addr_format_endpoint(server, known_as, sizeof(known_as));
    return crypt_open(current, addr_drop_zone(server->host, name, sizeof(name)), known_as);
}

/*
 * The question that is open, or was answered last. A human may take longer than the server's
 * handshake time-out: the lane is then dialled again, and the new one gets the answer to the
 * question that is on the terminal already.
 */
static struct {
    pthread_mutex_t mutex;
    bool open, answered, accept;
    struct worker *worker; /* who waits */
    const struct message_type *type;
    char server[ADDR_ENDPOINT_TEXT_MAX];
    char pin[128];
} question = { .mutex = PTHREAD_MUTEX_INITIALIZER };

static void trust_answer(bool accept)
{
    struct message *message = message_new(question.type);

    message->number = accept;
    (void)worker_post_from_thread(question.worker, message);
}

/* One text among the lines of the log. This thread may wait until the terminal takes it. */
static void trust_print_question(void)
{
    char text[ADDR_ENDPOINT_TEXT_MAX + sizeof(question.pin) + 256];

    int size = snprintf(text, sizeof(text),
                        "The server %s is not known yet. Its key is\n  %s\n"
                        "Compare it with what the server printed at start. Trust it? [y/N] ",
                        question.server, question.pin);
    CHECK(size > 0 && (size_t)size < sizeof(text));
    sink_set_patience(UINT64_MAX);
    sink_put(SINK_ERR, text, (size_t)size);
}

static void *trust_ask_main(void *arg)
{
    char line[16] = "";

    (void)arg;
    trust_print_question();
    if (fgets(line, sizeof(line), stdin) == NULL)
        line[0] = 'n';
    pthread_mutex_lock(&question.mutex);
    question.accept = line[0] == 'y' || line[0] == 'Y';
    question.answered = true;
    question.open = false;
    trust_answer(question.accept);
    pthread_mutex_unlock(&question.mutex);
    worker_helper_end();
    return NULL;
}

/* Nobody is asked where there is no thread to wait for the answer: that is a no, and the next try
 * asks again. */
static void trust_open_question(const char *server, const char *pin)
{
    pthread_t thread;

    snprintf(question.server, sizeof(question.server), "%s", server);
    snprintf(question.pin, sizeof(question.pin), "%s", pin);
    question.answered = false;
    worker_helper_begin();
    int error = pthread_create(&thread, NULL, trust_ask_main, NULL);
    question.open = error == 0;
    if (question.open) {
        pthread_detach(thread);
        return;
    }
    worker_helper_end();
    log_at(LOG_ERROR, "tls", "cannot ask whether to trust the server, no thread: %s%s",
           strerror(error), cure_text(error));
    trust_answer(false);
}

void trust_ask(struct worker *worker, const struct config_endpoint *server, const char *pin,
               const struct message_type *type)
{
    char name[ADDR_ENDPOINT_TEXT_MAX];

    addr_format_endpoint(server, name, sizeof(name));
    pthread_mutex_lock(&question.mutex);
    bool same = strcmp(question.server, name) == 0 && strcmp(question.pin, pin) == 0;
    question.worker = worker;
    question.type = type;
    if (question.answered && same)
        trust_answer(question.accept);
    else if (question.open &&
             !same) /* another key than the one on the terminal: not what the human looks at */
        trust_answer(false);
    else if (!question.open)
        trust_open_question(name, pin);
    pthread_mutex_unlock(&question.mutex);
}
