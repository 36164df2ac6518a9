/*
 * relay_splice: bulk that is not copied.
 *
 * Up. A stream whose reads were large several times in a row is asked for readiness in place of
 * being read, and what is there moves to a pipe and stands in the lane's bulk queue as a DATA frame
 * like any other, of as many bytes as were there (lane_splice in lane_tx.c puts it on the wire). It
 * needs a place in that queue before it moves anything: pipes wait in no line. When little comes it
 * is read again as before. Down. What demux.c has put into pipes, at the lane's other end, stands
 * in the stream's queue as a slice, and moves on as soon as it is the first.
 *
 * The system calls are made here, between two waits of the ring: splice in the ring takes a thread
 * for each. Whoever finds its socket not ready polls through the ring, as the read or send in
 * flight (STREAM_RECV, STREAM_SEND; there is never another one beside it).
 *
 * Copied as before: lanes that keep what they sent (they would have to keep pipes), TLS, v1, lanes
 * whose TCP paces (--bulk auto: a copy costs less there), and whatever is small.
 */
#include "core/io/op.h"
#include "core/mux/lane.h"
#include "core/mux/relay_impl.h"
#include "core/wire/frame.h"

#include <errno.h>

bool relay_splices(const struct stream *s)
{
    return s->swift >= SPLICE_SWIFT && lane_takes_pipes(s->lane);
}

static void splice_no_wait(struct stream *s)
{
    if (!s->no_wait)
        sock_no_wait(s->fd);
    s->no_wait = true;
}

static void splice_poll_up(struct stream *s)
{
    ring_poll(s->loop->ring, stream_op(s, STREAM_OP_RECV, BUF_NONE), s->fd, false);
    s->flight |= STREAM_RECV;
    s->polls_up = true;
}

void relay_splice_polled(struct stream *s)
{
    s->polls_up = false;
    s->ready = true;
    stream_mark(s);
}

/* So little that it is read like any other. False: there is no buffer for it. */
static bool splice_copy(struct stream *s, uint32_t pipe, uint32_t size)
{
    struct buf_pool *bufs = &s->loop->bufs;
    uint32_t buf = buf_take_small(bufs, s->share);

    if (buf == BUF_NONE)
        return false;
    int error = pipe_read(&bufs->pipes, buf_pipe(pipe), buf_data(bufs, buf) + BUF_HEADROOM, size);
    if (error == 0) {
        relay_recv_data(s, buf, size, false);
        return true;
    }
    buf_put(bufs, buf);
    stream_close(s, REASON_SOCKET_ERROR, true);
    return true;
}

static void splice_push(struct stream *s, uint32_t pipe, uint32_t size)
{
    struct frame frame = relay_data_frame(s, size, false);

    lane_bulk_push_pipe(s->lane, &s->waiter, pipe, &frame);
    lane_line_served(&s->waiter);
    relay_count_up(s, size);
    loop_count(s->loop, STAT_SPLICED_UP, size);
    s->heard = s->loop->now;
}

static void splice_moved(struct stream *s, uint32_t pipe, uint32_t size, bool more)
{
    s->ready = more;
    if (size <= min_u32(BUF_SMALL_PAYLOAD, SPLICE_LEAST - 1) && splice_copy(s, pipe, size)) {
        buf_put(&s->loop->bufs, pipe);
        return;
    }
    relay_judge(s, size);
    splice_push(s, pipe, size);
    if (s->waiter.pending < STREAM_BULK_PENDING && s->tx.credit > 0 && !s->ready &&
        relay_splices(s))
        splice_poll_up(s);
}

void relay_splice_up(struct stream *s)
{
    struct buf_pool *bufs = &s->loop->bufs;
    uint32_t size = min_u32(s->tx.credit, lane_pipe_most(s->lane));

    if (!s->ready) {
        splice_poll_up(s);
        return;
    }
    if (!lane_bulk_room(s->lane)) {
        relay_wait_for_room(s, LANE_LINE_BULK);
        return;
    }
    uint32_t pipe =
        size >= SPLICE_LEAST ? buf_take_pipe(bufs, s->lane->share, s->loop->now) : BUF_NONE;
    if (pipe == BUF_NONE) {
        relay_recv(s); /* the credit is short, or there is no pipe */
        return;
    }
    splice_no_wait(s);
    struct pipe_rest rest;
    int n = pipe_fill(&bufs->pipes, buf_pipe(pipe), s->fd, size, &rest);
    if (n > 0) {
        if (rest.error != 0)
            relay_recv_nothing(s, rest.error); /* behind these bytes */
        splice_moved(s, pipe, (uint32_t)n, rest.more || rest.error != 0);
        return;
    }
    buf_put(bufs, pipe);
    if (n == -ENOBUFS) { /* it stops at an urgent byte, a read does not */
        relay_recv(s);
    } else if (n == -EAGAIN || n == -EINTR) {
        s->ready = false;
        splice_poll_up(s);
    } else {
        relay_recv_nothing(s, n);
    }
}

/* Down */

static void splice_poll_down(struct stream *s)
{
    ring_poll(s->loop->ring, stream_op(s, STREAM_OP_SEND, BUF_NONE), s->fd, true);
    s->flight |= STREAM_SEND;
    s->polls_down = true;
    s->send_since = s->loop->now;
}

bool relay_splice_down(struct stream *s)
{
    struct loop *loop = s->loop;
    uint32_t moved = 0;

    while (s->head != SLAB_NONE) {
        const struct slice *slice = slab_at(&loop->slices, s->head);
        if (!buf_is_pipe(slice->buf))
            return true;
        if (moved >= SPLICE_TURN) {
            splice_poll_down(s);
            return false;
        }
        splice_no_wait(s);
        int n = pipe_drain(&loop->bufs.pipes, buf_pipe(slice->buf), s->fd, slice->size);
        if (n > 0) {
            relay_sent(s, (uint32_t)n);
            moved += (uint32_t)n;
        } else if (n == -EAGAIN || n == -EINTR) {
            splice_poll_down(s);
            return false;
        } else {
            relay_send_failed(s, n);
            return false;
        }
    }
    return true;
}
