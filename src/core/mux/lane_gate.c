/*
 * lane_gate: the one way from a lane to its socket.
 *
 * Every send of a lane is submitted here, and nowhere else (tests/lint/layers), behind one check. A
 * lane knows whether it is to be TLS before it sends anything: from its birth, or, at a server that
 * takes both, from the first byte that it hears. From then on lane->conn.tls never changes, while
 * its crypt may be handed over, end, or go. A plain lane sends frames as they are. A lane that is
 * to be TLS sends
 *   sealed    what lies in its sealed buffer: handshake bytes and records, while user space seals;
 *   frames    as they are, while the kernel seals, and while the crypt has not ended;
 *   control   a record that is not data, to the kernel that seals, with its type beside it.
 * Without a crypt it sends nothing. Whoever has bytes for which there is no way any more drops them
 * (lane_tx_release); a caller that forgets ends the process here, before a byte of it has left.
 *
 * Bytes that are sealed are taken from the sealed buffer by this file itself: no caller can name
 * others.
 */
#include "core/mux/crypt.h"
#include "core/mux/lane.h"
#include "core/mux/lane_impl.h"

enum gate_bytes { GATE_FRAMES, GATE_SEALED, GATE_CONTROL };

static void gate_check(const struct lane *lane, enum gate_bytes bytes)
{
    bool kernel = lane->conn.crypt != NULL && crypt_tx_kernel(lane->conn.crypt);

    CHECK(lane_is_connected(lane) && lane->conn.fd >= 0 && !lane->conn.send_flight);
    CHECK(lane->conn.tls == (lane->conn.crypt != NULL) && !lane->conn.sniffs);
    switch (bytes) {
    case GATE_FRAMES:
        CHECK(!lane->conn.tls || (kernel && !lane->conn.crypt_ended));
        break;
    case GATE_SEALED:
        CHECK(lane->conn.tls && !kernel);
        break;
    case GATE_CONTROL:
        CHECK(kernel && lane->conn.sealed_type != CRYPT_TYPE_DATA);
        break;
    }
}

static void gate_pass(struct lane *lane, enum gate_bytes bytes, uint32_t size)
{
    gate_check(lane, bytes);
    CHECK(size > 0);
    lane->conn.send_flight = true;
    lane->conn.send_since = lane->loop->now;
    lane->conn.flight_sealed = bytes != GATE_FRAMES;
    lane->conn.flight_zc = false;
    lane->conn.flight_size = size;
}

void lane_gate_frames(struct lane *lane, unsigned count)
{
    uint32_t size = 0;

    for (unsigned i = 0; i < count; i++)
        size += (uint32_t)lane->conn.iov[i].iov_len;
    gate_pass(lane, GATE_FRAMES, size);
    lane->conn.msg = (struct msghdr){ .msg_iov = lane->conn.iov, .msg_iovlen = count };
    ring_sendmsg(lane->loop->ring, lane_send_op(lane), lane->conn.fd, &lane->conn.msg,
                 lane_send_flags(lane));
}

void lane_gate_segment(struct lane *lane)
{
    struct loop *loop = lane->loop;
    const struct lane_segment *segment = &lane->segments[lane->seg_head];
    const uint8_t *data = buf_data(&loop->bufs, segment->buf) + segment->offset;
    int index = buf_fixed_index(&loop->bufs, loop->ring, segment->buf);

    CHECK(!lane->conn.tls && lane->seg_count > 0 && lane->seg_sent == 0);
    gate_pass(lane, GATE_FRAMES, segment->size);
    lane->conn.flight_zc = true;
    if (index >= 0)
        ring_send_fixed(loop->ring, lane_send_op(lane), lane->conn.fd, data, segment->size,
                        (unsigned)index, RING_WAITALL);
    else
        ring_send(loop->ring, lane_send_op(lane), lane->conn.fd, data, segment->size,
                  RING_WAITALL | RING_ZC);
}

static uint8_t *sealed_bytes(const struct lane *lane)
{
    return buf_data(&lane->loop->bufs, lane->conn.sealed_buf) + lane->conn.sealed_sent;
}

void lane_gate_sealed(struct lane *lane)
{
    uint32_t size = lane->conn.sealed_filled - lane->conn.sealed_sent;

    gate_pass(lane, GATE_SEALED, size);
    ring_send(lane->loop->ring, lane_send_op(lane), lane->conn.fd, sealed_bytes(lane), size,
              RING_WAITALL);
}

void lane_gate_control(struct lane *lane)
{
    uint32_t size = lane->conn.sealed_filled - lane->conn.sealed_sent;

    gate_pass(lane, GATE_CONTROL, size);
    lane->conn.iov[0] = (struct iovec){ .iov_base = sealed_bytes(lane), .iov_len = size };
    lane->conn.msg = (struct msghdr){ .msg_iov = lane->conn.iov, .msg_iovlen = 1 };
    crypt_send_type(&lane->conn.msg, lane->conn.tx_control, lane->conn.sealed_type);
    ring_sendmsg(lane->loop->ring, lane_send_op(lane), lane->conn.fd, &lane->conn.msg,
                 lane_send_flags(lane));
}
