/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Everything that Python sees of native/, in the subset of C that cffi's cdef
 * reads: one declaration for both. Functions return 0 or a count, or -errno;
 * grant operations return GNTST_*.
 *
 * TX is frontend to backend and RX backend to frontend, everywhere.
 */
#ifndef XENVIRT_H
#define XENVIRT_H

#include <stdbool.h>
#include <stdint.h>

#include "abi/grant_table.h"
#include "abi/netif.h"
#include "abi/xs_wire.h"

/* ---- event channels on Xen, one open /dev/xen/evtchn each: evtchn.c ---- */

/* One end of an event channel; its descriptors stay the caller's. */
struct xv_evtchn {
    int pending_fd; /* readable when the end was notified */
    int notify_fd;  /* emulated: the peer's eventfd; Xen: pending_fd again */
    uint32_t port;  /* Xen: the one bound to them; 0, which is none: eventfds */
};

/* Bind @fd to a new port that @remote_domid may bind. Return: the port, -errno. */
int xv_evtchn_bind_unbound_port(int fd, uint16_t remote_domid);

/* Bind @fd to a new port, connected to @remote_port. Return: the port, -errno. */
int xv_evtchn_bind_interdomain(int fd, uint16_t remote_domid, uint32_t remote_port);

/* Make the other end pending. Return: 0, -errno. */
int xv_evtchn_notify(int fd, uint32_t port);

/* ---- grants: gnttab.c; on Xen by gntalloc.c and gntdev.c ---- */

struct xv_gnttab;      /* a domain's table, as its owner sees it */
struct xv_gnttab_peer; /* another domain's table, as we see it */

/**
 * xv_gnttab_create() - The owner's view of its table.
 * @memory:	The domain's memory; the table lies at its start; stays the caller's
 * @nr_pages:	Pages of @memory
 * @nr_grant_frames: Pages of the table, 512 entries each
 * @table:	New object (output), for xv_gnttab_destroy()
 */
int xv_gnttab_create(void *memory, uint32_t nr_pages, uint32_t nr_grant_frames,
                     struct xv_gnttab **table);
void xv_gnttab_destroy(struct xv_gnttab *table);

/**
 * xv_gntalloc_create() - Pages of our own that another domain may use, on Xen.
 * @domid:	Who may use them
 * @nr_pages:	How many; a frame of the table is a number below it
 * @readonly:	For each page: 1 when @domid may only read it, or 0
 * @grefs:	The reference of each page (output)
 * @table:	New object (output), for xv_gnttab_destroy(), which ends the grants
 *
 * Return: 0; -ENOSPC when gntalloc's limit or Xen's table is reached; -errno of
 * opening /dev/xen/gntalloc or of mapping.
 */
int xv_gntalloc_create(uint16_t domid, uint32_t nr_pages, const uint8_t *readonly,
                       uint32_t *grefs, struct xv_gnttab **table);

/* Where page @frame of our own lies. Return: it, or NULL when there is none. */
void *xv_gnttab_page(const struct xv_gnttab *table, uint32_t frame);

/**
 * xv_gnttab_grant() - Let @domid use page @frame by @gref.
 *
 * Return: 0; -EINVAL when @gref or @frame is out of range; -EBUSY when the entry
 * is in use.
 */
int xv_gnttab_grant(struct xv_gnttab *table, uint32_t gref, uint16_t domid,
                    uint32_t frame, bool readonly);

/**
 * xv_gnttab_end() - Take a grant back, in one step.
 *
 * Return: 0; -EBUSY while the other domain holds the page, or keeps changing the
 * entry; -EINVAL.
 */
int xv_gnttab_end(struct xv_gnttab *table, uint32_t gref);

/**
 * xv_gnttab_release() - Clear the in-use bits that dead @domid left in a table.
 *
 * Return: entries that it still held.
 */
uint32_t xv_gnttab_release(void *memory, uint32_t nr_entries, uint16_t domid);

/**
 * xv_gnttab_peer_create() - View the table in another domain's memory.
 * @memory:	That domain's memory; stays the caller's
 * @nr_pages:	Pages of @memory
 * @nr_grant_frames: Pages of the table
 * @domid:	Ours: the one that entries must name
 * @peer:	New object (output), for xv_gnttab_peer_destroy()
 */
