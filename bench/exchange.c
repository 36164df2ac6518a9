/*
 * One request and the end of its reply, for loadgen. An echo reply is complete by its length. Of
 * HTTP/1.1 only what a measured origin sends is understood: a head with Content-Length, no chunks,
 * no pipelining.
 */
#include "load.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { REQUEST_MAX = 1 << 20 };

const uint8_t *exchange_request(const struct load_config *config, bool close, size_t *len)
{
    static uint8_t request[REQUEST_MAX];

    if (config->path == NULL) {
        bench_check(config->size > 0 && config->size <= REQUEST_MAX);
        memset(request, 'e', config->size); /* 'e' asks the origin for an echo */
        *len = config->size;
        return request;
    }
    *len = (size_t)snprintf((char *)request, sizeof(request),
                            "GET %s HTTP/1.1\r\nHost: localhost\r\n%s\r\n", config->path,
                            close ? "Connection: close\r\n" : "");
    return request;
}

void exchange_begin(struct exchange *x, const struct load_config *config)
{
    x->http = config->path != NULL;
    x->left = x->http ? 0 : config->size;
    x->in_body = !x->http;
    x->head_len = 0;
}

static enum exchange_state body_feed(struct exchange *x, size_t len)
{
    if (len > x->left)
        return EXCHANGE_BAD;
    x->left -= len;
    return x->left == 0 ? EXCHANGE_DONE : EXCHANGE_MORE;
}

/* The head is complete and ends with a 0 byte. */
static bool head_parse(struct exchange *x)
{
    const char *line = x->head;

    if (strncmp(line, "HTTP/1.", 7) != 0)
        return false;
    while ((line = strstr(line, "\r\n")) != NULL) {
        line += 2;
        if (strncasecmp(line, "content-length:", 15) == 0) {
            x->left = strtoul(line + 15, NULL, 10);
            x->in_body = true;
            return true;
        }
    }
    return false;
}

enum exchange_state exchange_feed(struct exchange *x, const uint8_t *data, size_t len)
{
    size_t before = x->head_len, taken;
    char *end;

    if (x->in_body)
        return body_feed(x, len);
    taken = len < sizeof(x->head) - 1 - before ? len : sizeof(x->head) - 1 - before;
    memcpy(x->head + before, data, taken);
    x->head_len += taken;
    x->head[x->head_len] = '\0';
    end = strstr(x->head, "\r\n\r\n");
    if (end == NULL)
        return x->head_len == sizeof(x->head) - 1 ? EXCHANGE_BAD : EXCHANGE_MORE;
    end[2] = '\0';
    if (!head_parse(x))
        return EXCHANGE_BAD;
    return body_feed(x, len - (size_t)(end + 4 - x->head - (ptrdiff_t)before));
}
