/* SPDX-License-Identifier: BSD-2-Clause */
/* The engine's life, its connections', and what is due when. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "state.h"

enum {
    PRIVILEGED_UNREAD_MAX = 256 * 1024, /* then its requests wait */
    MAX_LOG_UPCALLS = 256,              /* lines that nobody took */
    LOG_PAUSE_MS = 10 * 1000,           /* between lines about one domain */
};

const char *const xs_log_switch[XS_LOG_SWITCHES] = {
    [XS_LOG_MEMORY] = "mem",
    [XS_LOG_RATE] = "wrl",
    [XS_LOG_PRINT] = "print",
};

struct xs_engine *xs_engine_new(void)
{
    struct xs_engine *engine = calloc(1, sizeof(*engine));
    uint32_t seed;
    struct xs_domain *dom0;

    if (engine == NULL)
        return NULL;
    if (getrandom(&seed, sizeof(seed), GRND_NONBLOCK) == sizeof(seed))
        xs_path_seed(seed);
    engine->last_woken = &engine->woken;
    engine->last_upcall = &engine->upcalls;
    engine->event_due_ms = engine->delay_due_ms = UINT64_MAX;
    engine->log = (1u << XS_LOG_SWITCHES) - 1;
    if (xs_domains_init(&engine->domains) != 0 ||
        xs_store_init(&engine->store, &engine->domains) != 0 ||
        xs_watches_init(&engine->watches) != 0 ||
        (dom0 = xs_domain_get(&engine->domains, 0)) == NULL ||
        xs_store_first_nodes(&engine->store) != 0) {
        xs_engine_free(engine);
        return NULL;
    }
    dom0->exists = dom0->introduced = true;
    return engine;
}

static void free_pending(struct xs_pending *pending)
{
    while (pending != NULL) {
        struct xs_pending *next = pending->next;

        free(pending);
        pending = next;
    }
}

void xs_engine_free(struct xs_engine *engine)
{
    while (engine->conns != NULL)
        xs_engine_disconnect(engine, engine->conns);
    if (engine->store.nodes.bucket != NULL)
        xs_store_clear(&engine->store);
    xs_watches_clear(&engine->watches);
    xs_domains_clear(&engine->domains);
    free_pending(engine->upcalls);
    free_pending(engine->unanswered);
    free(engine);
}

void xs_engine_set_time(struct xs_engine *engine, uint64_t now_ms)
{
    engine->now_ms = now_ms;
}

uint64_t xs_engine_next_timeout(const struct xs_engine *engine)
{
    return engine->event_due_ms < engine->delay_due_ms ? engine->event_due_ms
                                                       : engine->delay_due_ms;
}

static void expire_events(struct xs_engine *engine)
{
    uint64_t next = UINT64_MAX;

    for (struct xs_conn *conn = engine->conns; conn; conn = conn->next) {
        uint64_t due;

        if (conn->events == 0)
            continue;
        due = xs_conn_expire(engine, conn, engine->now_ms);
        if (due < next)
            next = due;
    }
    engine->event_due_ms = next;
}

static void end_delays(struct xs_engine *engine)
{
    uint64_t next = UINT64_MAX;

    for (struct xs_conn *conn = engine->conns; conn; conn = conn->next) {
        uint64_t wait;

        if (!conn->alive || conn->privileged || conn->domain->credit >= 0)
            continue;
        wait = xs_rate_wait(&engine->rate, conn->domain, engine->now_ms);
        if (wait > 0 && engine->now_ms + wait < next)
            next = engine->now_ms + wait;
        if (wait == 0)
            for (struct xs_conn *kin = conn->domain->conns; kin;
                 kin = kin->kin_next)
                xs_conn_wake(engine, kin);
    }
    engine->delay_due_ms = next;
}

void xs_engine_timeout(struct xs_engine *engine)
{
    if (engine->now_ms >= engine->event_due_ms)
        expire_events(engine);
    if (engine->now_ms >= engine->delay_due_ms)
        end_delays(engine);
    if (engine->stalled != NULL)
        xs_engine_check_stalled(engine);
}

/* ---- upcalls ---- */

static unsigned int waiting_logs(const struct xs_engine *engine)
{
    unsigned int lines = 0;

    for (const struct xs_pending *p = engine->upcalls; p; p = p->next)
        lines += p->upcall.kind == XS_UPCALL_LOG;
    return lines;
}

