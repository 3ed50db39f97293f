/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * No wake-up is lost: a frontend and a backend, two processes that really sleep, pass
 * entries through one ring with random stalls before and after each barrier of
 * native/ring.h. It is the product's ring and event channel, and an end waits as the
 * product's workers do: an edge-triggered epoll on an eventfd that nobody reads.
 *
 *   ring_stress ENTRIES SEED PATIENCE_S
 *
 * The frontend fills the ring and sleeps until one response is there or, as
 * front_tx_arm() does, half of those in flight. The backend sleeps until one request is
 * there or as many as it likes. A notification that is left out stops first one, then
 * both: no progress for PATIENCE_S, which the parent reports with the state of both.
 * Each entry carries its index, and indices pass 2^32 half way.
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

#include "barrier.h"

static void stall(void);

/* ring.h gets barriers with stalls around them. */
static inline void stalling_mb(void)
{
    stall();
    xen_mb();
    stall();
}

static inline uint32_t stalling_acquire(const uint32_t *word)
{
    uint32_t value;

    stall();
    value = shared_acquire(word);
    stall();
    return value;
}

static inline void stalling_release(uint32_t *word, uint32_t value)
{
    stall();
    shared_release(word, value);
    stall();
}

#define xen_mb stalling_mb
#define shared_acquire stalling_acquire
#define shared_release stalling_release
#include "ring.h"
#undef xen_mb
#undef shared_acquire
#undef shared_release

#include "evtchn.h"

/* More than half of the ring might never come while the frontend sleeps. */
#define AHEAD_MAX (NET_TX_RING_SIZE / 2)

/* What the parent sees of an end. */
struct end_state {
    uint64_t passed; /* entries: requests taken, or responses */
    uint32_t asleep;
    uint64_t sleeps;
    uint64_t notified; /* the other end */
} __attribute__((aligned(64)));

struct shared {
    union {
        struct netif_tx_sring ring;
        uint8_t page[4096];
    };
    struct end_state front, back;
};

struct end {
    struct end_state *state;
    struct evtchn evtchn;
    int epoll_fd;
};

static uint64_t entries;
static uint32_t start; /* the first index */
static uint64_t random_state;

static _Noreturn void fail(const char *what)
{
    fprintf(stderr, "ring_stress: %s\n", what);
    exit(1);
}

/* At least 0 and below @bound; xorshift64*. */
static uint32_t random_below(uint32_t bound)
{
    random_state ^= random_state >> 12;
    random_state ^= random_state << 25;
    random_state ^= random_state >> 27;
    return (uint32_t)((random_state * 0x2545f4914f6cdd1du) >> 33) % bound;
}

/* One or more of @count, which is not 0. */
static uint32_t some_of(uint32_t count)
{
    return random_below(2) ? 1 : 1 + random_below(count);
}

/* Mostly nothing, else as long as a cache miss, a wake-up, or a lost CPU takes. */
static void stall(void)
{
    const struct timespec short_sleep = {.tv_nsec = 1 + (long)random_below(5000)};
    uint32_t dice = random_below(4096);

    if (dice == 0)
        nanosleep(&short_sleep, NULL);
    else if (dice < 16)
        sched_yield();
    else if (dice < 256)
        for (uint32_t left = random_below(1000); left > 0; left--)
            __asm__ volatile("" : : : "memory");
}

static void notify(struct end *end)
{
    evtchn_notify(&end->evtchn);
    end->state->notified++;
}

static void sleep_until_notified(struct end *end)
{
    struct epoll_event event;

    end->state->sleeps++;
    __atomic_store_n(&end->state->asleep, 1, __ATOMIC_RELAXED);
    while (epoll_wait(end->epoll_fd, &event, 1, -1) < 0)
        if (errno != EINTR)
            fail("epoll_wait");
    __atomic_store_n(&end->state->asleep, 0, __ATOMIC_RELAXED);
}

static void pass(struct end *end, uint64_t count)
{
    __atomic_store_n(&end->state->passed, end->state->passed + count,
                     __ATOMIC_RELAXED);
}

/* ---- the frontend ---- */

static void put_requests(struct front_ring *ring, uint32_t count)
{
    for (; count > 0; count--) {
        uint32_t idx = ring->req_prod_pvt++;
        struct netif_tx_request req = {.gref = idx, .id = (uint16_t)idx};

        shared_copy_to(&netif_tx_slot(ring->sring, idx)->req, &req, sizeof(req));
    }
}

