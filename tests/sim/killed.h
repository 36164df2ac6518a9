/*
 * killed: the end of a process without a word, in the simulated world: its rings and sockets go as
 * the kernel lets them go, and its memory.
 */
#ifndef CULVERT_TESTS_SIM_KILLED_H
#define CULVERT_TESTS_SIM_KILLED_H

#include "core/run/worker.h"

/* kill -9 of the process (fake_process) that has these workers. They are freed, and the places
 * NULL. */
void killed_bury(unsigned process, struct worker **workers, unsigned count);

#endif