int xs_engine_upcall(struct xs_engine *engine, const struct xs_conn *conn,
                     enum xs_upcall_kind kind, uint16_t domid, uint64_t gfn,
                     uint32_t evtchn, const char *text, size_t text_len)
{
    struct xs_pending *pending = calloc(1, sizeof(*pending));
    struct xs_upcall *upcall;

    if (pending == NULL)
        return -ENOMEM;
    upcall = &pending->upcall;
    upcall->conn_id = conn == NULL ? 0 : conn->id;
    upcall->kind = kind;
    upcall->domid = domid;
    upcall->gfn = gfn;
    upcall->evtchn = evtchn;
    if (text_len > sizeof(upcall->text))
        text_len = sizeof(upcall->text);
    if (text_len > 0)
        memcpy(upcall->text, text, text_len);
    upcall->text_len = (uint32_t)text_len;
    *engine->last_upcall = pending;
    engine->last_upcall = &pending->next;
    return 0;
}

/* What a client chose is in it: nothing that a terminal would act on. */
static void log_line(struct xs_engine *engine, enum xs_log which,
                     const char *format, va_list args)
{
    char line[XS_PAYLOAD_MAX];
    int len;

    if (!(engine->log & 1u << which) || waiting_logs(engine) >= MAX_LOG_UPCALLS)
        return;
    len = vsnprintf(line, sizeof(line), format, args);
    if (len >= (int)sizeof(line))
        len = sizeof(line) - 1;
    for (int i = 0; i < len; i++)
        if ((unsigned char)line[i] < ' ' || line[i] == 127)
            line[i] = '?';
    if (len > 0)
        xs_engine_upcall(engine, NULL, XS_UPCALL_LOG, 0, 0, 0, line,
                         (size_t)len);
}

void xs_engine_log(struct xs_engine *engine, enum xs_log which,
                   const char *format, ...)
{
    va_list args;

    va_start(args, format);
    log_line(engine, which, format, args);
    va_end(args);
}

void xs_engine_log_domain(struct xs_engine *engine, struct xs_domain *domain,
                          enum xs_log which, const char *format, ...)
{
    va_list args;

    if (engine->now_ms < domain->log_ms)
        return;
    domain->log_ms = engine->now_ms + LOG_PAUSE_MS;
    va_start(args, format);
    log_line(engine, which, format, args);
    va_end(args);
}

bool xs_engine_next_upcall(struct xs_engine *engine, struct xs_upcall *upcall)
{
    struct xs_pending *pending = engine->upcalls;

    if (pending == NULL)
        return false;
    *upcall = pending->upcall;
    engine->upcalls = pending->next;
    if (engine->upcalls == NULL)
        engine->last_upcall = &engine->upcalls;
    if (upcall->kind == XS_UPCALL_LOG) {
        free(pending);
    } else {
        pending->next = engine->unanswered;
        engine->unanswered = pending;
    }
    return true;
}

static struct xs_conn *find_conn(const struct xs_engine *engine, uint64_t id)
{
    struct xs_conn *conn = engine->conns;

    while (conn != NULL && conn->id != id)
        conn = conn->next;
    return conn;
}

/* What the hypervisor did is done to the store, even if nobody hears of it. */
static void complete(struct xs_engine *engine, const struct xs_upcall *upcall)
{
    if (upcall->kind == XS_UPCALL_INTRODUCE)
        xs_engine_introduce(engine, (uint16_t)upcall->domid);
    else if (upcall->kind == XS_UPCALL_RELEASE)
        xs_engine_domain_dead(engine, (uint16_t)upcall->domid);
}

void xs_engine_answer(struct xs_engine *engine, uint64_t conn_id, int error)
{
    struct xs_pending **link = &engine->unanswered;
    struct xs_pending *pending;
    struct xs_conn *conn;
    const char *name;

    while (*link != NULL && (*link)->upcall.conn_id != conn_id)
        link = &(*link)->next;
    pending = *link;
    if (pending == NULL)
        return;
    *link = pending->next;
    if (error == 0)
        complete(engine, &pending->upcall);
    free(pending);
    conn = find_conn(engine, conn_id);
    if (conn == NULL || !conn->waiting)
        return;
    conn->waiting = false;
    name = xs_error_name(error);
    if (xs_conn_post(engine, conn, NULL, error ? XS_ERROR : conn->asked.type,
                     conn->asked.req_id, conn->asked.tx_id,
                     error ? name : "OK", strlen(error ? name : "OK") + 1) != 0)
        xs_conn_drop(engine, conn);
    xs_conn_wake(engine, conn);
}

/* ---- connections ---- */

