/* auth: see auth.h. */
#include "server/auth.h"

#include <stdint.h>
#include <string.h>

bool auth_equal(const void *expected, size_t expected_size, const void *given, size_t given_size)
{
    const volatile uint8_t *a = expected;
    const uint8_t *b = given;
    unsigned difference = expected_size != given_size;

    for (size_t i = 0; i < given_size; i++)
        difference |= (unsigned)(a[expected_size > 0 ? i % expected_size : 0] ^ b[i]);
    return difference == 0;
}

/* Every line of the configured text is compared, whether one before it matched or not. */
static bool any_line(const struct config *config, const void *token, size_t size, unsigned *which)
{
    unsigned number = 0;
    const char *line = config->token, *end = config->token + config->token_size;
    bool found = false;

    while (line < end) {
        const char *stop = memchr(line, '\n', (size_t)(end - line));
        size_t length = (size_t)((stop != NULL ? stop : end) - line);

        if (length > 0 && auth_equal(line, length, token, size)) {
            found = true;
            *which = number;
        }
        number++;
        line += length + 1;
    }
    return found;
}

enum reason auth_check(const struct config *config, const union sock_addr *peer, const void *token,
                       size_t size, unsigned *which)
{
    if (!any_line(config, token, size, which))
        return REASON_AUTH_FAILED;
    if (config->token_is_default && !sock_addr_is_loopback(peer))
        return REASON_AUTH_REMOTE_DEV_TOKEN;
    return REASON_DONE;
}
