/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Grants: a page of one domain's memory, shared with one other domain.
 *
 * The table lies in the granter's memory (version 1, Xen's layout). The granter
 * writes entries and ends them; who was granted a page checks the entry as the
 * hypervisor would, and sets the in-use bits for as long as it holds the page.
 */
#ifndef XV_GNTTAB_H
#define XV_GNTTAB_H

#include "xenvirt.h"

/* The granter's own view. */
struct xv_gnttab {
    struct grant_entry_v1 *entries;
    uint32_t nr_entries;
    uint8_t *memory;
    uint32_t nr_pages;
};

/* Another domain's table, as @domid sees it. */
struct xv_gnttab_peer {
    struct xv_gnttab granter;
    uint16_t domid; /* ours: the one that entries must name */
    uint32_t *pins; /* by gref: lock, writers, readers */
};

/** gnttab_page() - Where the granter's own page @frame lies. */
static inline void *gnttab_page(const struct xv_gnttab *table, uint32_t frame)
{
    return table->memory + (uint64_t)frame * 4096;
}

/** gnttab_in_use() - Does the other domain hold the page of @gref? */
bool gnttab_in_use(const struct xv_gnttab *table, uint32_t gref);

/**
 * gnttab_map() - Take hold of a granted page.
 * @peer:	The granter's table
 * @gref:	Which grant; any number, it is checked
 * @readonly:	Whether it will only be read
 * @page:	The page (output), valid until gnttab_unmap()
 *
 * Return: GNTST_okay, GNTST_bad_gntref (out of range, or its frame is), or
 * GNTST_general_error (not granted, to another domain, read-only).
 */
int gnttab_map(struct xv_gnttab_peer *peer, uint32_t gref, bool readonly,
               void **page);

/** gnttab_unmap() - Let go of a page from gnttab_map() with the same arguments. */
void gnttab_unmap(struct xv_gnttab_peer *peer, uint32_t gref, bool readonly);

#endif
