/*
 * Fuzz target: the command line, the endpoint parser and the token file.
 *
 * The input is argv, one word per line. A line that names a token file is replaced by one that
 * names a memory file holding the last line of the input, with a newline for each carriage return,
 * so that no file of this machine is opened. What must hold for every input: no crash, an error has
 * a sentence, and a config that is accepted keeps the relations that the engine builds on.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "core/io/addr.h"
#include "core/base/check.h"
#include "config/options.h"

#define WORDS_MAX 64

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char token_path[64];
static int token_file = -1;

static void set_token_file(const char *line)
{
    char *bytes = strdup(line);

    CHECK(bytes != NULL);
    for (char *at = bytes; (at = strchr(at, '\r')) != NULL;)
        *at = '\n';
    if (token_file < 0) {
        token_file = memfd_create("token", MFD_CLOEXEC);
        CHECK(token_file >= 0);
        snprintf(token_path, sizeof(token_path), "--token-file=/proc/self/fd/%d", token_file);
    }
    CHECK(ftruncate(token_file, 0) == 0);
    CHECK(pwrite(token_file, bytes, strlen(bytes), 0) == (ssize_t)strlen(bytes));
    free(bytes);
}

static void check_token(const struct config *config)
{
    bool several = memchr(config->token, '\n', config->token_size) != NULL;
    struct config_token token = { 0 };

    CHECK(config->token[config->token_size] == '\0' && config->token_size <= CONFIG_TOKENS_MAX);
    CHECK(config_next_token(config, &token));
    do {
        CHECK(token.size >= 1 && token.size <= CONFIG_TOKEN_MAX);
    } while (config_next_token(config, &token));
    CHECK(!several || config->role == CONFIG_SERVER);
}

static void check_config(const struct config *config)
{
    check_token(config);
    CHECK(config->workers >= 1 && config->workers <= CONFIG_CPUS_MAX);
    CHECK(config->cpu_count <= CONFIG_CPUS_MAX);
    CHECK(config->heartbeat < config->expiry);
    CHECK(config->window_initial <= config->window_max);
    CHECK(config->max_streams >= 1 && config->max_lanes >= 1 && config->max_sessions >= 1);
    if (config->role == CONFIG_SERVER)
        CHECK(config->start_port != 0 && port_set_has(&config->ports, config->start_port));
    if (config->role == CONFIG_CLIENT) {
        CHECK(config->server_count >= 1 && config->server_count <= CONFIG_SERVERS_MAX);
        CHECK(config->tunnel_count >= 1 && config->tunnel_count <= CONFIG_TUNNELS_MAX);
        CHECK(config->reconnect_first <= config->reconnect_max);
    }
}

static void fuzz_command_line(char **words, int count)
{
    static struct options options;
    struct options_error error;

    if (!options_parse(count, words, &options, &error)) {
        CHECK(error.text[0] != '\0' && memchr(error.text, '\0', sizeof(error.text)) != NULL);
        CHECK(error.code == EXIT_CODE_USAGE || error.code == EXIT_CODE_CANNOT_START);
        CHECK(options.config.token == NULL);
    } else if (!options.help && !options.version &&
               (options.command == OPTIONS_SERVER || options.command == OPTIONS_CLIENT)) {
        check_config(&options.config);
    }
    config_drop_token(&options.config);
}

/* What is read and written again must read the same. */
static void fuzz_endpoint(const char *text)
{
    for (unsigned use = ADDR_LISTEN; use <= ADDR_ORIGIN; use++) {
        struct config_endpoint first, second;
        char error[ADDR_ERROR_MAX], written[ADDR_ENDPOINT_TEXT_MAX];

        if (!addr_parse_endpoint(text, (enum addr_use)use, &first, error)) {
            CHECK(memchr(error, '\0', sizeof(error)) != NULL);
            continue;
        }
        addr_format_endpoint(&first, written, sizeof(written));
        CHECK(addr_parse_endpoint(written, (enum addr_use)use, &second, error));
        CHECK(strcmp(first.host, second.host) == 0 && first.port == second.port);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = malloc(size + 1), *words[WORDS_MAX + 1], program[] = "culvert", *rest = text;
    int count = 0;

    CHECK(text != NULL);
    if (size > 0)
        memcpy(text, data, size);
    text[size] = '\0';
    words[count++] = program;
    for (char *word; count < WORDS_MAX && (word = strsep(&rest, "\n")) != NULL;)
        words[count++] = word;
    words[count] = NULL;
    fuzz_endpoint(words[count - 1]);
    set_token_file(words[count - 1]);
    for (int i = 1; i < count; i++)
        if (strstr(words[i], "token-file") != NULL)
            words[i] = token_path;
    fuzz_command_line(words, count);
    free(text);
    return 0;
}
