/* SPDX-License-Identifier: BSD-2-Clause */
#define _GNU_SOURCE
#include "scheduling.h"

#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

/* The shortest turn that Linux allows. */
#define SLICE_NS 100000u

/* What sched_setattr(2) takes, which the C library does not declare. */
struct scheduling {
    uint32_t size;
    uint32_t policy;
    uint64_t flags;
    int32_t nice;
    uint32_t priority;
    uint64_t runtime;
    uint64_t deadline;
    uint64_t period;
};

static void stay_on(int cpu)
{
    cpu_set_t set;

    CPU_ZERO(&set);
    CPU_SET((unsigned)cpu, &set);
    sched_setaffinity(0, sizeof(set), &set);
}

void scheduling_begin(int cpu)
{
    bool shares = cpu >= 0 && cpu < CPU_SETSIZE;
    struct scheduling scheduling = {
        .size = sizeof(scheduling),
        .policy = shares ? SCHED_BATCH : SCHED_OTHER,
        .nice = getpriority(PRIO_PROCESS, 0),
        .runtime = SLICE_NS,
    };

    syscall(SYS_sched_setattr, 0, &scheduling, 0);
    if (shares)
        stay_on(cpu);
}
