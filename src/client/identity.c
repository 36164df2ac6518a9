/* identity: see identity.h. */
#include "client/identity.h"

#include "core/base/base.h"
#include "core/io/addr.h"
#include "core/mux/crypt.h"

#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define IDENTITY_SIZE 16u
#define NUMBERS       64u

static uint8_t identity[IDENTITY_SIZE];
static size_t identity_size;
static int lock = -1;

struct text {
    char data[8192];
    size_t size;
};

static void identity_add(struct text *text, const char *what)
{
    int n = snprintf(text->data + text->size, sizeof(text->data) - text->size, "%s\n", what);

    if (n > 0 && (size_t)n < sizeof(text->data) - text->size)
        text->size += (size_t)n;
}

/* machine-id(5); a container without one has a host name of its own. */
static void identity_add_machine(struct text *text)
{
    char line[256] = "";
    struct stat ns;
    int fd = open("/etc/machine-id", O_RDONLY | O_CLOEXEC);

    if (fd >= 0) {
        ssize_t n = read(fd, line, 32);
        line[n > 0 ? n : 0] = '\0';
        close(fd);
    }
    identity_add(text, line);
    if (gethostname(line, sizeof(line) - 1) == 0)
        identity_add(text, line);
    /* The abstract namespace belongs to the network namespace: in another one the number would be
     * the same. */
    if (stat("/proc/self/ns/net", &ns) == 0) {
        snprintf(line, sizeof(line), "%llu", (unsigned long long)ns.st_ino);
        identity_add(text, line);
    }
    snprintf(line, sizeof(line), "%u", (unsigned)geteuid());
    identity_add(text, line);
}

static void identity_add_command(struct text *text, const struct config *config)
{
    char endpoint[ADDR_ENDPOINT_TEXT_MAX], port[8];

    for (unsigned i = 0; i < config->server_count; i++) {
        addr_format_endpoint(&config->servers[i], endpoint, sizeof(endpoint));
        identity_add(text, endpoint);
    }
    for (unsigned i = 0; i < config->tunnel_count; i++) {
        addr_format_endpoint(&config->tunnels[i].origin, endpoint, sizeof(endpoint));
        identity_add(text, endpoint);
        identity_add(text, config->tunnels[i].name);
        snprintf(port, sizeof(port), "%u", config->tunnels[i].port);
        identity_add(text, port);
    }
}

static bool identity_take_name(const uint8_t id[CRYPT_MAC_SIZE])
{
    struct sockaddr_un name = { .sun_family = AF_UNIX };
    static const char prefix[] = "culvert-client-";
    size_t at = 1; /* a leading zero: abstract */

    memcpy(name.sun_path + at, prefix, sizeof(prefix) - 1);
    at += sizeof(prefix) - 1;
    for (size_t i = 0; i < IDENTITY_SIZE; i++, at += 2)
        snprintf(name.sun_path + at, 3, "%02x", id[i]);
    lock = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (lock >= 0 && bind(lock, (struct sockaddr *)&name,
                          (socklen_t)(offsetof(struct sockaddr_un, sun_path) + at)) == 0)
        return true;
    if (lock >= 0)
        close(lock);
    lock = -1;
    return false;
}

void identity_open(const struct config *config)
{
    static const uint8_t key[CRYPT_MAC_SIZE] = "culvert client identity";
    uint8_t id[CRYPT_MAC_SIZE];
    struct text text = { .size = 0 };
    char number[8];

    identity_add_machine(&text);
    identity_add_command(&text, config);
    size_t fixed = text.size;
    for (unsigned i = 0; i < NUMBERS; i++) {
        text.size = fixed;
        snprintf(number, sizeof(number), "%u", i);
        identity_add(&text, number);
        crypt_mac(key, text.data, text.size, id);
        if (!identity_take_name(id))
            continue;
        memcpy(identity, id, IDENTITY_SIZE);
        identity_size = IDENTITY_SIZE;
        return;
    }
    identity_renew(); /* so many clients alike, or no such sockets here */
}

void identity_renew(void)
{
    if (getrandom(identity, sizeof(identity), 0) == (ssize_t)sizeof(identity))
        identity_size = IDENTITY_SIZE;
}

void identity_close(void)
{
    if (lock >= 0)
        close(lock);
    lock = -1;
    identity_size = 0;
}

struct frame_text identity_get(void)
{
    return (struct frame_text){ .data = (const char *)identity, .size = identity_size };
}
