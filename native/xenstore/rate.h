/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The write-rate limit: a domain that writes without a pause would make every other
 * domain's transactions conflict for ever (XSA-206). While there are transactions, a
 * write costs a credit; all domains together earn 200 a second, in equal shares, a
 * domain keeps up to 10, and what it does not need goes to a reserve of up to 1000
 * that those in debt draw on. A domain in debt is not served.
 */
#ifndef XV_XENSTORE_RATE_H
#define XV_XENSTORE_RATE_H

#include <stdint.h>

struct xs_domain;

/* Credits are counted in thousandths. */
struct xs_rate {
    int32_t reserve;
    uint32_t domains; /* that share */
};

/* A domain begins to share, with what the reserve can lend to a new one. */
void xs_rate_join(struct xs_rate *rate, struct xs_domain *domain,
                  uint64_t now_ms);
void xs_rate_leave(struct xs_rate *rate, struct xs_domain *domain);

/* Take the price of @writes, of not more than the reserve can ever hold. */
void xs_rate_debit(struct xs_rate *rate, struct xs_domain *domain,
                   uint64_t writes, uint64_t now_ms);

/* Milliseconds until the domain is out of debt, 0 if it is. */
uint64_t xs_rate_wait(struct xs_rate *rate, struct xs_domain *domain,
                      uint64_t now_ms);

#endif
