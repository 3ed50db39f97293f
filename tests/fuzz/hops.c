/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The four hops, and a whole queue as a worker runs it: both of its hops, armed in the
 * end, its pages given back.
 */
#include <string.h>

#include "give_back.h"
#include "victim.h"

static int run_queue(struct xv_queue *queue, int budget)
{
    int frames = queue_run(queue, budget);

    xv_queue_arm(queue);
    xv_queue_deadline(queue);
    if (frames == 0)
        queue_give_back(queue);
    return frames;
}

static const struct hop hops[] = {
    {"front_tx", XV_FRONT, false, true, xv_front_tx},
    {"back_tx", XV_BACK, false, true, xv_back_tx},
    {"back_rx", XV_BACK, false, false, xv_back_rx},
    {"front_rx", XV_FRONT, false, false, xv_front_rx},
    {"front_queue", XV_FRONT, true, true, run_queue},
    {"back_queue", XV_BACK, true, true, run_queue},
};

const struct hop *hop_find(const char *name)
{
    for (size_t i = 0; i < sizeof(hops) / sizeof(hops[0]); i++)
        if (strcmp(hops[i].name, name) == 0)
            return &hops[i];
    return NULL;
}
