/* demo_origin: see demo_origin.h. */
#include "app/demo_origin.h"

#include <errno.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "app/demo_http.h"
#include "core/base/base.h"

#define STACK_SIZE (128 * KIB)

const char demo_origin_page[] = "<!doctype html><title>culvert demo</title>\n"
                                "<h1>It works</h1>\n"
                                "<p>This page came from the origin, through "
                                "the client and the server, to you.</p>\n";

static bool demo_origin_reply(struct demo_http *http, const char *status, const char *type,
                              const char *body)
{
    char text[1024];
    int size = snprintf(text, sizeof(text),
                        "HTTP/1.1 %s\r\nContent-Type: %s\r\nContent-Length: %zu\r\n\r\n%s", status,
                        type, strlen(body), body);

    return demo_http_send(http, text, min_size((size_t)size, sizeof(text) - 1));
}

static bool demo_origin_reply_bulk(struct demo_http *http, const char *path)
{
    char head[128];
    uint64_t size = strtoull(path, NULL, 10), done;

    snprintf(head, sizeof(head),
             "HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\n"
             "Content-Length: %" PRIu64 "\r\n\r\n",
             size);
    return demo_http_send(http, head, strlen(head)) &&
           demo_http_send_pattern(http, DEMO_PATTERN_DOWN, size, &done);
}

/* After a wrong byte the connection ends: what follows would be wrong as well.
 */
static bool demo_origin_reply_sink(struct demo_http *http, const char *head)
{
    uint64_t size = demo_http_content_length(head), done;
    char text[128];

    if (demo_http_check_pattern(http, DEMO_PATTERN_UP, size, &done))
        return demo_origin_reply(http, "200 OK", "text/plain", "every byte is right\n");
    if (errno == EILSEQ) {
        snprintf(text, sizeof(text), "byte %" PRIu64 " is wrong\n", done);
        demo_origin_reply(http, "400 Bad Request", "text/plain", text);
    }
    return false;
}

/* True while the connection can carry another request. */
static bool demo_origin_serve_request(struct demo_http *http)
{
    char head[sizeof(http->buf) + 1];

    if (!demo_http_read_head(http, head, sizeof(head)))
        return false;
    if (strncmp(head, "GET / ", 6) == 0)
        return demo_origin_reply(http, "200 OK", "text/html", demo_origin_page);
    if (strncmp(head, "GET /bulk/", 10) == 0)
        return demo_origin_reply_bulk(http, head + 10);
    if (strncmp(head, "POST /sink ", 11) == 0)
        return demo_origin_reply_sink(http, head);
    demo_origin_reply(http, "404 Not Found", "text/plain", "try /, /bulk/N or POST /sink\n");
    return demo_http_content_length(head) == 0;
}

/* Ends with FIN after what was sent: unread bytes would make close() send RST,
 * which can overtake the answer that explains them. */
static void *demo_origin_serve_connection(void *arg)
{
    struct demo_http *http = arg;
    char rest[4096];

    while (demo_origin_serve_request(http))
        continue;
    shutdown(http->fd, SHUT_WR);
    while (recv(http->fd, rest, sizeof(rest), 0) > 0)
        continue;
    close(http->fd);
    free(http);
    return NULL;
}

static bool demo_origin_start_thread(void *(*run)(void *), void *arg)
{
    pthread_attr_t attr;
    pthread_t thread;
    int error;

    pthread_attr_init(&attr);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attr, STACK_SIZE);
    error = pthread_create(&thread, &attr, run, arg);
    pthread_attr_destroy(&attr);
    if (error != 0)
        errno = error;
    return error == 0;
}

static void demo_origin_accept_one(int listener)
{
    int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC), one = 1;
    struct demo_http *http;

    if (fd < 0)
        return;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    http = malloc(sizeof(*http));
    if (http != NULL) {
        http->fd = fd;
        http->have = 0;
        if (demo_origin_start_thread(demo_origin_serve_connection, http))
            return;
    }
    free(http);
    close(fd);
}

static void *demo_origin_accept_all(void *arg)
{
    int listener = *(int *)arg;

    for (;;)
        demo_origin_accept_one(listener);
    return NULL;
}

bool demo_origin_start(uint16_t *port)
{
    static int listener;
    struct sockaddr_in addr = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t size = sizeof(addr);

    listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (listener < 0)
        return false;
    if (bind(listener, (struct sockaddr *)&addr, size) != 0 || listen(listener, SOMAXCONN) != 0 ||
        getsockname(listener, (struct sockaddr *)&addr, &size) != 0)
        return false;
    *port = ntohs(addr.sin_port);
    return demo_origin_start_thread(demo_origin_accept_all, &listener);
}
