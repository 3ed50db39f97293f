/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * One end of an event channel, of either kind (struct xv_evtchn).
 *
 * The emulation's are eventfds, watched edge-triggered and never read. On Xen it is
 * /dev/xen/evtchn: a port that fired is masked until evtchn_unmask(), so that
 * a peer which notifies all the time costs one wake-up for each time that we sleep.
 */
#ifndef XV_EVTCHN_H
#define XV_EVTCHN_H

#include "xenvirt.h"

struct evtchn {
    struct xv_evtchn end;
    bool masked; /* Xen: it fired, and is silent until evtchn_unmask() */
};

/** evtchn_notify() - Set the peer's pending bit; already set is no error. */
void evtchn_notify(const struct evtchn *evtchn);

/** evtchn_fired() - Take note that the descriptor became readable. */
void evtchn_fired(struct evtchn *evtchn);

/** evtchn_unmask() - Let it fire again; at once, if it was notified meanwhile. */
void evtchn_unmask(struct evtchn *evtchn);

#endif