/* Return: how many there were. */
static uint32_t take_responses(struct end *end, struct front_ring *ring)
{
    uint32_t rsp_prod = stalling_acquire(&ring->sring->rsp_prod);
    uint32_t count = rsp_prod - ring->rsp_cons;

    if (ring_response_prod_overflow(ring, rsp_prod))
        fail("illegal number of responses");
    for (; ring->rsp_cons != rsp_prod; ring->rsp_cons++) {
        struct netif_tx_response rsp;

        shared_copy_from(&rsp, &netif_tx_slot(ring->sring, ring->rsp_cons)->rsp,
                         sizeof(rsp));
        if (rsp.id != (uint16_t)ring->rsp_cons)
            fail("a response is not the one that was sent");
    }
    pass(end, count);
    return count;
}

/* Sleep until one, or half of what is in flight, is answered, unless it is. */
static void wait_for_responses(struct end *end, struct front_ring *ring)
{
    uint32_t half = (ring->req_prod_pvt - ring->rsp_cons + 1) / 2;
    uint32_t ahead = random_below(2) ? 1 : half;

    if (ring_final_check_for_responses(ring, ahead) < ahead)
        sleep_until_notified(end);
}

static void run_front(struct end *end, struct xen_sring *sring)
{
    struct front_ring ring;
    uint64_t left = entries;

    front_ring_init(&ring, sring, NET_TX_RING_SIZE);
    ring.req_prod = ring.req_prod_pvt = ring.rsp_cons = start;
    while (end->state->passed < entries) {
        uint32_t room = ring_free_requests(&ring);

        if (room > left)
            room = (uint32_t)left;
        if (room == 0) {
            if (take_responses(end, &ring) == 0)
                wait_for_responses(end, &ring);
            continue;
        }
        room = some_of(room);
        put_requests(&ring, room);
        left -= room;
        if (ring_push_requests_and_check_notify(&ring))
            notify(end);
    }
}

/* ---- the backend ---- */

/* Answer up to @count requests. */
static void take_requests(struct end *end, struct back_ring *ring, uint32_t count)
{
    pass(end, count);
    for (; count > 0; count--) {
        struct netif_tx_request req;
        struct netif_tx_response rsp = {.id = (uint16_t)ring->rsp_prod_pvt};

        shared_copy_from(&req, &netif_tx_slot(ring->sring, ring->req_cons)->req,
                         sizeof(req));
        if (req.gref != ring->req_cons || req.id != rsp.id)
            fail("a request is not the one that was sent");
        ring->req_cons++;
        shared_copy_to(&netif_tx_slot(ring->sring, ring->rsp_prod_pvt++)->rsp, &rsp,
                       sizeof(rsp));
    }
    if (ring_push_responses_and_check_notify(ring))
        notify(end);
}

/* Sleep until so many requests are there as will come, unless they are. */
static void wait_for_requests(struct end *end, struct back_ring *ring)
{
    uint64_t left = entries - end->state->passed;
    uint32_t ahead = random_below(2) ? 1 : 1 + random_below(AHEAD_MAX);

    if (ahead > left)
        ahead = (uint32_t)left;
    if (ring_final_check_for_requests(ring, ahead) < ahead)
        sleep_until_notified(end);
}

static void run_back(struct end *end, struct xen_sring *sring)
{
    struct back_ring ring;

    if (!back_ring_attach(&ring, sring, NET_TX_RING_SIZE))
        fail("impossible ring");
    while (end->state->passed < entries) {
        uint32_t prod = stalling_acquire(&sring->req_prod);
        uint32_t count = prod - ring.req_cons;

        if (ring_request_prod_overflow(&ring, prod))
            fail("impossible number of requests");
        if (count > 0)
            take_requests(end, &ring, some_of(count));
        else
            wait_for_requests(end, &ring);
    }
}

/* ---- the parent ---- */

/* The two on a CPU each, if there are two: on one, no store is seen late. */
static void run_on(int nth)
{
    cpu_set_t allowed, chosen;

    CPU_ZERO(&chosen);
    if (sched_getaffinity(0, sizeof(allowed), &allowed) < 0)
        fail("sched_getaffinity");
    for (size_t cpu = 0; cpu < CPU_SETSIZE; cpu++)
        if (CPU_ISSET(cpu, &allowed) && nth-- == 0)
            CPU_SET(cpu, &chosen);
    if (CPU_COUNT(&chosen) > 0 && sched_setaffinity(0, sizeof(chosen), &chosen) < 0)
        fail("sched_setaffinity");
}

