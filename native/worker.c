/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The thread that runs queues: one epoll loop over the TAP and the event channel
 * of each.
 *
 * A queue with work is in the active list and gets a budget a turn. One without is
 * armed and costs nothing until a descriptor wakes it. Descriptors are watched
 * edge-triggered: the TAP is read until it is empty, and an eventfd need not be
 * read at all, as each write to it is a new edge. On Xen a port that fired is masked
 * until its queue is armed again. A peer that notifies for nothing is not listened to
 * for a while (lateeoi.h); the TAP wakes its queue as ever.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "give_back.h"
#include "orders.h"
#include "scheduling.h"
#include "settle.h"
#include "timers.h"

#define EVENTS_MAX 64

#define NS_PER_MS 1000000u

struct xv_worker {
    pthread_t thread;
    int cpu; /* negative: any */
    int epoll_fd;
    int changed_fd; /* eventfd: a queue broke, stalled, is ready again, or settled */
    uint64_t poll_max_ns;

    struct xv_orders orders;

    struct xv_queue *active; /* the worker's own from here on */
    struct xv_timers timers;
    struct xv_scheduling scheduling;
    uint32_t frames; /* moved since it slept last */
    bool stopping;
};

/*
 * What an epoll event belongs to: a queue, and in the lowest bits of the pointer
 * which descriptor of it; NULL is the eventfd of the orders.
 */
enum tag { TAG_TX_EVTCHN, TAG_RX_EVTCHN, TAG_TAP, TAG_MASK };

static int epoll_set(const struct xv_worker *worker, int op, int fd,
                     uint32_t events, struct xv_queue *queue, enum tag tag)
{
    struct epoll_event event = {.events = events | EPOLLET};

    event.data.ptr = (void *)((uintptr_t)queue | (uintptr_t)tag);
    return epoll_ctl(worker->epoll_fd, op, fd, &event) < 0 ? -errno : 0;
}

