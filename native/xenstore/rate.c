/* SPDX-License-Identifier: BSD-2-Clause */
#include "domain.h"
#include "rate.h"

enum {
    WRITE = 1000,
    PER_MS = 200, /* earned by all domains together */
    DOMAIN_BURST = 10 * WRITE,
    GLOBAL_BURST = 1000 * WRITE,
    NEW_DOMAINS_BURST = 5 * DOMAIN_BURST,
    LONG_MS = 1000 * 1000, /* more elapsed time than any credit can hold */
};

/* Move what @from has above @floor and @to lacks below @ceiling. */
static void transfer(int32_t *from, int32_t floor, int32_t *to, int32_t ceiling)
{
    int32_t spare = *from - floor;
    int32_t lack = ceiling - *to;
    int32_t moved = spare < lack ? spare : lack;

    if (moved > 0) {
        *from -= moved;
        *to += moved;
    }
}

static void earn(struct xs_rate *rate, struct xs_domain *domain,
                 uint64_t now_ms)
{
    uint64_t elapsed = now_ms - domain->credit_ms;
    uint64_t sharers = rate->domains == 0 ? 1 : rate->domains;
    uint64_t earned, paid_ms;
    int32_t surplus = 0;

    if (elapsed > LONG_MS) {
        elapsed = LONG_MS;
        domain->credit_ms = now_ms - elapsed;
    }
    /* The time that is not paid yet counts again, however many domains share. */
    earned = elapsed * PER_MS / sharers;
    paid_ms = earned * sharers / PER_MS;
    domain->credit_ms += paid_ms;
    domain->credit += (int32_t)earned;
    transfer(&rate->reserve, 0, &domain->credit, 0);
    transfer(&domain->credit, DOMAIN_BURST, &surplus, INT32_MAX);
    transfer(&surplus, 0, &rate->reserve, GLOBAL_BURST);
}

void xs_rate_join(struct xs_rate *rate, struct xs_domain *domain,
                  uint64_t now_ms)
{
    rate->domains++;
    domain->credit = 0;
    domain->credit_ms = now_ms;
    transfer(&rate->reserve, -NEW_DOMAINS_BURST, &domain->credit, DOMAIN_BURST);
}

void xs_rate_leave(struct xs_rate *rate, struct xs_domain *domain)
{
    rate->domains--;
    transfer(&domain->credit, 0, &rate->reserve, DOMAIN_BURST);
}

void xs_rate_debit(struct xs_rate *rate, struct xs_domain *domain,
                   uint64_t writes, uint64_t now_ms)
{
    uint64_t price = writes * WRITE;

    earn(rate, domain, now_ms);
    domain->credit -= price < GLOBAL_BURST ? (int32_t)price : GLOBAL_BURST;
}

uint64_t xs_rate_wait(struct xs_rate *rate, struct xs_domain *domain,
                      uint64_t now_ms)
{
    if (domain->credit >= 0)
        return 0;
    earn(rate, domain, now_ms);
    if (domain->credit >= 0)
        return 0;
    return (uint64_t)-domain->credit * rate->domains / PER_MS + 1;
}
