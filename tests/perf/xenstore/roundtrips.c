/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * roundtrips SOCKET COUNT [OPERATION]: how long one client waits for each of a
 * few things, one after the other, COUNT times; the median and the 99th
 * percentile, us.
 */
#include "raw.h"

#define CHILDREN 100

static struct raw_client client, watcher;
static struct raw_message msg;

static void read_node(void)
{
    raw_ask(&client, &msg, XS_READ, 0, LITERAL("/bench/value"));
}

static void write_node(void)
{
    raw_ask(&client, &msg, XS_WRITE, 0, PAIR("/bench/value\0sixteen bytes ok"));
}

static void mkdir_and_rm(void)
{
    raw_ask(&client, &msg, XS_MKDIR, 0, LITERAL("/bench/new"));
    raw_ask(&client, &msg, XS_RM, 0, LITERAL("/bench/new"));
}

static void list_children(void)
{
    raw_ask(&client, &msg, XS_DIRECTORY, 0, LITERAL("/bench/list"));
}

static void transaction(void)
{
    uint32_t tx_id;

    raw_ask(&client, &msg, XS_TRANSACTION_START, 0, LITERAL(""));
    tx_id = (uint32_t)number(msg.payload);
    raw_ask(&client, &msg, XS_READ, tx_id, LITERAL("/bench/value"));
    raw_ask(&client, &msg, XS_WRITE, tx_id, PAIR("/bench/one\0001"));
    raw_ask(&client, &msg, XS_WRITE, tx_id, PAIR("/bench/two\0002"));
    raw_ask(&client, &msg, XS_TRANSACTION_END, tx_id, LITERAL("T"));
}

/* Until the event is there: the writer's reply may be later. */
static void watch_event(void)
{
    raw_send(&client, XS_WRITE, 0, PAIR("/bench/watched\0x"));
    raw_receive(&watcher, &msg);
    check(msg.head.type == XS_WATCH_EVENT, "a watch event");
}

static void take_reply(void)
{
    check(!raw_reply(&client, &msg), "the write that makes an event");
}

static void no_more(void)
{
}

static const struct {
    const char *name;
    void (*run)(void);
    void (*finish)(void); /* not timed */
} operations[] = {
    {"read", read_node, no_more},
    {"write", write_node, no_more},
    {"mkdir and rm", mkdir_and_rm, no_more},
    {"ls of 100", list_children, no_more},
    {"transaction of 3", transaction, no_more},
    {"watch event", watch_event, take_reply},
};

static void prepare(void)
{
    char path[32];

    write_node();
    raw_ask(&client, &msg, XS_MKDIR, 0, LITERAL("/bench/watched"));
    for (int i = 0; i < CHILDREN; i++) {
        int len = snprintf(path, sizeof(path), "/bench/list/child-%d", i);

        raw_ask(&client, &msg, XS_MKDIR, 0, path, (size_t)len + 1);
    }
    raw_watch(&watcher, &msg, "/bench/watched", "token");
}

int main(int argc, char **argv)
{
    uint64_t *ns;
    size_t count;

    check(argc == 3 || argc == 4, "roundtrips SOCKET COUNT [OPERATION]");
    raw_connect(&client, argv[1]);
    raw_connect(&watcher, argv[1]);
    count = number(argv[2]);
    ns = calloc(count, sizeof(*ns));
    check(ns != NULL, "samples");
    prepare();
    for (size_t op = 0; op < sizeof(operations) / sizeof(*operations); op++) {
        if (argc == 4 && strcmp(argv[3], operations[op].name))
            continue;
        for (size_t i = 0; i < count; i++) {
            uint64_t start = now_ns();

            operations[op].run();
            ns[i] = now_ns() - start;
            operations[op].finish();
        }
        print_samples(operations[op].name, ns, count);
    }
    free(ns);
    return 0;
}
