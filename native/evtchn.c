/* SPDX-License-Identifier: BSD-2-Clause */
#include "evtchn.h"

#include <fcntl.h>
#include <stdint.h>
#include <unistd.h>

void evtchn_notify(const struct evtchn *evtchn)
{
    const uint64_t one = 1;

    /* The peer shares the open file, and may have filled it and made it block. */
    if (fcntl(evtchn->notify_fd, F_SETFL, O_RDWR | O_NONBLOCK) < 0)
        return;
    /* EAGAIN means that the counter is full, hence that it is pending. */
    if (write(evtchn->notify_fd, &one, sizeof(one)) < 0)
        return;
}
