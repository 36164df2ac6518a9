/*
 * Fuzz target: the input is what one side of a lane says. Its first byte is the version, as on the
 * wire; frames are split by frame_get() and every payload goes through its decoder. What is taken
 * must survive encoding: the second encoding equals the first.
 */
#include <stdlib.h>
#include <string.h>

#include "core/base/check.h"
#include "frame_any.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* One frame whose payload is complete. The payload is copied to an allocation of its own size, so
 * that a decoder that reads one byte too many is seen. */
static void one_frame(uint8_t version, const struct frame *frame, const uint8_t *payload)
{
    uint8_t first[FRAME_CONTROL_MAX], second[FRAME_CONTROL_MAX];
    uint8_t *copy = malloc(frame->length > 0 ? frame->length : 1);
    size_t header = frame_header_size(version);
    struct frame again;
    size_t size;

    CHECK(copy != NULL);
    memcpy(copy, payload, frame->length);
    size = frame_any_again(version, frame, copy, copy + frame->length, first);
    free(copy);
    if (size == 0)
        return;
    CHECK(size <= sizeof(first));
    CHECK(frame_get(version, first, first + size, &again) == FRAME_OK);
    CHECK(again.kind == frame->kind && again.stream == frame->stream);
    if (again.kind == FRAME_DATA)
        return;
    CHECK(header + again.length == size);
    CHECK(frame_any_again(version, &again, first + header, first + size, second) == size);
    CHECK(memcmp(first, second, size) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *end = data + size;
    uint8_t version = size > 0 && data[0] == FRAME_V1 ? FRAME_V1 : FRAME_V2;
    size_t header = frame_header_size(version);
    struct frame frame;

    while (frame_get(version, data, end, &frame) == FRAME_OK) {
        if (frame.length > (size_t)(end - data) - header)
            break;
        one_frame(version, &frame, data + header);
        data += header + frame.length;
    }
    return 0;
}
