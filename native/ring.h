/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The ring between a frontend and a backend (Xen's io/ring.h), by its names.
 *
 * Indices are free-running uint32_t: compared by subtraction, masked only at the
 * slot. Requests and responses share the slots; the frontend alone initialises
 * the page. What a peer writes (the other producer, the other event) is never
 * trusted: the *_overflow() tests say when an index cannot be.
 */
#ifndef XV_RING_H
#define XV_RING_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "abi/netif.h"
#include "barrier.h"

struct front_ring {
    struct xen_sring *sring;
    uint32_t nr_ents;
    uint32_t req_prod;     /* pushed when req_event was last looked at */
    uint32_t req_prod_pvt; /* requests written, perhaps not yet pushed */
    uint32_t rsp_cons;     /* responses consumed */
};

struct back_ring {
    struct xen_sring *sring;
    uint32_t nr_ents;
    uint32_t rsp_prod;     /* pushed when rsp_event was last looked at */
    uint32_t rsp_prod_pvt; /* responses written, perhaps not yet pushed */
    uint32_t req_cons;     /* requests consumed */
};

/** shared_ring_init() - What the frontend does to a new ring page. */
static inline void shared_ring_init(struct xen_sring *sring)
{
    memset(sring, 0, sizeof(*sring));
    sring->req_event = 1;
    sring->rsp_event = 1;
}

/** front_ring_init() - Start at 0 on a page from shared_ring_init(). */
static inline void front_ring_init(struct front_ring *ring,
                                   struct xen_sring *sring, uint32_t nr_ents)
{
    *ring = (struct front_ring){.sring = sring, .nr_ents = nr_ents};
}

/**
 * back_ring_attach() - Take up a ring where its last backend left it.
 * @ring:	Private state (output)
 * @sring:	Mapped ring page
 * @nr_ents:	Slots, a power of two
 *
 * Return: true, or false when req_prod is further ahead than the ring is long.
 */
static inline bool back_ring_attach(struct back_ring *ring,
                                    struct xen_sring *sring, uint32_t nr_ents)
{
    uint32_t rsp_prod = shared_read(&sring->rsp_prod);
    uint32_t req_prod = shared_read(&sring->req_prod);

    *ring = (struct back_ring){.sring = sring,
                               .nr_ents = nr_ents,
                               .rsp_prod = rsp_prod,
                               .rsp_prod_pvt = rsp_prod,
                               .req_cons = rsp_prod};
    return req_prod - rsp_prod <= nr_ents;
}

/** ring_free_requests() - Slots that the frontend may still fill. */
static inline uint32_t ring_free_requests(const struct front_ring *ring)
{
    return ring->nr_ents - (ring->req_prod_pvt - ring->rsp_cons);
}

/** ring_response_prod_overflow() - Is @rsp_prod beyond what was requested? */
static inline bool ring_response_prod_overflow(const struct front_ring *ring,
                                               uint32_t rsp_prod)
{
    return rsp_prod - ring->rsp_cons > ring->req_prod_pvt - ring->rsp_cons;
}

/** ring_request_prod_overflow() - Is @req_prod beyond the free slots? */
static inline bool ring_request_prod_overflow(const struct back_ring *ring,
                                              uint32_t req_prod)
{
    return req_prod - ring->rsp_prod_pvt > ring->nr_ents;
}

/** ring_request_cons_overflow() - Would @cons consume an unanswered ring? */
static inline bool ring_request_cons_overflow(const struct back_ring *ring,
                                              uint32_t cons)
{
    return cons - ring->rsp_prod_pvt >= ring->nr_ents;
}

/** ring_needs_notify() - Does the peer's @event lie in (@old, @new]? */
static inline bool ring_needs_notify(uint32_t new, uint32_t old, uint32_t event)
{
    return new - event < new - old;
}

/**
 * ring_push_requests() - Publish what was written, for a backend that is awake.
 * @ring:	Whose backend is to be checked for before its frontend sleeps
 */
static inline void ring_push_requests(struct front_ring *ring)
{
    /* slots /before/ req_prod */
    shared_release(&ring->sring->req_prod, ring->req_prod_pvt);
}

/** ring_push_responses() - The same for the backend. */
static inline void ring_push_responses(struct back_ring *ring)
{
    /* slots /before/ rsp_prod */
    shared_release(&ring->sring->rsp_prod, ring->rsp_prod_pvt);
}

/**
 * ring_push_requests_and_check_notify() - Publish what was written.
 *
 * Return: whether the backend asked to be told of any since this was last asked.
 */
static inline bool ring_push_requests_and_check_notify(struct front_ring *ring)
{
    uint32_t old = ring->req_prod;
    uint32_t new = ring->req_prod_pvt;

    ring->req_prod = new;
    shared_release(&ring->sring->req_prod, new); /* slots /before/ req_prod */
    xen_mb(); /* req_prod /before/ req_event; partner: ring_final_check_for_requests() */
    return ring_needs_notify(new, old, shared_read(&ring->sring->req_event));
}

/** ring_push_responses_and_check_notify() - The same for the backend. */
static inline bool ring_push_responses_and_check_notify(struct back_ring *ring)
{
    uint32_t old = ring->rsp_prod;
    uint32_t new = ring->rsp_prod_pvt;

    ring->rsp_prod = new;
    shared_release(&ring->sring->rsp_prod, new); /* slots /before/ rsp_prod */
    xen_mb(); /* rsp_prod /before/ rsp_event; partner: ring_final_check_for_responses() */
    return ring_needs_notify(new, old, shared_read(&ring->sring->rsp_event));
}

/**
 * ring_final_check_for_requests() - Ask to be told, then look once more.
 * @ring:	Backend's ring
 * @ahead:	How many more requests are worth a notification, at least 1
 *
 * Return: requests that came meanwhile; 0 means that it is safe to sleep.
 */
static inline uint32_t ring_final_check_for_requests(struct back_ring *ring,
                                                     uint32_t ahead)
{
    shared_write(&ring->sring->req_event, ring->req_cons + ahead);
    xen_mb(); /* req_event /before/ req_prod; partner: ring_push_requests…() */
    return shared_acquire(&ring->sring->req_prod) - ring->req_cons;
}

/** ring_final_check_for_responses() - The same for the frontend. */
static inline uint32_t ring_final_check_for_responses(struct front_ring *ring,
                                                      uint32_t ahead)
{
    shared_write(&ring->sring->rsp_event, ring->rsp_cons + ahead);
    xen_mb(); /* rsp_event /before/ rsp_prod; partner: ring_push_responses…() */
    return shared_acquire(&ring->sring->rsp_prod) - ring->rsp_cons;
}

/** netif_tx_slot() - The TX slot that index @idx names. */
static inline union netif_tx_sring_entry *netif_tx_slot(struct xen_sring *sring,
                                                        uint32_t idx)
{
    return &((struct netif_tx_sring *)(void *)sring)
                ->ring[idx & (NET_TX_RING_SIZE - 1)];
}

/** netif_rx_slot() - The RX slot that index @idx names. */
static inline union netif_rx_sring_entry *netif_rx_slot(struct xen_sring *sring,
                                                        uint32_t idx)
{
    return &((struct netif_rx_sring *)(void *)sring)
                ->ring[idx & (NET_RX_RING_SIZE - 1)];
}

#endif
