/* SPDX-License-Identifier: BSD-2-Clause */
#define _GNU_SOURCE
#include "uring.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

static void *map(const struct uring *ring, size_t bytes, uint64_t what)
{
    void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE,
                    ring->fd, (off_t)what);

    return at == MAP_FAILED ? NULL : at;
}

int uring_open(struct uring *ring)
{
    struct io_uring_params params = {
        .flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN,
    };
    uint8_t *rings;

    *ring = (struct uring){0};
    ring->fd = (int)syscall(SYS_io_uring_setup, URING_ENTRIES, &params);
    if (ring->fd < 0)
        return -errno;
    /* One mapping has both rings since Linux 5.4. */
    rings = map(ring, params.cq_off.cqes + params.cq_entries * sizeof(*ring->cqes),
                IORING_OFF_SQ_RING);
    ring->sqes = map(ring, params.sq_entries * sizeof(*ring->sqes), IORING_OFF_SQES);
    if (!rings || !ring->sqes)
        return -ENOMEM;
    ring->sq_tail = (uint32_t *)(void *)(rings + params.sq_off.tail);
    ring->sq_array = (uint32_t *)(void *)(rings + params.sq_off.array);
    ring->sq_mask = *(uint32_t *)(void *)(rings + params.sq_off.ring_mask);
    ring->cq_head = (uint32_t *)(void *)(rings + params.cq_off.head);
    ring->cq_tail = (uint32_t *)(void *)(rings + params.cq_off.tail);
    ring->cq_mask = *(uint32_t *)(void *)(rings + params.cq_off.ring_mask);
    ring->cqes = (struct io_uring_cqe *)(void *)(rings + params.cq_off.cqes);
    return 0;
}

static int do_register(struct uring *ring, unsigned int what, const void *arg,
                       unsigned int count)
{
    long ret = syscall(SYS_io_uring_register, ring->fd, what, arg, count);

    return ret < 0 ? -errno : 0;
}

int uring_register_buffers(struct uring *ring, const struct iovec *buffers,
                           uint32_t count)
{
    return do_register(ring, IORING_REGISTER_BUFFERS, buffers, count);
}

int uring_register_provided(struct uring *ring)
{
    void *memory = mmap(NULL, URING_ENTRIES * sizeof(struct io_uring_buf),
                        PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    struct io_uring_buf_reg group = {.ring_addr = (uintptr_t)memory,
                                     .ring_entries = URING_ENTRIES,
                                     .bgid = URING_GROUP};

    if (memory == MAP_FAILED)
        return -ENOMEM;
    ring->provided = memory;
    return do_register(ring, IORING_REGISTER_PBUF_RING, &group, 1);
}

void uring_provide(struct uring *ring, void *buffer, uint32_t len, uint16_t id)
{
    struct io_uring_buf *entry =
        &ring->provided->bufs[ring->nr_provided & (URING_ENTRIES - 1)];

    entry->addr = (uintptr_t)buffer;
    entry->len = len;
    entry->bid = id;
    ring->nr_provided++;
    __atomic_store_n(&ring->provided->tail, ring->nr_provided, __ATOMIC_RELEASE);
}

struct io_uring_sqe *uring_next(struct uring *ring)
{
    uint32_t at = (*ring->sq_tail + ring->to_submit++) & ring->sq_mask;

    ring->sq_array[at] = at;
    memset(&ring->sqes[at], 0, sizeof(ring->sqes[at]));
    return &ring->sqes[at];
}

int uring_enter(struct uring *ring, uint32_t wanted)
{
    uint32_t count = ring->to_submit;
    long ret;

    __atomic_store_n(ring->sq_tail, *ring->sq_tail + count, __ATOMIC_RELEASE);
    ring->to_submit = 0;
    ret = syscall(SYS_io_uring_enter, ring->fd, count, wanted,
                  IORING_ENTER_GETEVENTS, NULL, 0);
    return ret < 0 ? -errno : 0;
}

int uring_reap(struct uring *ring, struct io_uring_cqe *cqe)
{
    uint32_t head = *ring->cq_head;

    if (head == __atomic_load_n(ring->cq_tail, __ATOMIC_ACQUIRE))
        return 0;
    *cqe = ring->cqes[head & ring->cq_mask];
    __atomic_store_n(ring->cq_head, head + 1, __ATOMIC_RELEASE);
    return 1;
}
