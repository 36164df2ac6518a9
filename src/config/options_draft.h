/*
 * options_draft: a struct options in the making.
 *
 * With it goes what has to be remembered of the flags until the last of them is read, and is of no
 * use to anybody afterwards.
 */
#ifndef CULVERT_CONFIG_OPTIONS_DRAFT_H
#define CULVERT_CONFIG_OPTIONS_DRAFT_H

#include <stdbool.h>

#include "config/options_error.h"
#include "config/options_values.h"

struct options_draft {
    struct options *options;
    struct options_error *error;
    unsigned port_count, name_count; /* pair with the tunnels in order */
    bool token_given, tls_given, plain_given;
    const char *token_file; /* NULL: not given */
};

/* Flags that say something of TLS, and would have no effect on plain lanes. */
static inline bool options_draft_names_tls(const struct options_draft *draft)
{
    const struct config *config = &draft->options->config;

    return config->tls_cert[0] != '\0' || config->tls_key[0] != '\0' || config->tls_ca[0] != '\0' ||
           config->tls_pin[0] != '\0' || config->tls_accept_new ||
           config->record_engine != CONFIG_ENGINE_AUTO;
}

#endif
