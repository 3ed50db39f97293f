/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The ring page between a domain and XenStore (xenstore-ring.txt): two queues of
 * bytes. Indices run free and need not begin at 0; prod - cons beyond the ring's
 * size means that the other side cannot be talked to.
 */
#include <errno.h>
#include <string.h>

#include "barrier.h"
#include "xenvirt.h"
#include "xs_ring.h"

#define MASK ((uint32_t)XENSTORE_RING_SIZE - 1)

static uint32_t smaller(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

/* Copy out of the ring from index @cons on, in at most two pieces. */
static void copy_out(uint8_t *data, const uint8_t *ring, uint32_t cons,
                     uint32_t len)
{
    uint32_t at = cons & MASK;
    uint32_t first = smaller(len, (uint32_t)XENSTORE_RING_SIZE - at);

    memcpy(data, ring + at, first);
    memcpy(data + first, ring, len - first);
}

static void copy_in(uint8_t *ring, uint32_t prod, const uint8_t *data,
                    uint32_t len)
{
    uint32_t at = prod & MASK;
    uint32_t first = smaller(len, (uint32_t)XENSTORE_RING_SIZE - at);

    memcpy(ring + at, data, first);
    memcpy(ring, data + first, len - first);
}

/*
 * Take from a queue whose consumer we are; @cons is our index, as we know it: what
 * the page has there the other side may have overwritten.
 */
static int take(const uint8_t *ring, uint32_t *cons_word,
                const uint32_t *prod_word, uint32_t *cons, void *data,
                uint32_t len)
{
    uint32_t prod = shared_acquire(prod_word);

    if (shared_read(cons_word) != *cons || prod - *cons > XENSTORE_RING_SIZE)
        return -EIO;
    len = smaller(len, prod - *cons);
    if (len == 0)
        return 0;
    copy_out(data, ring, *cons, len);
    *cons += len;
    shared_release(cons_word, *cons); /* data taken /before/ cons */
    xen_mb(); /* cons /before/ the notification and the next look at prod */
    return (int)len;
}

/* Put into a queue whose producer we are; @prod is our index, as we know it. */
static int put(uint8_t *ring, uint32_t *prod_word, const uint32_t *cons_word,
               uint32_t *prod, const void *data, uint32_t len)
{
    uint32_t cons = shared_acquire(cons_word);

    if (shared_read(prod_word) != *prod || *prod - cons > XENSTORE_RING_SIZE)
        return -EIO;
    len = smaller(len, (uint32_t)XENSTORE_RING_SIZE - (*prod - cons));
    if (len == 0)
        return 0;
    copy_in(ring, *prod, data, len);
    *prod += len;
    shared_release(prod_word, *prod); /* data /before/ prod */
    xen_mb(); /* prod /before/ the notification and the next look at cons */
    return (int)len;
}

int xs_ring_take(struct xenstore_domain_interface *page, uint32_t *req_cons,
                 void *data, uint32_t len)
{
    return take(page->req, &page->req_cons, &page->req_prod, req_cons, data,
                len);
}

int xs_ring_put(struct xenstore_domain_interface *page, uint32_t *rsp_prod,
                const void *data, uint32_t len)
{
    return put(page->rsp, &page->rsp_prod, &page->rsp_cons, rsp_prod, data,
               len);
}

int xv_xs_ring_read(void *page, void *data, uint32_t len)
{
    struct xenstore_domain_interface *intf = page;
    uint32_t cons = shared_read(&intf->rsp_cons);

    return take(intf->rsp, &intf->rsp_cons, &intf->rsp_prod, &cons, data, len);
}

int xv_xs_ring_write(void *page, const void *data, uint32_t len)
{
    struct xenstore_domain_interface *intf = page;
    uint32_t prod = shared_read(&intf->req_prod);

    return put(intf->req, &intf->req_prod, &intf->req_cons, &prod, data, len);
}

uint32_t xv_xs_ring_load(const void *page, uint32_t offset)
{
    return shared_acquire(
        (const uint32_t *)(const void *)((const uint8_t *)page + offset));
}

void xv_xs_ring_store(void *page, uint32_t offset, uint32_t value)
{
    shared_release((uint32_t *)(void *)((uint8_t *)page + offset), value);
    xen_mb();
}
