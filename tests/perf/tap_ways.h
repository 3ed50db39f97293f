/* SPDX-License-Identifier: BSD-2-Clause */
/* The ways that tap_syscalls.c measures. */
#ifndef TAP_WAYS_H
#define TAP_WAYS_H

#include <linux/virtio_net.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define VNET_BYTES sizeof(struct virtio_net_hdr)
#define PAGE 4096u
#define FRAME_PAGES 17u
#define NR_BUFFERS 32u /* the largest batch */
#define QUEUED 480u    /* frames in a TAP's queue, which holds 500 */

/* A way to move QUEUED frames. */
struct way {
    const char *name;
    /* Return: 0, or -errno; -EIO when a frame is not as long as @size. */
    int (*move)(const struct way *way, uint32_t size);
    uint32_t batch;     /* io_uring: frames for each enter */
    uint8_t opcode;
    uint32_t piece;     /* of a vector: bytes of each element after the first */
    bool header_copied; /* of a vector: HEADER_BYTES in an element of their own */
};

extern const struct way read_ways[], write_ways[];
extern const size_t nr_read_ways, nr_write_ways;

/**
 * ways_open() - Allocate the buffers, and open an io_uring.
 * @tap:	The TAP
 *
 * Return: 0, or -errno of the io_uring, without which its ways cannot be.
 */
int ways_open(int tap);

/** frame_of() - Where a buffer's frame is; its vnet header is right before it. */
uint8_t *frame_of(uint32_t buffer);

#endif
