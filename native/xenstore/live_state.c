/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What one process leaves to the next in a live update: every descriptor by its
 * number, with what its connection holds, as one sequence of records in a memfd. The
 * journal has all else. Ring pages are not in it: who has mapped them does so again,
 * and each is gone on with when it is added.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "io.h"

#define MAGIC 0x3165746174737678u /* "xvstate1" */

struct record {
    uint32_t kind; /* enum xs_io_kind; XS_IO_COMMAND is the end */
    int32_t fd;
    uint32_t domid;
    uint8_t privileged;
    uint8_t for_readers;
    uint8_t served;
    uint8_t reserved;
    uint32_t req_cons;
    uint32_t rsp_prod;
    uint64_t lost; /* records of the trace */
    uint64_t len;  /* of what follows */
};

/* ---- saving ---- */

static int save_client(struct xs_io_client *client, bool force,
                       struct xs_blob *blob)
{
    struct record record = {.kind = client->source.kind,
                            .fd = client->source.fd,
                            .domid = client->domid,
                            .served = client->conn != NULL};
    size_t at = blob->len;
    int ret;

    if (record.kind == XS_IO_RING)
        xs_ring_indices(client, &record.req_cons, &record.rsp_prod);
    ret = xs_blob_append(blob, &record, sizeof(record));
    if (ret == 0 && client->conn)
        ret = xs_conn_save(client->store->engine, client->conn, force, blob);
    if (ret < 0)
        return ret;
    record.len = blob->len - at - sizeof(record);
    memcpy(blob->data + at, &record, sizeof(record));
    return 0;
}

static int save_listener(const struct xs_io_listener *listener,
                         struct xs_blob *blob)
{
    struct record record = {.kind = XS_IO_LISTENER,
                            .fd = listener->source.fd,
                            .domid = listener->domid,
                            .privileged = listener->privileged,
                            .for_readers = listener->for_readers};

    return xs_blob_append(blob, &record, sizeof(record));
}

static int save_reader(const struct xs_io_reader *reader, struct xs_blob *blob)
{
    struct record record = {.kind = XS_IO_READER,
                            .fd = reader->source.fd,
                            .lost = reader->lost,
                            .len = reader->used};
    uint32_t first = XS_IO_TRACE_SIZE - reader->begin;
    int ret = xs_blob_append(blob, &record, sizeof(record));

    if (first > reader->used)
        first = reader->used;
    if (ret == 0)
        ret = xs_blob_append(blob, reader->buffer + reader->begin, first);
    return ret < 0 ? ret : xs_blob_append(blob, reader->buffer, reader->used - first);
}

static int save_all(struct xv_xenstore *store, bool force,
                    struct xs_blob *blob)
{
    const uint64_t magic = MAGIC;
    const struct record end = {.kind = XS_IO_COMMAND};
    const struct xs_io_listener *listener;
    const struct xs_io_reader *reader;
    struct xs_io_client *client;
    int ret = xs_blob_append(blob, &magic, sizeof(magic));

    LIST_FOREACH(client, &store->clients, link)
        if (ret == 0)
            ret = save_client(client, force, blob);
    LIST_FOREACH(listener, &store->listeners, link)
        if (ret == 0)
            ret = save_listener(listener, blob);
    LIST_FOREACH(reader, &store->readers, link)
        if (ret == 0)
            ret = save_reader(reader, blob);
    return ret == 0 ? xs_blob_append(blob, &end, sizeof(end)) : ret;
}

static int write_all(int fd, const struct xs_blob *blob)
{
    size_t done = 0;

    while (done < blob->len) {
        ssize_t len = write(fd, blob->data + done, blob->len - done);

        if (len < 0 && errno != EINTR)
            return -errno;
        if (len > 0)
            done += (size_t)len;
    }
    return 0;
}

static void set_inherited(const struct xv_xenstore *store, bool inherited)
{
    int flags = inherited ? 0 : FD_CLOEXEC;
    const struct xs_io_listener *listener;
    const struct xs_io_client *client;
    const struct xs_io_reader *reader;

    LIST_FOREACH(client, &store->clients, link)
        if (client->source.kind == XS_IO_SOCKET)
            fcntl(client->source.fd, F_SETFD, flags);
    LIST_FOREACH(listener, &store->listeners, link)
        fcntl(listener->source.fd, F_SETFD, flags);
    LIST_FOREACH(reader, &store->readers, link)
        fcntl(reader->source.fd, F_SETFD, flags);
}

int xv_xenstore_save(struct xv_xenstore *store, bool force)
{
    struct xs_blob blob = {0};
    int fd = -1;
    int ret;

    xs_io_stop(store);
    ret = save_all(store, force, &blob);
    if (ret == 0) {
        fd = memfd_create("xenstore", 0);
        ret = fd < 0 ? -errno : write_all(fd, &blob);
    }
    free(blob.data);
    if (ret == 0) {
        set_inherited(store, true);
        return fd;
    }
    if (fd >= 0)
        close(fd);
    /* A daemon whose store stands still is worse than one that starts again. */
    if (xs_io_start(store) < 0)
        abort();
    return ret;
}

