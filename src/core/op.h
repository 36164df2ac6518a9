/*
 * op: the 64-bit user_data of every submission, packed.
 *
 *   bits 63..58  kind          what completed: an index into the worker's table of completion
 *                handlers
 *   bits 57..34  slot          which stream, lane, listener, ... (24 bits)
 *   bits 33..24  generation    low bits of the slot's generation: a late completion for a reused
 *                slot is seen as such
 *   bits 23..0   aux           per kind: a buffer id, a tunnel index
 *
 * Zero-copy notifications carry the user_data of their send; they are told apart by the
 * completion's flags.
 */
#ifndef CULVERT_CORE_OP_H
#define CULVERT_CORE_OP_H

#include "core/check.h"

#include <stdint.h>

/* X(kind, function of the worker's completion table) */
#define OP_TABLE(X)                     \
    X(NONE, none)                       \
    X(STREAM_RECV, stream_recv)         \
    X(STREAM_SEND, stream_send)         \
    X(STREAM_CONNECT, stream_connect)   \
    X(LANE_RECV, lane_recv)             \
    X(LANE_SEND, lane_send)             \
    X(LANE_CONNECT, lane_connect)       \
    X(LISTENER_ACCEPT, listener_accept) \
    X(MESSAGE, message)                 \
    X(MESSAGE_SENT, message_sent)       \
    X(ROLE, role)

enum op_kind {
#define X(kind, fn) OP_##kind,
    OP_TABLE(X)
#undef X
        OP_KIND_COUNT
};

#define OP_SLOT_BITS       24u
#define OP_GENERATION_BITS 10u
#define OP_AUX_BITS        24u

struct op {
    enum op_kind kind;
    uint32_t slot;
    uint32_t generation;
    uint32_t aux;
};

CHECK_STATIC(OP_KIND_COUNT <= 64, "kind has 6 bits");
CHECK_STATIC(6 + OP_SLOT_BITS + OP_GENERATION_BITS + OP_AUX_BITS == 64, "user_data has 64 bits");

static inline uint64_t op_pack(enum op_kind kind, uint32_t slot, uint32_t generation, uint32_t aux)
{
    CHECK(slot < (1u << OP_SLOT_BITS) && aux < (1u << OP_AUX_BITS));
    return (uint64_t)kind << 58 | (uint64_t)slot << 34 |
           (uint64_t)(generation & ((1u << OP_GENERATION_BITS) - 1)) << 24 | aux;
}

static inline struct op op_unpack(uint64_t user_data)
{
    return (struct op){
        .kind = (enum op_kind)(user_data >> 58),
        .slot = (uint32_t)(user_data >> 34) & ((1u << OP_SLOT_BITS) - 1),
        .generation = (uint32_t)(user_data >> 24) & ((1u << OP_GENERATION_BITS) - 1),
        .aux = (uint32_t)user_data & ((1u << OP_AUX_BITS) - 1),
    };
}

/* "STREAM_RECV"; for dumps and logs. */
const char *op_kind_name(enum op_kind kind);

#endif
