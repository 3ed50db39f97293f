/* SPDX-License-Identifier: BSD-2-Clause */
/* io_uring by its system calls, as much of it as tap_syscalls.c measures. */
#ifndef URING_H
#define URING_H

#include <linux/io_uring.h>
#include <stdint.h>
#include <sys/uio.h>

/* Linux 6.7; Debian 12's headers are older. */
#define URING_OP_READ_MULTISHOT 49
#define URING_ENTRIES 64
#define URING_GROUP 1 /* of provided buffers */

struct uring {
    int fd;
    struct io_uring_sqe *sqes;
    struct io_uring_cqe *cqes;
    uint32_t *sq_tail, *sq_array, *cq_head, *cq_tail;
    uint32_t sq_mask, cq_mask;
    uint32_t to_submit;
    struct io_uring_buf_ring *provided; /* uring_provide() */
    uint16_t nr_provided;
};

/** uring_open() - A ring for one thread that enters to reap. Return: 0, -errno. */
int uring_open(struct uring *ring);

/** uring_register_buffers() - Fix them for READ_FIXED, WRITE_FIXED. Return: 0, -errno. */
int uring_register_buffers(struct uring *ring, const struct iovec *buffers,
                           uint32_t count);

/** uring_register_provided() - Have a group of provided buffers. Return: 0, -errno. */
int uring_register_provided(struct uring *ring);

/** uring_provide() - Give buffer @id to the kernel to read into. */
void uring_provide(struct uring *ring, void *buffer, uint32_t len, uint16_t id);

/** uring_next() - A zeroed request, submitted by the next uring_enter(). */
struct io_uring_sqe *uring_next(struct uring *ring);

/** uring_enter() - Submit, and wait for @wanted completions. Return: 0, -errno. */
int uring_enter(struct uring *ring, uint32_t wanted);

/** uring_reap() - Take a completion. Return: 1, or 0 when there is none. */
int uring_reap(struct uring *ring, struct io_uring_cqe *cqe);

#endif
