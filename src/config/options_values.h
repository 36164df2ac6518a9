/*
 * options_values: what a command line says, as one structure.
 *
 * The rows of the table of flags (options_table.h) name the members as the places of their values.
 */
#ifndef CULVERT_CONFIG_OPTIONS_VALUES_H
#define CULVERT_CONFIG_OPTIONS_VALUES_H

#include <stdbool.h>
#include <stdint.h>

#include "config/options_command.h"
#include "core/base/config.h"
#include "core/base/log.h"

struct options_demo {
    bool once;         /* end after the check */
    bool verbose;      /* show the logs of server and client */
    uint64_t size;     /* bytes to move each way */
    uint32_t requests; /* HTTP requests */
};

#define OPTIONS_CERT_NAMES_MAX 16
#define OPTIONS_WARNING_MAX    320

struct options_gen_cert { /* its directory is config.state_dir */
    char names[OPTIONS_CERT_NAMES_MAX][256];
    unsigned name_count;
    uint32_t days;    /* 0: as gen-cert thinks best */
    char client[256]; /* not empty: a client certificate for this name */
};

struct options {
    enum options_command command;
    bool help;              /* --help: print the help of `command` and do nothing else */
    const char *topic;      /* `help TOPIC`: points into argv; NULL without one */
    bool version;           /* --version, of whatever command: print it and do nothing else */
    bool features;          /* `version --features` */
    bool server_is_default; /* nobody has named one */
    enum log_level log_level;
    char warning[OPTIONS_WARNING_MAX]; /* to be logged once the log is set up; or empty */
    struct options_demo demo;
    struct options_gen_cert gen_cert;
    /* valid for OPTIONS_SERVER and OPTIONS_CLIENT; OPTIONS_DEMO: workers, wire, tls;
     * OPTIONS_GEN_CERT: state_dir */
    struct config config;
};

#endif
