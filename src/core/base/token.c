/* token: see token.h. */
#include "core/base/token.h"

#include "core/base/base.h"

#include <stdbool.h>
#include <string.h>

/* Long enough, and in every list of what to try first; the seed's default is shorter. */
static const char *const well_known[] = {
    "0123456789abcdef",  "0123456789ABCDEF",  "1234567890123456",    "abcdefghijklmnop",
    "changemechangeme",  "change-me-please",  "passwordpassword",    "secretsecretsecret",
    "your-secret-token", "my-secret-token-1", "dev-token-dev-token",
};

static bool token_is_well_known(const char *token, size_t size)
{
    for (size_t i = 0; i < ARRAY_SIZE(well_known); i++)
        if (strlen(well_known[i]) == size && memcmp(token, well_known[i], size) == 0)
            return true;
    return false;
}

static bool token_is_one_character(const char *token, size_t size)
{
    size_t same = 1;

    while (same < size && token[same] == token[0])
        same++;
    return same == size;
}

const char *token_weakness(const char *token, size_t size)
{
    if (size < TOKEN_STRONG_MIN)
        return "shorter than 16 characters";
    if (token_is_one_character(token, size))
        return "one character again and again";
    return token_is_well_known(token, size) ? "well known" : NULL;
}

static bool token_is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n' || c == '\v' || c == '\f';
}

bool token_has_blank_ends(const char *token, size_t size)
{
    return size > 0 && (token_is_blank(token[0]) || token_is_blank(token[size - 1]));
}

void token_trim(const char **token, size_t *size)
{
    while (*size > 0 && token_is_blank((*token)[*size - 1]))
        --*size;
    while (*size > 0 && token_is_blank((*token)[0])) {
        ++*token;
        --*size;
    }
}
