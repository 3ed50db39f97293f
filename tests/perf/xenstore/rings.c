/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * rings PAGES_FD COUNT INDEX:NOTIFY_FD:PENDING_FD...: domains that read their
 * name over their ring pages, page INDEX of the file each. First all of them in
 * turn, ms for all; then the first of them COUNT times, median and 99th
 * percentile, us.
 */
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>

#include "barrier.h"
#include "raw.h"

#define PAGE_SIZE 4096

/* Words of the page, as xs_wire.h has them. */
enum { CONNECTED = 0, RECONNECT = 1 };

struct ring {
    struct xenstore_domain_interface *page;
    int notify_fd;
    int pending_fd;
};

static void notify(const struct ring *ring)
{
    xen_mb(); /* the index /before/ the store wakes */
    check(eventfd_write(ring->notify_fd, 1) == 0, "notify");
}

static void wait_for_event(const struct ring *ring)
{
    struct pollfd pending = {.fd = ring->pending_fd, .events = POLLIN};
    eventfd_t count;

    /* The store shares the open file, and has made it non-blocking. */
    check(poll(&pending, 1, -1) == 1, "poll");
    check(eventfd_read(ring->pending_fd, &count) == 0, "an event");
}

static void put(const struct ring *ring, const char *data, uint32_t len)
{
    uint32_t prod = shared_read(&ring->page->req_prod);

    for (uint32_t i = 0; i < len; i++)
        ring->page->req[(prod + i) % XENSTORE_RING_SIZE] = (uint8_t)data[i];
    shared_release(&ring->page->req_prod, prod + len);
    notify(ring);
}

static void take(const struct ring *ring, char *data, uint32_t len)
{
    uint32_t cons = shared_read(&ring->page->rsp_cons);

    while (shared_acquire(&ring->page->rsp_prod) - cons < len)
        wait_for_event(ring);
    for (uint32_t i = 0; i < len; i++)
        data[i] = (char)ring->page->rsp[(cons + i) % XENSTORE_RING_SIZE];
    shared_release(&ring->page->rsp_cons, cons + len);
}

/* What the ring asks of a domain whose store was another one before. */
static void reconnect(const struct ring *ring)
{
    shared_release(&ring->page->connection, RECONNECT);
    notify(ring);
    while (shared_acquire(&ring->page->connection) != CONNECTED)
        wait_for_event(ring);
}

static void read_name(const struct ring *ring)
{
    char request[64], reply[XENSTORE_RING_SIZE];
    struct xsd_sockmsg head;
    size_t len = raw_encode(request, XS_READ, 0, LITERAL("name"));

    put(ring, request, (uint32_t)len);
    take(ring, (char *)&head, sizeof(head));
    check(head.type == XS_READ && head.len < sizeof(reply), "the name");
    take(ring, reply, head.len);
}

static void open_ring(struct ring *ring, char *pages, const char *argument)
{
    size_t index;

    check(sscanf(argument, "%zu:%d:%d", &index, &ring->notify_fd,
                 &ring->pending_fd) == 3,
          argument);
    ring->page = (void *)(pages + index * PAGE_SIZE);
    if (shared_acquire(&ring->page->error))
        reconnect(ring);
}

static char *map_pages(int fd)
{
    off_t size = lseek(fd, 0, SEEK_END);
    char *pages = mmap(NULL, (size_t)size, PROT_READ | PROT_WRITE, MAP_SHARED,
                       fd, 0);

    check(pages != MAP_FAILED, "pages");
    return pages;
}

int main(int argc, char **argv)
{
    size_t domains = (size_t)argc - 3, count;
    struct ring *rings;
    uint64_t *ns, start;
    char *pages;

    check(argc > 3, "rings PAGES_FD COUNT INDEX:NOTIFY_FD:PENDING_FD...");
    pages = map_pages(atoi(argv[1]));
    count = number(argv[2]);
    rings = calloc(domains, sizeof(*rings));
    ns = calloc(count, sizeof(*ns));
    check(rings && ns, "memory");
    start = now_ns();
    for (size_t i = 0; i < domains; i++) {
        open_ring(&rings[i], pages, argv[3 + i]);
        read_name(&rings[i]);
    }
    printf("all: %.3f\n", (double)(now_ns() - start) / 1e6);
    for (size_t i = 0; i < count; i++) {
        start = now_ns();
        read_name(&rings[0]);
        ns[i] = now_ns() - start;
    }
    print_samples("read", ns, count);
    free(rings);
    free(ns);
    return 0;
}
