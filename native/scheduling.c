/* SPDX-License-Identifier: BSD-2-Clause */
#define _GNU_SOURCE
#include "scheduling.h"

#include <sched.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

/* The shortest turn that Linux allows. */
#define SLICE_NS 100000u

/*
 * Frames between two sleeps: so many are worth waiting for more, so few are not, and what
 * exceeds the last is not remembered: the third lone frame after a burst does not wait.
 */
#define MANY 8u
#define FEW 4u
#define FRAMES_MAX 16u

/* What sched_setattr(2) takes, which the C library does not declare. */
struct scheduling_attr {
    uint32_t size;
    uint32_t policy;
    uint64_t flags;
    int32_t nice;
    uint32_t priority;
    uint64_t runtime;
    uint64_t deadline;
    uint64_t period;
};

static bool stay_on(int cpu)
{
    cpu_set_t set;

    CPU_ZERO(&set);
    CPU_SET((unsigned)cpu, &set);
    return sched_setaffinity(0, sizeof(set), &set) == 0;
}

static void set_policy(uint32_t policy)
{
    struct scheduling_attr attr = {
        .size = sizeof(attr),
        .policy = policy,
        .nice = getpriority(PRIO_PROCESS, 0),
        .runtime = SLICE_NS,
    };

    syscall(SYS_sched_setattr, 0, &attr, 0);
}

void scheduling_begin(struct xv_scheduling *scheduling, int cpu)
{
    *scheduling = (struct xv_scheduling){
        .shares = cpu >= 0 && cpu < CPU_SETSIZE && stay_on(cpu),
    };
    set_policy(SCHED_OTHER);
}

void scheduling_sleeps(struct xv_scheduling *scheduling, uint32_t frames)
{
    uint32_t average = scheduling->average;
    bool many;

    if (!scheduling->shares)
        return;
    average = average / 2 + 8 * (frames < FRAMES_MAX ? frames : FRAMES_MAX);
    scheduling->average = average;
    many = average >= 16 * (scheduling->patient ? FEW : MANY);
    if (many == scheduling->patient)
        return;
    scheduling->patient = many;
    set_policy(many ? SCHED_BATCH : SCHED_OTHER);
}
