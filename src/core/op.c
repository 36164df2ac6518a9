/* op: names of the operation kinds, see op.h. */
#include "core/op.h"

const char *op_kind_name(enum op_kind kind)
{
    static const char *const names[] = {
#define X(kind, fn) [OP_##kind] = #kind,
        OP_TABLE(X)
#undef X
    };

    CHECK(kind < OP_KIND_COUNT);
    return names[kind];
}
