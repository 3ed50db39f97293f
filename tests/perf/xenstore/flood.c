/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * flood SOCKET obedient|deaf: write without a pause until somebody ends it; an
 * obedient one reads the replies, a deaf one never does. It says "ready: 1"
 * before the first write.
 */
#include <fcntl.h>
#include <poll.h>

#include "raw.h"

#define BATCH 64

static struct raw_client client;
static char batch[BATCH * 128];

/* The same write, BATCH times. */
static size_t fill_batch(void)
{
    static const char payload[] = "/bench/flood\0"
                                  "as many bytes as a common value has";
    size_t len = 0;

    for (int i = 0; i < BATCH; i++)
        len += raw_encode(batch + len, XS_WRITE, 0, payload,
                          sizeof(payload) - 1);
    return len;
}

static void drain(void)
{
    static char replies[65536];

    while (recv(client.fd, replies, sizeof(replies), MSG_DONTWAIT) > 0)
        ;
    check(errno == EAGAIN, "recv");
}

int main(int argc, char **argv)
{
    struct pollfd ready;
    size_t len = fill_batch(), sent = 0;
    bool obedient;

    check(argc == 3, "flood SOCKET obedient|deaf");
    obedient = !strcmp(argv[2], "obedient");
    raw_connect(&client, argv[1]);
    ready.fd = client.fd;
    ready.events = POLLOUT | (obedient ? POLLIN : 0);
    puts("ready: 1");
    fflush(stdout);
    while (poll(&ready, 1, -1) > 0) {
        ssize_t more;

        check(!(ready.revents & (POLLERR | POLLHUP)), "poll");
        if (ready.revents & POLLIN)
            drain();
        more = send(client.fd, batch + sent, len - sent,
                    MSG_NOSIGNAL | MSG_DONTWAIT);
        check(more >= 0 || errno == EAGAIN, "send");
        if (more > 0)
            sent = (sent + (size_t)more) % len;
    }
    return 1;
}
