/*
 * gen_cert: see gen_cert.h.
 *
 * The work is src/tls's (tls_gen_cert). Here: the directory, a table of what was made and what was
 * kept, the pin, and the two commands that use it all, ready to be copied. The directory is the
 * state directory unless --dir says otherwise, so that a server that is started with --tls alone
 * takes what was made here.
 */
#include "app/gen_cert.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "core/base/base.h"
#include "core/base/dirs.h"
#include "core/base/exit_code.h"
#include "core/base/log.h"
#include "core/io/addr.h"
#include "tls/tls.h"

#define PATH_SIZE 512

/* The four files of a call: those of the CA, and those of the server or client. */
struct made {
    char path[4][PATH_SIZE];
    bool kept[4];
};

enum { CA_CERT, CA_KEY, OWN_CERT, OWN_KEY };

static int gen_cert_fail(const char *why)
{
    char text[2 * PATH_SIZE];

    snprintf(text, sizeof(text), "%s", why);
    log_clean(text, strlen(text)); /* it may name a file of the command line */
    fprintf(stderr, "culvert: %s\n", text);
    return EXIT_CODE_CANNOT_START;
}

/* Before anything is made, so that what is there already can be told apart. */
static void gen_cert_look(struct made *made, const char *dir, bool client)
{
    const char *const names[] = { "ca.pem", "ca.key", client ? "client.pem" : "server.pem",
                                  client ? "client.key" : "server.key" };

    for (unsigned i = 0; i < ARRAY_SIZE(names); i++) {
        snprintf(made->path[i], PATH_SIZE, "%s/%s", dir, names[i]);
        made->kept[i] = i != OWN_CERT && access(made->path[i], F_OK) == 0;
    }
}

static void gen_cert_describe_ca(const struct made *made, char *text, size_t size)
{
    long days;

    snprintf(text, size, "the CA: give it to the other side");
    if (tls_cert_days(made->path[CA_CERT], &days))
        snprintf(text, size, "the CA, valid for %ld days: give it to the other side", days);
}

static void gen_cert_print_made(const struct made *made)
{
    for (unsigned i = 0; i < ARRAY_SIZE(made->path); i++) {
        char about[512] = "private key";

        if (i == CA_CERT)
            gen_cert_describe_ca(made, about, sizeof(about));
        else if (i == OWN_CERT)
            tls_cert_describe(made->path[i], about, sizeof(about));
        printf("%s  %s  %s\n", made->kept[i] ? "kept" : "made", made->path[i], about);
    }
}

/* An old CA: what is made here lives no longer than that, whatever it says. */
static void gen_cert_print_if_outlived(const struct made *made)
{
    long ca, longer;

    if (tls_cert_days(made->path[CA_CERT], &ca) &&
        tls_cert_outlives(made->path[OWN_CERT], made->path[CA_CERT], &longer) && longer > 0)
        printf(
            "\nThe CA expires in %ld days, %ld before this certificate: who trusts the CA trusts "
            "neither from then on.\n",
            ca, longer);
}

static void gen_cert_print_server_use(const struct options_gen_cert *what, const struct made *made,
                                      const char *pin)
{
    struct config_endpoint server = { .port = CONFIG_PORT };
    char at[ADDR_ENDPOINT_TEXT_MAX];

    snprintf(server.host, sizeof(server.host), "%s",
             what->name_count > 0 ? what->names[0] : "localhost");
    addr_format_endpoint(&server, at, sizeof(at));
    printf(
        "\npin   %s\n"
        "\nOn the server:\n"
        "  culvert server --tls --tls-cert %s --tls-key %s --token-file token\n"
        "On the client, by the CA (a copy of %s) or by the pin:\n"
        "  culvert client --server %s --local HOST:PORT --tls --tls-ca ca.pem --token-file token\n"
        "  culvert client --server %s --local HOST:PORT --tls-pin %s --token-file token\n",
        pin, made->path[OWN_CERT], made->path[OWN_KEY], made->path[CA_CERT], at, at, pin);
}

static void gen_cert_print_client_use(const struct made *made)
{
    printf("\nOn the server, beside its --tls-cert and --tls-key; it then refuses clients without "
           "such a certificate:\n"
           "  culvert server --tls --tls-ca %s --token-file token\n"
           "On the client, with copies of the other two files, beside its --tls-ca or --tls-pin:\n"
           "  culvert client --server HOST:9000 --local HOST:PORT --tls --tls-cert client.pem "
           "--tls-key client.key --token-file token\n",
           made->path[CA_CERT]);
}

/* It is ours alone until this program ends. */
static bool gen_cert_take_directory(const char *dir, char *why, size_t size)
{
    int error = dirs_make(dir);

    if (error != 0)
        snprintf(why, size, "cannot make the directory %s: %s; name another one with --dir", dir,
                 strerror(-error));
    else if (dirs_lock(dir) == -ETIMEDOUT)
        snprintf(why, size, "another program makes files in %s, and does not end", dir);
    else
        return true;
    return false;
}

int gen_cert_run(const struct options *options)
{
    const struct options_gen_cert *what = &options->gen_cert;
    const char *dir = options->config.state_dir;
    const char *names[OPTIONS_CERT_NAMES_MAX];
    struct tls_gen gen = { .dir = dir,
                           .names = names,
                           .name_count = what->name_count,
                           .days = what->days,
                           .client = what->client[0] != '\0' ? what->client : NULL };
    char why[TLS_WHY_SIZE], pin[TLS_PIN_SIZE];
    struct made made;

    if (!gen_cert_take_directory(dir, why, sizeof(why)))
        return gen_cert_fail(why);
    for (unsigned i = 0; i < what->name_count; i++)
        names[i] = what->names[i];
    gen_cert_look(&made, dir, gen.client != NULL);
    if (!tls_gen_cert(&gen, why, sizeof(why)) ||
        !tls_pin_of_file(made.path[OWN_CERT], pin, why, sizeof(why)))
        return gen_cert_fail(why);
    gen_cert_print_made(&made);
    gen_cert_print_if_outlived(&made);
    if (gen.client != NULL)
        gen_cert_print_client_use(&made);
    else
        gen_cert_print_server_use(what, &made, pin);
    return EXIT_CODE_OK;
}
