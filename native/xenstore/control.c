/* SPDX-License-Identifier: BSD-2-Clause */
/* CONTROL: questions and commands for the server itself, from dom0 only. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "journal.h"
#include "request.h"

enum { PARAMETERS_MAX = 7 };

struct text {
    size_t len;
    char data[XS_PAYLOAD_MAX];
};

__attribute__((format(printf, 2, 3))) static void
add(struct text *text, const char *format, ...)
{
    size_t room = sizeof(text->data) - text->len;
    va_list args;
    int len;

    va_start(args, format);
    len = vsnprintf(text->data + text->len, room, format, args);
    va_end(args);
    if (len > 0)
        text->len += (size_t)len < room ? (size_t)len : room - 1;
}

static int reply_text(struct xs_request *request, const struct text *text)
{
    return xs_reply(request, text->data, text->len + 1);
}

typedef int command_fn(struct xs_request *request, const char **parameter,
                       unsigned int count);

static int check(struct xs_request *request, const char **parameter,
                 unsigned int count)
{
    (void)parameter;
    if (count != 0)
        return -EINVAL;
    if (!xs_store_is_consistent(&request->engine->store)) {
        xs_engine_log(request->engine, XS_LOG_PRINT, "XenStore is not consistent");
        return -EIO;
    }
    return xs_reply_ok(request);
}

static int log_switches(struct xs_request *request)
{
    struct text text = {0};

    add(&text, "Log switch settings:\n");
    for (unsigned int i = 0; i < XS_LOG_SWITCHES; i++)
        add(&text, "%-8s: %s\n", xs_log_switch[i],
            request->engine->log & 1u << i ? "on" : "off");
    return reply_text(request, &text);
}

static int log_switch(struct xs_request *request, const char **parameter,
                      unsigned int count)
{
    struct xs_engine *engine = request->engine;
    const char *wanted = count > 0 ? parameter[0] : "";

    if (count == 0)
        return log_switches(request);
    if (count != 1)
        return -EINVAL;
    if (strcmp(wanted, "on") == 0) {
        engine->log = (1u << XS_LOG_SWITCHES) - 1;
        return xs_reply_ok(request);
    }
    if (strcmp(wanted, "off") == 0) {
        engine->log = 0;
        return xs_reply_ok(request);
    }
    for (unsigned int i = 0; i < XS_LOG_SWITCHES; i++) {
        if ((*wanted != '+' && *wanted != '-') ||
            strcmp(wanted + 1, xs_log_switch[i]) != 0)
            continue;
        engine->log &= ~(1u << i);
        engine->log |= (*wanted == '+' ? 1u : 0u) << i;
        return xs_reply_ok(request);
    }
    return -EINVAL;
}

static int live_update(struct xs_request *request, const char **parameter,
                       unsigned int count)
{
    size_t len = 0;
    int error;

    if (count == 0)
        return -EINVAL;
    for (unsigned int i = 0; i < count; i++)
        len += strlen(parameter[i]) + 1; /* they lie side by side */
    error = xs_engine_upcall(request->engine, request->conn,
                             XS_UPCALL_LIVE_UPDATE, 0, 0, 0, parameter[0], len);
    return error != 0 ? error : XS_LATER;
}

static int memreport(struct xs_request *request, const char **parameter,
                     unsigned int count)
{
    struct xs_engine *engine = request->engine;
    const struct xs_store *store = &engine->store;
    unsigned long long node_bytes = 0, unread = 0;
    unsigned int conns = 0;
    struct text text = {0};

    (void)parameter;
    if (count != 0)
        return -EINVAL;
    for (const struct xs_node *node = xs_table_next(&store->nodes, NULL);
         node != NULL; node = xs_table_next(&store->nodes, node))
        node_bytes += xs_node_memory(node);
    for (const struct xs_conn *conn = engine->conns; conn; conn = conn->next) {
        conns++;
        unread += conn->unread;
    }
    add(&text, "%-17s: %8u\n", "nodes", store->nodes.count);
    add(&text, "%-17s: %8llu\n", "node bytes", node_bytes);
    add(&text, "%-17s: %8u\n", "connections", conns);
    add(&text, "%-17s: %8u\n", "watches", engine->watches.count);
    add(&text, "%-17s: %8u\n", "transactions", engine->transactions);
    add(&text, "%-17s: %8llu\n", "unread bytes", unread);
    add(&text, "%-17s: %8llu\n", "journal bytes",
        store->journal == NULL
            ? 0ull
            : (unsigned long long)xs_journal_size(store->journal));
    return reply_text(request, &text);
}

static int print(struct xs_request *request, const char **parameter,
                 unsigned int count)
{
    if (count != 1)
        return -EINVAL;
    xs_engine_log(request->engine, XS_LOG_PRINT, "XenStore control: %s", parameter[0]);
    return xs_reply_ok(request);
}

static int quota_defaults(struct xs_request *request)
{
    struct text text = {0};

    add(&text, "Quota settings:\n");
    for (unsigned int i = 0; i < XS_QUOTAS; i++)
        if (i != XS_QUOTA_SOFT_MEMORY)
            add(&text, "%-17s: %8u %s\n", xs_quota_info[i].name,
                request->engine->domains.quota[i],
                xs_quota_info[i].description);
    return reply_text(request, &text);
}

