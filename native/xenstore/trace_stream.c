/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The trace: what the engine does, as records for everybody who has connected to
 * read them. server.h has their form. The engine is asked for it only while there
 * is a reader.
 *
 * Each reader has a buffer of its own. What does not fit there is counted, and the
 * count comes first when there is room again.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "io.h"

#define EVENTS (EPOLLET) /* and EPOLLHUP, which is always told */

_Static_assert(sizeof(struct xv_xenstore_trace) == 40, "no padding");
_Static_assert((int)XV_XENSTORE_TRACE_CONNECT == XS_TRACE_CONNECT &&
                   (int)XV_XENSTORE_TRACE_DISCONNECT == XS_TRACE_DISCONNECT &&
                   (int)XV_XENSTORE_TRACE_REQUEST == XS_TRACE_REQUEST &&
                   (int)XV_XENSTORE_TRACE_REPLY == XS_TRACE_REPLY &&
                   (int)XV_XENSTORE_TRACE_EVENT == XS_TRACE_EVENT,
               "the engine's kinds are passed on");

static void append(struct xs_io_reader *reader, const void *data, uint32_t len)
{
    uint32_t at = (reader->begin + reader->used) % XS_IO_TRACE_SIZE;
    uint32_t first = XS_IO_TRACE_SIZE - at;

    if (first > len)
        first = len;
    if (len > 0) {
        memcpy(reader->buffer + at, data, first);
        memcpy(reader->buffer, (const uint8_t *)data + first, len - first);
    }
    reader->used += len;
}

static uint64_t clock_ns(void)
{
    struct timespec at;

    clock_gettime(CLOCK_REALTIME, &at);
    return (uint64_t)at.tv_sec * 1000000000u + (uint64_t)at.tv_nsec;
}

/*
 * Say how many records are missing here; not before half of what waits is read, so
 * that much is missing in few places. Return: whether none is missing.
 */
static bool append_lost(struct xs_io_reader *reader)
{
    struct xv_xenstore_trace record = {
        .kind = XV_XENSTORE_TRACE_LOST, .msg.len = sizeof(reader->lost)};

    if (reader->lost == 0)
        return true;
    if (reader->used > XS_IO_TRACE_SIZE / 2)
        return false;
    record.time_ns = clock_ns();
    append(reader, &record, sizeof(record));
    append(reader, &reader->lost, sizeof(reader->lost));
    reader->lost = 0;
    return true;
}

static void record(void *ctx, const struct xs_conn *conn,
                   enum xs_trace_kind kind, const struct xsd_sockmsg *msg,
                   const void *payload)
{
    struct xv_xenstore *store = ctx;
    struct xv_xenstore_trace header = {.time_ns = clock_ns(),
                                       .conn_id = xs_conn_id(conn),
                                       .domid = xs_conn_domid(conn),
                                       .kind = kind};
    struct xs_io_reader *reader;

    if (msg)
        header.msg = *msg;
    LIST_FOREACH(reader, &store->readers, link) {
        if (!append_lost(reader) ||
            XS_IO_TRACE_SIZE - reader->used < sizeof(header) + header.msg.len) {
            reader->lost++;
            continue;
        }
        append(reader, &header, sizeof(header));
        append(reader, payload, header.msg.len);
    }
}

int xs_trace_open(struct xv_xenstore *store, int fd)
{
    struct xs_io_reader *new = calloc(1, sizeof(*new));
    int ret = -ENOMEM;

    if (!new)
        goto err;
    new->source.kind = XS_IO_READER;
    new->source.fd = fd;
    /* Touched, and so taken, as far as it is used. */
    new->buffer = malloc(XS_IO_TRACE_SIZE);
    if (!new->buffer)
        goto err;
    ret = xs_io_watch(store, &new->source, EVENTS);
    if (ret < 0)
        goto err;
    LIST_INSERT_HEAD(&store->readers, new, link);
    xs_engine_set_trace(store->engine, record, store);
    return 0;

err:
    if (new)
        free(new->buffer);
    free(new);
    close(fd);
    return ret;
}

static void close_reader(struct xv_xenstore *store, struct xs_io_reader *reader)
{
    LIST_REMOVE(reader, link);
    if (LIST_EMPTY(&store->readers))
        xs_engine_set_trace(store->engine, NULL, NULL);
    xs_io_unwatch(store, &reader->source);
    close(reader->source.fd);
    free(reader->buffer);
    xs_io_accept_again(store);
}

void xs_trace_event(struct xv_xenstore *store, struct xs_io_reader *reader,
                    uint32_t events)
{
    if (events & (EPOLLHUP | EPOLLERR))
        close_reader(store, reader);
    else
        reader->blocked = false;
}

/* Send what the kernel takes. Return: 0; -errno when the reader has gone. */
static int send_records(struct xs_io_reader *reader)
{
    while (reader->used > 0) {
        uint32_t first = XS_IO_TRACE_SIZE - reader->begin;
        struct iovec iov[2] = {{reader->buffer + reader->begin, first},
                               {reader->buffer, reader->used - first}};
        struct msghdr msg = {.msg_iov = iov, .msg_iovlen = 2};
        ssize_t sent;

        if (reader->used <= first) {
            iov[0].iov_len = reader->used;
            msg.msg_iovlen = 1;
        }
        sent = sendmsg(reader->source.fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (sent < 0)
            return -errno;
        reader->used -= (uint32_t)sent;
        reader->begin = (reader->begin + (uint32_t)sent) % XS_IO_TRACE_SIZE;
        if (reader->used == 0)
            append_lost(reader);
    }
    reader->begin = 0;
    return 0;
}

static void flush(struct xv_xenstore *store, struct xs_io_reader *reader)
{
    int ret = send_records(reader);

    reader->blocked = ret == -EAGAIN;
    if (ret < 0 && ret != -EAGAIN && ret != -EINTR) {
        close_reader(store, reader);
    } else if (reader->awaiting != reader->blocked) {
        reader->awaiting = reader->blocked;
        xs_io_rewatch(store, &reader->source,
                      reader->awaiting ? EVENTS | EPOLLOUT : EVENTS);
    }
}

void xs_trace_flush(struct xv_xenstore *store)
{
    struct xs_io_reader *reader, *next;

    for (reader = LIST_FIRST(&store->readers); reader; reader = next) {
        next = LIST_NEXT(reader, link);
        if (reader->used > 0 && !reader->blocked)
            flush(store, reader);
    }
}

void xs_trace_close_all(struct xv_xenstore *store)
{
    struct xs_io_reader *reader;

    while ((reader = LIST_FIRST(&store->readers)) != NULL)
        close_reader(store, reader);
}
