/* demo_http: see demo_http.h. */
#include "app/demo_http.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>

#include "core/base/base.h"

static ssize_t demo_http_recv_retry(int fd, void *bytes, size_t size)
{
    ssize_t n;

    do
        n = recv(fd, bytes, size, 0);
    while (n < 0 && errno == EINTR);
    return n;
}

/* Moves a complete head of `length` bytes out of buf. */
static void demo_http_take_head(struct demo_http *http, char *head, size_t length)
{
    memcpy(head, http->buf, length);
    head[length] = '\0';
    http->have -= length;
    memmove(http->buf, http->buf + length, http->have);
}

bool demo_http_read_head(struct demo_http *http, char *head, size_t size)
{
    for (;;) {
        char *end = memmem(http->buf, http->have, "\r\n\r\n", 4);
        ssize_t n;

        if (end != NULL && (size_t)(end + 4 - http->buf) < size) {
            demo_http_take_head(http, head, (size_t)(end + 4 - http->buf));
            return true;
        }
        if (end != NULL || http->have == sizeof(http->buf)) {
            errno = EMSGSIZE;
            return false;
        }
        n = demo_http_recv_retry(http->fd, http->buf + http->have, sizeof(http->buf) - http->have);
        if (n == 0)
            errno = http->have == 0 ? 0 : EPROTO;
        if (n <= 0)
            return false;
        http->have += (size_t)n;
    }
}

uint64_t demo_http_content_length(const char *head)
{
    static const char name[] = "\r\nContent-Length:";
    const char *at = strcasestr(head, name);

    return at != NULL ? strtoull(at + sizeof(name) - 1, NULL, 10) : 0;
}

ssize_t demo_http_recv(struct demo_http *http, void *bytes, size_t size)
{
    if (http->have == 0)
        return demo_http_recv_retry(http->fd, bytes, size);
    size = min_size(size, http->have);
    memcpy(bytes, http->buf, size);
    http->have -= size;
    memmove(http->buf, http->buf + size, http->have);
    return (ssize_t)size;
}

bool demo_http_send(struct demo_http *http, const void *bytes, size_t size)
{
    const char *at = bytes;

    while (size > 0) {
        ssize_t n = send(http->fd, at, size, MSG_NOSIGNAL);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return false;
        at += n;
        size -= (size_t)n;
    }
    return true;
}

bool demo_http_send_pattern(struct demo_http *http, enum demo_pattern_stream stream, uint64_t size,
                            uint64_t *done)
{
    *done = 0;
    while (*done < size) {
        size_t run;
        const uint8_t *bytes = demo_pattern_at(stream, *done, &run);

        run = (size_t)min_u64(run, size - *done);
        if (!demo_http_send(http, bytes, run))
            return false;
        *done += run;
    }
    return true;
}

static bool demo_http_check_into(struct demo_http *http, enum demo_pattern_stream stream,
                                 uint64_t size, uint64_t *done, uint8_t *buf)
{
    while (*done < size) {
        ssize_t n = demo_http_recv(http, buf, (size_t)min_u64(DEMO_PATTERN_CHUNK, size - *done));

        if (n == 0)
            errno = 0;
        if (n <= 0)
            return false;
        if (!demo_pattern_check(stream, *done, buf, (size_t)n, done)) {
            errno = EILSEQ;
            return false;
        }
        *done += (uint64_t)n;
    }
    return true;
}

bool demo_http_check_pattern(struct demo_http *http, enum demo_pattern_stream stream, uint64_t size,
                             uint64_t *done)
{
    uint8_t *buf = malloc(DEMO_PATTERN_CHUNK);
    bool ok;
    int error;

    *done = 0;
    if (buf == NULL)
        return false;
    ok = demo_http_check_into(http, stream, size, done, buf);
    error = errno;
    free(buf);
    errno = error;
    return ok;
}
