/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Pages of our own with their grants, from Xen by /dev/xen/gntalloc.
 *
 * A table is one open file: when it is closed, by us or because we died, the kernel
 * ends the grants as soon as the other domain has let go of each page, and only
 * then uses the page for anything else. Whether that domain still holds one cannot
 * be asked.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "abi/xen_devices.h"
#include "gnttab.h"

#define PAGE 4096u

/* Have @count pages from page @first on, all of one kind. Return: 0, -errno. */
static int alloc_run(const struct xv_gnttab *table, uint16_t domid, bool readonly,
                     uint32_t first, uint32_t count, uint32_t *grefs)
{
    size_t size = sizeof(struct ioctl_gntalloc_alloc_gref) + count * sizeof(uint32_t);
    struct ioctl_gntalloc_alloc_gref *alloc = calloc(1, size);
    void *at = gnttab_page(table, first);
    int ret = 0;

    if (!alloc)
        return -ENOMEM;
    alloc->domid = domid;
    alloc->flags = readonly ? 0 : GNTALLOC_FLAG_WRITABLE;
    alloc->count = count;
    if (ioctl(table->gntalloc_fd, IOCTL_GNTALLOC_ALLOC_GREF, alloc) < 0 ||
        mmap(at, (size_t)count * PAGE, PROT_READ | PROT_WRITE,
             MAP_SHARED | MAP_FIXED, table->gntalloc_fd,
             (off_t)alloc->index) == MAP_FAILED)
        ret = -errno;
    for (uint32_t i = 0; ret == 0 && i < count; i++)
        grefs[first + i] = alloc->gref_ids[i];
    free(alloc);
    return ret;
}

static int alloc_pages(const struct xv_gnttab *table, uint16_t domid,
                       const uint8_t *readonly, uint32_t *grefs)
{
    uint32_t first = 0;

    while (first < table->nr_pages) {
        uint32_t end = first + 1;
        int ret;

        while (end < table->nr_pages && readonly[end] == readonly[first])
            end++;
        ret = alloc_run(table, domid, readonly[first], first, end - first, grefs);
        if (ret < 0)
            return ret;
        first = end;
    }
    return 0;
}

int xv_gntalloc_create(uint16_t domid, uint32_t nr_pages, const uint8_t *readonly,
                       uint32_t *grefs, struct xv_gnttab **table)
{
    struct xv_gnttab *new = calloc(1, sizeof(*new));
    void *reserved;
    int ret;

    if (!new)
        return -ENOMEM;
    new->nr_pages = nr_pages;
    new->gntalloc_fd = open("/dev/xen/gntalloc", O_RDWR | O_CLOEXEC);
    if (new->gntalloc_fd < 0) {
        ret = -errno;
        goto err_free;
    }
    reserved = mmap(NULL, (size_t)nr_pages * PAGE, PROT_NONE,
                    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (reserved == MAP_FAILED) {
        ret = -errno;
        goto err_close;
    }
    new->memory = reserved;
    ret = alloc_pages(new, domid, readonly, grefs);
    if (ret < 0) {
        gntalloc_destroy(new);
        goto err_free;
    }
    *table = new;
    return 0;

err_close:
    close(new->gntalloc_fd);
err_free:
    free(new);
    return ret;
}

void gntalloc_destroy(struct xv_gnttab *table)
{
    munmap(table->memory, (size_t)table->nr_pages * PAGE);
    close(table->gntalloc_fd);
}
