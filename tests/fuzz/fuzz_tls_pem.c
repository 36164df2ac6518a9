/*
 * Fuzz target: the members of a PEM file. Whatever the text: the scan ends, numbers and lines go
 * up, words are printable, and nothing is lost: if every member is a whole certificate, there are
 * as many as BEGIN lines.
 */
#include <ctype.h>
#include <stdint.h>
#include <string.h>

#include "core/base/check.h"
#include "tls/tls_pem.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static unsigned begins(const char *text, size_t size)
{
    static const char mark[] = "-----BEGIN ";
    const char *end = text + size, *at = text;
    unsigned count = 0;

    for (;;) {
        at = memmem(at, (size_t)(end - at), mark, sizeof(mark) - 1);
        if (at == NULL)
            return count;
        count++;
        at += sizeof(mark) - 1;
    }
}

static void check_words(const struct tls_pem_member *member)
{
    char text[512];

    tls_pem_name(member, text, sizeof(text));
    if (member->fault != TLS_PEM_NONE)
        tls_pem_complaint(member, text, sizeof(text));
    for (const char *p = text; *p != '\0'; p++)
        CHECK(isprint((unsigned char)*p));
    CHECK(strlen(member->label) > 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct tls_pem_scan scan;
    struct tls_pem_member member;
    unsigned number = 0, line = 1;
    bool all_good = true;

    tls_pem_start(&scan, (const char *)data, size);
    while (tls_pem_next(&scan, &member)) {
        CHECK(member.number == ++number && member.line >= line);
        line = member.line;
        check_words(&member);
        CHECK(member.fault != TLS_PEM_NONE || member.kind != TLS_PEM_CERT || member.cert != NULL);
        all_good = all_good && member.fault == TLS_PEM_NONE && member.kind == TLS_PEM_CERT;
        tls_pem_drop(&member);
    }
    CHECK(!all_good || number == begins((const char *)data, size));
    return 0;
}
