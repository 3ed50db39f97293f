/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The thinnest client of XenStore's socket: a request is one send(), a reply
 * mostly one recv(), so that what is measured is the store. An error ends the
 * program.
 */
#ifndef PERF_XENSTORE_RAW_H
#define PERF_XENSTORE_RAW_H

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "abi/xs_wire.h"

#define PAYLOAD_MAX 4096

struct raw_client {
    int fd;
    size_t have;
    char in[sizeof(struct xsd_sockmsg) + PAYLOAD_MAX];
};

struct raw_message {
    struct xsd_sockmsg head;
    char payload[PAYLOAD_MAX + 1]; /* ended by a NUL that is not sent */
};

static inline void check(bool good, const char *what)
{
    if (!good) {
        fprintf(stderr, "%s: %s\n", what, strerror(errno));
        exit(1);
    }
}

static inline uint64_t now_ns(void)
{
    struct timespec at;

    clock_gettime(CLOCK_MONOTONIC, &at);
    return (uint64_t)at.tv_sec * 1000000000u + (uint64_t)at.tv_nsec;
}

static inline void raw_connect(struct raw_client *client, const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};

    check(strlen(path) < sizeof(address.sun_path), path);
    strcpy(address.sun_path, path);
    client->have = 0;
    client->fd = socket(AF_UNIX, SOCK_STREAM, 0);
    check(client->fd >= 0, "socket");
    check(connect(client->fd, (struct sockaddr *)&address,
                  sizeof(address)) == 0,
          path);
}

/* Put a request into @out, which has room for it; returns its length. */
static inline size_t raw_encode(void *out, uint32_t type, uint32_t tx_id,
                                const void *payload, size_t len)
{
    struct xsd_sockmsg head = {
        .type = type, .tx_id = tx_id, .len = (uint32_t)len};

    memcpy(out, &head, sizeof(head));
    memcpy((char *)out + sizeof(head), payload, len);
    return sizeof(head) + len;
}

static inline void raw_send(struct raw_client *client, uint32_t type,
                            uint32_t tx_id, const void *payload, size_t len)
{
    char out[sizeof(struct xsd_sockmsg) + PAYLOAD_MAX];
    size_t total = raw_encode(out, type, tx_id, payload, len);

    check(send(client->fd, out, total, MSG_NOSIGNAL) == (ssize_t)total, "send");
}

/* Take the next message out of what was received; false if it is not whole. */
static inline bool raw_take(struct raw_client *client, struct raw_message *msg)
{
    size_t len;

    if (client->have < sizeof(msg->head))
        return false;
    memcpy(&msg->head, client->in, sizeof(msg->head));
    check(msg->head.len <= PAYLOAD_MAX, "the length of a message");
    len = sizeof(msg->head) + msg->head.len;
    if (client->have < len)
        return false;
    memcpy(msg->payload, client->in + sizeof(msg->head), msg->head.len);
    msg->payload[msg->head.len] = '\0';
    client->have -= len;
    memmove(client->in, client->in + len, client->have);
    return true;
}

static inline void raw_fill(struct raw_client *client)
{
    ssize_t len = recv(client->fd, client->in + client->have,
                       sizeof(client->in) - client->have, 0);

    check(len > 0, "recv");
    client->have += (size_t)len;
}

/* Wait for the next reply or event. */
static inline void raw_receive(struct raw_client *client,
                               struct raw_message *msg)
{
    while (!raw_take(client, msg))
        raw_fill(client);
}

/* Wait for the reply, past events; returns the error's name, or NULL. */
static inline const char *raw_reply(struct raw_client *client,
                                    struct raw_message *msg)
{
    do
        raw_receive(client, msg);
    while (msg->head.type == XS_WATCH_EVENT);
    return msg->head.type == XS_ERROR ? msg->payload : NULL;
}

/* One request that has to succeed. */
static inline void raw_ask(struct raw_client *client, struct raw_message *msg,
                           uint32_t type, uint32_t tx_id, const void *payload,
                           size_t len)
{
    const char *error;

    raw_send(client, type, tx_id, payload, len);
    error = raw_reply(client, msg);
    if (error) {
        fprintf(stderr, "request %u: %s\n", (unsigned int)type, error);
        exit(1);
    }
}

/* A payload that is a string literal, with its last NUL. */
#define LITERAL(text) (text), sizeof(text)

/* The same without its last NUL: a path, a NUL, a value. */
#define PAIR(text) (text), sizeof(text) - 1

/* Watch a path, and take the event that every watch begins with. */
static inline void raw_watch(struct raw_client *client, struct raw_message *msg,
                             const char *path, const char *token)
{
    char payload[256];
    int len = snprintf(payload, sizeof(payload), "%s%c%s", path, 0, token);

    check(len > 0 && (size_t)len < sizeof(payload), path);
    raw_ask(client, msg, XS_WATCH, 0, payload, (size_t)len + 1);
    /* It may come after the reply, but not after the next one. */
    raw_ask(client, msg, XS_READ, 0, path, strlen(path) + 1);
    check(client->have == 0, "nothing after the last reply");
}

static inline int raw_by_size(const void *one, const void *other)
{
    uint64_t a = *(const uint64_t *)one, b = *(const uint64_t *)other;

    return (a > b) - (a < b);
}

/* Print the median and the 99th percentile of samples, which are sorted. */
static inline void print_samples(const char *name, uint64_t *ns, size_t count)
{
    qsort(ns, count, sizeof(*ns), raw_by_size);
    printf("%s, median: %.3f\n", name, (double)ns[count / 2] / 1e3);
    printf("%s, p99: %.3f\n", name, (double)ns[count * 99 / 100] / 1e3);
}

/* A positive number that was given as an argument. */
static inline size_t number(const char *text)
{
    char *end;
    unsigned long value = strtoul(text, &end, 10);

    check(*text && !*end && value > 0, text);
    return value;
}

#endif
