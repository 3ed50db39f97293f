/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The memory of the frontend's domain: its grant table, a page for each ring and pages
 * for payload, each granted for TX (to be read) and for RX. Between runs of pages lies
 * one that is never granted, and under ASan whoever touches that one is reported.
 */
#ifndef XV_FUZZ_DOMAIN_H
#define XV_FUZZ_DOMAIN_H

#include <stdbool.h>
#include <stdint.h>

#include "gnttab.h"

enum {
    DOMAIN_GRANT_FRAMES = 2,
    DOMAIN_TX_RING_FRAME = 2,
    DOMAIN_RX_RING_FRAME = 4,
    DOMAIN_DATA_FRAME = 6,
    DOMAIN_DATA_PAGES = 40,
    DOMAIN_DATA_RUN = 4, /* pages that lie one after the other */
    DOMAIN_PAGES = DOMAIN_DATA_FRAME + DOMAIN_DATA_PAGES * 5 / 4,

    DOMAIN_TX_RING_GREF = 8,
    DOMAIN_RX_RING_GREF = 9,
    DOMAIN_TX_GREF = 16,
    DOMAIN_RX_GREF = DOMAIN_TX_GREF + NET_TX_RING_SIZE,
    DOMAIN_GREFS_END = DOMAIN_RX_GREF + NET_RX_RING_SIZE,

    BACK_DOMID = 3,
};

extern uint8_t *domain_memory;

/** domain_reset() - Have it as it is at first: nothing in it but the grants. */
void domain_reset(void);

/** domain_page() - Where page @frame, which is below DOMAIN_PAGES, lies. */
static inline uint8_t *domain_page(uint32_t frame)
{
    return domain_memory + (uint64_t)frame * 4096;
}

/** domain_data_frame() - The frame of payload page @n, counted from 0 and modulo. */
static inline uint32_t domain_data_frame(uint32_t n)
{
    n %= DOMAIN_DATA_PAGES;
    return DOMAIN_DATA_FRAME + n + n / DOMAIN_DATA_RUN;
}

/** domain_write_entry() - Set a grant's entry as its domain may, with any values. */
void domain_write_entry(uint32_t gref, uint16_t flags, uint16_t domid,
                        uint32_t frame);

/** domain_grant_rings() - Grant the two ring pages to the backend, again. */
void domain_grant_rings(void);

#endif
