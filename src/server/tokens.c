/* tokens: see tokens.h. */
#include "server/tokens.h"

#include "config/options_token.h"
#include "core/base/log.h"
#include "core/wire/reason.h"
#include "server/auth.h"
#include "server/registry.h"
#include "server/tunnel.h"

#include <stdio.h>

/* True if it was there to end. */
static bool tokens_end(uint64_t session, tokens_tell *tell, void *arg)
{
    char subject[48];

    if (!registry_remove(session))
        return false;
    snprintf(subject, sizeof(subject), "session %llu", (unsigned long long)session);
    log_at(LOG_INFO, subject, "ends: %s", reason_text(REASON_TOKEN_GONE));
    tell(arg, &tunnel_session_over, session, REASON_TOKEN_GONE);
    return true;
}

/* Ends all sessions whose token is gone; how many. */
static unsigned tokens_end_all(const struct auth_table *table, tokens_tell *tell, void *arg)
{
    struct registry_owned found[REGISTRY_PORTION];
    unsigned ended = 0;
    uint32_t place = 0;

    for (bool over = false; !over;) {
        unsigned count = registry_list(&place, found, &over);

        for (unsigned i = 0; i < count; i++)
            if (!auth_knows(table, found[i].token))
                ended += tokens_end(found[i].session, tell, arg);
    }
    return ended;
}

struct auth_table *tokens_read_again(const struct config *config, const struct auth_table *before,
                                     struct auth_change *change)
{
    struct config fresh = { .token = NULL };
    char warning[OPTIONS_WARNING_MAX];
    struct options_error error;

    if (!config->token_again) {
        log_at(
            LOG_WARN, "server",
            "tokens not read again: --token-file '%.200s' is no regular file, it was read to its "
            "end; name a regular one to change tokens without a restart",
            config->token_file);
        return NULL;
    }
    if (!options_token_again(config, &fresh, warning, &error)) {
        log_at(LOG_ERROR, "server",
               "tokens not read again, those in use stay: %s; mend the file '%.200s', and send "
               "SIGHUP once more",
               error.text, config->token_file);
        return NULL;
    }
    if (warning[0] != '\0')
        log_at(LOG_WARN, "server", "%s", warning);
    return auth_renew(before, &fresh, change);
}

void tokens_changed(const struct auth_table *table, const struct auth_change *change,
                    tokens_tell *tell, void *arg)
{
    unsigned ended = change->gone > 0 ? tokens_end_all(table, tell, arg) : 0;

    log_at(LOG_INFO, "server", "tokens read again: %u, %u new, %u gone (%u sessions end)",
           change->count, change->fresh, change->gone, ended);
}