static int quota_most(struct xs_request *request, const char **parameter,
                      unsigned int count)
{
    struct xs_domains *domains = &request->engine->domains;
    struct text text = {0};

    if (count > 1 || (count == 1 && strcmp(parameter[0], "-r") != 0))
        return -EINVAL;
    if (count == 1) {
        memset(domains->most, 0, sizeof(domains->most));
        for (uint32_t domid = 0; domid <= UINT16_MAX; domid++) {
            struct xs_domain *domain = xs_domain_find(domains, (uint16_t)domid);

            if (domain != NULL)
                memcpy(domain->most, domain->used, sizeof(domain->most));
        }
    }
    add(&text, "Max. seen accounting values:\n");
    for (unsigned int i = 0; i < XS_QUOTAS; i++)
        if (i != XS_QUOTA_SOFT_MEMORY)
            add(&text, "%-17s: %8u\n", xs_quota_info[i].name,
                domains->most[i]);
    return reply_text(request, &text);
}

static int quota_of(struct xs_request *request, const char *domid_text)
{
    const struct xs_domain *domain;
    struct text text = {0};
    uint16_t domid;

    if (xs_domid(domid_text, &domid) != 0)
        return -EINVAL;
    domain = xs_domain_find(&request->engine->domains, domid);
    if (domain == NULL)
        return -ENOENT;
    add(&text, "Domain %u:\n", (unsigned int)domid);
    for (unsigned int i = 0; i < XS_QUOTAS; i++)
        if (i != XS_QUOTA_SOFT_MEMORY)
            add(&text, "%-17s: %8u (max %8u)\n", xs_quota_info[i].name,
                domain->used[i], domain->most[i]);
    return reply_text(request, &text);
}

static int quota(struct xs_request *request, const char **parameter,
                 unsigned int count)
{
    struct xs_engine *engine = request->engine;
    enum xs_quota which;
    uint64_t value;
    int error;

    if (count == 0)
        return quota_defaults(request);
    if (strcmp(parameter[0], "max") == 0)
        return quota_most(request, parameter + 1, count - 1);
    if (strcmp(parameter[0], "set") != 0)
        return count == 1 ? quota_of(request, parameter[0]) : -EINVAL;
    if (count != 3)
        return -EINVAL;
    which = xs_quota_find(parameter[1]);
    if (which == XS_QUOTAS || which == XS_QUOTA_SOFT_MEMORY ||
        xs_number(parameter[2], INT32_MAX, &value) != 0 || value == 0)
        return -EINVAL;
    xs_domains_set_quota(&engine->domains, which, (uint32_t)value);
    error = xs_engine_note_quota(engine, which, (uint32_t)value);
    return error != 0 ? error : xs_reply_ok(request);
}

static int quota_soft(struct xs_request *request, const char **parameter,
                      unsigned int count)
{
    struct xs_engine *engine = request->engine;
    struct text text = {0};
    uint64_t value;
    int error;

    if (count == 0) {
        add(&text, "Quota settings:\n%-17s: %8u %s\n", "memory",
            engine->domains.quota[XS_QUOTA_SOFT_MEMORY],
            xs_quota_info[XS_QUOTA_SOFT_MEMORY].description);
        return reply_text(request, &text);
    }
    if (count != 3 || strcmp(parameter[0], "set") != 0 ||
        strcmp(parameter[1], "memory") != 0 ||
        xs_number(parameter[2], INT32_MAX, &value) != 0 || value == 0)
        return -EINVAL;
    xs_domains_set_quota(&engine->domains, XS_QUOTA_SOFT_MEMORY,
                         (uint32_t)value);
    error = xs_engine_note_quota(engine, XS_QUOTA_SOFT_MEMORY, (uint32_t)value);
    return error != 0 ? error : xs_reply_ok(request);
}

static int help(struct xs_request *request, const char **parameter,
                unsigned int count);

static const struct {
    const char *name;
    command_fn *run;
    const char *parameters;
} commands[] = {
    {"check", check, ""},
    {"log", log_switch, "[on|off|+<switch>|-<switch>]"},
    {"live-update", live_update, "[-c <cmdline>] [-F] [-t <timeout>] <file>"},
    {"memreport", memreport, ""},
    {"print", print, "<string>"},
    {"quota", quota, "[set <name> <val>|<domid>|max [-r]]"},
    {"quota-soft", quota_soft, "[set <name> <val>]"},
    {"help", help, ""},
};

enum { COMMANDS = sizeof(commands) / sizeof(commands[0]) };

static int help(struct xs_request *request, const char **parameter,
                unsigned int count)
{
    struct text text = {0};

    (void)parameter;
    if (count != 0)
        return -EINVAL;
    for (unsigned int i = 0; i < COMMANDS; i++)
        add(&text, "%-15s %s\n", commands[i].name, commands[i].parameters);
    return reply_text(request, &text);
}

int xs_control(struct xs_request *request)
{
    const char *string[PARAMETERS_MAX + 1];
    unsigned int count = xs_strings(request, string, PARAMETERS_MAX + 1);

    if (count < 1 || count > PARAMETERS_MAX + 1)
        return -EINVAL;
    for (unsigned int i = 0; i < COMMANDS; i++)
        if (strcmp(string[0], commands[i].name) == 0)
            return commands[i].run(request, string + 1, count - 1);
    return -EINVAL;
}
