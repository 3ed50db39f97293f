/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The store as a thread: Unix sockets and ring pages in front of engine.h, in the
 * subset of C that cffi's cdef reads. Any thread may call; a call is done when it
 * returns. Functions return 0 or -errno.
 */
#ifndef XV_XENSTORE_SERVER_H
#define XV_XENSTORE_SERVER_H

#include <stdbool.h>
#include <stdint.h>

#include "abi/xs_wire.h"

struct xv_xenstore;

/* Where a journal is damaged. */
struct xv_xenstore_damage {
    uint64_t at;      /* byte of the file */
    const char *what; /* is wrong there; NULL if that is not known */
};

/**
 * xv_xenstore_create() - A store, and the thread that serves it.
 * @journal:	File that outlives the process, read first; NULL: nothing is kept
 * @state_fd:	What xv_xenstore_save() returned in the process that this one was;
 *		stays the caller's; -1: none
 * @store:	New object (output), for xv_xenstore_destroy()
 * @damage:	Set for -EILSEQ (output)
 *
 * Connections go on where the last process has stopped; a ring does when its page is
 * added again.
 *
 * Return: 0; -EBUSY when another process has the journal; -EILSEQ when it is
 * damaged, or @state_fd holds something else; -errno.
 */
int xv_xenstore_create(const char *journal, int state_fd,
                       struct xv_xenstore **store,
                       struct xv_xenstore_damage *damage);

/* End the thread and close every connection; what the journal has stays there. */
void xv_xenstore_destroy(struct xv_xenstore *store);

/* ---- from one process to the next ---- */

/**
 * xv_xenstore_save() - Stop, and write down all that the next process needs.
 * @force:	End every transaction, if there is a next process
 *
 * Every descriptor of the store is inherited by execve() from now on, under its
 * number. The store does nothing more until xv_xenstore_resume().
 *
 * Return: a memfd, the caller's, for xv_xenstore_create(); -EBUSY while a client
 * has a transaction or waits for an upcall other than LIVE_UPDATE, and the store goes
 * on; -errno.
 */
int xv_xenstore_save(struct xv_xenstore *store, bool force);

/* Go on, because there is no next process; it is closed on execve() again. */
int xv_xenstore_resume(struct xv_xenstore *store);

/* ---- who is served ---- */

/*
 * Serve who connects to @fd, a listening Unix stream socket, or @fd itself, a
 * connected one, as domain @domid. The descriptor is the store's from now on, even
 * if the call fails.
 */
int xv_xenstore_listen(struct xv_xenstore *store, int fd, uint16_t domid,
                       bool privileged);
int xv_xenstore_adopt(struct xv_xenstore *store, int fd, uint16_t domid,
                      bool privileged);

/* Connected sockets that speak as @domid. */
uint32_t xv_xenstore_sockets(struct xv_xenstore *store, uint16_t domid);

/**
 * xv_xenstore_add_ring() - Serve a domain's ring page from where its indices are.
 * @page:	struct xenstore_domain_interface; stays the caller's, until the ring
 *		is removed
 * @pending_fd:	Eventfd that the domain notifies; stays the caller's
 * @notify_fd:	Eventfd that notifies the domain; stays the caller's
 * @served:	A process that left nothing to us has served it: a message may be cut,
 *		and watches are gone; the domain is to connect again, by error 1
 *
 * Return: 0; -EEXIST when the domain has a ring already; -errno.
 */
int xv_xenstore_add_ring(struct xv_xenstore *store, uint16_t domid, void *page,
                         int pending_fd, int notify_fd, bool served);

/*
 * Begin anew with a ring: its indices are 0, what waited in it is dropped, and so
 * are the domain's watches and transactions there. -ENOENT without a ring.
 */
int xv_xenstore_reset_ring(struct xv_xenstore *store, uint16_t domid);

/* Leave the page alone; nothing happens without a ring. */
void xv_xenstore_remove_ring(struct xv_xenstore *store, uint16_t domid);

/* ---- domains ---- */

/* There is such a domain from now on: permissions may name it. */
int xv_xenstore_domain_created(struct xv_xenstore *store, uint16_t domid);

/* The domain is gone, with its connections, its ring, its nodes and its rights. */
void xv_xenstore_domain_dead(struct xv_xenstore *store, uint16_t domid);

bool xv_xenstore_introduced(struct xv_xenstore *store, uint16_t domid);

/*
 * The domids that the store knows of; with a journal also those that the last process
 * knew of. Up to @max are copied; returns how many there are.
 */
uint32_t xv_xenstore_domains(struct xv_xenstore *store, uint16_t *domids,
                             uint32_t max);

/* How many nodes there are. */
uint64_t xv_xenstore_nodes(struct xv_xenstore *store);

/* ---- what somebody else has to do ---- */

enum xv_xenstore_upcall_kind {
    XV_XENSTORE_INTRODUCE = 1, /* serve the ring page; or begin anew with it */
    XV_XENSTORE_RELEASE,       /* stop serving the ring page */
    XV_XENSTORE_LIVE_UPDATE,   /* replace this process */
    XV_XENSTORE_LOG,           /* write a line to the log; nobody waits */
};

/* A request that waits for xv_xenstore_answer(), or a line to be logged. */
struct xv_xenstore_upcall {
    uint64_t conn_id;
    uint32_t kind;
    uint32_t domid;
    uint64_t gfn;
    uint32_t evtchn;
    uint32_t text_len;
    char text[4096]; /* LIVE_UPDATE: the parameters, each ended by a NUL; LOG */
};

/* An eventfd, readable when there is an upcall. The store's own. */
int xv_xenstore_upcall_fd(struct xv_xenstore *store);

/* The next one, taken away; false if there is none. */
bool xv_xenstore_next_upcall(struct xv_xenstore *store,
                             struct xv_xenstore_upcall *upcall);

/* Let the request end, with 0 or an errno; nothing happens if its client has gone. */
void xv_xenstore_answer(struct xv_xenstore *store, uint64_t conn_id, int error);

/* ---- trace ---- */

/*
 * A trace is a sequence of records in the order in which the store did what they
 * say, from the moment at which its reader connected. A record is this header,
 * little endian and without padding, and then @msg.len bytes: the message's payload.
 */
struct xv_xenstore_trace {
    uint64_t time_ns; /* CLOCK_REALTIME */
    uint64_t conn_id; /* never used twice by one store */
    uint32_t domid;   /* that the connection speaks as */
    uint32_t kind;    /* enum xv_xenstore_trace_kind */
    struct xsd_sockmsg msg; /* zeros for CONNECT, DISCONNECT and LOST */
};

enum xv_xenstore_trace_kind {
    XV_XENSTORE_TRACE_CONNECT = 1,
    XV_XENSTORE_TRACE_DISCONNECT,
    XV_XENSTORE_TRACE_REQUEST,
    XV_XENSTORE_TRACE_REPLY,
    XV_XENSTORE_TRACE_EVENT,
    XV_XENSTORE_TRACE_LOST, /* payload: u64, records that a slow reader lost */
};

/*
 * Give the trace to whoever connects to @fd, a listening Unix stream socket, the
 * store's from now on. A reader that is more than 4 MiB behind loses records.
 */
int xv_xenstore_trace(struct xv_xenstore *store, int fd);

#endif
