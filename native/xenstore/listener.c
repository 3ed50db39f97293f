/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Sockets that listen, for clients or for readers of the trace.
 *
 * Without descriptors nobody can be accepted, and epoll would say so for ever: all
 * listening stops until a client has closed, or for a second. It is logged once
 * for each time that it begins.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "io.h"

/* Connections that are accepted before the clients get their turn. */
#define ACCEPT_BUDGET 64

#define PAUSE_MS 1000u

/* Connections of one unprivileged domain by its sockets: they are descriptors. */
#define DOMAIN_CONNECTIONS_MAX 64u

static int add_listener(struct xv_xenstore *store,
                        const struct xs_io_listener *settings)
{
    struct xs_io_listener *listener = malloc(sizeof(*listener));
    int fd = settings->source.fd;
    int ret = -ENOMEM;

    if (!listener)
        goto err;
    *listener = *settings;
    listener->source.kind = XS_IO_LISTENER;
    if (fcntl(fd, F_SETFL, O_RDWR | O_NONBLOCK) < 0)
        ret = -errno;
    else
        ret = xs_io_watch(store, &listener->source, EPOLLIN);
    if (ret < 0)
        goto err;
    LIST_INSERT_HEAD(&store->listeners, listener, link);
    return 0;

err:
    free(listener);
    close(fd);
    return ret;
}

int xs_io_listen(struct xv_xenstore *store, int fd, uint16_t domid,
                 bool privileged)
{
    struct xs_io_listener settings = {
        .source.fd = fd, .domid = domid, .privileged = privileged};

    return add_listener(store, &settings);
}

int xs_io_listen_for_readers(struct xv_xenstore *store, int fd)
{
    struct xs_io_listener settings = {.source.fd = fd, .for_readers = true};

    return add_listener(store, &settings);
}

static void listen_for(struct xv_xenstore *store, uint32_t events)
{
    struct xs_io_listener *listener;

    LIST_FOREACH(listener, &store->listeners, link)
        xs_io_rewatch(store, &listener->source, events);
}

static void pause_all(struct xv_xenstore *store, int error)
{
    if (!store->accept_failed)
        xs_engine_log(store->engine, XS_LOG_PRINT,
                      "XenStore cannot accept: %s", strerror(error));
    store->accept_failed = true;
    store->accept_at_ms = store->now_ms + PAUSE_MS;
    listen_for(store, 0);
}

void xs_io_accept_again(struct xv_xenstore *store)
{
    if (store->accept_at_ms == UINT64_MAX)
        return;
    store->accept_at_ms = UINT64_MAX;
    listen_for(store, EPOLLIN);
}

uint32_t xs_io_sockets_of(const struct xv_xenstore *store, uint16_t domid)
{
    const struct xs_io_client *client;
    uint32_t count = 0;

    LIST_FOREACH(client, &store->clients, link)
        if (client->source.kind == XS_IO_SOCKET && client->domid == domid)
            count++;
    return count;
}

void xs_io_accept(struct xv_xenstore *store, struct xs_io_listener *listener)
{
    for (int i = 0; i < ACCEPT_BUDGET; i++) {
        int fd = accept4(listener->source.fd, NULL, NULL,
                         SOCK_CLOEXEC | SOCK_NONBLOCK);

        if (fd < 0) {
            if (errno == EMFILE || errno == ENFILE || errno == ENOMEM ||
                errno == ENOBUFS)
                pause_all(store, errno);
            else if (errno == EAGAIN)
                store->accept_failed = false;
            return;
        }
        if (listener->for_readers)
            xs_trace_open(store, fd);
        else if (!listener->privileged &&
                 xs_io_sockets_of(store, listener->domid) >=
                     DOMAIN_CONNECTIONS_MAX)
            close(fd);
        else
            xs_socket_open(store, fd, listener->domid, listener->privileged);
    }
}

void xs_io_close_listeners(struct xv_xenstore *store)
{
    struct xs_io_listener *listener;

    while ((listener = LIST_FIRST(&store->listeners)) != NULL) {
        LIST_REMOVE(listener, link);
        xs_io_unwatch(store, &listener->source);
        close(listener->source.fd);
    }
}
