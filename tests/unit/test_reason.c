/*
 * Reasons: codes are part of the protocol, so this file holds them a second time, written by hand.
 * A renumbered code fails here; a new one must be added here and in docs/PROTOCOL.md.
 */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/base.h"
#include "core/wire/reason.h"

static const struct {
    enum reason reason;
    const char *name;
    uint16_t code;
    bool rst;
} golden[] = {
    { REASON_DONE, "DONE", 0, false },
    { REASON_PEER_RESET, "PEER_RESET", 1, true },
    { REASON_ORIGIN_REFUSED, "ORIGIN_REFUSED", 2, true },
    { REASON_ORIGIN_UNREACHABLE, "ORIGIN_UNREACHABLE", 3, true },
    { REASON_ORIGIN_TIMEOUT, "ORIGIN_TIMEOUT", 4, true },
    { REASON_LIMIT_STREAMS, "LIMIT_STREAMS", 5, true },
    { REASON_LIMIT_BUFFERS, "LIMIT_BUFFERS", 6, true },
    { REASON_LIMIT_DESCRIPTORS, "LIMIT_DESCRIPTORS", 7, true },
    { REASON_STALLED, "STALLED", 8, true },
    { REASON_SESSION_LOST, "SESSION_LOST", 9, true },
    { REASON_DRAIN, "DRAIN", 10, true },
    { REASON_SOCKET_ERROR, "SOCKET_ERROR", 11, true },
    { REASON_NO_TUNNEL, "NO_TUNNEL", 12, true },
    { REASON_V1_CLOSED, "V1_CLOSED", 13, false },
    { REASON_PEER_OTHER, "PEER_OTHER", 31, true },
    { REASON_BAD_VERSION, "BAD_VERSION", 32, true },
    { REASON_BAD_FRAME, "BAD_FRAME", 33, true },
    { REASON_BAD_STATE, "BAD_STATE", 34, true },
    { REASON_FRAME_TOO_LONG, "FRAME_TOO_LONG", 35, true },
    { REASON_FLOW_CONTROL, "FLOW_CONTROL", 36, true },
    { REASON_AUTH_FAILED, "AUTH_FAILED", 37, true },
    { REASON_AUTH_WEAK_TOKEN, "AUTH_WEAK_TOKEN", 38, true },
    { REASON_HANDSHAKE_TIMEOUT, "HANDSHAKE_TIMEOUT", 39, true },
    { REASON_HEARTBEAT_MISSED, "HEARTBEAT_MISSED", 40, true },
    { REASON_LANE_EOF, "LANE_EOF", 41, true },
    { REASON_LANE_ERROR, "LANE_ERROR", 42, true },
    { REASON_LIMIT_SESSIONS, "LIMIT_SESSIONS", 43, true },
    { REASON_LIMIT_LANES, "LIMIT_LANES", 44, true },
    { REASON_LIMIT_UNAUTHENTICATED, "LIMIT_UNAUTHENTICATED", 45, true },
    { REASON_SHUTDOWN, "SHUTDOWN", 46, true },
    { REASON_REPLACED, "REPLACED", 47, true },
    { REASON_UNKNOWN_SESSION, "UNKNOWN_SESSION", 48, true },
    { REASON_PORT_BUSY, "PORT_BUSY", 49, true },
    { REASON_PORT_FORBIDDEN, "PORT_FORBIDDEN", 50, true },
    { REASON_PORTS_EXHAUSTED, "PORTS_EXHAUSTED", 51, true },
    { REASON_LIMIT_TUNNELS, "LIMIT_TUNNELS", 52, true },
    { REASON_CONNECT_FAILED, "CONNECT_FAILED", 53, true },
    { REASON_RESOLVE_FAILED, "RESOLVE_FAILED", 54, true },
    { REASON_TLS_FAILED, "TLS_FAILED", 55, true },
    { REASON_TLS_TRUNCATED, "TLS_TRUNCATED", 56, true },
    { REASON_TLS_TOO_OLD, "TLS_TOO_OLD", 57, true },
    { REASON_LANE_GONE, "LANE_GONE", 58, true },
    { REASON_TLS_ENDS_BETWEEN, "TLS_ENDS_BETWEEN", 59, true },
    { REASON_SERVER_UNPROVEN, "SERVER_UNPROVEN", 60, true },
    { REASON_OLD_WIRE, "OLD_WIRE", 61, true },
    { REASON_STREAM_IDLE, "STREAM_IDLE", 62, true },
    { REASON_PEER_SILENT, "PEER_SILENT", 63, true },
    { REASON_TOKEN_GONE, "TOKEN_GONE", 64, true },
};

