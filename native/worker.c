/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The thread that runs queues: one epoll loop over the TAP and the event channel
 * of each.
 *
 * A queue with work is in the active list and gets a budget a turn. One without is
 * armed and costs nothing until a descriptor wakes it. Descriptors are watched
 * edge-triggered: the TAP is read until it is empty, and an eventfd need not be
 * read at all, as each write to it is a new edge. On Xen a port that fired is masked
 * until its queue is armed again.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "queue.h"

#define EVENTS_MAX 64

/* Longer than a wake-up costs; shorter than anyone would notice on a CPU. */
#define LINGER_NS 50000u

/* A sched_yield() that took this long let somebody else run. */
#define GAVE_WAY_NS 10000u

enum command { COMMAND_NONE, COMMAND_ADD, COMMAND_REMOVE, COMMAND_STOP };

struct xv_worker {
    pthread_t thread;
    int epoll_fd;
    int command_fd; /* eventfd: a command waits */
    int broken_fd;  /* eventfd: a queue broke */

    /* One command at a time, from any thread. */
    pthread_mutex_t lock;
    pthread_mutex_t callers;
    pthread_cond_t done;
    enum command command;
    struct xv_queue *subject;
    int result;

    struct xv_queue *active; /* the worker's own from here on */
    bool stopping;
};

/*
 * What an epoll event belongs to: a queue, and in the lowest bits of the pointer
 * which descriptor of it; NULL is the command eventfd.
 */
enum tag { TAG_TX_EVTCHN, TAG_RX_EVTCHN, TAG_TAP, TAG_MASK };

static int watch(const struct xv_worker *worker, int fd, uint32_t events,
                 struct xv_queue *queue, enum tag tag)
{
    struct epoll_event event = {.events = events | EPOLLET};

    event.data.ptr = (void *)((uintptr_t)queue | (uintptr_t)tag);
    return epoll_ctl(worker->epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0 ? -errno
                                                                     : 0;
}

static void activate(struct xv_worker *worker, struct xv_queue *queue)
{
    if (queue->schedule.active)
        return;
    queue->schedule.active = true;
    queue->schedule.next = worker->active;
    worker->active = queue;
}

static void deactivate(struct xv_worker *worker, struct xv_queue *queue)
{
    struct xv_queue **at = &worker->active;

    while (*at && *at != queue)
        at = &(*at)->schedule.next;
    if (*at)
        *at = queue->schedule.next;
    queue->schedule.active = false;
}

static void unwatch(const struct xv_worker *worker, int fd)
{
    epoll_ctl(worker->epoll_fd, EPOLL_CTL_DEL, fd, NULL);
}

static void unwatch_all(const struct xv_worker *worker,
                        const struct xv_queue *queue)
{
    unwatch(worker, queue->tap_fd);
    unwatch(worker, queue->tx_evtchn.end.pending_fd);
    if (queue->split_evtchns)
        unwatch(worker, queue->rx_evtchn.end.pending_fd);
}

static int add(struct xv_worker *worker, struct xv_queue *queue)
{
    int ret = watch(worker, queue->tx_evtchn.end.pending_fd, EPOLLIN, queue,
                    TAG_TX_EVTCHN);

    if (ret == 0 && queue->split_evtchns)
        ret = watch(worker, queue->rx_evtchn.end.pending_fd, EPOLLIN, queue,
                    TAG_RX_EVTCHN);
    if (ret == 0)
        ret = watch(worker, queue->tap_fd, EPOLLIN | EPOLLOUT, queue, TAG_TAP);
    if (ret < 0)
        unwatch_all(worker, queue);
    else
        activate(worker, queue);
    return ret;
}

static int remove_queue(struct xv_worker *worker, struct xv_queue *queue)
{
    deactivate(worker, queue);
    unwatch_all(worker, queue);
    return 0;
}

/* Carry out the waiting command and let its caller go on. */
static void run_command(struct xv_worker *worker)
{
    uint64_t count;

    if (read(worker->command_fd, &count, sizeof(count)) < 0)
        return;
    pthread_mutex_lock(&worker->lock);
    switch (worker->command) {
    case COMMAND_ADD:
        worker->result = add(worker, worker->subject);
        break;
    case COMMAND_REMOVE:
        worker->result = remove_queue(worker, worker->subject);
        break;
    case COMMAND_STOP:
        worker->stopping = true;
        break;
    case COMMAND_NONE:
        break;
    }
    worker->command = COMMAND_NONE;
    pthread_cond_signal(&worker->done);
    pthread_mutex_unlock(&worker->lock);
}

static void handle_event(struct xv_worker *worker,
                         const struct epoll_event *event)
{
    uintptr_t tagged = (uintptr_t)event->data.ptr;
    struct xv_queue *queue = (struct xv_queue *)(tagged & ~(uintptr_t)TAG_MASK);

    switch ((enum tag)(tagged & TAG_MASK)) {
    case TAG_TX_EVTCHN:
        evtchn_fired(&queue->tx_evtchn);
        break;
    case TAG_RX_EVTCHN:
        evtchn_fired(&queue->rx_evtchn);
        break;
    default:
        xv_queue_tap_ready(queue, event->events & (EPOLLIN | EPOLLERR),
                           event->events & EPOLLOUT);
    }
    queue_count(queue, XV_wakeups, 1);
    activate(worker, queue);
}

/* Say that a queue broke; its owner reads why in the statistics. */
static void report_broken(const struct xv_worker *worker)
{
    const uint64_t one = 1;

    if (write(worker->broken_fd, &one, sizeof(one)) < 0)
        return;
}

static uint64_t clock_ns(void)
{
    struct timespec at;

    clock_gettime(CLOCK_MONOTONIC, &at);
    return (uint64_t)at.tv_sec * 1000000000u + (uint64_t)at.tv_nsec;
}

/*
 * Give a queue its turn, with growing budgets: after a lone frame the ring is
 * looked at for the answer before the TAP is asked for another one. Return:
 * frames moved.
 */
static int run_turn(struct xv_queue *queue)
{
    static const int budgets[] = {1, 4, 16, 64};
    int frames = 0;

    for (size_t i = 0; i < sizeof(budgets) / sizeof(budgets[0]); i++) {
        int moved = queue_run(queue, budgets[i]);

        if (moved == 0)
            break;
        frames += moved;
    }
    return frames;
}

/*
 * Run a queue. Return: false when it is armed and can sleep. For a moment after
 * its last frame it stays awake: the peer's answer then needs no notification.
 * Whoever wants the CPU gets it, and then there is no more lingering.
 */
static bool keep_running(struct xv_queue *queue)
{
    uint64_t at;
    int frames = run_turn(queue);

    at = clock_ns();
    if (frames > 0) {
        queue->schedule.last_frame_ns = at;
        return true;
    }
    if (at - queue->schedule.last_frame_ns >= LINGER_NS)
        return xv_queue_arm(queue);
    sched_yield();
    if (clock_ns() - at > GAVE_WAY_NS)
        queue->schedule.last_frame_ns = 0;
    return true;
}

/* Give each active queue its turn; keep those that may have more. */
static void run_active(struct xv_worker *worker)
{
    struct xv_queue *queue = worker->active;

    worker->active = NULL;
    while (queue) {
        struct xv_queue *next = queue->schedule.next;
        bool was_broken = queue_broken(queue);

        queue->schedule.active = false;
        if (keep_running(queue))
            activate(worker, queue);
        if (queue_broken(queue)) {
            deactivate(worker, queue);
            if (!was_broken)
                report_broken(worker);
        }
        queue = next;
    }
}

static void *worker_main(void *arg)
{
    struct xv_worker *worker = arg;
    struct epoll_event events[EVENTS_MAX];

    while (!worker->stopping) {
        bool commanded = false;
        int n = epoll_wait(worker->epoll_fd, events, EVENTS_MAX,
                           worker->active ? 0 : -1);

        for (int i = 0; i < n; i++) {
            if (events[i].data.ptr)
                handle_event(worker, &events[i]);
            else
                commanded = true;
        }
        /* Last: a removed queue may be named by an event of the same batch. */
        if (commanded)
            run_command(worker);
        run_active(worker);
    }
    return NULL;
}

static int command(struct xv_worker *worker, enum command what,
                   struct xv_queue *queue)
{
    const uint64_t one = 1;
    int ret;

