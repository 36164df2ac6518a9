/* loop: see loop.h. */
#include "core/io/loop.h"

unsigned loop_register(struct loop *loop, void *part, const struct loop_op *ops, unsigned count)
{
    unsigned first = loop->op_count;

    CHECK(first + count <= OP_KINDS);
    for (unsigned i = 0; i < count; i++) {
        loop->ops[first + i] = ops[i];
        loop->op_parts[first + i] = part;
    }
    loop->op_count += count;
    return first;
}
