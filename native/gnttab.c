/* SPDX-License-Identifier: BSD-2-Clause */
#include "gnttab.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "barrier.h"

/* An entry's flags and domid share a word, so that both change and are checked at once. */
#define ENTRY_WORD(flags, domid) ((uint32_t)(flags) | (uint32_t)(domid) << 16)
#define ENTRY_FLAGS(word) ((word) & 0xffff)
#define ENTRY_DOMID(word) ((word) >> 16)
#define GTF_in_use ((uint32_t)(GTF_reading | GTF_writing))

/* Who keeps toggling an entry that both can write gets an error, not a loop (XSA-295). */
#define GNTTAB_TRIES 5

#define PIN_LOCK 0x80000000u
#define PIN_WRITER 0x10000u
#define PIN_WRITERS 0x7fff0000u
#define PIN_READER 1u
#define PIN_READERS 0xffffu

static uint32_t *entry_word(const struct xv_gnttab *table, uint32_t gref)
{
    return (uint32_t *)(void *)&table->entries[gref];
}

int xv_gnttab_create(void *memory, uint32_t nr_pages, uint32_t nr_grant_frames,
                     struct xv_gnttab **table)
{
    struct xv_gnttab *new = malloc(sizeof(*new));

    if (!new)
        return -ENOMEM;
    *new = (struct xv_gnttab){.entries = memory,
                              .nr_entries = nr_grant_frames * 512,
                              .memory = memory,
                              .nr_pages = nr_pages,
                              .gntalloc_fd = -1};
    *table = new;
    return 0;
}

void xv_gnttab_destroy(struct xv_gnttab *table)
{
    if (table && table->gntalloc_fd >= 0)
        gntalloc_destroy(table);
    free(table);
}

void *xv_gnttab_page(const struct xv_gnttab *table, uint32_t frame)
{
    return frame < table->nr_pages ? gnttab_page(table, frame) : NULL;
}

int xv_gnttab_grant(struct xv_gnttab *table, uint32_t gref, uint16_t domid,
                    uint32_t frame, bool readonly)
{
    uint32_t flags = GTF_permit_access | (readonly ? GTF_readonly : 0);
    uint32_t *word;

    if (gref >= table->nr_entries || frame >= table->nr_pages)
        return -EINVAL;
    word = entry_word(table, gref);
    if (ENTRY_FLAGS(shared_read(word)) & GTF_type_mask)
        return -EBUSY;
    shared_write(&table->entries[gref].frame, frame);
    shared_release(word, ENTRY_WORD(flags, domid)); /* frame /before/ flags */
    return 0;
}

int xv_gnttab_end(struct xv_gnttab *table, uint32_t gref)
{
    uint32_t *word, old;

    if (gref >= table->nr_entries)
        return -EINVAL;
    word = entry_word(table, gref);
    old = shared_acquire(word);
    for (int tries = 0; tries < GNTTAB_TRIES; tries++) {
        /* Looking and ending are one step: between two, a map slips in (XSA-396). */
        if (ENTRY_FLAGS(old) & GTF_in_use)
            return -EBUSY;
        if (__atomic_compare_exchange_n(word, &old, 0, false, __ATOMIC_ACQ_REL,
                                        __ATOMIC_ACQUIRE))
            return 0;
    }
    return -EBUSY;
}

bool gnttab_in_use(const struct xv_gnttab *table, uint32_t gref)
{
    return gref < table->nr_entries &&
           ENTRY_FLAGS(shared_acquire(entry_word(table, gref))) & GTF_in_use;
}

uint32_t xv_gnttab_release(void *memory, uint32_t nr_entries, uint16_t domid)
{
    struct xv_gnttab table = {.entries = memory, .nr_entries = nr_entries};
    uint32_t released = 0;

    for (uint32_t gref = 0; gref < nr_entries; gref++) {
        uint32_t *word = entry_word(&table, gref);
        uint32_t old = shared_read(word);

        if (ENTRY_DOMID(old) != domid || !(ENTRY_FLAGS(old) & GTF_in_use))
            continue;
        __atomic_fetch_and(word, ~GTF_in_use, __ATOMIC_ACQ_REL);
        released++;
    }
    return released;
}

int xv_gnttab_peer_create(void *memory, uint32_t nr_pages,
                          uint32_t nr_grant_frames, uint16_t domid,
                          struct xv_gnttab_peer **peer)
{
    struct xv_gnttab_peer *new = calloc(1, sizeof(*new));

    if (!new)
        return -ENOMEM;
    new->granter = (struct xv_gnttab){.entries = memory,
                                      .nr_entries = nr_grant_frames * 512,
                                      .memory = memory,
                                      .nr_pages = nr_pages,
                                      .gntalloc_fd = -1};
    new->gntdev_fd = -1;
    new->domid = domid;
    new->pins = calloc(new->granter.nr_entries, sizeof(*new->pins));
    if (!new->pins) {
        free(new);
        return -ENOMEM;
    }
    *peer = new;
    return 0;
}

void xv_gnttab_peer_destroy(struct xv_gnttab_peer *peer)
{
    if (!peer)
        return;
    if (peer->gntdev_fd >= 0)
        gntdev_destroy(peer);
    free(peer->pins);
    free(peer);
}

