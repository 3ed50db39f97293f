/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A peer that notifies and has nothing to say: when its event channels may wake us
 * again (Linux's late EOI, XSA-332 and XSA-391). Time is an argument, in milliseconds.
 *
 * A good peer notifies of a thing once, so its events for nothing, about what was found
 * before they came, are no more than those of use. One that is ahead by more than
 * LATEEOI_SPARE is heard after a pause, which doubles while it goes on.
 */
#ifndef XV_LATEEOI_H
#define XV_LATEEOI_H

#include <stdbool.h>
#include <stdint.h>

#define LATEEOI_SPARE 32u
#define LATEEOI_PAUSE_MAX_MS 64u

struct lateeoi {
    uint64_t until_ms; /* of the pause that lasts; 0: there is none */
    uint32_t pause_ms; /* how long the last one was */
    uint32_t spurious; /* by how many events the peer is ahead */
    uint32_t consumed; /* as it was at the last call */
    bool fired;        /* an event came since */
    bool heard_again;  /* a pause had ended then: the event may be an older one */
};

/** lateeoi_fired() - An event came. */
void lateeoi_fired(struct lateeoi *eoi);

/**
 * lateeoi_judge() - Whoever was woken is about to sleep: begin or end a pause.
 * @eoi:	Of the event channels that are to wake it; until_ms says whether they may
 * @consumed:	Changes whenever something is taken from a ring
 * @now_ms:	The time
 *
 * Return: whether an event came and brought nothing.
 */
bool lateeoi_judge(struct lateeoi *eoi, uint32_t consumed, uint64_t now_ms);

#endif
