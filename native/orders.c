/* SPDX-License-Identifier: BSD-2-Clause */
#include "orders.h"

#include <errno.h>
#include <sys/eventfd.h>
#include <unistd.h>

int orders_init(struct xv_orders *orders)
{
    orders->order.verb = ORDER_NONE;
    orders->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (orders->fd < 0)
        return -errno;
    pthread_mutex_init(&orders->givers, NULL);
    pthread_mutex_init(&orders->lock, NULL);
    pthread_cond_init(&orders->done, NULL);
    return 0;
}

void orders_destroy(struct xv_orders *orders)
{
    pthread_cond_destroy(&orders->done);
    pthread_mutex_destroy(&orders->lock);
    pthread_mutex_destroy(&orders->givers);
    close(orders->fd);
}

int orders_give(struct xv_orders *orders, const struct xv_order *order)
{
    const uint64_t one = 1;
    int ret;

    pthread_mutex_lock(&orders->givers);
    pthread_mutex_lock(&orders->lock);
    orders->order = *order;
    ret = write(orders->fd, &one, sizeof(one)) < 0 ? -errno : 0;
    while (ret == 0 && orders->order.verb != ORDER_NONE)
        pthread_cond_wait(&orders->done, &orders->lock);
    if (ret == 0)
        ret = orders->result;
    pthread_mutex_unlock(&orders->lock);
    pthread_mutex_unlock(&orders->givers);
    return ret;
}

void orders_take(struct xv_orders *orders,
                 int (*carry_out)(void *context, const struct xv_order *order),
                 void *context)
{
    uint64_t count;

    if (read(orders->fd, &count, sizeof(count)) < 0)
        return;
    pthread_mutex_lock(&orders->lock);
    orders->result = carry_out(context, &orders->order);
    orders->order.verb = ORDER_NONE;
    pthread_cond_signal(&orders->done);
    pthread_mutex_unlock(&orders->lock);
}
