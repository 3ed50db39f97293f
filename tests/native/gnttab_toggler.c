/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * An entry of a grant table that the other domain changes each time between a look at it
 * and the compare-exchange that goes by that look.
 *
 *   gnttab_toggler end|map TIMES
 *
 * It is gnttab.c itself that runs here, with the atomic under it replaced. The other
 * domain changes a bit that means nothing TIMES times, or, if TIMES is negative, for
 * ever. Prints the status of the call, the entry's flags, and how often it was changed.
 */
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define GTF_meaningless 0x8000u

static long times, toggled;

/* Change the entry, as the other domain does now. */
static uint32_t *toggle(uint32_t *word)
{
    if (times < 0 || toggled < times) {
        __atomic_fetch_xor(word, GTF_meaningless, __ATOMIC_RELAXED);
        toggled++;
    }
    return word;
}

#define __atomic_compare_exchange_n(word, ...) \
    __atomic_compare_exchange_n(toggle(word), __VA_ARGS__)
#include "gnttab.c"

enum { PAGE = 4096, PAGES = 2, GREF = 8, FRAME = 1, DOMID = 3 };

static union {
    struct grant_entry_v1 entries[512];
    uint8_t bytes[PAGES * PAGE];
} memory;

static int called(const char *what)
{
    struct xv_gnttab *table;
    struct xv_gnttab_peer *peer;
    void *page;

    if (xv_gnttab_create(&memory, PAGES, 1, &table) < 0 ||
        xv_gnttab_peer_create(&memory, PAGES, 1, DOMID, &peer) < 0 ||
        xv_gnttab_grant(table, GREF, DOMID, FRAME, false) < 0)
        abort();
    if (strcmp(what, "end") == 0)
        return xv_gnttab_end(table, GREF);
    return gnttab_map(peer, GREF, false, &page);
}

int main(int argc, char **argv)
{
    int status;

    if (argc != 3)
        return 2;
    times = strtol(argv[2], NULL, 10);
    status = called(argv[1]);
    printf("%d %u %ld\n", status,
           memory.entries[GREF].flags & ~GTF_meaningless, toggled);
    return 0;
}