static int watch(const struct xv_worker *worker, int fd, uint32_t events,
                 struct xv_queue *queue, enum tag tag)
{
    return epoll_set(worker, EPOLL_CTL_ADD, fd, events, queue, tag);
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

/*
 * Have a queue's event channels wake it, or not. Nothing is lost meanwhile: an eventfd
 * that was written to, which nobody reads, is an event as soon as it counts again.
 */
static void set_deaf(const struct xv_worker *worker, struct xv_queue *queue, bool deaf)
{
    uint32_t events = deaf ? 0 : EPOLLIN;

    if (queue->schedule.deaf == deaf)
        return;
    queue->schedule.deaf = deaf;
    if (deaf)
        queue_count(queue, XV_eoi_delayed, 1);
    epoll_set(worker, EPOLL_CTL_MOD, queue->tx_evtchn.end.pending_fd, events, queue,
              TAG_TX_EVTCHN);
    if (queue->split_evtchns)
        epoll_set(worker, EPOLL_CTL_MOD, queue->rx_evtchn.end.pending_fd, events,
                  queue, TAG_RX_EVTCHN);
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
    queue->schedule.deaf = false;
    if (ret < 0)
        unwatch_all(worker, queue);
    else
        activate(worker, queue);
    return ret;
}

static int remove_queue(struct xv_worker *worker, struct xv_queue *queue)
{
    deactivate(worker, queue);
    timers_cancel(&worker->timers, queue);
    unwatch_all(worker, queue);
    return 0;
}

/* Return: for who gave the order. */
static int carry_out(void *context, const struct xv_order *order)
{
    struct xv_worker *worker = context;

    switch (order->verb) {
    case ORDER_ADD:
        return add(worker, order->queue);
    case ORDER_REMOVE:
        return remove_queue(worker, order->queue);
    case ORDER_SET_CREDIT:
        xv_queue_set_credit(order->queue, order->bytes, order->usec);
        activate(worker, order->queue);
        break;
    case ORDER_SETTLE:
        queue_settle(order->queue, order->held);
        activate(worker, order->queue);
        break;
    case ORDER_STOP:
        worker->stopping = true;
        break;
    case ORDER_NONE:
        break;
    }
    return 0;
}

static uint64_t now_ms(void)
{
    return polling_clock_ns() / NS_PER_MS;
}

static void handle_event(struct xv_worker *worker,
                         const struct epoll_event *event)
{
    uintptr_t tagged = (uintptr_t)event->data.ptr;
    struct xv_queue *queue = (struct xv_queue *)(tagged & ~(uintptr_t)TAG_MASK);

    switch ((enum tag)(tagged & TAG_MASK)) {
    case TAG_TX_EVTCHN:
        evtchn_fired(&queue->tx_evtchn);
        lateeoi_fired(&queue->eoi);
        break;
    case TAG_RX_EVTCHN:
        evtchn_fired(&queue->rx_evtchn);
        lateeoi_fired(&queue->eoi);
        break;
    default:
        xv_queue_tap_ready(queue, event->events & (EPOLLIN | EPOLLERR),
                           event->events & EPOLLOUT);
    }
    queue_count(queue, XV_wakeups, 1);
    polling_woken(&queue->schedule.polling, worker->poll_max_ns);
    activate(worker, queue);
}

/* Say that a queue is not as it was; its owner reads in the statistics how it is. */
static void report_changed(const struct xv_worker *worker)
{
    const uint64_t one = 1;

    if (write(worker->changed_fd, &one, sizeof(one)) < 0)
        return;
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

/* Before a queue sleeps: is its peer to be heard again at once? */
static void judge_events(const struct xv_worker *worker, struct xv_queue *queue)
{
    if (lateeoi_judge(&queue->eoi, queue_consumed(queue), queue->schedule.now_ms))
        queue_count(queue, XV_spurious_events, 1);
    set_deaf(worker, queue, queue->eoi.until_ms != 0);
}

/* Run a queue. Return: false when it is armed and can sleep. */
static bool keep_running(struct xv_worker *worker, struct xv_queue *queue)
{
    struct xv_polling *polling = &queue->schedule.polling;
    int frames;

    xv_queue_set_now(queue, now_ms());
    frames = run_turn(queue);
    if (frames > 0) {
        polling_over(polling);
        give_back_moved(queue, (uint32_t)frames);
        worker->frames += (uint32_t)frames;
        return true;
    }
    if (polling_on(polling))
        return true;
    polling_over(polling);
    give_back_idle(queue);
    judge_events(worker, queue);
    if (xv_queue_arm(queue))
        return true;
    polling_sleeps(polling);
    return false;
}

/* When a queue that sleeps has to run though nothing wakes it. */
static uint64_t next_deadline(struct xv_queue *queue)
{
    uint64_t hops = xv_queue_deadline(queue);
    uint64_t own = queue->schedule.give_back.at_ms;
    uint64_t heard = queue->eoi.until_ms == 0 ? XV_NEVER : queue->eoi.until_ms;

    if (own > heard)
        own = heard;
    return hops < own ? hops : own;
}

/* Give each active queue its turn; keep those that may have more. */
static void run_active(struct xv_worker *worker)
{
    struct xv_queue *queue = worker->active;

    worker->active = NULL;
    while (queue) {
        struct xv_queue *next = queue->schedule.next;
        uint32_t condition = queue_condition(queue);

        queue->schedule.active = false;
        if (keep_running(worker, queue))
            activate(worker, queue);
        else
            timers_set(&worker->timers, queue, next_deadline(queue));
        if (queue_broken(queue)) {
            deactivate(worker, queue);
            unwatch_all(worker, queue); /* its peer may notify for ever */
        }
        if (queue_condition(queue) != condition)
            report_changed(worker);
        queue = next;
    }
}

static void run_late(void *worker, struct xv_queue *queue)
{
    activate(worker, queue);
}

/* For how long to sleep, when some queue has to run at a time. As epoll_wait(). */
static int time_to_sleep(struct xv_worker *worker)
{
    int wait_ms = -1;

    if (worker->timers.next_ms != XV_NEVER) {
        uint64_t now = now_ms();

        timers_run(&worker->timers, now, run_late, worker);
        wait_ms = timers_wait_ms(&worker->timers, now);
    }
    if (worker->active)
        return 0;
    scheduling_sleeps(&worker->scheduling, worker->frames);
    worker->frames = 0;
    return wait_ms;
}

static void *worker_main(void *arg)
{
    struct xv_worker *worker = arg;
    struct epoll_event events[EVENTS_MAX];

    scheduling_begin(&worker->scheduling, worker->cpu);
    while (!worker->stopping) {
        bool ordered = false;
        int n = epoll_wait(worker->epoll_fd, events, EVENTS_MAX,
                           time_to_sleep(worker));

        for (int i = 0; i < n; i++) {
            if (events[i].data.ptr)
                handle_event(worker, &events[i]);
            else
                ordered = true;
        }
        /* Last: a removed queue may be named by an event of the same batch. */
        if (ordered)
            orders_take(&worker->orders, carry_out, worker);
        run_active(worker);
    }
    return NULL;
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
    if (worker->changed_fd >= 0)
        close(worker->changed_fd);
}

int xv_worker_create(const char *name, int cpu, uint32_t poll_max_us,
                     struct xv_worker **worker)
{
    struct xv_worker *new = calloc(1, sizeof(*new));
    int ret;

    if (!new)
        return -ENOMEM;
    new->cpu = cpu;
    new->poll_max_ns = (uint64_t)poll_max_us * 1000;
    timers_init(&new->timers);
    ret = orders_init(&new->orders);
    if (ret < 0)
        goto err_free;
    new->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    new->changed_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    ret = new->epoll_fd < 0 || new->changed_fd < 0 ? -errno : 0;
    if (ret == 0)
        ret = watch(new, new->orders.fd, EPOLLIN, NULL, 0);
    if (ret == 0)
        ret = start_thread(new, name);
    if (ret < 0)
        goto err_close;
    *worker = new;
    return 0;

err_close:
    close_fds(new);
    orders_destroy(&new->orders);
err_free:
    free(new);
    return ret;
}

void xv_worker_destroy(struct xv_worker *worker)
{
    if (!worker)
        return;
    orders_give(&worker->orders, &(struct xv_order){.verb = ORDER_STOP});
    pthread_join(worker->thread, NULL);
    close_fds(worker);
    orders_destroy(&worker->orders);
    free(worker);
}

int xv_worker_changed_fd(struct xv_worker *worker)
{
    return worker->changed_fd;
}

int xv_worker_add(struct xv_worker *worker, struct xv_queue *queue)
{
    return orders_give(&worker->orders,
                       &(struct xv_order){.verb = ORDER_ADD, .queue = queue});
}

int xv_worker_remove(struct xv_worker *worker, struct xv_queue *queue)
{
    return orders_give(&worker->orders,
                       &(struct xv_order){.verb = ORDER_REMOVE, .queue = queue});
}

int xv_worker_set_credit(struct xv_worker *worker, struct xv_queue *queue,
                         uint64_t bytes, uint64_t usec)
{
    return orders_give(&worker->orders, &(struct xv_order){.verb = ORDER_SET_CREDIT,
                                                           .queue = queue,
                                                           .bytes = bytes,
                                                           .usec = usec});
}

int xv_worker_settle(struct xv_worker *worker, struct xv_queue *queue, bool held)
{
    return orders_give(
        &worker->orders,
        &(struct xv_order){.verb = ORDER_SETTLE, .queue = queue, .held = held});
}
