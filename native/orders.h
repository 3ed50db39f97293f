/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What other threads ask of a worker: one order at a time, and who gave it waits until
 * it has been carried out. A queue is the worker's alone while it runs.
 */
#ifndef XV_ORDERS_H
#define XV_ORDERS_H

#include <pthread.h>

#include "queue.h"

enum xv_order_verb {
    ORDER_NONE,
    ORDER_ADD,
    ORDER_REMOVE,
    ORDER_SET_CREDIT,
    ORDER_SETTLE,
    ORDER_STOP,
};

struct xv_order {
    enum xv_order_verb verb;
    struct xv_queue *queue; /* NULL with ORDER_STOP */
    uint64_t bytes;         /* of ORDER_SET_CREDIT, as xv_queue_set_credit() */
    uint64_t usec;
    bool held; /* of ORDER_SETTLE, as queue_settle() */
};

struct xv_orders {
    int fd; /* eventfd, non-blocking: an order waits */
    pthread_mutex_t givers;
    pthread_mutex_t lock; /* of what follows */
    pthread_cond_t done;
    struct xv_order order;
    int result;
};

/** orders_init() - Return: 0, or -errno where there is no descriptor. */
int orders_init(struct xv_orders *orders);

/** orders_destroy() - Nobody may wait for an order, or give one. */
void orders_destroy(struct xv_orders *orders);

/**
 * orders_give() - Have an order carried out. Any thread but the worker's may call it.
 *
 * Return: what carrying it out returned, or -errno if it could not be given.
 */
int orders_give(struct xv_orders *orders, const struct xv_order *order);

/**
 * orders_take() - The worker's: carry out the order that waits, if one does.
 * @carry_out:	Gets @context; what it returns is for who gave the order
 */
void orders_take(struct xv_orders *orders,
                 int (*carry_out)(void *context, const struct xv_order *order),
                 void *context);

#endif
