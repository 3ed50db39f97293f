/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The TX ring without TAPs: a frontend sends frames of one size as fast as it can, a
 * backend takes them; two processes, each on a CPU of its own, on the product's rings,
 * grants, checks and event channels (native/).
 *
 *   ring_alone kept|granted SIZE SECONDS FRONT_CPU BACK_CPU
 *
 * kept: the grants live as long as the queue, and the backend has each page mapped
 * from the first time that it meets its gref. granted: each frame's page is granted,
 * mapped, unmapped, and its grant ended.
 *
 * Either way a frame is copied twice: from a template into its page, as by a TAP's
 * read or testpmd's txonly, and from there into the backend's own memory, as by a
 * TAP's write or a memif's receiver. Each carries a number that the backend checks.
 *
 * Prints what the backend saw: frames, seconds, and the notifications of both.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "ring_alone.h"

_Noreturn void fail(const char *what)
{
    fprintf(stderr, "ring_alone: %s\n", what);
    exit(1);
}

_Noreturn void fail_errno(const char *what)
{
    fprintf(stderr, "ring_alone: %s: %s\n", what, strerror(errno));
    exit(1);
}

uint64_t now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

int watch(const struct evtchn *evtchn)
{
    struct epoll_event event = {.events = EPOLLIN | EPOLLET};
    int fd = epoll_create1(0);

    if (fd < 0 || epoll_ctl(fd, EPOLL_CTL_ADD, evtchn->end.pending_fd, &event) < 0)
        fail_errno("epoll");
    return fd;
}

void sleep_until_notified(int epoll_fd)
{
    struct epoll_event event;

    if (epoll_wait(epoll_fd, &event, 1, -1) < 0 && errno != EINTR)
        fail_errno("epoll_wait");
}

static void run_on(int cpu)
{
    cpu_set_t set;

    CPU_ZERO(&set);
    CPU_SET((unsigned int)cpu, &set);
    if (sched_setaffinity(0, sizeof(set), &set) < 0)
        fail_errno("sched_setaffinity");
}

/* The domain's memory, its ring page initialised and granted, its pages present. */
static void create_domain(void *memory)
{
    struct xv_gnttab *table;

    memset(memory, 0, NR_PAGES * 4096);
    if (xv_gnttab_create(memory, NR_PAGES, GRANT_FRAMES, &table) < 0 ||
        xv_gnttab_grant(table, RING_GREF, BACK_DOMID, RING_FRAME, false) < 0)
        fail("the ring cannot be granted");
    shared_ring_init(xv_gnttab_page(table, RING_FRAME));
    xv_gnttab_destroy(table);
}

static void *shared_memory(size_t bytes)
{
    int fd = memfd_create("domain", MFD_CLOEXEC);
    void *memory;

    if (fd < 0 || ftruncate(fd, (off_t)bytes) < 0)
        fail_errno("memfd");
    memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (memory == MAP_FAILED)
        fail_errno("mmap");
    return memory;
}

/* Become a process that ends with its parent, on its CPU. Return: 0 in the child. */
static pid_t fork_on(int cpu)
{
    pid_t pid = fork();

    if (pid < 0)
        fail_errno("fork");
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        run_on(cpu);
    }
    return pid;
}

static void wait_for_both(pid_t front, pid_t back)
{
    for (int ended = 0; ended < 2; ended++) {
        int status;

        if (wait(&status) < 0 || status != 0) {
            kill(front, SIGKILL);
            kill(back, SIGKILL);
            exit(1);
        }
    }
}

int main(int argc, char **argv)
{
    struct xv_evtchn front_end, back_end;
    struct bench bench;
    pid_t front, back;

    if (argc != 6)
        return 2;
    bench.keep = strcmp(argv[1], "kept") == 0;
    bench.frame_size = (uint32_t)atoi(argv[2]);
    if (bench.frame_size < ETH_HLEN + 4 || bench.frame_size > BUFFER_BYTES)
        fail("a frame has 18 to 2048 bytes");
    bench.memory = shared_memory(NR_PAGES * 4096);
    bench.run = shared_memory(4096);
    create_domain(bench.memory);
    front_end.port = back_end.port = 0; /* eventfds */
    front_end.pending_fd = back_end.notify_fd = eventfd(0, EFD_NONBLOCK);
    back_end.pending_fd = front_end.notify_fd = eventfd(0, EFD_NONBLOCK);
    if (front_end.pending_fd < 0 || back_end.pending_fd < 0)
        fail_errno("eventfd");

    back = fork_on(atoi(argv[5]));
    if (back == 0) {
        run_backend(&bench, &back_end);
        return 0;
    }
    front = fork_on(atoi(argv[4]));
    if (front == 0) {
        run_frontend(&bench, &front_end, (uint64_t)(atof(argv[3]) * 1e9));
        return 0;
    }
    wait_for_both(front, back);
    printf("%llu %.6f %llu %llu\n", (unsigned long long)bench.run->frames,
           (double)bench.run->ns / 1e9, (unsigned long long)bench.run->front_notified,
           (unsigned long long)bench.run->back_notified);
    return 0;
}
