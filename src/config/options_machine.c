/* options_machine: see options_machine.h. */
#include "config/options_machine.h"

#include <sched.h>
#include <stdio.h>

#include "core/base/base.h"

unsigned options_machine_cores(void)
{
    cpu_set_t set;

    if (sched_getaffinity(0, sizeof(set), &set) != 0)
        return 1;
    return (unsigned)min_size((size_t)CPU_COUNT(&set), CONFIG_CPUS_MAX);
}

/* "0-3,6", for a sentence; cut if it does not fit. */
static void machine_format_cores(const cpu_set_t *set, char *text, size_t size)
{
    size_t used = 0;

    text[0] = '\0';
    for (int first = 0, last; first < CPU_SETSIZE && used < size; first = last + 1) {
        last = first;
        if (!CPU_ISSET(first, set))
            continue;
        while (last + 1 < CPU_SETSIZE && CPU_ISSET(last + 1, set))
            last++;
        used += (size_t)snprintf(text + used, size - used, "%s%d", used > 0 ? "," : "", first);
        if (last > first && used < size)
            used += (size_t)snprintf(text + used, size - used, "-%d", last);
    }
}

bool options_check_machine(const struct config *config, struct options_error *error)
{
    char cores[128];
    cpu_set_t set;

    if (config->cpu_count == 0 || sched_getaffinity(0, sizeof(set), &set) != 0)
        return true;
    for (unsigned i = 0; i < config->cpu_count; i++) {
        if (CPU_ISSET(config->cpus[i], &set))
            continue;
        machine_format_cores(&set, cores, sizeof(cores));
        return options_error_start(error,
                                   "--cpus: this process may not run on core %d; it may use %s",
                                   config->cpus[i], cores);
    }
    return true;
}
