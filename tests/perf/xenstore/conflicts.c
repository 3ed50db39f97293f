/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * conflicts SOCKET CLIENTS COMMITS: so many processes increment one counter by
 * COMMITS in all, each time in a transaction that is tried again until it is
 * committed; the seconds that took, and how many had to be tried again.
 */
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "raw.h"

static struct raw_client client;
static struct raw_message msg;

/* What the processes share. */
struct progress {
    atomic_size_t waiting;
    atomic_size_t retries;
};

static size_t counter(uint32_t tx_id)
{
    raw_ask(&client, &msg, XS_READ, tx_id, LITERAL("/bench/counter"));
    return strtoul(msg.payload, NULL, 10);
}

/* One increment; false if somebody else came between. */
static bool increment(void)
{
    char payload[64];
    uint32_t tx_id;
    int len;
    const char *error;

    raw_ask(&client, &msg, XS_TRANSACTION_START, 0, LITERAL(""));
    tx_id = (uint32_t)number(msg.payload);
    len = snprintf(payload, sizeof(payload), "/bench/counter%c%zu", 0,
                   counter(tx_id) + 1);
    raw_ask(&client, &msg, XS_WRITE, tx_id, payload, (size_t)len);
    raw_send(&client, XS_TRANSACTION_END, tx_id, LITERAL("T"));
    error = raw_reply(&client, &msg);
    check(!error || !strcmp(error, "EAGAIN"), "TRANSACTION_END");
    return !error;
}

static void run_client(struct progress *progress, const char *path,
                       int start_fd, size_t commits)
{
    char byte;

    raw_connect(&client, path);
    atomic_fetch_add(&progress->waiting, 1);
    check(read(start_fd, &byte, 1) == 0, "the start");
    while (commits > 0) {
        if (increment())
            commits--;
        else
            atomic_fetch_add(&progress->retries, 1);
    }
}

/* Start the clients; each is connected and waits for the end of @start_pipe. */
static void fork_clients(struct progress *progress, const char *path,
                         const int *start_pipe, size_t clients, size_t commits)
{
    for (size_t i = 0; i < clients; i++) {
        pid_t pid = fork();

        check(pid >= 0, "fork");
        if (pid == 0) {
            close(start_pipe[1]);
            run_client(progress, path, start_pipe[0],
                       commits / clients + (i < commits % clients));
            exit(0);
        }
    }
    while (atomic_load(&progress->waiting) < clients)
        check(waitpid(-1, NULL, WNOHANG) == 0, "a client");
}

int main(int argc, char **argv)
{
    struct progress *progress;
    size_t clients, commits;
    int start_pipe[2], status;
    uint64_t start;

    check(argc == 4, "conflicts SOCKET CLIENTS COMMITS");
    clients = number(argv[2]);
    commits = number(argv[3]);
    progress = mmap(NULL, sizeof(*progress), PROT_READ | PROT_WRITE,
                    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    check(progress != MAP_FAILED && pipe(start_pipe) == 0, "memory");
    raw_connect(&client, argv[1]);
    raw_ask(&client, &msg, XS_WRITE, 0, PAIR("/bench/counter\0000"));
    fork_clients(progress, argv[1], start_pipe, clients, commits);
    start = now_ns();
    close(start_pipe[1]);
    for (size_t i = 0; i < clients; i++)
        check(wait(&status) > 0 && status == 0, "a client");
    printf("seconds: %.6f\n", (double)(now_ns() - start) / 1e9);
    printf("retries: %zu\n", atomic_load(&progress->retries));
    check(counter(0) == commits, "an increment is lost");
    return 0;
}
