/* SPDX-License-Identifier: BSD-2-Clause */
#include "lateeoi.h"

void lateeoi_fired(struct lateeoi *eoi)
{
    eoi->fired = true;
}

static void begin_pause(struct lateeoi *eoi, uint64_t now_ms)
{
    eoi->pause_ms = eoi->pause_ms == 0 ? 1 : 2 * eoi->pause_ms;
    if (eoi->pause_ms > LATEEOI_PAUSE_MAX_MS)
        eoi->pause_ms = LATEEOI_PAUSE_MAX_MS;
    eoi->until_ms = now_ms + eoi->pause_ms;
}

bool lateeoi_judge(struct lateeoi *eoi, uint32_t consumed, uint64_t now_ms)
{
    bool useful = consumed != eoi->consumed;
    bool spurious = eoi->fired && !useful && !eoi->heard_again;

    eoi->consumed = consumed;
    eoi->fired = false;
    eoi->heard_again = eoi->until_ms != 0 && eoi->until_ms <= now_ms;
    if (eoi->heard_again)
        eoi->until_ms = 0;
    if (useful) {
        eoi->pause_ms /= 2;
        if (eoi->spurious > 0)
            eoi->spurious--;
    } else if (spurious && eoi->spurious < LATEEOI_SPARE) {
        eoi->spurious++;
    } else if (spurious) {
        begin_pause(eoi, now_ms);
    }
    return spurious;
}
