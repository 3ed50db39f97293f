/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A queue that is to end in order: it reads nothing more from its TAP, and is settled
 * when all that its rings held when it was told so has been moved.
 */
#ifndef XV_SETTLE_H
#define XV_SETTLE_H

#include "queue.h"

/**
 * queue_settle() - Begin, or begin again with what the rings hold now.
 * @queue:	The worker's
 * @held:	Whether a backend is also to wait for the slots of a frame that it holds
 */
void queue_settle(struct xv_queue *queue, bool held);

/** queue_settle_look() - Show in the statistics whether it is done, after each run. */
void queue_settle_look(struct xv_queue *queue);

#endif
