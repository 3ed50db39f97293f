/* SPDX-License-Identifier: BSD-2-Clause */
/* An event channel's end: one eventfd to wait on and one to notify with. */
#ifndef XV_EVTCHN_H
#define XV_EVTCHN_H

struct evtchn {
    int pending_fd; /* readable: at least one notification, never how many */
    int notify_fd;  /* the peer's pending_fd */
};

/** evtchn_notify() - Set the peer's pending bit; already set is no error. */
void evtchn_notify(const struct evtchn *evtchn);

#endif
