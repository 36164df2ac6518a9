/* zero_copy: see zero_copy.h. */
#include "core/io/zero_copy.h"

void zero_copy_init(struct zero_copy *zc, const struct config *config)
{
    *zc = (struct zero_copy){ .mode = config->zero_copy == CONFIG_OFF ? ZERO_COPY_OFF
                                                                      : ZERO_COPY_UNDECIDED };
}

void zero_copy_decide(struct zero_copy *zc, const struct config *config, bool local)
{
    bool on = ring_features()->send_zc && (!local || config->zero_copy == CONFIG_ON);

    CHECK(zc->mode == ZERO_COPY_UNDECIDED);
    zc->mode = on ? ZERO_COPY_ON : ZERO_COPY_OFF;
}

void zero_copy_sent(struct zero_copy *zc, struct loop *loop, uint32_t buf)
{
    CHECK(zc->mode == ZERO_COPY_ON && zc->pending < UINT16_MAX);
    zc->pending++;
    buf_ref(&loop->bufs, buf);
    loop_count(loop, STAT_ZC_SENDS, 1);
}

static void zero_copy_over(struct zero_copy *zc, struct loop *loop, uint32_t buf)
{
    CHECK(zc->pending > 0);
    zc->pending--;
    buf_put(&loop->bufs, buf);
}

void zero_copy_result(struct zero_copy *zc, struct loop *loop, uint32_t buf,
                      const struct ring_cqe *cqe)
{
    if ((cqe->flags & RING_CQE_MORE) == 0)
        zero_copy_over(zc, loop, buf); /* failed before it was one: no notification comes */
    else if (cqe->res <= 0)
        zc->empty++;
}

/* The report of a send that moved nothing says "copied" (tests/kernel/test_zero_copy.c): so many of
 * those count for nothing. */
void zero_copy_notified(struct zero_copy *zc, struct loop *loop, uint32_t buf,
                        const struct ring_cqe *cqe)
{
    bool copied = (cqe->flags & RING_CQE_COPIED) != 0;

    zero_copy_over(zc, loop, buf);
    if (copied && zc->empty > 0) {
        zc->empty--;
        return;
    }
    if (!copied)
        return;
    loop_count(loop, STAT_ZC_COPIED, 1);
    if (loop->config->zero_copy != CONFIG_ON)
        zc->mode = ZERO_COPY_OFF;
}
