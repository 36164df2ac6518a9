/*
 * tls_why: from a failure to a sentence that names the cause and the cure.
 *
 * One table (TLS_FAIL_TABLE) has the words; a detail from the place of failure goes between them.
 * Plain bytes on a TLS port are the commonest mistake of all, so they get sentences of their own,
 * by what the other side seems to be.
 */
#include "tls/tls_impl.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "core/base/check.h"

static const struct {
    const char *name;
    const char *text;
    const char *cure;
} fails[] = {
#define X(NAME, text, cure) { #NAME, text, cure },
    TLS_FAIL_TABLE(X)
#undef X
};

static const char *const sniffs[] = {
#define X(NAME, text) text,
    TLS_SNIFF_TABLE(X)
#undef X
};

const char *tls_fail_name(enum tls_fail fail)
{
    CHECK(fail < TLS_FAIL_COUNT);
    return fails[fail].name;
}

const char *tls_sniff_text(enum tls_sniff sniff)
{
    CHECK(sniff < TLS_SNIFF_COUNT);
    return sniffs[sniff];
}

/* Without the name of the object in front: the caller's log line has that. */
void tls_why_set(struct tls_handshake *handshake, enum tls_fail fail)
{
    const char *detail = handshake->detail;

    CHECK(fail < TLS_FAIL_COUNT);
    handshake->fail = fail;
    snprintf(handshake->why, sizeof(handshake->why), "%s%s%s%s: %s", fails[fail].text,
             detail[0] != '\0' ? " (" : "", detail, detail[0] != '\0' ? ")" : "", fails[fail].cure);
}

static const char *why_plaintext_cure(enum tls_role role, enum tls_sniff sniff)
{
    if (role == TLS_CLIENT)
        return "start the server without --plain; or this client with it, if nobody can listen in "
               "(a v1 server without TLS needs it); or the address is another service's";
    switch (sniff) {
    case TLS_SNIFF_V1:
    case TLS_SNIFF_V2:
        return "give that client --tls in place of --plain, or start this server without --tls";
    case TLS_SNIFF_HTTP:
        return "this is the port for tunnel clients; visitors use the tunnel's public port";
    default:
        return "only tunnel clients that speak TLS can use this port";
    }
}

void tls_why_plaintext(struct tls_handshake *handshake, enum tls_sniff sniff)
{
    handshake->fail = TLS_FAIL_PLAINTEXT;
    snprintf(handshake->why, sizeof(handshake->why),
             "plain bytes on a TLS connection, the %s seems to be %s: %s",
             handshake->ctx->role == TLS_CLIENT ? "server" : "client", tls_sniff_text(sniff),
             why_plaintext_cure(handshake->ctx->role, sniff));
}

enum tls_fail tls_why_of_alert(enum tls_role role, uint8_t alert)
{
    switch (alert) {
    case 0: /* close_notify */
        return TLS_FAIL_CLOSED;
    case 40: /* handshake_failure */
    case 71: /* insufficient_security */
        return TLS_FAIL_NO_CIPHER;
    case 42: /* bad_certificate */
    case 43: /* unsupported_certificate */
    case 44: /* certificate_revoked */
    case 45: /* certificate_expired */
    case 46: /* certificate_unknown */
    case 48: /* unknown_ca */
        return TLS_FAIL_PEER_DISTRUSTS;
    case 70: /* protocol_version */
        return TLS_FAIL_VERSION;
    case 116: /* certificate_required */
        return role == TLS_CLIENT ? TLS_FAIL_CLIENT_CERT_MISSING : TLS_FAIL_PEER_ALERT;
    default:
        return TLS_FAIL_PEER_ALERT;
    }
}

bool tls_why_is_clock(enum tls_fail fail)
{
    static const enum tls_fail dated[] = { TLS_FAIL_EXPIRED,       TLS_FAIL_NOT_YET_VALID,
                                           TLS_FAIL_CA_EXPIRED,    TLS_FAIL_CA_NOT_YET_VALID,
                                           TLS_FAIL_CHAIN_EXPIRED, TLS_FAIL_CHAIN_NOT_YET_VALID };

    for (size_t i = 0; i < sizeof(dated) / sizeof(dated[0]); i++)
        if (dated[i] == fail)
            return true;
    return false;
}

static bool why_starts_with(const uint8_t *data, size_t len, const char *text)
{
    size_t n = strlen(text);

    return len >= n && memcmp(data, text, n) == 0;
}

static bool why_is_http(const uint8_t *data, size_t len)
{
    static const char *const starts[] = { "GET ",     "POST ",    "HEAD ",   "PUT ", "PRI ",
                                          "OPTIONS ", "CONNECT ", "DELETE ", "HTTP/" };

    for (size_t i = 0; i < sizeof(starts) / sizeof(starts[0]); i++)
        if (why_starts_with(data, len, starts[i]))
            return true;
    return false;
}

enum tls_sniff tls_sniff(const uint8_t *data, size_t len)
{
    if (len == 0)
        return TLS_SNIFF_NOTHING;
    /* handshake or alert, then version 3.x */
    if ((data[0] == 22 || data[0] == 21) && (len < 2 || data[1] == 3))
        return len >= 3 && data[2] == 0 && data[0] == 21 ? TLS_SNIFF_OLD_SSL : TLS_SNIFF_TLS;
    if (len >= 3 && (data[0] & 0x80) != 0 && data[2] == 1) /* an SSL 2 hello */
        return TLS_SNIFF_OLD_SSL;
    if (data[0] == 1)
        return TLS_SNIFF_V1;
    if (data[0] == 2)
        return TLS_SNIFF_V2;
    if (why_is_http(data, len))
        return TLS_SNIFF_HTTP;
    return why_starts_with(data, len, "SSH-") ? TLS_SNIFF_SSH : TLS_SNIFF_OTHER;
}