int xv_gnttab_peer_create(void *memory, uint32_t nr_pages,
                          uint32_t nr_grant_frames, uint16_t domid,
                          struct xv_gnttab_peer **peer);

/**
 * xv_gntdev_create() - View another domain's table by /dev/xen/gntdev, on Xen.
 * @domid:	That domain
 * @peer:	New object (output), for xv_gnttab_peer_destroy()
 */
int xv_gntdev_create(uint16_t domid, struct xv_gnttab_peer **peer);

/* Whether payload is to be copied even if its pages could be had directly. */
void xv_gnttab_peer_set_copying(struct xv_gnttab_peer *peer, bool copying);
void xv_gnttab_peer_destroy(struct xv_gnttab_peer *peer);
int xv_gnttab_map(struct xv_gnttab_peer *peer, uint32_t gref, bool readonly,
                  void **page);
void xv_gnttab_unmap(struct xv_gnttab_peer *peer, uint32_t gref, bool readonly);

/* ---- a queue: queue.c ---- */

struct xv_queue; /* one end of one TX and one RX ring */

/* What the other end negotiated that it can take. */
struct xv_peer_features {
    bool sg;        /* frames of more than one slot */
    bool csum_v4;   /* blank IPv4 checksums */
    bool csum_v6;   /* blank IPv6 checksums */
    bool gso_tcpv4; /* TCP over IPv4 in need of segmentation; needs sg */
    bool gso_tcpv6;
    bool rx_notify; /* the frontend notifies when it posts RX requests */
};

/* Where a queue's frames and notifications go; descriptors stay the caller's. */
struct xv_queue_io {
    int tap_fd;          /* non-blocking, IFF_VNET_HDR with 10 bytes */
    struct xv_evtchn tx; /* of the TX ring */
    struct xv_evtchn rx; /* of the RX ring; the same one without split channels */
};

/* Why a queue stopped for good; queue.c's table words it as the drivers do. */
enum xv_broken {
    XV_OK = 0,
    /* backend's reasons (netback.c) */
    XV_TX_IMPOSSIBLE_REQUESTS,
    XV_TX_MISSING_EXTRA,
    XV_TX_BAD_EXTRA_TYPE,
    XV_TX_TOO_FEW_SLOTS,
    XV_TX_MALICIOUS_SLOTS,
    XV_TX_CROSS_PAGE_FIRST,
    XV_TX_CROSS_PAGE,
    XV_TX_GSO_SIZE_ZERO,
    XV_TX_BAD_GSO_TYPE,
    XV_RX_IMPOSSIBLE_REQUESTS,
    /* frontend's reasons (xen-netfront.c) */
    XV_ILLEGAL_RESPONSES,
    XV_TX_INCORRECT_ID,
    XV_TX_INACTIVE_REQUEST,
    XV_GRANT_IN_USE,
    /* either's */
    XV_TAP_GONE,
    XV_BROKEN_MAX
};

enum { XV_BROKEN_ARGS = 3, XV_NR_COUNTERS_MAX = 64 };

/*
 * A queue's state as others may look at it: in memory that its end shares
 * read-only. Written by the worker alone; each field is one relaxed store.
 */
struct xv_queue_stats {
    uint32_t broken; /* enum xv_broken */
    uint32_t broken_args[3];
    uint32_t tx_req; /* frontend: req_prod_pvt; backend: req_cons */
    uint32_t tx_rsp; /* frontend: rsp_cons; backend: rsp_prod_pvt */
    uint32_t rx_req;
    uint32_t rx_rsp;
    uint64_t counters[64]; /* by xv_counter_name() */
    uint32_t rx_stalled;   /* backend: 1 while the frontend posts no RX buffers */
    uint32_t settled;      /* 1: what xv_worker_settle() asked for is done */
};

/* Return: the counter's name, or NULL when there is no such one. */
const char *xv_counter_name(uint32_t counter);

/* Return: the format of a reason, for up to three unsigned arguments. */
const char *xv_broken_format(uint32_t broken);

/* The frontend's own pages and grants, by request id. */
struct xv_front_buffers {
    uint32_t tx_ring_frame;
    uint32_t rx_ring_frame;
    uint32_t tx_gref[256];
    uint32_t tx_frame[256];
    uint32_t rx_gref[256];
    uint32_t rx_frame[256];
};