int xv_xenstore_resume(struct xv_xenstore *store)
{
    set_inherited(store, false);
    return xs_io_start(store);
}

/* ---- restoring ---- */

static int restore_socket(struct xv_xenstore *store,
                          const struct record *record, const uint8_t *data)
{
    struct xs_conn *conn =
        xs_engine_restore(store->engine, data, record->len);

    if (conn)
        return xs_socket_restore(store, record->fd, conn);
    xs_engine_log(store->engine, XS_LOG_PRINT,
                  "a client of domain %u is lost in the update",
                  (unsigned int)record->domid);
    close(record->fd);
    return 0;
}

static int restore_ring(struct xv_xenstore *store, const struct record *record,
                        const uint8_t *data)
{
    struct xs_io_saved_ring *saved = calloc(1, sizeof(*saved));

    if (!saved)
        return -ENOMEM;
    saved->domid = (uint16_t)record->domid;
    saved->req_cons = record->req_cons;
    saved->rsp_prod = record->rsp_prod;
    if (record->served)
        saved->conn = xs_engine_restore(store->engine, data, record->len);
    if (record->served && !saved->conn) {
        /* Then it is added as one that a dead process has left. */
        xs_engine_log(store->engine, XS_LOG_PRINT,
                      "the ring of domain %u is lost in the update",
                      record->domid);
        free(saved);
        return 0;
    }
    SLIST_INSERT_HEAD(&store->saved_rings, saved, link);
    return 0;
}

static int restore_reader(struct xv_xenstore *store,
                          const struct record *record, const uint8_t *data)
{
    struct xs_io_reader *reader;

    /* One that cannot be gone on with is closed by this, and stops no update. */
    if (xs_trace_open(store, record->fd) < 0 || record->len > XS_IO_TRACE_SIZE)
        return 0;
    reader = LIST_FIRST(&store->readers);
    memcpy(reader->buffer, data, record->len);
    reader->used = (uint32_t)record->len;
    reader->lost = record->lost;
    return 0;
}

static int restore_record(struct xv_xenstore *store,
                          const struct record *record, const uint8_t *data)
{
    uint16_t domid = (uint16_t)record->domid;

    if (record->kind != XS_IO_RING &&
        fcntl(record->fd, F_SETFD, FD_CLOEXEC) < 0)
        return -errno;
    switch (record->kind) {
    case XS_IO_SOCKET:
        return restore_socket(store, record, data);
    case XS_IO_RING:
        return restore_ring(store, record, data);
    case XS_IO_READER:
        return restore_reader(store, record, data);
    case XS_IO_LISTENER:
        return record->for_readers
                   ? xs_io_listen_for_readers(store, record->fd)
                   : xs_io_listen(store, record->fd, domid,
                                  record->privileged);
    default:
        return -EILSEQ;
    }
}

static int restore_all(struct xv_xenstore *store, const uint8_t *data,
                       size_t len)
{
    const uint64_t magic = MAGIC;
    size_t at = sizeof(magic);
    struct record record;
    int ret = 0;

    if (len < at || memcmp(data, &magic, at) != 0)
        return -EILSEQ;
    while (ret == 0) {
        if (len - at < sizeof(record))
            return -EILSEQ;
        memcpy(&record, data + at, sizeof(record));
        at += sizeof(record);
        if (record.kind == XS_IO_COMMAND)
            return 0;
        if (len - at < record.len)
            return -EILSEQ;
        ret = restore_record(store, &record, data + at);
        at += record.len;
    }
    return ret;
}

int xs_io_restore(struct xv_xenstore *store, int fd)
{
    off_t len = lseek(fd, 0, SEEK_END);
    void *data;
    int ret;

    if (len <= 0)
        return len < 0 ? -errno : -EILSEQ;
    data = mmap(NULL, (size_t)len, PROT_READ, MAP_PRIVATE, fd, 0);
    if (data == MAP_FAILED)
        return -errno;
    ret = restore_all(store, data, (size_t)len);
    munmap(data, (size_t)len);
    return ret;
}

bool xs_io_take_saved_ring(struct xv_xenstore *store, uint16_t domid,
                           struct xs_io_saved_ring *ring)
{
    struct xs_io_saved_ring *saved;

    SLIST_FOREACH(saved, &store->saved_rings, link) {
        if (saved->domid != domid)
            continue;
        *ring = *saved;
        SLIST_REMOVE(&store->saved_rings, saved, xs_io_saved_ring, link);
        free(saved);
        return true;
    }
    return false;
}
