/* SPDX-License-Identifier: BSD-2-Clause */
/* What others may ask of a store; the lock makes each call one step. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "io.h"
#include "journal.h"

_Static_assert(sizeof(struct xv_xenstore_upcall) == sizeof(struct xs_upcall) &&
                   (int)XV_XENSTORE_INTRODUCE == XS_UPCALL_INTRODUCE &&
                   (int)XV_XENSTORE_RELEASE == XS_UPCALL_RELEASE &&
                   (int)XV_XENSTORE_LIVE_UPDATE == XS_UPCALL_LIVE_UPDATE &&
                   (int)XV_XENSTORE_LOG == XS_UPCALL_LOG,
               "the engine's upcalls are passed on");

/* ---- making and ending ---- */

static int open_engine(struct xv_xenstore *store, const char *path,
                       struct xv_xenstore_damage *damage)
{
    struct xs_journal_damage found = {0};
    struct xs_journal *journal;
    int ret;

    store->engine = xs_engine_new();
    if (!store->engine)
        return -ENOMEM;
    if (!path)
        return 0;
    ret = xs_journal_open(path, &journal, &found);
    damage->at = found.at;
    damage->what = found.what;
    return ret < 0 ? ret : xs_engine_use_journal(store->engine, journal);
}

static int open_fds(struct xv_xenstore *store)
{
    store->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    store->upcall_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    store->command.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (store->epoll_fd < 0 || store->upcall_fd < 0 || store->command.fd < 0)
        return -errno;
    store->command.kind = XS_IO_COMMAND;
    return xs_io_watch(store, &store->command, EPOLLIN | EPOLLET);
}

static void close_client(struct xs_io_client *client)
{
    if (client->source.kind == XS_IO_RING)
        xs_ring_close(client);
    else
        xs_socket_close(client);
}

static void close_everything(struct xv_xenstore *store)
{
    struct xs_io_client *client;
    struct xs_io_saved_ring *saved;

    xs_io_close_listeners(store);
    while ((client = LIST_FIRST(&store->clients)) != NULL)
        close_client(client);
    while ((saved = SLIST_FIRST(&store->saved_rings)) != NULL) {
        SLIST_REMOVE_HEAD(&store->saved_rings, link);
        free(saved);
    }
    xs_trace_flush(store);
    xs_trace_close_all(store);
    xs_io_free_closed(store);
}

/* Free what there is of a store whose thread does not run. */
static void free_store(struct xv_xenstore *store)
{
    close_everything(store);
    if (store->epoll_fd >= 0)
        close(store->epoll_fd);
    if (store->upcall_fd >= 0)
        close(store->upcall_fd);
    if (store->command.fd >= 0)
        close(store->command.fd);
    if (store->engine)
        xs_engine_free(store->engine);
    pthread_mutex_destroy(&store->lock);
    pthread_mutex_destroy(&store->gate);
    free(store);
}

static struct xv_xenstore *alloc_store(void)
{
    struct xv_xenstore *new = calloc(1, sizeof(*new));

    if (!new)
        return NULL;
    pthread_mutex_init(&new->gate, NULL);
    pthread_mutex_init(&new->lock, NULL);
    new->epoll_fd = new->upcall_fd = new->command.fd = -1;
    new->accept_at_ms = new->listen_at_ms = UINT64_MAX;
    TAILQ_INIT(&new->active);
    return new;
}

int xv_xenstore_create(const char *journal, int state_fd,
                       struct xv_xenstore **store,
                       struct xv_xenstore_damage *damage)
{
    struct xv_xenstore *new = alloc_store();
    int ret;

    if (!new)
        return -ENOMEM;
    ret = open_engine(new, journal, damage);
    if (ret == 0)
        ret = open_fds(new);
    if (ret == 0 && state_fd >= 0)
        ret = xs_io_restore(new, state_fd);
    if (ret == 0)
        ret = xs_io_start(new);
    if (ret < 0) {
        free_store(new);
        return ret;
    }
    *store = new;
    return 0;
}

void xv_xenstore_destroy(struct xv_xenstore *store)
{
    if (!store)
        return;
    xs_io_stop(store);
    free_store(store);
}

/* ---- who is served ---- */

int xv_xenstore_listen(struct xv_xenstore *store, int fd, uint16_t domid,
                       bool privileged)
{
    int ret;

    xs_io_enter(store);
    ret = xs_io_listen(store, fd, domid, privileged);
    xs_io_leave(store);
    return ret;
}

int xv_xenstore_trace(struct xv_xenstore *store, int fd)
{
    int ret;

    xs_io_enter(store);
    ret = xs_io_listen_for_readers(store, fd);
    xs_io_leave(store);
    return ret;
}