struct xs_conn *xs_engine_connect(struct xs_engine *engine, uint16_t domid,
                                  bool privileged)
{
    struct xs_conn *conn = calloc(1, sizeof(*conn));
    struct xs_domain *domain = xs_engine_domain(engine, domid);

    if (conn == NULL || domain == NULL) {
        free(conn);
        return NULL;
    }
    conn->domain = xs_domain_ref(domain);
    conn->id = ++engine->last_conn_id;
    conn->domid = domid;
    conn->privileged = privileged;
    conn->alive = true;
    conn->out_last = &conn->out_first;
    conn->last_watch = &conn->watches;
    if (engine->conns == NULL) {
        engine->conns = conn;
    } else {
        conn->prev = engine->newest;
        engine->newest->next = conn;
    }
    engine->newest = conn;
    conn->kin_next = domain->conns;
    if (domain->conns != NULL)
        domain->conns->kin_prev = conn;
    domain->conns = conn;
    if (engine->trace != NULL)
        engine->trace(engine->trace_ctx, conn, XS_TRACE_CONNECT, NULL, NULL);
    return conn;
}

static void unwake(struct xs_engine *engine, struct xs_conn *conn)
{
    struct xs_conn **link = &engine->woken;

    if (!conn->woken)
        return;
    while (*link != conn)
        link = &(*link)->woken_next;
    *link = conn->woken_next;
    if (engine->last_woken == &conn->woken_next)
        engine->last_woken = link;
}

void xs_engine_disconnect(struct xs_engine *engine, struct xs_conn *conn)
{
    if (engine->trace != NULL)
        engine->trace(engine->trace_ctx, conn, XS_TRACE_DISCONNECT, NULL, NULL);
    conn->alive = false;
    xs_conn_drop_session(engine, conn);
    xs_conn_empty(engine, conn);
    unwake(engine, conn);
    if (conn->prev != NULL)
        conn->prev->next = conn->next;
    else
        engine->conns = conn->next;
    if (conn->next != NULL)
        conn->next->prev = conn->prev;
    else
        engine->newest = conn->prev;
    if (conn->kin_prev != NULL)
        conn->kin_prev->kin_next = conn->kin_next;
    else
        conn->domain->conns = conn->kin_next;
    if (conn->kin_next != NULL)
        conn->kin_next->kin_prev = conn->kin_prev;
    xs_domain_unref(conn->domain);
    free(conn);
}

void xs_conn_reset(struct xs_engine *engine, struct xs_conn *conn)
{
    xs_conn_drop_session(engine, conn);
    xs_conn_empty(engine, conn);
}

void xs_conn_drop(struct xs_engine *engine, struct xs_conn *conn)
{
    conn->alive = false;
    xs_conn_drop_session(engine, conn);
    xs_conn_wake(engine, conn);
}

uint64_t xs_conn_id(const struct xs_conn *conn)
{
    return conn->id;
}

uint16_t xs_conn_domid(const struct xs_conn *conn)
{
    return conn->domid;
}

void xs_conn_set_context(struct xs_conn *conn, void *context)
{
    conn->context = context;
}

void *xs_conn_context(const struct xs_conn *conn)
{
    return conn->context;
}

bool xs_conn_alive(const struct xs_conn *conn)
{
    return conn->alive;
}

bool xs_conn_broken(const struct xs_conn *conn)
{
    return conn->broken;
}

/* Whether the client has to take what waits, or to slow down, before it goes on. */
static bool stalled(const struct xs_conn *conn)
{
    const struct xs_domain *domain = conn->domain;

    if (conn->privileged)
        return conn->unread >= PRIVILEGED_UNREAD_MAX;
    return domain->credit < 0 ||
           xs_quota_exceeded(domain->used[XS_QUOTA_OUTSTANDING],
                             domain->quota[XS_QUOTA_OUTSTANDING]) ||
           xs_quota_exceeded(domain->used[XS_QUOTA_MEMORY],
                             domain->quota[XS_QUOTA_MEMORY]);
}

bool xs_conn_ready(const struct xs_engine *engine, struct xs_conn *conn)
{
    struct xsd_sockmsg header;
    const uint8_t *payload;

    (void)engine;
    return conn->alive && !conn->waiting && !stalled(conn) &&
           xs_conn_next(conn, &header, &payload);
}

void xs_engine_set_trace(struct xs_engine *engine, xs_trace_fn *fn, void *ctx)
{
    engine->trace = fn;
    engine->trace_ctx = ctx;
}
