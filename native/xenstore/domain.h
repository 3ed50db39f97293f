/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the store knows of a domain: its limits and what it uses of them, over all of
 * its connections, and whether it is introduced. Names, defaults and order of the
 * quotas as in C xenstored; 0 switches one off.
 *
 * Privileged connections are not limited, but what they make for a domain counts
 * as the domain's.
 */
#ifndef XV_XENSTORE_DOMAIN_H
#define XV_XENSTORE_DOMAIN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct xs_conn;

enum xs_quota {
    XS_QUOTA_NODES,
    XS_QUOTA_WATCHES,
    XS_QUOTA_OUTSTANDING,
    XS_QUOTA_MEMORY,
    XS_QUOTA_SOFT_MEMORY, /* is told, and refuses nothing */
    XS_QUOTA_TRANSACTIONS,
    XS_QUOTA_TRANSACTION_NODES,
    XS_QUOTA_NODE_PERMISSIONS,
    XS_QUOTA_PATH_MAX,
    XS_QUOTA_NODE_SIZE,
    XS_QUOTAS,
};

struct xs_domain {
    uint32_t refs;
    uint16_t domid;
    uint16_t target; /* XS_NO_DOMID: none */
    bool exists;
    bool introduced;
    bool has_features; /* @features were set for it */
    bool sharing;      /* the write rate, see rate.h */
    bool rate_reported;
    bool soft_reported;
    bool hard_reported;
    uint64_t log_ms; /* no line about it before */
    uint32_t features;
    uint32_t own_quotas; /* bits of enum xs_quota that were set for it */
    uint32_t quota[XS_QUOTAS];
    uint32_t used[XS_QUOTAS];
    uint32_t most[XS_QUOTAS]; /* ever in use at once */
    int32_t credit;           /* see rate.h */
    uint64_t credit_ms;
    struct xs_conn *conns; /* those that speak as it */
    struct xs_domain *stalled_next;
};

struct xs_domains {
    struct xs_domain **by_domid; /* 65536 */
    uint32_t quota[XS_QUOTAS];
    uint32_t most[XS_QUOTAS]; /* of any unprivileged domain */
};

/* The row of a quota: its name on the wire, its default, and what it limits. */
struct xs_quota_info {
    const char *name;
    uint32_t normal;
    const char *description;
};
extern const struct xs_quota_info xs_quota_info[XS_QUOTAS];

/* The quota of that name; XS_QUOTAS if there is none. */
enum xs_quota xs_quota_find(const char *name);

/*
 * Whether a new total of @value is refused. The most that is reached is @quota - 1,
 * as C xenstored compares.
 */
static inline bool xs_quota_exceeded(uint64_t value, uint32_t quota)
{
    return quota != 0 && value >= quota;
}

int xs_domains_init(struct xs_domains *domains);
void xs_domains_clear(struct xs_domains *domains);

/* The domain if the store knows of it, or NULL. */
struct xs_domain *xs_domain_find(const struct xs_domains *domains,
                                 uint16_t domid);

/* The domain, from now on known; NULL without memory. */
struct xs_domain *xs_domain_get(struct xs_domains *domains, uint16_t domid);

/* Forget the domain; who holds a reference keeps an object without meaning. */
void xs_domain_forget(struct xs_domains *domains, struct xs_domain *domain);

struct xs_domain *xs_domain_ref(struct xs_domain *domain);
void xs_domain_unref(struct xs_domain *domain);

/* Count what a domain uses; @change may be negative. */
void xs_domain_charge(struct xs_domains *domains, struct xs_domain *domain,
                      enum xs_quota quota, int64_t change);

/* The same by domid; a domain that is not known becomes known. */
void xs_charge(struct xs_domains *domains, uint16_t domid, enum xs_quota quota,
               int64_t change);

/* Change a limit of every domain that has none of its own. */
void xs_domains_set_quota(struct xs_domains *domains, enum xs_quota quota,
                          uint32_t value);

void xs_domain_set_quota(struct xs_domain *domain, enum xs_quota quota,
                         uint32_t value);

#endif