int xv_xenstore_adopt(struct xv_xenstore *store, int fd, uint16_t domid,
                      bool privileged)
{
    int ret;

    xs_io_enter(store);
    ret = xs_socket_open(store, fd, domid, privileged);
    xs_io_leave_changed(store);
    return ret;
}

uint32_t xv_xenstore_sockets(struct xv_xenstore *store, uint16_t domid)
{
    uint32_t count;

    xs_io_enter(store);
    count = xs_io_sockets_of(store, domid);
    xs_io_leave(store);
    return count;
}

static struct xs_io_client *find_ring(struct xv_xenstore *store, uint16_t domid)
{
    struct xs_io_client *client;

    LIST_FOREACH(client, &store->clients, link)
        if (client->source.kind == XS_IO_RING && client->domid == domid)
            return client;
    return NULL;
}

int xv_xenstore_add_ring(struct xv_xenstore *store, uint16_t domid, void *page,
                         int pending_fd, int notify_fd, bool served)
{
    struct evtchn evtchn = {
        .end = {.pending_fd = pending_fd, .notify_fd = notify_fd}};
    int ret = -EEXIST;

    xs_io_enter(store);
    if (!find_ring(store, domid))
        ret = xs_ring_open(store, domid, page, &evtchn, served);
    xs_io_leave_changed(store);
    return ret;
}

int xv_xenstore_reset_ring(struct xv_xenstore *store, uint16_t domid)
{
    struct xs_io_client *client;
    int ret = -ENOENT;

    xs_io_enter(store);
    client = find_ring(store, domid);
    if (client)
        ret = xs_ring_reset(client);
    xs_io_leave_changed(store);
    return ret;
}

static void close_ring(struct xv_xenstore *store, uint16_t domid)
{
    struct xs_io_client *client = find_ring(store, domid);
    struct xs_io_saved_ring saved;

    if (client)
        xs_ring_close(client);
    else if (xs_io_take_saved_ring(store, domid, &saved) && saved.conn)
        xs_engine_disconnect(store->engine, saved.conn);
}

void xv_xenstore_remove_ring(struct xv_xenstore *store, uint16_t domid)
{
    xs_io_enter(store);
    close_ring(store, domid);
    xs_io_leave_changed(store);
}

/* ---- domains ---- */

int xv_xenstore_domain_created(struct xv_xenstore *store, uint16_t domid)
{
    int ret;

    xs_io_enter(store);
    ret = xs_engine_domain_created(store->engine, domid);
    xs_io_leave_changed(store);
    return ret;
}

void xv_xenstore_domain_dead(struct xv_xenstore *store, uint16_t domid)
{
    xs_io_enter(store);
    close_ring(store, domid);
    xs_engine_domain_dead(store->engine, domid);
    xs_io_leave_changed(store);
}

bool xv_xenstore_introduced(struct xv_xenstore *store, uint16_t domid)
{
    bool introduced;

    xs_io_enter(store);
    introduced = xs_engine_introduced(store->engine, domid);
    xs_io_leave(store);
    return introduced;
}

uint32_t xv_xenstore_domains(struct xv_xenstore *store, uint16_t *domids,
                             uint32_t max)
{
    size_t count;

    xs_io_enter(store);
    count = xs_engine_domains(store->engine, domids, max);
    xs_io_leave(store);
    return (uint32_t)count;
}

uint64_t xv_xenstore_nodes(struct xv_xenstore *store)
{
    size_t count;

    xs_io_enter(store);
    count = xs_engine_nodes(store->engine);
    xs_io_leave(store);
    return count;
}

/* ---- upcalls ---- */

static void unsignal_fd(int fd)
{
    uint64_t count;

    if (read(fd, &count, sizeof(count)) < 0)
        return;
}

int xv_xenstore_upcall_fd(struct xv_xenstore *store)
{
    return store->upcall_fd;
}

bool xv_xenstore_next_upcall(struct xv_xenstore *store,
                             struct xv_xenstore_upcall *upcall)
{
    bool found;

    xs_io_enter(store);
    found = store->has_upcall;
    if (found) {
        memcpy(upcall, &store->upcall, sizeof(*upcall));
        store->has_upcall =
            xs_engine_next_upcall(store->engine, &store->upcall);
    }
    if (!store->has_upcall)
        unsignal_fd(store->upcall_fd);
    xs_io_leave(store);
    return found;
}

void xv_xenstore_answer(struct xv_xenstore *store, uint64_t conn_id, int error)
{
    xs_io_enter(store);
    xs_engine_answer(store->engine, conn_id, error);
    xs_io_leave_changed(store);
}
