/* SPDX-License-Identifier: BSD-2-Clause */
/* What the engine's files share, and nobody else sees. */
#ifndef XV_XENSTORE_STATE_H
#define XV_XENSTORE_STATE_H

#include "conn.h"
#include "rate.h"
#include "tree.h"

enum {
    XS_SCRATCH = 64 * 1024, /* bytes that are taken from a client at once */
    XS_FEATURE_RECONNECTION = 1,
    XS_FEATURE_ERROR = 2,
    XS_FEATURE_WATCH_DEPTH = 4,
    XS_FEATURE_DOMID_ANY = 8,
    XS_FEATURES = 15,
};

/* What CONTROL log switches: bits of the engine's @log. */
enum xs_log {
    XS_LOG_MEMORY, /* quotas that a domain passes */
    XS_LOG_RATE,   /* domains that write too much */
    XS_LOG_PRINT,  /* all else */
    XS_LOG_SWITCHES,
};
extern const char *const xs_log_switch[XS_LOG_SWITCHES];

/* What the journal keeps beside nodes. */
enum xs_note {
    XS_NOTE_DOMAIN = 1,    /* struct xs_domain_note: all that is known of one */
    XS_NOTE_FORGET,        /* uint32_t domid */
    XS_NOTE_DEFAULT_QUOTA, /* uint32_t quota, value */
};

/* One that waits to be taken, then for its answer. */
struct xs_pending {
    struct xs_pending *next;
    struct xs_upcall upcall;
};

struct xs_engine {
    struct xs_domains domains;
    struct xs_store store;
    struct xs_watches watches;
    struct xs_rate rate;
    struct xs_conn *conns, *newest;
    struct xs_conn *woken, **last_woken;
    struct xs_conn *scratch_user; /* whose input is in @scratch */
    struct xs_domain *stalled; /* domains beyond their memory quota */
    struct xs_pending *upcalls, **last_upcall;
    struct xs_pending *unanswered;
    xs_trace_fn *trace;
    void *trace_ctx;
    uint64_t now_ms;
    uint64_t event_due_ms; /* no event times out before */
    uint64_t delay_due_ms; /* no delayed domain may go on before */
    uint64_t last_conn_id;
    uint64_t fold_from;    /* bytes of journal below which it is left alone */
    uint32_t transactions; /* open ones */
    uint32_t log;
    uint8_t scratch[XS_SCRATCH];
};

/* The name on the wire; of one that has none, EINVAL's. */
const char *xs_error_name(int error);

/* Ask whoever embeds the engine; 0 or -ENOMEM. */
int xs_engine_upcall(struct xs_engine *engine, const struct xs_conn *conn,
                     enum xs_upcall_kind kind, uint16_t domid, uint64_t gfn,
                     uint32_t evtchn, const char *text, size_t text_len);

/* Have a line in the log of whoever embeds the engine, if that is switched on. */
__attribute__((format(printf, 3, 4))) void
xs_engine_log(struct xs_engine *engine, enum xs_log which, const char *format,
              ...);

/* The same about a domain, which cannot make more than a line in 10 s of it. */
__attribute__((format(printf, 4, 5))) void
xs_engine_log_domain(struct xs_engine *engine, struct xs_domain *domain,
                     enum xs_log which, const char *format, ...);

/* Write to the journal what is known of a domain, or that it is not any more. */
int xs_engine_note_domain(struct xs_engine *engine,
                          const struct xs_domain *domain);
int xs_engine_note_forget(struct xs_engine *engine, uint16_t domid);
int xs_engine_note_quota(struct xs_engine *engine, enum xs_quota quota,
                         uint32_t value);

/* Fold the journal when it holds much that is no longer true. */
void xs_engine_fold_journal(struct xs_engine *engine);

/* Do to the store what an upcall has done to the hypervisor. */
void xs_engine_introduce(struct xs_engine *engine, uint16_t domid);

/* What is known of a domain that exists and has its share of the write rate. */
struct xs_domain *xs_engine_domain(struct xs_engine *engine, uint16_t domid);

/*
 * Report memory quotas that a domain has just passed, and go on with the requests of those
 * that have come below theirs again.
 */
void xs_engine_check_memory(struct xs_engine *engine, struct xs_domain *domain);
void xs_engine_check_stalled(struct xs_engine *engine);

#endif
