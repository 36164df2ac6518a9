/*
 * op: the 64-bit user_data of every submission, packed.
 *
 *   bits 63..58  kind          what completed, and who is told: see loop_register
 *   bits 57..34  slot          which stream, lane, listener, ... (24 bits)
 *   bits 33..24  generation    low bits of the slot's generation: a late completion for a reused
 *                slot is seen as such
 *   bits 23..0   aux           per kind: a buffer id, a tunnel index
 *
 * Zero-copy notifications carry the user_data of their send; they are told apart by the
 * completion's flags.
 */
#ifndef CULVERT_CORE_IO_OP_H
#define CULVERT_CORE_IO_OP_H

#include "core/base/check.h"

#include <stdbool.h>
#include <stdint.h>

/* Kinds are given out by loop_register. 0 is the ring's own: nobody waits for it. */
#define OP_KINDS 64u
#define OP_NONE  0u

#define OP_SLOT_BITS       24u
#define OP_GENERATION_BITS 10u
#define OP_AUX_BITS        24u

struct op {
    unsigned kind;
    uint32_t slot;
    uint32_t generation;
    uint32_t aux;
};

CHECK_STATIC(OP_KINDS == 64, "kind has 6 bits");
CHECK_STATIC(6 + OP_SLOT_BITS + OP_GENERATION_BITS + OP_AUX_BITS == 64, "user_data has 64 bits");

static inline uint64_t op_pack(unsigned kind, uint32_t slot, uint32_t generation, uint32_t aux)
{
    CHECK(kind < OP_KINDS && slot < (1u << OP_SLOT_BITS) && aux < (1u << OP_AUX_BITS));
    return (uint64_t)kind << 58 | (uint64_t)slot << 34 |
           (uint64_t)(generation & ((1u << OP_GENERATION_BITS) - 1)) << 24 | aux;
}

/* Whether it was packed for this generation of its slot, as far as the bits tell. */
static inline bool op_is_of(struct op op, uint32_t generation)
{
    return op.generation == (generation & ((1u << OP_GENERATION_BITS) - 1));
}

static inline unsigned op_kind(uint64_t user_data)
{
    return (unsigned)(user_data >> 58);
}

static inline struct op op_unpack(uint64_t user_data)
{
    return (struct op){
        .kind = op_kind(user_data),
        .slot = (uint32_t)(user_data >> 34) & ((1u << OP_SLOT_BITS) - 1),
        .generation = (uint32_t)(user_data >> 24) & ((1u << OP_GENERATION_BITS) - 1),
        .aux = (uint32_t)user_data & ((1u << OP_AUX_BITS) - 1),
    };
}

#endif
