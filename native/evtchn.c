/* SPDX-License-Identifier: BSD-2-Clause */
#include "evtchn.h"

#include <stdint.h>
#include <unistd.h>

void evtchn_notify(const struct evtchn *evtchn)
{
    const uint64_t one = 1;

    /* EAGAIN means that the counter is full, hence that it is pending. */
    if (write(evtchn->notify_fd, &one, sizeof(one)) < 0)
        return;
}
