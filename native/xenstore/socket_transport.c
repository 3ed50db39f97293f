/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A client on a Unix stream socket. A request and its reply cost one call each to
 * receive and to send, and so does whatever is received and sent at once.
 *
 * While a client does not read its replies, its requests are not received. When it
 * is gone, what it had sent is still served, and then it is closed.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "io.h"

#define PIECES_MAX 64

#define EVENTS (EPOLLIN | EPOLLRDHUP | EPOLLET)

struct socket_client {
    struct xs_io_client client;
    bool readable; /* recv() may have something */
    bool closing;  /* the peer has sent all that it will */
    bool ended;    /* ... and all of that is received */
    bool blocked;  /* send() has no room */
    bool awaiting; /* EPOLLOUT, which tells when it has */
    bool deaf;     /* nobody receives what is sent */
};

static struct socket_client *socket_of(struct xs_io_client *client)
{
    return (struct socket_client *)client;
}

/* A client without a connection yet; @fd is closed when there is no memory. */
static int add_client(struct xv_xenstore *store, int fd, uint16_t domid,
                      struct xs_io_client **client)
{
    struct socket_client *new = calloc(1, sizeof(*new));
    int ret = -ENOMEM;

    if (!new)
        goto err;
    new->client.source.kind = XS_IO_SOCKET;
    new->client.source.fd = fd;
    ret = xs_io_watch(store, &new->client.source, EVENTS);
    if (ret < 0)
        goto err;
    xs_io_join(store, &new->client, domid);
    *client = &new->client;
    return 0;

err:
    free(new);
    close(fd);
    return ret;
}

int xs_socket_open(struct xv_xenstore *store, int fd, uint16_t domid,
                   bool privileged)
{
    struct xs_io_client *client;
    int ret = add_client(store, fd, domid, &client);

    if (ret < 0 || xs_io_connect(client, privileged))
        return ret;
    xs_socket_close(client);
    return -ENOMEM;
}

int xs_socket_restore(struct xv_xenstore *store, int fd, struct xs_conn *conn)
{
    struct xs_io_client *client;
    int ret = add_client(store, fd, xs_conn_domid(conn), &client);

    if (ret < 0)
        xs_engine_disconnect(store->engine, conn);
    else
        xs_io_connect_to(client, conn);
    return ret;
}

void xs_socket_close(struct xs_io_client *client)
{
    xs_io_part(client);
    xs_io_unwatch(client->store, &client->source);
    close(client->source.fd);
    xs_io_accept_again(client->store);
}

void xs_socket_event(struct xs_io_client *client, uint32_t events)
{
    struct socket_client *sock = socket_of(client);

    if (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR))
        sock->readable = true;
    if (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR))
        sock->closing = true;
    if (events & (EPOLLOUT | EPOLLHUP | EPOLLERR))
        sock->blocked = false;
    xs_io_activate(client);
}

/* Receive what there is room for, in one call. */
static void receive(struct socket_client *sock)
{
    struct xs_io_client *client = &sock->client;
    struct iovec iov;
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
    ssize_t len;

    iov.iov_len =
        xs_conn_room(client->store->engine, client->conn, &iov.iov_base);
    if (iov.iov_len == 0)
        return;
    len = recvmsg(client->source.fd, &msg, MSG_DONTWAIT);
    if (len > 0)
        xs_conn_received(client->store->engine, client->conn, (size_t)len);
    else if (len == 0 || (errno != EAGAIN && errno != EINTR))
        sock->ended = true;
    /*
     * Less than there was room for is all that there is; but not before the end,
     * nor where a message has descriptors, which are dropped: the kernel stops there.
     */
    if (sock->ended || (len < 0 && errno == EAGAIN) ||
        (len > 0 && (size_t)len < iov.iov_len && !sock->closing &&
         !(msg.msg_flags & MSG_CTRUNC)))
        sock->readable = false;
}

static size_t total(const struct iovec *iov, unsigned int count)
{
    size_t len = 0;

    for (unsigned int i = 0; i < count; i++)
        len += iov[i].iov_len;
    return len;
}

/*
 * EPOLLOUT is asked for only while there is no room: it would come with each reply
 * that the client takes.
 */
static void await_room(struct socket_client *sock, bool await)
{
    if (sock->awaiting == await)
        return;
    sock->awaiting = await;
    xs_io_rewatch(sock->client.store, &sock->client.source,
                  await ? EVENTS | EPOLLOUT : EVENTS);
}

/* Send all that waits, or as much as the kernel takes. */
static void send_output(struct socket_client *sock)
{
    struct xs_io_client *client = &sock->client;
    struct iovec iov[PIECES_MAX];
    struct msghdr msg = {.msg_iov = iov};
    unsigned int count;

    while (!sock->blocked &&
           (count = xs_conn_output(client->conn, iov, PIECES_MAX)) > 0) {
        size_t len = total(iov, count);
        ssize_t sent = (ssize_t)len;

        msg.msg_iovlen = count;
        if (!sock->deaf)
            sent = sendmsg(client->source.fd, &msg,
                           MSG_DONTWAIT | MSG_NOSIGNAL);
        if (sent >= 0)
            xs_conn_sent(client->store->engine, client->conn, (size_t)sent);
        if ((sent >= 0 && (size_t)sent < len) || (sent < 0 && errno == EAGAIN))
            sock->blocked = true;
        else if (sent < 0 && errno != EINTR)
            sock->deaf = true;
    }
    await_room(sock, sock->blocked);
}

/* Whether nothing is left to be done for the client. */
static bool is_done(const struct socket_client *sock)
{
    const struct xs_io_client *client = &sock->client;
    struct iovec iov;
    void *room;

    if (!xs_conn_alive(client->conn))
        return true;
    if (!sock->ended && !xs_conn_broken(client->conn))
        return false;
    return xs_conn_output(client->conn, &iov, 1) == 0 &&
           (xs_conn_broken(client->conn) ||
            xs_conn_room(client->store->engine, client->conn, &room) > 0);
}

bool xs_socket_flush(struct xs_io_client *client)
{
    struct socket_client *sock = socket_of(client);
    struct xs_engine *engine = client->store->engine;
    void *room;

    send_output(sock);
    if (is_done(sock)) {
        if (xs_conn_broken(client->conn))
            xs_engine_log_domain(
                engine, client->conn->domain, XS_LOG_PRINT,
                "XenStore client of domain %u: message too long",
                (unsigned int)client->domid);
        xs_socket_close(client);
        return false;
    }
    if (sock->blocked)
        return false;
    return xs_conn_ready(engine, client->conn) ||
           (sock->readable && xs_conn_room(engine, client->conn, &room) > 0);
}

bool xs_socket_turn(struct xs_io_client *client)
{
    struct socket_client *sock = socket_of(client);

    if (xs_conn_alive(client->conn) && !sock->blocked) {
        if (sock->readable)
            receive(sock);
        if (xs_conn_ready(client->store->engine, client->conn))
            xs_conn_serve(client->store->engine, client->conn, XS_IO_BUDGET);
    }
    return xs_socket_flush(client);
}
