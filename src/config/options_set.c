/*
 * options_set: see options_set.h.
 *
 * One function for each kind of value, in a table by enum options_kind. Those of addresses, ports
 * and names are options_endpoint.c's.
 */
#include "config/options_set.h"

#include <string.h>

#include "config/options_endpoint.h"
#include "config/options_token.h"
#include "core/base/base.h"
#include "core/base/check.h"
#include "core/base/value.h"

static void set_store(struct options_draft *d, const struct options_flag *flag, uint64_t value)
{
    char *at = (char *)d->options + flag->offset;

    switch (flag->width) {
    case 1:
        *(uint8_t *)at = (uint8_t)value;
        return;
    case 2:
        *(uint16_t *)(void *)at = (uint16_t)value;
        return;
    case 4:
        *(uint32_t *)(void *)at = (uint32_t)value;
        return;
    case 8:
        *(uint64_t *)(void *)at = value;
        return;
    default:
        CHECK(!"width of a flag's target");
    }
}

/* Numbers */

static bool set_fail_number(struct options_draft *d, const struct options_flag *flag,
                            const char *value)
{
    unsigned long long min = flag->min, max = flag->max;

    if (flag->word == NULL)
        return options_error_usage(d->error, "--%s: '%.60s' is not a number from %llu to %llu",
                                   flag->name, value, min, max);
    return options_error_usage(d->error,
                               "--%s: '%.60s' is neither '%s' nor a number from %llu to %llu",
                               flag->name, value, flag->word, min, max);
}

static bool set_number(struct options_draft *d, const struct options_flag *flag, char *value)
{
    uint64_t number;

    if (!value_parse_number(value, &number) || number < flag->min || number > flag->max)
        return set_fail_number(d, flag, value);
    set_store(d, flag, number);
    return true;
}

static bool set_duration(struct options_draft *d, const struct options_flag *flag, char *value)
{
    char min[VALUE_TEXT_MAX], max[VALUE_TEXT_MAX];
    uint64_t ns;

    if (!value_parse_duration(value, &ns))
        return options_error_usage(
            d->error,
            "--%s: '%.60s' is not a duration; write a whole number and its unit, like 250ms, 10s, "
            "2m or 1h",
            flag->name, value);
    if (ns < flag->min || ns > flag->max)
        return options_error_usage(
            d->error, "--%s: %.60s is out of range; write a duration from %s to %s", flag->name,
            value, value_format_duration(flag->min, min), value_format_duration(flag->max, max));
    set_store(d, flag, ns);
    return true;
}

static bool set_size(struct options_draft *d, const struct options_flag *flag, char *value)
{
    char min[VALUE_TEXT_MAX], max[VALUE_TEXT_MAX];
    uint64_t bytes;

    if (!value_parse_size(value, &bytes))
        return options_error_usage(
            d->error, "--%s: '%.60s' is not a size; write bytes, or a number with K, M or G",
            flag->name, value);
    if (bytes < flag->min || bytes > flag->max)
        return options_error_usage(
            d->error, "--%s: %.60s is out of range; write a size from %s to %s", flag->name, value,
            value_format_size(flag->min, min), value_format_size(flag->max, max));
    set_store(d, flag, bytes);
    return true;
}

/* Words */

static bool set_choice(struct options_draft *d, const struct options_flag *flag, char *value)
{
    size_t size = strlen(value);
    const char *choice = flag->value;

    for (uint64_t i = 0;; i++) {
        size_t n = strcspn(choice, "|");

        if (n == size && memcmp(choice, value, n) == 0) {
            set_store(d, flag, i);
            return true;
        }
        if (choice[n] == '\0')
            return options_error_usage(d->error, "--%s: '%.60s' is not one of %s", flag->name,
                                       value, flag->value);
        choice += n + 1;
    }
}

static bool set_read_switch(struct options_draft *d, const struct options_flag *flag,
                            const char *value, bool *on)
{
    *on = value == NULL || strcmp(value, "true") == 0;
    if (*on || strcmp(value, "false") == 0)
        return true;
    return options_error_usage(d->error, "--%s takes no value; write --%s alone", flag->name,
                               flag->name);
}

static bool set_switch(struct options_draft *d, const struct options_flag *flag, char *value)
{
    bool on;

    if (!set_read_switch(d, flag, value, &on))
        return false;
    set_store(d, flag, on);
    return true;
}