/**
 * xv_front_queue_create() - Initialise both rings and post every RX buffer.
 * @io:		Copied
 * @table:	The domain's own; outlives the queue
 * @buffers:	Granted pages; copied
 * @peer:	What the backend can take; copied
 * @stats:	Zeroed; outlives the queue
 * @queue:	New object (output), for xv_queue_destroy()
 */
int xv_front_queue_create(const struct xv_queue_io *io, struct xv_gnttab *table,
                          const struct xv_front_buffers *buffers,
                          const struct xv_peer_features *peer,
                          struct xv_queue_stats *stats, struct xv_queue **queue);

/**
 * xv_back_queue_create() - Map both rings and take them up where they are.
 * @io:		Copied
 * @peer_table:	The frontend's; outlives the queue
 * @tx_ring_ref: Any number, it is checked
 * @rx_ring_ref: Any number, it is checked
 * @peer:	What the frontend can take; copied
 * @stats:	Zeroed; outlives the queue
 * @queue:	New object (output), for xv_queue_destroy()
 *
 * Return: 0, -ENOMEM, -EFAULT when a ring cannot be mapped, -EIO when a ring's
 * indices cannot be.
 */
int xv_back_queue_create(const struct xv_queue_io *io,
                         struct xv_gnttab_peer *peer_table, uint32_t tx_ring_ref,
                         uint32_t rx_ring_ref,
                         const struct xv_peer_features *peer,
                         struct xv_queue_stats *stats, struct xv_queue **queue);

/* Free a queue that no worker has; the backend's rings are unmapped. */
void xv_queue_destroy(struct xv_queue *queue);

/*
 * The four hops, in the order in which a frame meets them. Each moves at most
 * @budget frames and returns how many; the worker calls them, and tests.
 */
int xv_front_tx(struct xv_queue *queue, int budget);
int xv_back_tx(struct xv_queue *queue, int budget);
int xv_back_rx(struct xv_queue *queue, int budget);
int xv_front_rx(struct xv_queue *queue, int budget);

/*
 * Say what time it is, ms of CLOCK_MONOTONIC, and learn when the hops have to run
 * though nothing wakes them (UINT64_MAX: never): the worker, and tests.
 */
void xv_queue_set_now(struct xv_queue *queue, uint64_t now_ms);
uint64_t xv_queue_deadline(struct xv_queue *queue);

/**
 * xv_queue_set_credit() - Limit what a frontend sends, as netback does.
 * @queue:	A backend's, that no worker has; one that never was set has no limit
 * @bytes:	In each window, counted as whole frames; UINT64_MAX: no limit
 * @usec:	Length of a window, cut to milliseconds
 */
void xv_queue_set_credit(struct xv_queue *queue, uint64_t bytes, uint64_t usec);

/**
 * xv_queue_set_rx_timeouts() - How long frames wait for RX buffers.
 * @queue:	A backend's, that no worker has; nothing changes where the frontend does
 *		not notify: there it is 30 ms and never
 * @drain_ms:	Until they are dropped; 10,000 is netback's
 * @stall_ms:	Until the frontend counts as stalled, 0 never; 60,000 is netback's
 */
void xv_queue_set_rx_timeouts(struct xv_queue *queue, uint32_t drain_ms,
                              uint32_t stall_ms);

/* Say that the TAP may have a frame, or take one: the worker on EPOLLIN and
 * EPOLLOUT, and tests. */
void xv_queue_tap_ready(struct xv_queue *queue, bool readable, bool writable);

/**
 * xv_queue_arm() - Ask both rings to notify of what comes next.
 *
 * Return: true when something came meanwhile, so that the hops must run again.
 */
bool xv_queue_arm(struct xv_queue *queue);

/* ---- the thread that runs queues: worker.c ---- */

struct xv_worker;

/**
 * xv_worker_create() - Start a thread that sleeps until a queue has work.
 * @name:	For `ps -L`, at most 15 bytes
 * @cpu:	The one that it shares with its peer's worker, and stays on if it may, from the
 *		first order on; or -1: it runs where it likes
 * @poll_max_us: How long a queue is looked at, at most, before the thread sleeps
 * @worker:	New object (output), for xv_worker_destroy()
 */
