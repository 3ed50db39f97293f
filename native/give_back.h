/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef XV_GIVE_BACK_H
#define XV_GIVE_BACK_H

#include "queue.h"

/**
 * queue_give_back() - Let the system have the pages that an idle queue does not need.
 * @queue:	Run by the caller; the next frame costs it a page fault for each page
 */
void queue_give_back(struct xv_queue *queue);

/** give_back_moved() - A queue has moved @frames: it may need its pages for more. */
void give_back_moved(struct xv_queue *queue, uint32_t frames);

/**
 * give_back_idle() - A queue has nothing to move: queue_give_back(), if it is time.
 *
 * It is when next to nothing was moved for a second; schedule.give_back says when to
 * call this again.
 */
void give_back_idle(struct xv_queue *queue);

#endif
