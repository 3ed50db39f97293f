/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Another domain's granted pages, from Xen by /dev/xen/gntdev: rings are mapped for
 * the life of their queue, payload is copied by the hypervisor in batches.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "abi/xen_devices.h"
#include "gnttab.h"

#define PAGE 4096u

/* Pieces of one system call; more are copied by several. */
#define SEGMENTS_MAX 128u

int xv_gntdev_create(uint16_t domid, struct xv_gnttab_peer **peer)
{
    struct xv_gnttab_peer *new = calloc(1, sizeof(*new));
    int ret;

    if (!new)
        return -ENOMEM;
    new->copying = true;
    new->granter_domid = domid;
    new->gntdev_fd = open("/dev/xen/gntdev", O_RDWR | O_CLOEXEC);
    if (new->gntdev_fd < 0) {
        ret = -errno;
        free(new);
        return ret;
    }
    *peer = new;
    return 0;
}

void gntdev_destroy(struct xv_gnttab_peer *peer)
{
    while (peer->mappings)
        gntdev_unmap(peer, peer->mappings->gref);
    close(peer->gntdev_fd);
}

static void unmap_index(const struct xv_gnttab_peer *peer, uint64_t index)
{
    struct ioctl_gntdev_unmap_grant_ref unmap = {.index = index, .count = 1};

    ioctl(peer->gntdev_fd, IOCTL_GNTDEV_UNMAP_GRANT_REF, &unmap);
}

int gntdev_map(struct xv_gnttab_peer *peer, uint32_t gref, bool readonly,
               void **page)
{
    struct ioctl_gntdev_map_grant_ref map = {
        .count = 1, .refs = {{.domid = peer->granter_domid, .ref = gref}}};
    struct gntdev_mapping *mapping = malloc(sizeof(*mapping));

    if (!mapping)
        return GNTST_general_error;
    if (ioctl(peer->gntdev_fd, IOCTL_GNTDEV_MAP_GRANT_REF, &map) < 0)
        goto err_free;
    /* Xen is asked here, and what it refuses is EINVAL. */
    *page = mmap(NULL, PAGE, readonly ? PROT_READ : PROT_READ | PROT_WRITE,
                 MAP_SHARED, peer->gntdev_fd, (off_t)map.index);
    if (*page == MAP_FAILED)
        goto err_unmap;
    *mapping = (struct gntdev_mapping){.next = peer->mappings,
                                       .page = *page,
                                       .index = map.index,
                                       .gref = gref};
    peer->mappings = mapping;
    return GNTST_okay;

err_unmap:
    unmap_index(peer, map.index);
err_free:
    free(mapping);
    return GNTST_general_error;
}

void gntdev_unmap(struct xv_gnttab_peer *peer, uint32_t gref)
{
    struct gntdev_mapping **at = &peer->mappings;
    struct gntdev_mapping *mapping;

    while (*at && (*at)->gref != gref)
        at = &(*at)->next;
    mapping = *at;
    if (!mapping)
        return;
    *at = mapping->next;
    munmap(mapping->page, PAGE);
    unmap_index(peer, mapping->index);
    free(mapping);
}

static void fill_segment(const struct xv_gnttab_peer *peer,
                         enum gnttab_direction direction,
                         const struct gnttab_copy *piece,
                         struct gntdev_grant_copy_segment *segment)
{
    segment->len = piece->len;
    segment->status = GNTST_okay;
    if (direction == GNTTAB_FROM_PEER) {
        segment->flags = GNTCOPY_source_gref;
        segment->source.foreign.ref = piece->gref;
        segment->source.foreign.offset = piece->offset;
        segment->source.foreign.domid = peer->granter_domid;
        segment->dest.virt = piece->local;
    } else {
        segment->flags = GNTCOPY_dest_gref;
        segment->source.virt = piece->local;
        segment->dest.foreign.ref = piece->gref;
        segment->dest.foreign.offset = piece->offset;
        segment->dest.foreign.domid = peer->granter_domid;
    }
}

/* Copy at most SEGMENTS_MAX pieces by one system call. */
static void copy_batch(const struct xv_gnttab_peer *peer,
                       enum gnttab_direction direction, struct gnttab_copy *pieces,
                       uint32_t count)
{
    struct gntdev_grant_copy_segment segments[SEGMENTS_MAX];
    struct ioctl_gntdev_grant_copy copy = {.count = count, .segments = segments};
    bool done;

    for (uint32_t i = 0; i < count; i++)
        fill_segment(peer, direction, &pieces[i], &segments[i]);
    done = ioctl(peer->gntdev_fd, IOCTL_GNTDEV_GRANT_COPY, &copy) == 0;
    for (uint32_t i = 0; i < count; i++)
        pieces[i].status = done ? segments[i].status : GNTST_general_error;
}

void gntdev_copy(struct xv_gnttab_peer *peer, enum gnttab_direction direction,
                 struct gnttab_copy *pieces, uint32_t count)
{
    while (count > 0) {
        uint32_t now = count < SEGMENTS_MAX ? count : SEGMENTS_MAX;

        copy_batch(peer, direction, pieces, now);
        pieces += now;
        count -= now;
    }
}