int xv_worker_create(const char *name, int cpu, uint32_t poll_max_us,
                     struct xv_worker **worker);

/* End the thread; every queue must have been removed. */
void xv_worker_destroy(struct xv_worker *worker);

/*
 * An eventfd that becomes readable when a queue breaks, stalls, is stalled no more, or
 * is settled: its statistics say which. The worker's own.
 */
int xv_worker_changed_fd(struct xv_worker *worker);

/* Hand a queue to the worker; it is the worker's until xv_worker_remove() returns. */
int xv_worker_add(struct xv_worker *worker, struct xv_queue *queue);
int xv_worker_remove(struct xv_worker *worker, struct xv_queue *queue);

/* xv_queue_set_credit() while the worker has the queue. */
int xv_worker_set_credit(struct xv_worker *worker, struct xv_queue *queue,
                         uint64_t bytes, uint64_t usec);

/**
 * xv_worker_settle() - Have a queue read nothing more from its TAP, for good.
 * @worker:	Which has it
 * @queue:	Settled, as its statistics say, when all that its rings hold now is moved
 * @held:	Whether a backend is also to wait for the slots of a frame that it holds
 */
int xv_worker_settle(struct xv_worker *worker, struct xv_queue *queue, bool held);

/* ---- a XenStore ring page: xs_ring.c ---- */

/**
 * xv_xs_ring_read() - Take bytes of replies, as the domain.
 * @page:	struct xenstore_domain_interface
 * @data:	Room for @len bytes (output)
 *
 * Return: bytes taken, 0 when empty, -EIO when the indices cannot be.
 */
int xv_xs_ring_read(void *page, void *data, uint32_t len);

/**
 * xv_xs_ring_write() - Put bytes of requests, as the domain.
 *
 * Return: bytes put, 0 when full, -EIO when the indices cannot be.
 */
int xv_xs_ring_write(void *page, const void *data, uint32_t len);

/* One 32-bit word of the page at a byte offset, with acquire or release. */
uint32_t xv_xs_ring_load(const void *page, uint32_t offset);
void xv_xs_ring_store(void *page, uint32_t offset, uint32_t value);

/* ---- what a process may do: privileges.c ---- */

/**
 * xv_limit_capabilities() - Stay root with nothing but @capabilities.
 * @capabilities: One bit per capability number, 0 to 63
 *
 * No supplementary groups, and the rest as xv_drop_privileges(); for good.
 */
int xv_limit_capabilities(uint64_t capabilities);

/**
 * xv_drop_privileges() - Become user and group @uid with nothing but @capabilities.
 * @group:	The only supplementary group
 * @capabilities: One bit per capability number, 0 to 63
 *
 * Bounding set, no_new_privs and xv_keep_memory_private() as well; for good.
 */
int xv_drop_privileges(uint32_t uid, uint32_t group, uint64_t capabilities);

/* Nobody but root may look at the memory, and no core has it; until the next exec. */
int xv_keep_memory_private(void);

/* Be called @name (at most 15 bytes) where ps and top show a thread's name. */
int xv_set_name(const char *name);

/* Ask for @signal when the parent thread dies; dropping privileges forgets it. */
int xv_set_parent_death_signal(int signal);

/* ---- which system calls it may make: seccomp.c ---- */

enum xv_seccomp_list {
    XV_SECCOMP_ALLOWED,
    XV_SECCOMP_LIMITED, /* by an argument */
    XV_SECCOMP_KILLED,
    XV_SECCOMP_REFUSED, /* with EPERM, and without a line in the log */
};

/**
 * xv_seccomp_end() - From now on make no system call but those of an end.
 *
 * Of the killed ones the process dies; all others are EPERM. The kernel logs both, but
 * not the refused ones, nor clone3, which is ENOSYS. For all threads, and for good.
 *
 * Return: -EOPNOTSUPP on another processor than x86_64 and aarch64, and in a build
 * with a sanitizer; -EINVAL where the kernel has no filters.
 */
int xv_seccomp_end(void);

/* The same for the daemon, which may make any call that is not in the last two lists,
 * and exec: what it becomes may need others. */
int xv_seccomp_daemon(void);

/* The name of one call of a list, from 0; NULL behind the last one. */
const char *xv_seccomp_name(enum xv_seccomp_list list, uint32_t number);

#endif
