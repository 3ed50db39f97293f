/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Grants: a page of one domain's memory, shared with one other domain.
 *
 * In the emulation (gnttab.c) the table lies in the granter's memory (version 1,
 * Xen's layout). The granter writes entries and ends them; who was granted a page
 * checks the entry as the hypervisor would, and sets the in-use bits for as long as it
 * holds the page. A page is then had for the price of arithmetic.
 *
 * On Xen the table is the hypervisor's: the granter's pages come from gntalloc.c with
 * their grants, others' from gntdev.c. A page is mapped for long or not at all, and
 * payload is copied, many pieces at once.
 */
#ifndef XV_GNTTAB_H
#define XV_GNTTAB_H

#include "xenvirt.h"

/* The granter's own view. */
struct xv_gnttab {
    struct grant_entry_v1 *entries; /* NULL on Xen, with nr_entries 0 */
    uint32_t nr_entries;
    uint8_t *memory;
    uint32_t nr_pages;
    int gntalloc_fd; /* whose close ends the grants, or -1 */
};

/* A page that is mapped by gntdev. */
struct gntdev_mapping {
    struct gntdev_mapping *next;
    void *page;
    uint64_t index;
    uint32_t gref;
};

/* Another domain's table. */
struct xv_gnttab_peer {
    bool copying; /* payload is to be copied; always so on Xen */
    int gntdev_fd; /* -1: emulated */

    /* Emulated. */
    struct xv_gnttab granter;
    uint16_t domid; /* ours: the one that entries must name */
    uint32_t *pins; /* by gref: lock, writers, readers */

    /* Xen. */
    uint16_t granter_domid;
    struct gntdev_mapping *mappings;
};

/* A piece to be copied between memory of our own and a granted page. */
struct gnttab_copy {
    void *local;
    uint32_t gref;
    uint16_t offset; /* within the page; with len no further than its end */
    uint16_t len;
    int16_t status;  /* GNTST_* (output) */
};

enum gnttab_direction { GNTTAB_FROM_PEER, GNTTAB_TO_PEER };

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
 * GNTST_general_error (not granted, to another domain, read-only). On Xen
 * always the latter.
 */
int gnttab_map(struct xv_gnttab_peer *peer, uint32_t gref, bool readonly,
               void **page);

/** gnttab_unmap() - Let go of a page from gnttab_map() with the same arguments. */
void gnttab_unmap(struct xv_gnttab_peer *peer, uint32_t gref, bool readonly);

/**
 * gnttab_copy() - Copy pieces, each one checked as gnttab_map() would.
 * @peer:	The granter's table
 * @direction:	Of all of them
 * @pieces:	What to copy; each gets its status
 * @count:	Of @pieces
 */
void gnttab_copy(struct xv_gnttab_peer *peer, enum gnttab_direction direction,
                 struct gnttab_copy *pieces, uint32_t count);

/* The same three on Xen. */
int gntdev_map(struct xv_gnttab_peer *peer, uint32_t gref, bool readonly,
               void **page);
void gntdev_unmap(struct xv_gnttab_peer *peer, uint32_t gref);
void gntdev_copy(struct xv_gnttab_peer *peer, enum gnttab_direction direction,
                 struct gnttab_copy *pieces, uint32_t count);

/** gntalloc_destroy() - End the grants of a table from xv_gntalloc_create(). */
void gntalloc_destroy(struct xv_gnttab *table);

/** gntdev_destroy() - Let go of what is mapped and of the device. */
void gntdev_destroy(struct xv_gnttab_peer *peer);

#endif
