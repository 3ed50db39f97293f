/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * One frame in, or one frame out, of a TAP with IFF_VNET_HDR. A socket pair that
 * keeps message boundaries serves as well; nothing else may know the difference.
 */
#ifndef XV_TAP_H
#define XV_TAP_H

#include <sys/uio.h>

/**
 * tap_read() - Read one frame.
 * @fd:		Non-blocking
 * @iov:	A virtio_net_hdr first, then room for the frame
 * @count:	Elements of @iov
 *
 * Return: bytes read, header included; 0 when there is none; -errno.
 */
int tap_read(int fd, const struct iovec *iov, int count);

/**
 * tap_write() - Write one frame.
 * @fd:		Non-blocking
 * @iov:	A virtio_net_hdr first, then the frame
 * @count:	Elements of @iov
 *
 * Return: 0; -EAGAIN when it cannot take one now; another -errno: it is dropped.
 */
int tap_write(int fd, const struct iovec *iov, int count);

#endif
