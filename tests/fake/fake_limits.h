/*
 * fake_limits: limits of core/io/limits.h that a simulation draws for each run. Included in front
 * of every source of the fake's library (tests/CMakeLists.txt); 0: as usual.
 */
#ifndef CULVERT_TESTS_FAKE_LIMITS_H
#define CULVERT_TESTS_FAKE_LIMITS_H

#include <stdint.h>

#define CULVERT_LIMITS_DRAWN 1

struct fake_limits {
    uint32_t generations, apart, ids, ids_ask; /* of stream ids */
    uint32_t small_buffers, provided;
    uint32_t turn_frames;
    uint32_t pipes, splice_least;
    uint32_t lane_ack, lane_ack_small, lane_log_max, lane_log_big_min;
};
extern struct fake_limits fake_limits;

static inline uint32_t fake_limit(uint32_t drawn, uint32_t usual)
{
    return drawn != 0 ? drawn : usual;
}

#endif
