/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "domain.h"
#include "perms.h"

enum { DOMIDS = 1 << 16 };

const struct xs_quota_info xs_quota_info[XS_QUOTAS] = {
    [XS_QUOTA_NODES] = {"nodes", 1000, "Nodes per domain"},
    [XS_QUOTA_WATCHES] = {"watches", 128, "Watches per domain"},
    [XS_QUOTA_OUTSTANDING] = {"outstanding", 20,
                              "Outstanding requests per domain"},
    [XS_QUOTA_MEMORY] = {"memory", 2560 * 1024,
                         "Total Xenstore memory per domain (error level)"},
    [XS_QUOTA_SOFT_MEMORY] = {"soft-memory", 2048 * 1024,
                              "Total Xenstore memory per domain (warning level)"},
    [XS_QUOTA_TRANSACTIONS] = {"transactions", 10,
                               "Active transactions per domain"},
    [XS_QUOTA_TRANSACTION_NODES] = {"transaction-nodes", 1024,
                                    "Accessed nodes per transaction"},
    [XS_QUOTA_NODE_PERMISSIONS] = {"node-permissions", 5,
                                   "Permissions per node"},
    [XS_QUOTA_PATH_MAX] = {"path-max", 2048, "Length of a node path"},
    [XS_QUOTA_NODE_SIZE] = {"node-size", 2048, "Size of a node"},
};

enum xs_quota xs_quota_find(const char *name)
{
    unsigned int i = 0;

    while (i < XS_QUOTAS && strcmp(xs_quota_info[i].name, name) != 0)
        i++;
    return (enum xs_quota)i;
}

int xs_domains_init(struct xs_domains *domains)
{
    memset(domains, 0, sizeof(*domains));
    /* Zero pages: only those are taken that a domain is on. */
    domains->by_domid = calloc(DOMIDS, sizeof(*domains->by_domid));
    for (unsigned int i = 0; i < XS_QUOTAS; i++)
        domains->quota[i] = xs_quota_info[i].normal;
    return domains->by_domid == NULL ? -ENOMEM : 0;
}

void xs_domains_clear(struct xs_domains *domains)
{
    for (unsigned int i = 0; domains->by_domid != NULL && i < DOMIDS; i++)
        if (domains->by_domid[i] != NULL)
            xs_domain_unref(domains->by_domid[i]);
    free(domains->by_domid);
    domains->by_domid = NULL;
}

struct xs_domain *xs_domain_find(const struct xs_domains *domains,
                                 uint16_t domid)
{
    return domains->by_domid[domid];
}

struct xs_domain *xs_domain_get(struct xs_domains *domains, uint16_t domid)
{
    struct xs_domain *domain = domains->by_domid[domid];

    if (domain != NULL)
        return domain;
    domain = calloc(1, sizeof(*domain));
    if (domain == NULL)
        return NULL;
    domain->refs = 1;
    domain->domid = domid;
    domain->target = XS_NO_DOMID;
    memcpy(domain->quota, domains->quota, sizeof(domain->quota));
    domains->by_domid[domid] = domain;
    return domain;
}

void xs_domain_forget(struct xs_domains *domains, struct xs_domain *domain)
{
    domains->by_domid[domain->domid] = NULL;
    xs_domain_unref(domain);
}

struct xs_domain *xs_domain_ref(struct xs_domain *domain)
{
    domain->refs++;
    return domain;
}

void xs_domain_unref(struct xs_domain *domain)
{
    if (--domain->refs == 0)
        free(domain);
}

void xs_domain_charge(struct xs_domains *domains, struct xs_domain *domain,
                      enum xs_quota quota, int64_t change)
{
    uint32_t used = (uint32_t)(domain->used[quota] + change);

    domain->used[quota] = used;
    if (used > domain->most[quota])
        domain->most[quota] = used;
    if (used > domains->most[quota] && domain->domid != 0)
        domains->most[quota] = used;
}

void xs_charge(struct xs_domains *domains, uint16_t domid, enum xs_quota quota,
               int64_t change)
{
    struct xs_domain *domain = xs_domain_get(domains, domid);

    if (domain != NULL)
        xs_domain_charge(domains, domain, quota, change);
}

void xs_domains_set_quota(struct xs_domains *domains, enum xs_quota quota,
                          uint32_t value)
{
    domains->quota[quota] = value;
    for (unsigned int i = 0; i < DOMIDS; i++) {
        struct xs_domain *domain = domains->by_domid[i];

        if (domain != NULL && !(domain->own_quotas & 1u << quota))
            domain->quota[quota] = value;
    }
}

void xs_domain_set_quota(struct xs_domain *domain, enum xs_quota quota,
                         uint32_t value)
{
    domain->quota[quota] = value;
    domain->own_quotas |= 1u << quota;
}