    pthread_mutex_lock(&worker->callers);
    pthread_mutex_lock(&worker->lock);
    worker->command = what;
    worker->subject = queue;
    worker->result = 0;
    ret = write(worker->command_fd, &one, sizeof(one)) < 0 ? -errno : 0;
    while (ret == 0 && worker->command != COMMAND_NONE)
        pthread_cond_wait(&worker->done, &worker->lock);
    if (ret == 0)
        ret = worker->result;
    pthread_mutex_unlock(&worker->lock);
    pthread_mutex_unlock(&worker->callers);
    return ret;
}

/* Signals are the event loop's business: the thread is born with all blocked. */
static int start_thread(struct xv_worker *worker, const char *name)
{
    sigset_t all, old;
    int ret;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    ret = pthread_create(&worker->thread, NULL, worker_main, worker);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (ret)
        return -ret;
    pthread_setname_np(worker->thread, name);
    return 0;
}

static void close_fds(const struct xv_worker *worker)
{
    if (worker->epoll_fd >= 0)
        close(worker->epoll_fd);
    if (worker->command_fd >= 0)
        close(worker->command_fd);
    if (worker->broken_fd >= 0)
        close(worker->broken_fd);
}

int xv_worker_create(const char *name, struct xv_worker **worker)
{
    struct xv_worker *new = calloc(1, sizeof(*new));
    int ret;

    if (!new)
        return -ENOMEM;
    pthread_mutex_init(&new->lock, NULL);
    pthread_mutex_init(&new->callers, NULL);
    pthread_cond_init(&new->done, NULL);
    new->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    new->command_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    new->broken_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (new->epoll_fd < 0 || new->command_fd < 0 || new->broken_fd < 0) {
        ret = -errno;
        goto err;
    }
    ret = watch(new, new->command_fd, EPOLLIN, NULL, 0);
    if (ret == 0)
        ret = start_thread(new, name);
    if (ret < 0)
        goto err;
    *worker = new;
    return 0;

err:
    close_fds(new);
    free(new);
    return ret;
}

void xv_worker_destroy(struct xv_worker *worker)
{
    if (!worker)
        return;
    command(worker, COMMAND_STOP, NULL);
    pthread_join(worker->thread, NULL);
    close_fds(worker);
    pthread_cond_destroy(&worker->done);
    pthread_mutex_destroy(&worker->callers);
    pthread_mutex_destroy(&worker->lock);
    free(worker);
}

int xv_worker_broken_fd(struct xv_worker *worker)
{
    return worker->broken_fd;
}

int xv_worker_add(struct xv_worker *worker, struct xv_queue *queue)
{
    return command(worker, COMMAND_ADD, queue);
}

int xv_worker_remove(struct xv_worker *worker, struct xv_queue *queue)
{
    return command(worker, COMMAND_REMOVE, queue);
}
