/*
 * reload: see reload.h. All of its state is the service's from reload_serve() on. Between a read
 * and the word that all workers have swapped there are two snapshots here, and no other read.
 */
#include "server/reload.h"

#include "core/base/base.h"
#include "core/base/log.h"
#include "core/mux/crypt_ctx.h"
#include "core/run/service.h"
#include "server/auth.h"
#include "server/certificate.h"

#include <stdlib.h>

#define RELOAD_LOOK_PAUSE (5 * NSEC_PER_SEC)

/* What was read; NULL: the part of before stays. */
struct reload_parts {
    struct crypt_ctx *crypt;
    struct auth_table *tokens;
    struct auth_change change; /* of tokens */
};

static struct {
    const struct config *config;
    struct reload_workers workers;
    struct reload_snapshot *newest;
    struct reload_snapshot *before; /* some workers may still have it; NULL: all have the newest */
    struct reload_parts fresh;      /* of the newest: what is said when all have it */
    struct snapshot_change change;
    struct service_job wanted, made, look;
    bool again; /* wanted once more, when all have the newest */
} reload;

static void reload_snapshot_free(struct snapshot *base)
{
    struct reload_snapshot *snapshot = container_of(base, struct reload_snapshot, snapshot);

    crypt_ctx_unref(snapshot->crypt);
    auth_unref(snapshot->tokens);
    free(snapshot);
}

/* Has the references of the two. NULL after saying so: no memory, and they are given back. */
static struct reload_snapshot *reload_snapshot_new(struct crypt_ctx *crypt,
                                                   struct auth_table *tokens)
{
    struct reload_snapshot *snapshot = calloc(1, sizeof(*snapshot));

    if (snapshot == NULL) {
        log_at(LOG_ERROR, "server", "out of memory for what was read: what is in use stays");
        crypt_ctx_unref(crypt);
        auth_unref(tokens);
        return NULL;
    }
    snapshot_init(&snapshot->snapshot, reload_snapshot_free);
    snapshot->crypt = crypt;
    snapshot->tokens = tokens;
    return snapshot;
}

bool reload_open(struct config *config, const union sock_addr *listen)
{
    bool tls = config->tls != CONFIG_OFF;
    struct crypt_ctx *crypt = tls ? certificate_open(config, listen) : NULL;
    struct auth_table *tokens = crypt != NULL || !tls ? auth_open(config) : NULL;

    reload.config = config;
    if (tokens != NULL)
        reload.newest = reload_snapshot_new(crypt, tokens);
    else
        crypt_ctx_unref(crypt);
    return reload.newest != NULL;
}

void reload_close(void)
{
    if (reload.newest != NULL)
        snapshot_unref(&reload.newest->snapshot);
    if (reload.before != NULL)
        snapshot_unref(&reload.before->snapshot);
    reload.newest = reload.before = NULL;
    reload.again = false;
}

struct snapshot *reload_first(void)
{
    return snapshot_ref(&reload.newest->snapshot);
}

/* To the workers */

/* In the thread of the last worker that swaps. */
static void reload_change_done(struct snapshot_change *change)
{
    (void)change;
    service_post(&reload.made);
}

/* What was read, and the rest of the newest one. NULL after saying why. */
static struct reload_snapshot *reload_combine(const struct reload_parts *fresh)
{
    struct crypt_ctx *crypt = fresh->crypt;
    struct auth_table *tokens = fresh->tokens;

    if (crypt == NULL && reload.newest->crypt != NULL)
        crypt = crypt_ctx_ref(reload.newest->crypt);
    if (tokens == NULL)
        tokens = auth_ref(reload.newest->tokens);
    return reload_snapshot_new(crypt, tokens);
}

static void reload_publish(const struct reload_parts *fresh)
{
    struct reload_snapshot *next = reload_combine(fresh);

    if (next == NULL)
        return;
    reload.before = reload.newest;
    reload.newest = next;
    reload.fresh = *fresh;
    snapshot_change_begin(&reload.change, &next->snapshot, reload_change_done);
    reload.workers.change(reload.workers.arg, &reload.change);
    snapshot_change_made(&reload.change);
}

/* All workers have it: nobody is let in by the one before any more, and all whom that let in stand
 * in the registry. */
static void reload_made(struct service_job *job)
{
    const struct reload_parts *fresh = &reload.fresh;

    (void)job;
    snapshot_unref(&reload.before->snapshot);
    reload.before = NULL;
    if (fresh->crypt != NULL)
        log_at(LOG_INFO, "tls", "certificate read again: %s", crypt_ctx_pin(fresh->crypt));
    if (fresh->tokens != NULL)
        tokens_changed(fresh->tokens, &fresh->change, reload.workers.tell, reload.workers.arg);
    if (reload.again)
        service_post(&reload.wanted);
    reload.again = false;
}

/* Reads */

static void reload_wanted(struct service_job *job)
{
    const struct config *config = reload.config;
    struct reload_parts fresh = { .crypt = NULL };

    (void)job;
    if (reload.before != NULL) {
        reload.again = true;
        return;
    }
    if (config->tls != CONFIG_OFF)
        fresh.crypt = certificate_read_again(config);
    if (config->token_file != NULL)
        fresh.tokens = tokens_read_again(config, reload.newest->tokens, &fresh.change);
    if (fresh.crypt != NULL || fresh.tokens != NULL)
        reload_publish(&fresh);
}

static void reload_look(struct service_job *job)
{
    struct reload_parts fresh = { .crypt = NULL };

    service_post_after(job, RELOAD_LOOK_PAUSE);
    if (reload.before == NULL)
        fresh.crypt = certificate_look(reload.config, service_now());
    if (fresh.crypt != NULL)
        reload_publish(&fresh);
}

void reload_serve(const struct reload_workers *workers)
{
    reload.workers = *workers;
    service_job_init(&reload.wanted, reload_wanted);
    service_job_init(&reload.made, reload_made);
    service_job_init(&reload.look, reload_look);
    if (certificate_is_own(reload.config))
        service_post_after(&reload.look, RELOAD_LOOK_PAUSE);
}

void reload_all(void)
{
    service_post(&reload.wanted);
}
