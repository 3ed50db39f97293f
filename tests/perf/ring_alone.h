/* SPDX-License-Identifier: BSD-2-Clause */
/* What the two processes of ring_alone.c have in common. */
#ifndef RING_ALONE_H
#define RING_ALONE_H

#include "queue.h"

#define BACK_DOMID 0
#define RING_GREF 8 /* the first that is not reserved */
#define DATA_GREF (RING_GREF + 1)
#define GRANT_FRAMES 1
#define NR_GREFS (GRANT_FRAMES * 512)
#define RING_FRAME GRANT_FRAMES
#define DATA_FRAME (RING_FRAME + 1)
#define NR_PAGES (DATA_FRAME + NET_TX_RING_SIZE)

/* Frames between two pushes, at most a quarter of the ring. */
#define BATCH 64u
/* Looks at an empty ring before it is armed: longer than a wake-up takes. */
#define LOOKS 20000
#define BUFFER_BYTES 2048
#define CACHE_LINE 64u

/* Beside the domain's memory: what the two processes say about the run. */
struct run {
    uint32_t over; /* the frontend has stopped */
    uint64_t frames;
    uint64_t ns;
    uint64_t front_notified;
    uint64_t back_notified;
};

struct bench {
    bool keep; /* grants live as long as the queue */
    uint32_t frame_size;
    uint8_t *memory; /* the domain's */
    struct run *run;
};

/** run_frontend() - Send frames for @run_ns; @end is the event channel's. */
void run_frontend(const struct bench *bench, const struct xv_evtchn *end,
                  uint64_t run_ns);

/** run_backend() - Take frames until the frontend has stopped. */
void run_backend(const struct bench *bench, const struct xv_evtchn *end);

/** fail() - Say what does not hold, and end the process. */
_Noreturn void fail(const char *what);

/** fail_errno() - Say which call failed and why, and end the process. */
_Noreturn void fail_errno(const char *what);

/** now_ns() - A clock that nobody sets. */
uint64_t now_ns(void);

/** watch() - An epoll of the event channel, edge-triggered as native/worker.c's. */
int watch(const struct evtchn *evtchn);

/** sleep_until_notified() - Since the last time: an edge is not lost before it. */
void sleep_until_notified(int epoll_fd);

/** pause_cpu() - Between two looks at what another CPU writes. */
static inline void pause_cpu(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
}

/**
 * prefetch_to_write() - Have a cache line brought here to be written.
 *
 * __builtin_prefetch(at, 1) only reads it, unless the whole program is built for CPUs
 * with PREFETCHW (to others it is a NOP); the write then has to ask once more.
 */
static inline void prefetch_to_write(const void *at)
{
#if defined(__x86_64__)
    __asm__ volatile("prefetchw (%0)" : : "r"(at));
#else
    __builtin_prefetch(at, 1);
#endif
}

#endif
