/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Access to memory that another process writes at the same time.
 *
 * Every word that a peer can change is read once, through shared_read(), into a
 * private copy. The full fence, xen_mb(), orders a store before a later load;
 * no x86 instruction stream does that by itself, and without it a wake-up is lost.
 */
#ifndef XV_BARRIER_H
#define XV_BARRIER_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

/** shared_read() - One relaxed load of a word that a peer may change. */
static inline uint32_t shared_read(const uint32_t *word)
{
    return __atomic_load_n(word, __ATOMIC_RELAXED);
}

/** shared_write() - One relaxed store to a word that a peer may read. */
static inline void shared_write(uint32_t *word, uint32_t value)
{
    __atomic_store_n(word, value, __ATOMIC_RELAXED);
}

/** shared_acquire() - Load an index; what was written /before/ it is seen. */
static inline uint32_t shared_acquire(const uint32_t *word)
{
    return __atomic_load_n(word, __ATOMIC_ACQUIRE);
}

/** shared_release() - Store an index; what was written before it is seen first. */
static inline void shared_release(uint32_t *word, uint32_t value)
{
    __atomic_store_n(word, value, __ATOMIC_RELEASE);
}

/** xen_mb() - Stores before it are seen by others /before/ loads after it. */
static inline void xen_mb(void)
{
    atomic_thread_fence(memory_order_seq_cst);
}

/**
 * shared_copy_from() - Copy a slot out of shared memory, each word read once.
 * @to:		Private memory (output)
 * @from:	Shared memory, 4-byte aligned
 * @len:	Bytes, a multiple of 4
 */
static inline void shared_copy_from(void *to, const void *from, size_t len)
{
    uint32_t *private_words = to;
    const uint32_t *shared_words = from;

    for (size_t i = 0; i < len / sizeof(uint32_t); i++)
        private_words[i] = shared_read(&shared_words[i]);
}

/**
 * shared_copy_to() - Copy a slot into shared memory, each word written once.
 * @to:		Shared memory, 4-byte aligned (output)
 * @from:	Private memory
 * @len:	Bytes, a multiple of 4
 */
static inline void shared_copy_to(void *to, const void *from, size_t len)
{
    uint32_t *shared_words = to;
    const uint32_t *private_words = from;

    for (size_t i = 0; i < len / sizeof(uint32_t); i++)
        shared_write(&shared_words[i], private_words[i]);
}

#endif
