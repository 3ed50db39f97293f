/* SPDX-License-Identifier: BSD-2-Clause */
#define _GNU_SOURCE
#include "tap_ways.h"

#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

#include "uring.h"

#define HEADER_BYTES 256u /* that hop 2 copies and parses */

static uint8_t (*pages)[(1 + FRAME_PAGES) * PAGE];
static int tap_fd;
static struct uring ring;

uint8_t *frame_of(uint32_t buffer)
{
    return pages[buffer] + PAGE;
}

/* The vector of a buffer for a frame of up to @size bytes. Return: elements. */
static int vector_of(const struct way *way, uint32_t buffer, uint32_t size,
                     struct iovec *iov)
{
    uint8_t *at = frame_of(buffer);
    uint32_t left = size;
    int count = 1;

    iov[0] = (struct iovec){at - VNET_BYTES, VNET_BYTES};
    while (left > 0) {
        bool header = way->header_copied && count == 1;
        uint32_t len = header ? HEADER_BYTES : way->piece;

        /* What follows the header's copy is the rest of its page. */
        if (way->header_copied && count == 2 && way->piece == PAGE)
            len = PAGE - HEADER_BYTES;
        if (len > left)
            len = left;
        iov[count++] = (struct iovec){at, len};
        at += len;
        left -= len;
    }
    return count;
}

static int moved(ssize_t n, uint32_t size)
{
    if (n < 0)
        return -errno;
    return (size_t)n == VNET_BYTES + size ? 0 : -EIO;
}

static int by_read(const struct way *way, uint32_t size)
{
    int ret = 0;

    (void)way;
    for (uint32_t i = 0; i < QUEUED && ret == 0; i++)
        ret = moved(read(tap_fd, frame_of(i % NR_BUFFERS) - VNET_BYTES,
                         VNET_BYTES + FRAME_PAGES * PAGE), size);
    return ret;
}

static int by_readv(const struct way *way, uint32_t size)
{
    int ret = 0;

    for (uint32_t i = 0; i < QUEUED && ret == 0; i++) {
        struct iovec iov[2 + FRAME_PAGES];
        int count = vector_of(way, i % NR_BUFFERS, FRAME_PAGES * PAGE, iov);

        ret = moved(readv(tap_fd, iov, count), size);
    }
    return ret;
}

static int by_write(const struct way *way, uint32_t size)
{
    int ret = 0;

    (void)way;
    for (uint32_t i = 0; i < QUEUED && ret == 0; i++)
        ret = moved(write(tap_fd, frame_of(i % NR_BUFFERS) - VNET_BYTES,
                          VNET_BYTES + size), size);
    return ret;
}

static int by_writev(const struct way *way, uint32_t size)
{
    int ret = 0;

    for (uint32_t i = 0; i < QUEUED && ret == 0; i++) {
        struct iovec iov[3 + FRAME_PAGES];
        int count = vector_of(way, i % NR_BUFFERS, size, iov);

        ret = moved(writev(tap_fd, iov, count), size);
    }
    return ret;
}

static bool is_write(const struct way *way)
{
    return way->opcode == IORING_OP_WRITE || way->opcode == IORING_OP_WRITEV ||
           way->opcode == IORING_OP_WRITE_FIXED;
}

static bool is_vector(const struct way *way)
{
    return way->opcode == IORING_OP_READV || way->opcode == IORING_OP_WRITEV;
}

static void prepare(const struct way *way, uint32_t buffer, uint32_t size)
{
    static struct iovec iov[NR_BUFFERS][3 + FRAME_PAGES];
    struct io_uring_sqe *sqe = uring_next(&ring);
    uint32_t room = is_write(way) ? size : FRAME_PAGES * PAGE;

    sqe->opcode = way->opcode;
    sqe->fd = tap_fd;
    if (is_vector(way)) {
        sqe->addr = (uintptr_t)iov[buffer];
        sqe->len = (uint32_t)vector_of(way, buffer, room, iov[buffer]);
        return;
    }
    sqe->addr = (uintptr_t)(frame_of(buffer) - VNET_BYTES);
    sqe->len = (uint32_t)VNET_BYTES + room;
    sqe->buf_index = (uint16_t)buffer; /* of the fixed ones */
}

static int by_uring(const struct way *way, uint32_t size)
{
    int ret = 0;

    for (uint32_t done = 0; done < QUEUED && ret == 0; done += way->batch) {
        struct io_uring_cqe cqe;

        for (uint32_t i = 0; i < way->batch; i++)
            prepare(way, i, size);
        ret = uring_enter(&ring, way->batch);
        while (uring_reap(&ring, &cqe))
            if (ret == 0)
                ret = cqe.res < 0 ? cqe.res : moved(cqe.res, size);
    }
    return ret;
}

static void provide(uint16_t id)
{
    uring_provide(&ring, frame_of(id) - VNET_BYTES, VNET_BYTES + FRAME_PAGES * PAGE, id);
}

