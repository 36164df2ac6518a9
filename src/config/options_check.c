/* options_check: see options_check.h. */
#include "config/options_check.h"

#include <stdio.h>

#include "config/options_token.h"
#include "core/base/base.h"
#include "core/base/token.h"
#include "core/io/addr.h"

struct rule {
    bool broken;
    const char *says;
};

static bool check_rules(struct options_draft *d, const struct rule *rules, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (rules[i].broken)
            return options_error_usage(d->error, "%s", rules[i].says);
    return true;
}

/* What a server and a client share. */
static bool check_roles(struct options_draft *d)
{
    const struct config *config = &d->options->config;
    const struct rule rules[] = {
        { config->heartbeat >= config->expiry,
          "--expiry must be longer than --heartbeat, or live lanes would be given up; about three "
          "times as long is usual" },
        { config->window_initial > config->window_max,
          "--window-initial must not be above --window-max; raise the second" },
        { d->tls_given && d->plain_given,
          "--tls and --plain contradict each other; leave one of them out" },
        { d->plain_given && options_draft_names_tls(d),
          "--plain makes no use of the other TLS flags; leave it out, or leave them out" },
        { (config->tls_cert[0] == '\0') != (config->tls_key[0] == '\0'),
          "--tls-cert and --tls-key belong together; give both, or none" },
        { config->tls_ca[0] != '\0' && config->tls_pin[0] != '\0',
          "--tls-ca and --tls-pin are two ways to trust a server; give one of them" },
    };

    return check_rules(d, rules, ARRAY_SIZE(rules));
}

static bool check_client(struct options_draft *d)
{
    const struct config *config = &d->options->config;
    bool v1 = config->wire == CONFIG_WIRE_V1;
    const struct rule rules[] = {
        { config->tunnel_count == 0,
          "--local is missing: name the service to expose, like --local localhost:3000 or just "
          "3000; 'culvert help' shows the commands" },
        { d->port_count > config->tunnel_count,
          "--port is given more often than --local; each belongs to one tunnel" },
        { d->name_count > config->tunnel_count,
          "--name is given more often than --local; each belongs to one tunnel" },
        { v1 && config->tunnel_count > 1,
          "--wire v1 carries one tunnel in a session; leave one --local, or use v2" },
        { v1 && config->lanes > 1, "--wire v1 has one lane; leave --lanes out, or use v2" },
        { config->reconnect_first > config->reconnect_max,
          "--reconnect-first must not be above --reconnect-max; raise the second" },
    };

    return check_rules(d, rules, ARRAY_SIZE(rules)) && check_roles(d);
}

static bool check_server(struct options_draft *d)
{
    const struct config *config = &d->options->config;
    char text[PORT_SET_TEXT_MAX];

    if (!port_set_has(&config->ports, config->start_port))
        return options_error_usage(
            d->error,
            "--start-port: %u is not one of the ports that clients may get, %s; write one of "
            "these, or list it with --ports",
            config->start_port, port_set_format(&config->ports, text));
    return check_roles(d);
}

static bool check_gen_cert(struct options_draft *d)
{
    const struct options_gen_cert *what = &d->options->gen_cert;
    const struct rule rules[] = {
        { what->client[0] != '\0' && what->name_count > 0,
          "--client makes a client's certificate, --name a server's; call twice" },
        { d->options->config.state_dir[0] == '\0',
          "--dir is missing: there is no home directory to put the files in" },
    };

    return check_rules(d, rules, ARRAY_SIZE(rules));
}

bool options_check(struct options_draft *d)
{
    switch (d->options->command) {
    case OPTIONS_SERVER:
        return check_server(d);
    case OPTIONS_CLIENT:
        return check_client(d);
    case OPTIONS_GEN_CERT:
        return check_gen_cert(d);
    default:
        return true;
    }
}

/* The token */

static const char *check_token_source(const struct options_draft *d)
{
    if (d->token_given)
        return "--token";
    return d->token_file != NULL ? "--token-file" : "CULVERT_TOKEN";
}

/* What a file has at the ends of its lines is dropped; here somebody may have meant it. */
static void check_blank_ends(struct options_draft *d)
{
    struct options *options = d->options;
    struct config_token token = { 0 };

    while (!options->config.token_is_default && config_next_token(&options->config, &token)) {
        if (!token_has_blank_ends(token.bytes, token.size))
            continue;
        snprintf(options->warning, sizeof(options->warning),
                 "%s: the token begins or ends with white space, which is taken for a part of it: "
                 "the other side must have the same, and a token file never has",
                 check_token_source(d));
        return;
    }
}

/* Strangers at a server far away may try what is weak. */
static bool check_token_strength(struct options_draft *d)
{
    const struct config *config = &d->options->config;
    const char *weakness = token_weakness(config->token, config->token_size);
    unsigned i = 0;

    while (i < config->server_count && addr_host_is_loopback(config->servers[i].host))
        i++;
    if (weakness == NULL || i == config->server_count)
        return true;
    if (config->token_is_default)
        return options_error_usage(
            d->error, "--token-file is missing: without it the token is \"" OPTIONS_DEFAULT_TOKEN
                      "\", which a server takes from loopback only; name the file of the server's "
                      "token");
    return options_error_usage(
        d->error, "%s: the token is %s, which is good enough on loopback only; " TOKEN_CURE,
        check_token_source(d), weakness);
}

bool options_check_token(struct options_draft *d)
{
    check_blank_ends(d);
    if (d->options->command != OPTIONS_CLIENT)
        return true;
    if (!config_keep_one_token(&d->options->config))
        return options_error_usage(
            d->error,
            "%s: the token has several lines; only a server has several tokens, leave one line",
            check_token_source(d));
    return check_token_strength(d);
}
