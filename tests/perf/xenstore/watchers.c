/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * watchers SOCKET CONNECTIONS WATCHES WRITES: one node is written and so many
 * connections, each with so many watches on it, are told; the time from the
 * write until the last event is received, us.
 */
#include <sys/epoll.h>

#include "raw.h"

#define EVENTS_MAX 256

static struct raw_client writer;
static struct raw_message msg;

/* Events among the messages that have come to @client. */
static size_t take_events(struct raw_client *client)
{
    size_t events = 0;

    raw_fill(client);
    while (raw_take(client, &msg)) {
        check(msg.head.type != XS_ERROR, msg.payload);
        if (msg.head.type == XS_WATCH_EVENT)
            events++;
    }
    return events;
}

/* Receive until @count events have come, over all connections. */
static void await_events(int epoll_fd, size_t count)
{
    struct epoll_event ready[EVENTS_MAX];
    size_t seen = 0;

    while (seen < count) {
        int found = epoll_wait(epoll_fd, ready, EVENTS_MAX, -1);

        check(found > 0, "epoll_wait");
        for (int i = 0; i < found; i++)
            seen += take_events(ready[i].data.ptr);
    }
    check(seen == count, "as many events as watches");
}

static void add_watcher(struct raw_client *client, const char *path,
                        int epoll_fd, size_t watches)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = client};

    raw_connect(client, path);
    for (size_t i = 0; i < watches; i++) {
        char token[24];

        snprintf(token, sizeof(token), "%zu", i);
        raw_watch(client, &msg, "/bench/watched", token);
    }
    check(epoll_ctl(epoll_fd, EPOLL_CTL_ADD, client->fd, &event) == 0,
          "epoll_ctl");
}

int main(int argc, char **argv)
{
    int epoll_fd = epoll_create1(0);
    size_t connections, watches, writes;
    struct raw_client *clients;
    uint64_t *ns;

    check(argc == 5, "watchers SOCKET CONNECTIONS WATCHES WRITES");
    connections = number(argv[2]);
    watches = number(argv[3]);
    writes = number(argv[4]);
    clients = calloc(connections, sizeof(*clients));
    ns = calloc(writes, sizeof(*ns));
    check(clients && ns && epoll_fd >= 0, "memory");
    raw_connect(&writer, argv[1]);
    raw_ask(&writer, &msg, XS_MKDIR, 0, LITERAL("/bench/watched"));
    for (size_t i = 0; i < connections; i++)
        add_watcher(&clients[i], argv[1], epoll_fd, watches);
    for (size_t i = 0; i < writes; i++) {
        uint64_t start = now_ns();

        raw_send(&writer, XS_WRITE, 0, PAIR("/bench/watched\0x"));
        await_events(epoll_fd, connections * watches);
        ns[i] = now_ns() - start;
        check(!raw_reply(&writer, &msg), "the write");
    }
    print_samples("last event", ns, writes);
    free(clients);
    free(ns);
    return 0;
}
