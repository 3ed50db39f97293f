/* SPDX-License-Identifier: BSD-2-Clause */
#include "settle.h"

/* Has a free-running index come as far as another? */
static bool reached(uint32_t index, uint32_t end)
{
    return (int32_t)(index - end) >= 0;
}

/* Every request is answered, and every response that had been written is taken. */
static bool front_settled(const struct xv_front_queue *queue)
{
    const struct xv_settling *settling = &queue->base.settling;

    return reached(queue->tx.ring.rsp_cons, settling->tx_end) &&
           reached(queue->rx.ring.rsp_cons, settling->rx_end);
}

/* Every request that had been written is answered. */
static bool back_settled(const struct xv_back_queue *queue)
{
    const struct xv_settling *settling = &queue->base.settling;

    return reached(queue->tx.ring.req_cons, settling->tx_end) &&
           (!settling->held || queue->rx.held_len == 0);
}

void queue_settle(struct xv_queue *queue, bool held)
{
    struct xv_settling *settling = &queue->settling;

    settling->on = true;
    settling->held = held;
    /* An end that cannot be breaks the queue when it runs. */
    if (queue->role == XV_FRONT) {
        settling->tx_end = queue_front(queue)->tx.ring.req_prod_pvt;
        settling->rx_end =
            shared_acquire(&queue_front(queue)->rx.ring.sring->rsp_prod);
    } else {
        settling->tx_end =
            shared_acquire(&queue_back(queue)->tx.ring.sring->req_prod);
    }
    shared_write(&queue->stats->settled, 0);
}

void queue_settle_look(struct xv_queue *queue)
{
    bool settled;

    if (!queue->settling.on)
        return;
    settled = queue->role == XV_FRONT ? front_settled(queue_front(queue))
                                      : back_settled(queue_back(queue));
    shared_write(&queue->stats->settled, settled || queue_broken(queue));
}