START_TEST(codes_never_change)
{
    for (size_t i = 0; i < ARRAY_SIZE(golden); i++) {
        ck_assert_str_eq(reason_name(golden[i].reason), golden[i].name);
        ck_assert_uint_eq(reason_code(golden[i].reason), golden[i].code);
        ck_assert_int_eq(reason_is_rst(golden[i].reason), golden[i].rst);
        ck_assert_int_eq(reason_is_violation(golden[i].reason),
                         golden[i].code >= 32 && golden[i].code <= 36);
    }
}
END_TEST

START_TEST(every_reason_is_in_the_golden_list)
{
    ck_assert_uint_eq(ARRAY_SIZE(golden), REASON_COUNT);
}
END_TEST

START_TEST(every_code_leads_back)
{
    unsigned known = 0;

    for (unsigned code = 0; code <= UINT16_MAX; code++) {
        enum reason reason = reason_from_code((uint16_t)code);

        if (reason_code(reason) == code)
            known++;
        else
            ck_assert_int_eq(reason, REASON_PEER_OTHER);
    }
    ck_assert_uint_eq(known, REASON_COUNT);
}
END_TEST

START_TEST(texts_are_clauses)
{
    for (unsigned i = 0; i < REASON_COUNT; i++) {
        const char *text = reason_text((enum reason)i);

        ck_assert_uint_gt(strlen(text), 0);
        ck_assert_msg(text[strlen(text) - 1] != '.', "%s: no full stop", text);
        for (unsigned j = 0; j < i; j++)
            ck_assert_str_ne(text, reason_text((enum reason)j));
    }
}
END_TEST

/* docs/PROTOCOL.md has a row "| code | NAME |" for every reason. */
START_TEST(the_document_lists_every_code)
{
    const char *root = getenv("CULVERT_SOURCE_DIR");
    static char doc[256 * 1024];
    char path[4096];
    size_t size;
    FILE *file;

    snprintf(path, sizeof(path), "%s/docs/PROTOCOL.md", root != NULL ? root : ".");
    file = fopen(path, "r");
    ck_assert_msg(file != NULL, "%s: cannot open; run from the source or set CULVERT_SOURCE_DIR",
                  path);
    size = fread(doc, 1, sizeof(doc) - 1, file);
    fclose(file);
    ck_assert_uint_lt(size, sizeof(doc) - 1);
    doc[size] = '\0';
    for (size_t i = 0; i < ARRAY_SIZE(golden); i++) {
        char row[100];

        snprintf(row, sizeof(row), "\n| %u | %s |", golden[i].code, golden[i].name);
        ck_assert_msg(strstr(doc, row) != NULL, "docs/PROTOCOL.md lacks the row%s", row);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("reason");
    TCase *tcase = tcase_create("table");
    SRunner *runner = srunner_create(suite);
    int failed;

    tcase_add_test(tcase, codes_never_change);
    tcase_add_test(tcase, every_reason_is_in_the_golden_list);
    tcase_add_test(tcase, every_code_leads_back);
    tcase_add_test(tcase, texts_are_clauses);
    tcase_add_test(tcase, the_document_lists_every_code);
    suite_add_tcase(suite, tcase);
    srunner_run_all(runner, CK_NORMAL);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