static pid_t fork_end(struct shared *shared, bool front, int pending_fd,
                      int notify_fd)
{
    struct epoll_event event = {.events = EPOLLIN | EPOLLET};
    struct end end = {
        .state = front ? &shared->front : &shared->back,
        .evtchn.end = {.pending_fd = pending_fd, .notify_fd = notify_fd},
        .epoll_fd = epoll_create1(0),
    };
    pid_t pid = fork();

    if (pid != 0)
        return pid;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    prctl(PR_SET_TIMERSLACK, 1);
    run_on(front ? 0 : 1);
    random_state += front;
    if (epoll_ctl(end.epoll_fd, EPOLL_CTL_ADD, pending_fd, &event) < 0)
        fail("epoll_ctl");
    if (front)
        run_front(&end, &shared->ring.sring);
    else
        run_back(&end, &shared->ring.sring);
    exit(0);
}

static void report(FILE *file, const char *name, const struct end_state *state)
{
    fprintf(file, "%s: %llu passed, %llu sleeps, %llu notifications%s\n", name,
            (unsigned long long)state->passed, (unsigned long long)state->sleeps,
            (unsigned long long)state->notified, state->asleep ? ", asleep" : "");
}

static void report_all(FILE *file, const struct shared *shared)
{
    const struct xen_sring *sring = &shared->ring.sring;

    report(file, "front", &shared->front);
    report(file, "back", &shared->back);
    fprintf(file, "ring: from %u, req_prod %u, req_event %u, rsp_prod %u, rsp_event %u\n",
            start, sring->req_prod, sring->req_event, sring->rsp_prod,
            sring->rsp_event);
}

static uint64_t progress(const struct shared *shared)
{
    return __atomic_load_n(&shared->front.passed, __ATOMIC_RELAXED) +
           __atomic_load_n(&shared->back.passed, __ATOMIC_RELAXED);
}

/* Wait until both have ended. Return: false when one failed or nothing moved. */
static bool wait_for_both(const struct shared *shared, const sigset_t *chld,
                          time_t patience_s)
{
    const struct timespec patience = {.tv_sec = patience_s};
    uint64_t before, after = 0;
    int ended = 0, status;

    while (ended < 2) {
        before = after;
        if (sigtimedwait(chld, NULL, &patience) < 0 && errno == EAGAIN) {
            after = progress(shared);
            if (after == before) {
                fprintf(stderr, "ring_stress: no progress for %ld s\n",
                        (long)patience_s);
                return false;
            }
        }
        while (waitpid(-1, &status, WNOHANG) > 0) {
            if (status != 0)
                return false;
            ended++;
        }
    }
    return true;
}

int main(int argc, char **argv)
{
    struct shared *shared;
    sigset_t chld;
    int front_fd, back_fd;
    pid_t front, back;

    if (argc != 4)
        return 2;
    entries = strtoull(argv[1], NULL, 10);
    random_state = strtoull(argv[2], NULL, 10) * 2 + 1; /* never 0 */
    start = (uint32_t)-(entries / 2);
    shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE,
                  MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    front_fd = eventfd(0, EFD_NONBLOCK);
    back_fd = eventfd(0, EFD_NONBLOCK);
    if (shared == MAP_FAILED || front_fd < 0 || back_fd < 0)
        fail("no memory or no eventfd");
    shared_ring_init(&shared->ring.sring);
    shared->ring.sring.req_prod = shared->ring.sring.rsp_prod = start;
    shared->ring.sring.req_event = shared->ring.sring.rsp_event = start + 1;

    sigemptyset(&chld);
    sigaddset(&chld, SIGCHLD);
    sigprocmask(SIG_BLOCK, &chld, NULL);
    front = fork_end(shared, true, front_fd, back_fd);
    back = fork_end(shared, false, back_fd, front_fd);
    if (front < 0 || back < 0)
        fail("fork");
    if (!wait_for_both(shared, &chld, atoi(argv[3]))) {
        kill(front, SIGKILL);
        kill(back, SIGKILL);
        report_all(stderr, shared);
        return 1;
    }
    report_all(stdout, shared);
    return 0;
}
