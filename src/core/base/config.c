/* config: see config.h. */
#include "core/base/config.h"

#include <string.h>

#include "core/base/secret.h"

bool config_next_token(const struct config *config, struct config_token *token)
{
    if (config->token == NULL)
        return false;
    const char *at = token->bytes != NULL ? token->bytes + token->size : config->token;
    const char *end = config->token + config->token_size;

    for (; at < end && *at == '\n'; at++)
        token->line++;
    if (at == end)
        return false;
    const char *stop = memchr(at, '\n', (size_t)(end - at));
    token->bytes = at;
    token->size = (size_t)((stop != NULL ? stop : end) - at);
    return true;
}

bool config_keep_one_token(struct config *config)
{
    struct config_token first = { 0 }, second;

    if (!config_next_token(config, &first))
        return true;
    second = first;
    if (config_next_token(config, &second))
        return false;
    secret_copy(config->token, first.bytes, first.size); /* never behind where it is */
    explicit_bzero(config->token + first.size, config->token_size - first.size);
    config->token_size = first.size;
    return true;
}

void config_own_token(struct config *config, char *token, size_t size)
{
    secret_free(config->token);
    config->token = token;
    config->token_size = size;
}

bool config_copy_token(struct config *config, const char *token, size_t size)
{
    char *copy = secret_alloc(size + 1); /* zeros */

    if (copy == NULL)
        return false;
    secret_copy(copy, token, size);
    config_own_token(config, copy, size);
    return true;
}

void config_drop_token(struct config *config)
{
    config_own_token(config, NULL, 0);
}
