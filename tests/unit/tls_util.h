/*
 * tls_util: what the TLS tests share: a scratch directory, a generated CA and server certificate,
 * and a pump that carries bytes between two handshakes in memory, any number of bytes at a time.
 */
#ifndef CULVERT_TESTS_TLS_UTIL_H
#define CULVERT_TESTS_TLS_UTIL_H

#include <check.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tls/tls.h"

struct scratch {
    char dir[64];
    char ca[128];
    char cert[128];
    char key[128];
    char client_cert[128];
    char client_key[128];
    char known[128];
};

static inline void scratch_make(struct scratch *s)
{
    char why[TLS_WHY_SIZE];
    const char *const names[] = { "server.example", "192.0.2.7" };
    const struct tls_gen server = { .dir = s->dir, .names = names, .name_count = 2 };
    const struct tls_gen client = { .dir = s->dir, .client = "laptop" };

    snprintf(s->dir, sizeof(s->dir), "/tmp/culvert-tls-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(s->dir));
    snprintf(s->ca, sizeof(s->ca), "%s/ca.pem", s->dir);
    snprintf(s->cert, sizeof(s->cert), "%s/server.pem", s->dir);
    snprintf(s->key, sizeof(s->key), "%s/server.key", s->dir);
    snprintf(s->client_cert, sizeof(s->client_cert), "%s/client.pem", s->dir);
    snprintf(s->client_key, sizeof(s->client_key), "%s/client.key", s->dir);
    snprintf(s->known, sizeof(s->known), "%s/known_servers", s->dir);
    ck_assert_msg(tls_gen_cert(&server, why, sizeof(why)), "%s", why);
    ck_assert_msg(tls_gen_cert(&client, why, sizeof(why)), "%s", why);
}

static inline void scratch_drop(struct scratch *s)
{
    char path[512];
    DIR *dir = opendir(s->dir);

    ck_assert_ptr_nonnull(dir);
    for (struct dirent *e = readdir(dir); e != NULL; e = readdir(dir)) {
        snprintf(path, sizeof(path), "%s/%s", s->dir, e->d_name);
        unlink(path);
    }
    closedir(dir);
    ck_assert_int_eq(rmdir(s->dir), 0);
}

static inline struct tls_ctx *ctx_make(const struct tls_config *config)
{
    char why[TLS_WHY_SIZE] = "";
    struct tls_ctx *ctx = tls_ctx_new(config, why, sizeof(why));

    ck_assert_msg(ctx != NULL, "%s", why);
    return ctx;
}

static inline struct tls_ctx *server_ctx(const struct scratch *s)
{
    const struct tls_config config = { .role = TLS_SERVER,
                                       .cert_file = s->cert,
                                       .key_file = s->key };

    return ctx_make(&config);
}

static inline struct tls_ctx *client_ctx(const struct scratch *s)
{
    const struct tls_config config = { .role = TLS_CLIENT, .ca_file = s->ca };

    return ctx_make(&config);
}

/* Moves what `from` has to send into `to`, at most `chunk` bytes a step. True when something
 * moved. */
static inline bool pump_one(struct tls_handshake *from, struct tls_handshake *to, size_t chunk)
{
    size_t len;
    const uint8_t *out = tls_handshake_output(from, &len);
    size_t n = len < chunk ? len : chunk;

    if (n == 0)
        return false;
    size_t taken = tls_handshake_feed(to, out, n);
    /* One that is over takes nothing; drop what it would have got. */
    tls_handshake_output_done(from, taken > 0 ? taken : n);
    tls_handshake_step(to);
    return true;
}

/* Until nothing moves any more. */
static inline void pump(struct tls_handshake *client, struct tls_handshake *server, size_t chunk)
{
    tls_handshake_step(client);
    tls_handshake_step(server);
    for (;;) {
        bool moved = pump_one(client, server, chunk);
        moved = pump_one(server, client, chunk) || moved;
        if (!moved)
            return;
    }
}

/* One handshake of two contexts that is expected to work; gives both record objects. */
static inline void shake(struct tls_ctx *client_side, struct tls_ctx *server_side, const char *name,
                         struct record **client, struct record **server)
{
    struct tls_handshake *c = tls_handshake_new(client_side, name, "known:1");
    struct tls_handshake *s = tls_handshake_new(server_side, NULL, NULL);
    struct record_keys keys;

    pump(c, s, 65536);
    ck_assert_msg(tls_handshake_step(c) == TLS_DONE, "client: %s", tls_handshake_why(c));
    ck_assert_msg(tls_handshake_step(s) == TLS_DONE, "server: %s", tls_handshake_why(s));
    tls_handshake_keys(c, &keys);
    *client = record_new(&keys);
    tls_handshake_keys(s, &keys);
    *server = record_new(&keys);
    record_keys_wipe(&keys);
    ck_assert_ptr_nonnull(*client);
    ck_assert_ptr_nonnull(*server);
    tls_handshake_free(c);
    tls_handshake_free(s);
}

/* Seals text at one end and opens it at the other. */
static inline void say(struct record *from, struct record *to, const char *text)
{
    uint8_t wire[RECORD_HEAD_MAX + 256 + RECORD_TAIL_MAX];
    struct record_in in;
    size_t len = strlen(text);

    ck_assert_uint_le(len, 256);
    memcpy(wire + record_head(from), text, len);
    size_t n = record_seal(from, RECORD_TYPE_DATA, wire + record_head(from), len);
    ck_assert_uint_eq(n, record_head(from) + len + record_tail(from));
    ck_assert_msg(record_open(to, wire, wire + n, &in) == RECORD_DATA, "%s",
                  record_error_text(record_error(to)));
    ck_assert_uint_eq(in.len, len);
    ck_assert_mem_eq(in.data, text, len);
    ck_assert_ptr_eq(in.next, wire + n);
}

#endif
