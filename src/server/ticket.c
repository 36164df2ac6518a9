/* ticket: see ticket.h. On the wire: version u8 (1), port u16, mac of these, the client's identity
 * and nothing else. */
#include "server/ticket.h"

#include "core/base/base.h"
#include "core/base/check.h"
#include "core/base/dirs.h"
#include "core/base/file.h"
#include "core/base/log.h"
#include "core/base/secret.h"
#include "core/mux/crypt.h"
#include "core/mux/scram.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#define TICKET_VERSION 1u
#define TICKET_HEAD    3u
#define TICKET_SIZE    (TICKET_HEAD + CRYPT_MAC_SIZE)
CHECK_STATIC(TICKET_SIZE <= FRAME_TICKET_MAX, "a ticket fits its field");

#define KEY_SIZE CRYPT_MAC_SIZE

static uint8_t *key; /* secret memory */

/* NULL: there is no file, or one that is cut short. */
static uint8_t *ticket_read_key(const char *path)
{
    char *text;
    size_t size;

    if (file_read(path, &text, &size) == 0 && size == KEY_SIZE)
        return (uint8_t *)text;
    file_drop(text);
    return NULL;
}

/* Unless another server, which started at the same time, has kept its own: then it is that. */
static int ticket_write_or_find(const char *dir, const char *path)
{
    int lock = dirs_lock(dir), error = 0;
    uint8_t *other = ticket_read_key(path);

    if (other != NULL) {
        secret_free(key);
        key = other;
    } else {
        error = file_write(path, (const char *)key, KEY_SIZE);
    }
    if (lock >= 0)
        close(lock);
    return error;
}

/* The key outlives the process, if the state directory can be written. */
static void ticket_keep_key(const struct config *config, const char *path)
{
    int error = dirs_make(config->state_dir);

    if (error == 0)
        error = ticket_write_or_find(config->state_dir, path);
    if (error != 0)
        log_at(LOG_WARN, "server",
               "cannot write %s: %s; after a restart clients may get other ports", path,
               strerror(-error));
}

bool ticket_open(const struct config *config)
{
    char path[sizeof(config->state_dir) + 16];

    snprintf(path, sizeof(path), "%s/ticket.key", config->state_dir);
    key = config->state_dir[0] != '\0' ? ticket_read_key(path) : NULL;
    if (key != NULL)
        return true;
    key = secret_alloc(KEY_SIZE);
    if (key == NULL) {
        log_at(LOG_ERROR, "server", "out of memory");
        return false;
    }
    if (getrandom(key, KEY_SIZE, 0) != (ssize_t)KEY_SIZE) {
        log_at(LOG_ERROR, "server", "the kernel gives no random bytes (getrandom): %s",
               strerror(errno));
        return false;
    }
    if (config->state_dir[0] != '\0')
        ticket_keep_key(config, path);
    return true;
}

void ticket_close(void)
{
    secret_free(key);
    key = NULL;
}

static void ticket_sign(const uint8_t *head, const uint8_t *client, size_t client_size,
                        uint8_t *mac)
{
    uint8_t text[TICKET_HEAD + FRAME_CLIENT_MAX];

    CHECK(client_size <= FRAME_CLIENT_MAX);
    memcpy(text, head, TICKET_HEAD);
    memcpy(text + TICKET_HEAD, client, client_size);
    crypt_mac(key, text, TICKET_HEAD + client_size, mac);
}

size_t ticket_make(uint8_t *dst, uint16_t port, const uint8_t *client, size_t client_size)
{
    dst[0] = TICKET_VERSION;
    dst[1] = (uint8_t)(port >> 8);
    dst[2] = (uint8_t)port;
    ticket_sign(dst, client, client_size, dst + TICKET_HEAD);
    return TICKET_SIZE;
}

uint16_t ticket_port(struct frame_text ticket, const uint8_t *client, size_t client_size)
{
    const uint8_t *given = (const uint8_t *)ticket.data;
    uint8_t mac[CRYPT_MAC_SIZE];

    if (ticket.size != TICKET_SIZE || given[0] != TICKET_VERSION)
        return 0;
    ticket_sign(given, client, client_size, mac);
    if (!scram_equal(mac, given + TICKET_HEAD, sizeof(mac)))
        return 0;
    return (uint16_t)(given[1] << 8 | given[2]);
}
