/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Included before anything else in the files of native/: the peer gets a chance to write
 * before each atomic load, each copy, and each system call on the TAP, which is whenever
 * native/ looks at what it shares.
 */
#ifndef XV_FUZZ_DURING_H
#define XV_FUZZ_DURING_H

#include <string.h>
#include <sys/uio.h>

/** fuzz_during() - Do what the peer does now, in the middle of a turn. */
void fuzz_during(void);

#define __atomic_load_n(word, order) \
    (fuzz_during(), __atomic_load_n(word, order))
#define memcpy(to, from, len) (fuzz_during(), memcpy(to, from, len))
#define readv(fd, iov, count) (fuzz_during(), readv(fd, iov, count))
#define writev(fd, iov, count) (fuzz_during(), writev(fd, iov, count))

#endif
