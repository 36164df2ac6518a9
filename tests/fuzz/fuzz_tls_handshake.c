/*
 * Fuzz target: one of our handshakes against a peer that changes bytes, drops them, or sends its
 * own. The other end is a real handshake, so that the changes reach deep into it. Whatever happens:
 * no crash, no hang, a failure has a sentence, and both sides are only ever done together with the
 * same keys.
 *
 * Input: {mode u8, chunk u8}, then edits {position u16, xor u8} of the stream towards the victim;
 * in mode RAW the bytes themselves.
 */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/base/check.h"
#include "tls/tls.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum mode {
    MODE_EDIT_CLIENT, /* what the client hears is edited */
    MODE_EDIT_SERVER,
    MODE_RAW_CLIENT, /* what the client hears is the input */
    MODE_RAW_SERVER,
    MODE_COUNT
};

static struct tls_ctx *server_ctx;
static struct tls_ctx *client_ctx;

static void drop_dir(const char *dir)
{
    static const char *const files[] = { "ca.pem", "ca.key", "server.pem", "server.key" };
    char path[128];

    for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
        snprintf(path, sizeof(path), "%s/%s", dir, files[i]);
        unlink(path);
    }
    rmdir(dir);
}

static void start(void)
{
    char dir[] = "/tmp/culvert-fuzz-XXXXXX";
    char cert[64];
    char key[64];
    char ca[64];
    char why[TLS_WHY_SIZE];

    CHECK(mkdtemp(dir) != NULL);
    CHECK(tls_gen_cert(&(struct tls_gen){ .dir = dir }, why, sizeof(why)));
    snprintf(cert, sizeof(cert), "%s/server.pem", dir);
    snprintf(key, sizeof(key), "%s/server.key", dir);
    snprintf(ca, sizeof(ca), "%s/ca.pem", dir);
    const struct tls_config server = {
        .role = TLS_SERVER, .cert_file = cert, .key_file = key, .min_version = RECORD_TLS12
    };
    const struct tls_config client = { .role = TLS_CLIENT,
                                       .ca_file = ca,
                                       .min_version = RECORD_TLS12 };
    server_ctx = tls_ctx_new(&server, why, sizeof(why));
    client_ctx = tls_ctx_new(&client, why, sizeof(why));
    CHECK(server_ctx != NULL && client_ctx != NULL);
    drop_dir(dir);
}

/* A position in the stream towards the victim, and the edits still to come. */
struct stream {
    const uint8_t *edits;
    const uint8_t *end;
    size_t at;
    bool edited;
};

static void edit(struct stream *stream, uint8_t *bytes, size_t len)
{
    for (const uint8_t *e = stream->edits; stream->end - e >= 3; e += 3) {
        size_t position = (size_t)e[0] << 8 | e[1];
        if (position < stream->at || position >= stream->at + len)
            continue;
        bytes[position - stream->at] ^= e[2];
        stream->edited = stream->edited || e[2] != 0;
    }
    stream->at += len;
}

static bool move(struct tls_handshake *from, struct tls_handshake *to, size_t chunk,
                 struct stream *stream)
{
    uint8_t bytes[4096];
    size_t len;
    const uint8_t *out = tls_handshake_output(from, &len);

    if (len > chunk)
        len = chunk;
    if (len == 0)
        return false;
    memcpy(bytes, out, len);
    tls_handshake_output_done(from, len);
    if (stream != NULL)
        edit(stream, bytes, len);
    for (size_t fed = 0; fed < len;) {
        size_t n = tls_handshake_feed(to, bytes + fed, len - fed);
        tls_handshake_step(to);
        if (n == 0)
            break; /* it is over */
        fed += n;
    }
    return true;
}

static void judge(struct tls_handshake *handshake)
{
    enum tls_state state = tls_handshake_step(handshake);

    CHECK(state != TLS_ASK);
    if (state == TLS_FAILED)
        CHECK(tls_handshake_fail(handshake) != TLS_FAIL_NONE &&
              tls_handshake_why(handshake)[0] != '\0');
}

static void same_keys(struct tls_handshake *client, struct tls_handshake *server)
{
    struct record_keys c;
    struct record_keys s;

    tls_handshake_keys(client, &c);
    tls_handshake_keys(server, &s);
    CHECK(c.version == s.version && c.cipher == s.cipher);
    CHECK(memcmp(&c.tx, &s.rx, sizeof(c.tx)) == 0 && memcmp(&c.rx, &s.tx, sizeof(c.rx)) == 0);
}

static void edited(struct tls_handshake *client, struct tls_handshake *server, bool to_client,
                   size_t chunk, struct stream *stream)
{
    tls_handshake_step(client);
    for (;;) {
        bool moved = move(client, server, chunk, to_client ? NULL : stream);
        moved = move(server, client, chunk, to_client ? stream : NULL) || moved;
        if (!moved)
            break;
    }
    bool both = tls_handshake_step(client) == TLS_DONE && tls_handshake_step(server) == TLS_DONE;
    if (both)
        same_keys(client, server);
    if (!stream->edited)
        CHECK(both);
}

static void raw(struct tls_handshake *victim, const uint8_t *data, const uint8_t *end, size_t chunk)
{
    tls_handshake_step(victim);
    while (data < end) {
        size_t len = (size_t)(end - data) < chunk ? (size_t)(end - data) : chunk;
        size_t n = tls_handshake_feed(victim, data, len);
        if (tls_handshake_step(victim) != TLS_WANT_READ || n == 0)
            break;
        data += n;
    }
    CHECK(tls_handshake_step(victim) != TLS_DONE);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (server_ctx == NULL)
        start();
    if (size < 2)
        return 0;
    enum mode mode = (enum mode)(data[0] % MODE_COUNT);
    size_t chunk = 1 + (size_t)data[1] * 16;
    struct tls_handshake *client = tls_handshake_new(client_ctx, "localhost", NULL);
    struct tls_handshake *server = tls_handshake_new(server_ctx, NULL, NULL);
    struct stream stream = { .edits = data + 2, .end = data + size };

    CHECK(client != NULL && server != NULL);
    if (mode == MODE_RAW_CLIENT)
        raw(client, data + 2, data + size, chunk);
    else if (mode == MODE_RAW_SERVER)
        raw(server, data + 2, data + size, chunk);
    else
        edited(client, server, mode == MODE_EDIT_CLIENT, chunk, &stream);
    judge(client);
    judge(server);
    tls_handshake_free(client);
    tls_handshake_free(server);
    return 0;
}