/* Two workers may hold the same gref; the pins and the in-use bits change together. */
static uint32_t pin_lock(uint32_t *pin)
{
    uint32_t old;

    while ((old = __atomic_fetch_or(pin, PIN_LOCK, __ATOMIC_ACQUIRE)) & PIN_LOCK)
        ;
    return old;
}

static void pin_unlock(uint32_t *pin, uint32_t value)
{
    __atomic_store_n(pin, value, __ATOMIC_RELEASE);
}

/* Check the entry and set in-use bits in one step, as the hypervisor does. */
static int entry_pin(const struct xv_gnttab_peer *peer, uint32_t gref,
                     bool readonly)
{
    uint32_t *word = entry_word(&peer->granter, gref);
    uint32_t in_use = GTF_reading | (readonly ? 0 : GTF_writing);
    uint32_t old = shared_acquire(word);

    for (int tries = 0; tries < GNTTAB_TRIES; tries++) {
        if ((ENTRY_FLAGS(old) & GTF_type_mask) != GTF_permit_access ||
            ENTRY_DOMID(old) != peer->domid)
            return GNTST_general_error;
        if (!readonly && (ENTRY_FLAGS(old) & GTF_readonly))
            return GNTST_general_error;
        if ((old & in_use) == in_use ||
            __atomic_compare_exchange_n(word, &old, old | in_use, false,
                                        __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
            return GNTST_okay;
    }
    return GNTST_general_error;
}

static void entry_unpin(const struct xv_gnttab_peer *peer, uint32_t gref,
                        uint32_t flags)
{
    if (flags)
        __atomic_fetch_and(entry_word(&peer->granter, gref), ~flags,
                           __ATOMIC_ACQ_REL);
}

/* In-use flags that nobody holds any more, given the pins that are left. */
static uint32_t unheld_flags(uint32_t pins)
{
    uint32_t flags = 0;

    if (!(pins & PIN_WRITERS))
        flags |= GTF_writing;
    if (!(pins & (PIN_WRITERS | PIN_READERS)))
        flags |= GTF_reading;
    return flags;
}

int gnttab_map(struct xv_gnttab_peer *peer, uint32_t gref, bool readonly,
               void **page)
{
    uint32_t pins, frame, one = readonly ? PIN_READER : PIN_WRITER;
    int status;

    if (peer->gntdev_fd >= 0)
        return gntdev_map(peer, gref, readonly, page);
    if (gref >= peer->granter.nr_entries)
        return GNTST_bad_gntref;
    pins = pin_lock(&peer->pins[gref]);
    status = entry_pin(peer, gref, readonly);
    frame = shared_read(&peer->granter.entries[gref].frame);
    if (status == GNTST_okay && frame >= peer->granter.nr_pages) {
        entry_unpin(peer, gref, unheld_flags(pins));
        status = GNTST_bad_gntref;
    }
    pin_unlock(&peer->pins[gref], status == GNTST_okay ? pins + one : pins);
    if (status == GNTST_okay)
        *page = gnttab_page(&peer->granter, frame);
    return status;
}

void gnttab_unmap(struct xv_gnttab_peer *peer, uint32_t gref, bool readonly)
{
    uint32_t pins;

    if (peer->gntdev_fd >= 0) {
        gntdev_unmap(peer, gref);
        return;
    }
    pins = pin_lock(&peer->pins[gref]);
    pins -= readonly ? PIN_READER : PIN_WRITER;
    entry_unpin(peer, gref, unheld_flags(pins));
    pin_unlock(&peer->pins[gref], pins);
}

static int copy_one(struct xv_gnttab_peer *peer, enum gnttab_direction direction,
                    const struct gnttab_copy *piece)
{
    bool readonly = direction == GNTTAB_FROM_PEER;
    uint8_t *page;
    void *mapped;
    int status = gnttab_map(peer, piece->gref, readonly, &mapped);

    if (status != GNTST_okay)
        return status;
    page = (uint8_t *)mapped + piece->offset;
    if (readonly)
        memcpy(piece->local, page, piece->len);
    else
        memcpy(page, piece->local, piece->len);
    gnttab_unmap(peer, piece->gref, readonly);
    return GNTST_okay;
}

void gnttab_copy(struct xv_gnttab_peer *peer, enum gnttab_direction direction,
                 struct gnttab_copy *pieces, uint32_t count)
{
    if (peer->gntdev_fd >= 0) {
        gntdev_copy(peer, direction, pieces, count);
        return;
    }
    for (uint32_t i = 0; i < count; i++)
        pieces[i].status = (int16_t)copy_one(peer, direction, &pieces[i]);
}

void xv_gnttab_peer_set_copying(struct xv_gnttab_peer *peer, bool copying)
{
    peer->copying = copying || peer->gntdev_fd >= 0;
}

int xv_gnttab_map(struct xv_gnttab_peer *peer, uint32_t gref, bool readonly,
                  void **page)
{
    return gnttab_map(peer, gref, readonly, page);
}

void xv_gnttab_unmap(struct xv_gnttab_peer *peer, uint32_t gref, bool readonly)
{
    gnttab_unmap(peer, gref, readonly);
}