/* Have one request read into whatever buffer is provided. */
static void arm_multishot(const struct way *way)
{
    struct io_uring_sqe *sqe = uring_next(&ring);

    sqe->opcode = way->opcode;
    sqe->fd = tap_fd;
    sqe->flags = IOSQE_BUFFER_SELECT;
    sqe->buf_group = URING_GROUP;
}

/* End the request that waits for more. */
static void disarm_multishot(void)
{
    struct io_uring_sqe *sqe = uring_next(&ring);
    struct io_uring_cqe cqe;

    sqe->opcode = IORING_OP_ASYNC_CANCEL;
    sqe->cancel_flags = IORING_ASYNC_CANCEL_ANY;
    uring_enter(&ring, 2);
    while (uring_reap(&ring, &cqe))
        ;
}

/* Each buffer is provided again as soon as its frame is taken. */
static int by_multishot(const struct way *way, uint32_t size)
{
    static bool provided;
    bool armed = false;
    uint32_t done = 0;
    int ret = 0;

    for (uint16_t id = 0; id < way->batch && !provided; id++)
        provide(id);
    provided = true;
    while (done < QUEUED && ret == 0) {
        struct io_uring_cqe cqe;

        if (!armed)
            arm_multishot(way);
        armed = true;
        ret = uring_enter(&ring, 1);
        while (ret == 0 && uring_reap(&ring, &cqe)) {
            armed = cqe.flags & IORING_CQE_F_MORE;
            if (cqe.res == -ENOBUFS)
                continue;
            ret = cqe.res < 0 ? cqe.res : moved(cqe.res, size);
            if (ret == 0)
                provide((uint16_t)(cqe.flags >> IORING_CQE_BUFFER_SHIFT));
            done++;
        }
    }
    if (armed)
        disarm_multishot();
    return ret;
}

#define ANY (FRAME_PAGES * PAGE)

const struct way read_ways[] = {
    {.name = "readv, hop 1's 18 elements", .move = by_readv, .piece = PAGE},
    {.name = "readv, pages merged: 2", .move = by_readv, .piece = ANY},
    {.name = "read, one buffer", .move = by_read},
    {"io_uring READV 18, 8 at once", by_uring, 8, IORING_OP_READV, PAGE, false},
    {"io_uring READV 18, 32 at once", by_uring, 32, IORING_OP_READV, PAGE, false},
    {"io_uring READV 2, 32 at once", by_uring, 32, IORING_OP_READV, ANY, false},
    {"io_uring READ, 32 at once", by_uring, 32, IORING_OP_READ, 0, false},
    {"io_uring READ_FIXED, 8 at once", by_uring, 8, IORING_OP_READ_FIXED, 0, false},
    {"io_uring READ_FIXED, 16 at once", by_uring, 16, IORING_OP_READ_FIXED, 0, false},
    {"io_uring READ_FIXED, 32 at once", by_uring, 32, IORING_OP_READ_FIXED, 0, false},
    {"io_uring READ_MULTISHOT of 32", by_multishot, 32, URING_OP_READ_MULTISHOT, 0,
     false},
};

const struct way write_ways[] = {
    {.name = "writev, hop 2's: header, pages", .move = by_writev, .piece = PAGE,
     .header_copied = true},
    {.name = "writev, pages merged: 3", .move = by_writev, .piece = ANY,
     .header_copied = true},
    {.name = "write, one buffer", .move = by_write},
    {"io_uring WRITEV of hop 2, 8 at once", by_uring, 8, IORING_OP_WRITEV, PAGE, true},
    {"io_uring WRITEV of hop 2, 32 at once", by_uring, 32, IORING_OP_WRITEV, PAGE, true},
    {"io_uring WRITEV 3, 32 at once", by_uring, 32, IORING_OP_WRITEV, ANY, true},
    {"io_uring WRITE, 32 at once", by_uring, 32, IORING_OP_WRITE, 0, false},
    {"io_uring WRITE_FIXED, 8 at once", by_uring, 8, IORING_OP_WRITE_FIXED, 0, false},
    {"io_uring WRITE_FIXED, 16 at once", by_uring, 16, IORING_OP_WRITE_FIXED, 0, false},
    {"io_uring WRITE_FIXED, 32 at once", by_uring, 32, IORING_OP_WRITE_FIXED, 0, false},
};

const size_t nr_read_ways = sizeof(read_ways) / sizeof(read_ways[0]);
const size_t nr_write_ways = sizeof(write_ways) / sizeof(write_ways[0]);

int ways_open(int tap)
{
    struct iovec buffers[NR_BUFFERS];
    int ret;

    tap_fd = tap;
    pages = mmap(NULL, NR_BUFFERS * sizeof(*pages), PROT_READ | PROT_WRITE,
                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    if (pages == MAP_FAILED)
        return -ENOMEM;
    ret = uring_open(&ring);

    for (uint32_t i = 0; i < NR_BUFFERS; i++)
        buffers[i] = (struct iovec){pages[i], sizeof(pages[i])};
    if (ret == 0)
        ret = uring_register_buffers(&ring, buffers, NR_BUFFERS);
    return ret == 0 ? uring_register_provided(&ring) : ret;
}