static bool set_switch_off(struct options_draft *d, const struct options_flag *flag, char *value)
{
    bool on;

    if (!set_read_switch(d, flag, value, &on))
        return false;
    set_store(d, flag, !on);
    return true;
}

/* --tls and --plain are two values of one thing; with =false each is as if it were not there. */
static bool set_tls(struct options_draft *d, const struct options_flag *flag, char *value)
{
    return set_read_switch(d, flag, value, &d->tls_given);
}

static bool set_plain(struct options_draft *d, const struct options_flag *flag, char *value)
{
    return set_read_switch(d, flag, value, &d->plain_given);
}

/* Texts */

static bool set_text(struct options_draft *d, const struct options_flag *flag, char *value)
{
    size_t size = strlen(value);

    if (size == 0 || size >= flag->width)
        return options_error_usage(d->error, "--%s: '%.60s' is %s; write %s", flag->name, value,
                                   size == 0 ? "empty" : "too long", flag->value);
    memcpy((char *)d->options + flag->offset, value, size + 1);
    return true;
}

static bool set_pin(struct options_draft *d, const struct options_flag *flag, char *value)
{
    if (value_is_pin(value))
        return set_text(d, flag, value);
    return options_error_usage(
        d->error,
        "--%s: '%.80s' is not a pin; it is sha256: and 64 hex digits, as the server prints at "
        "start, or sha256// and base64, as curl writes it",
        flag->name, value);
}

static bool set_cpus(struct options_draft *d, const struct options_flag *flag, char *value)
{
    struct config *config = &d->options->config;

    if (value_parse_cpus(value, config->cpus, CONFIG_CPUS_MAX, &config->cpu_count))
        return true;
    return options_error_usage(
        d->error, "--%s: '%.60s' is not a list of at most %d cores, each once; write it like 0-3,6",
        flag->name, value, CONFIG_CPUS_MAX);
}

static bool set_token(struct options_draft *d, const struct options_flag *flag, char *value)
{
    bool ok = options_token_take("--token", value, &d->options->config, d->error);

    (void)flag;
    explicit_bzero(value, strlen(value));
    d->token_given = true;
    return ok;
}

static bool set_token_file(struct options_draft *d, const struct options_flag *flag, char *value)
{
    if (value[0] == '\0')
        return options_error_usage(d->error, "--%s: it is empty; write the path of a file",
                                   flag->name);
    d->token_file = value;
    return true;
}

static bool (*const setters[])(struct options_draft *d, const struct options_flag *flag,
                               char *value) = {
    [KIND_NUMBER] = set_number,
    [KIND_DURATION] = set_duration,
    [KIND_SIZE] = set_size,
    [KIND_CHOICE] = set_choice,
    [KIND_SWITCH] = set_switch,
    [KIND_SWITCH_OFF] = set_switch_off,
    [KIND_TEXT] = set_text,
    [KIND_PIN] = set_pin,
    [KIND_CPUS] = set_cpus,
    [KIND_LISTEN] = options_endpoint_listen,
    [KIND_PORTS] = options_endpoint_ports,
    [KIND_PUBLIC_ADDR] = options_endpoint_public_addr,
    [KIND_SERVER] = options_endpoint_server,
    [KIND_LOCAL] = options_endpoint_local,
    [KIND_PORT] = options_endpoint_port,
    [KIND_TUNNEL_NAME] = options_endpoint_tunnel_name,
    [KIND_CERT_NAME] = options_endpoint_cert_name,
    [KIND_TOKEN] = set_token,
    [KIND_TOKEN_FILE] = set_token_file,
    [KIND_TLS] = set_tls,
    [KIND_PLAIN] = set_plain,
};
CHECK_STATIC(ARRAY_SIZE(setters) == KIND_COUNT, "every kind of value is read");

/* No value of a list has a comma in it. */
static bool set_fail_list(struct options_draft *d, const struct options_flag *flag,
                          const char *value)
{
    int first = (int)strcspn(value, ",");

    return options_error_usage(
        d->error, "--%s: '%.60s' is a list; repeat the flag instead, like --%s %.*s --%s %.60s",
        flag->name, value, flag->name, first < 60 ? first : 60, value, flag->name,
        value + first + 1);
}

bool options_set(struct options_draft *d, const struct options_flag *flag, char *value)
{
    if (flag->list && strchr(value, ',') != NULL)
        return set_fail_list(d, flag, value);
    if (flag->word != NULL && strcmp(value, flag->word) == 0) {
        set_store(d, flag, flag->meaning);
        return true;
    }
    return setters[flag->kind](d, flag, value);
}
