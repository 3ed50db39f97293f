/* SPDX-License-Identifier: BSD-2-Clause */
#include "tap.h"

#include <errno.h>

int tap_read(int fd, const struct iovec *iov, int count)
{
    ssize_t n = readv(fd, iov, count);

    if (n >= 0)
        return (int)n;
    return errno == EAGAIN || errno == EINTR ? 0 : -errno;
}

int tap_write(int fd, const struct iovec *iov, int count)
{
    if (writev(fd, iov, count) >= 0)
        return 0;
    return errno == EINTR ? -EAGAIN : -errno;
}
