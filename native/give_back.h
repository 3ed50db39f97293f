/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef XV_GIVE_BACK_H
#define XV_GIVE_BACK_H

#include "queue.h"

/**
 * queue_give_back() - Let the system have the pages that an idle queue does not need.
 * @queue:	Run by the caller; the next frame costs it a page fault for each page
 */
void queue_give_back(struct xv_queue *queue);

#endif
