/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * event_storm FD...: write to inherited eventfds, in turn, as fast as the kernel takes
 * it, until SIGTERM; then print how often, and in how many nanoseconds. Without any it
 * writes to one of its own, which nobody waits for.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#define FDS_MAX 16

static volatile sig_atomic_t over;

static void end(int number)
{
    (void)number;
    over = 1;
}

static uint64_t clock_ns(void)
{
    struct timespec at;

    clock_gettime(CLOCK_MONOTONIC, &at);
    return (uint64_t)at.tv_sec * 1000000000u + (uint64_t)at.tv_nsec;
}

int main(int argc, char **argv)
{
    const uint64_t one = 1;
    int fds[FDS_MAX] = {eventfd(0, EFD_NONBLOCK)};
    int count = 0;
    uint64_t written = 0, begin;

    for (; count < FDS_MAX && count + 1 < argc; count++)
        fds[count] = atoi(argv[count + 1]);
    if (count == 0)
        count = 1;
    signal(SIGTERM, end);
    puts("ready");
    fflush(stdout);
    begin = clock_ns();
    for (; !over; written++)
        if (write(fds[written % (unsigned int)count], &one, sizeof(one)) < 0 &&
            errno != EAGAIN) {
            perror("write");
            return 1;
        }
    printf("%" PRIu64 " %" PRIu64 "\n", written, clock_ns() - begin);
    return 0;
}
