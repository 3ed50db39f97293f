/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * UDP from one network namespace to another: how many packets arrive.
 *
 *     udp FROM_NETNS TO_NETNS ADDRESS BYTES RATE SECONDS
 *
 * FROM_NETNS and TO_NETNS are paths; ADDRESS (IPv4) is the receiver's. BYTES are of
 * payload, 0 for RATE is as fast as the sender can. The receiver is a thread of its own that
 * takes many packets a system call and has 64 MiB to queue them, so that what gets
 * lost is the link's. Prints what was sent, what arrived, how long the sender
 * sent, and the time from the first sent to the last that arrived, in seconds.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define PORT 5202
#define MAX_BYTES 9000
#define RECEIVED_AT_ONCE 64
/* Sent at once: enough to share the cost of a call, and no burst for a queue. */
#define SENT_AT_ONCE 32
/* After a pause of this length (s) nothing more is on its way. */
#define DRAINED_S 0.1
/* A paced sender sleeps this long (ns) when no packet is due. */
#define NAP_NS 50000

static atomic_bool sending = true;

struct receiver {
    int fd;
    unsigned long packets;
    double last;
};

static double now(void)
{
    struct timespec at;

    clock_gettime(CLOCK_MONOTONIC, &at);
    return (double)at.tv_sec + (double)at.tv_nsec / 1e9;
}

/**
 * socket_in() - A UDP socket in another network namespace
 * @netns:	Path of the namespace; this thread stays in it
 *
 * Return: the socket; ends the program when there is none
 */
static int socket_in(const char *netns)
{
    int fd = open(netns, O_RDONLY | O_CLOEXEC), made;

    if (fd < 0 || setns(fd, CLONE_NEWNET) < 0)
        err(1, "%s", netns);
    close(fd);
    made = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (made < 0)
        err(1, "socket");
    return made;
}

/* Count what arrives, until there is nothing more on its way. */
static void *receive(void *argument)
{
    struct receiver *to = argument;
    static char data[RECEIVED_AT_ONCE][MAX_BYTES];
    struct iovec parts[RECEIVED_AT_ONCE];
    struct mmsghdr messages[RECEIVED_AT_ONCE];

    for (int i = 0; i < RECEIVED_AT_ONCE; i++) {
        parts[i] = (struct iovec){data[i], MAX_BYTES};
        messages[i].msg_hdr =
            (struct msghdr){.msg_iov = &parts[i], .msg_iovlen = 1};
    }
    for (;;) {
        bool ended = !sending;
        int n = recvmmsg(to->fd, messages, RECEIVED_AT_ONCE, MSG_WAITFORONE,
                         NULL);

        if (n > 0) {
            to->packets += (unsigned long)n;
            to->last = now();
        } else if (errno != EAGAIN && errno != EINTR) {
            err(1, "receive");
        } else if (ended) {
            return NULL;
        }
    }
}

/**
 * send_for() - Send for a time
 * @fd:		Connected socket
 * @bytes:	Payload of each packet
 * @rate:	Packets a second, 0 for no limit
 * @until:	When to end, by now()
 *
 * Return: how many were sent; ends the program when the link is gone
 */
static unsigned long send_for(int fd, size_t bytes, double rate, double until)
{
    static char data[MAX_BYTES];
    struct iovec part = {data, bytes};
    struct mmsghdr messages[SENT_AT_ONCE];
    double begin = now(), at;
    unsigned long sent = 0;

    for (int i = 0; i < SENT_AT_ONCE; i++)
        messages[i].msg_hdr = (struct msghdr){.msg_iov = &part, .msg_iovlen = 1};
    while ((at = now()) < until) {
        unsigned long due = SENT_AT_ONCE;
        int n;

        if (rate > 0) {
            due = (unsigned long)((at - begin) * rate);
            due = due > sent ? due - sent : 0;
            if (due > SENT_AT_ONCE)
                due = SENT_AT_ONCE;
        }
        if (due == 0) {
            nanosleep(&(struct timespec){.tv_nsec = NAP_NS}, NULL);
            continue;
        }
        n = sendmmsg(fd, messages, (unsigned)due, 0);
        if (n > 0)
            sent += (unsigned long)n;
        else if (errno != ENOBUFS && errno != EINTR)
            err(1, "send");
    }
    return sent;
}

int main(int argc, char **argv)
{
    struct timeval drained = {.tv_usec = (suseconds_t)(DRAINED_S * 1e6)};
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(PORT)};
    int buffer = 64 << 20, fd;
    struct receiver receiver = {0};
    pthread_t thread;
    unsigned long sent;
    double begin, end;
    size_t bytes;

    if (argc != 7 || inet_pton(AF_INET, argv[3], &to.sin_addr) != 1)
        errx(2, "usage: udp FROM_NETNS TO_NETNS ADDRESS BYTES RATE SECONDS");
    bytes = strtoul(argv[4], NULL, 10);
    if (bytes > MAX_BYTES)
        errx(2, "%zu bytes: at most %d", bytes, MAX_BYTES);
    prctl(PR_SET_TIMERSLACK, 1UL);
    receiver.fd = socket_in(argv[2]);
    if (bind(receiver.fd, (struct sockaddr *)&to, sizeof(to)) < 0 ||
        setsockopt(receiver.fd, SOL_SOCKET, SO_RCVTIMEO, &drained,
                   sizeof(drained)) < 0 ||
        setsockopt(receiver.fd, SOL_SOCKET, SO_RCVBUFFORCE, &buffer,
                   sizeof(buffer)) < 0)
        err(1, "receiver");
    fd = socket_in(argv[1]);
    if (connect(fd, (struct sockaddr *)&to, sizeof(to)) < 0)
        err(1, "connect");
    begin = now();
    if (pthread_create(&thread, NULL, receive, &receiver) != 0)
        errx(1, "no thread");
    sent = send_for(fd, bytes, strtod(argv[5], NULL),
                    begin + strtod(argv[6], NULL));
    end = now();
    sending = false;
    pthread_join(thread, NULL);
    printf("%lu %lu %.6f %.6f\n", sent, receiver.packets, end - begin,
           receiver.packets ? receiver.last - begin : 0.0);
    return 0;
}
