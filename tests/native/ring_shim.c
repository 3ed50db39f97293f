/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * native/ring.h as functions, for test_ring_model.py: rings whose indices begin
 * anywhere, which the hops' own never do within a test's life.
 */
#include "ring.h"

struct shim {
    struct front_ring front;
    struct back_ring back;
};

_Bool shim_init(struct shim *shim, struct xen_sring *page, uint32_t start)
{
    shared_ring_init(page);
    page->req_prod = page->rsp_prod = start;
    page->req_event = page->rsp_event = start + 1;
    front_ring_init(&shim->front, page, NET_TX_RING_SIZE);
    shim->front.req_prod = start;
    shim->front.req_prod_pvt = start;
    shim->front.rsp_cons = start;
    return back_ring_attach(&shim->back, page, NET_TX_RING_SIZE);
}

_Bool shim_back_attach(struct shim *shim, struct xen_sring *page)
{
    return back_ring_attach(&shim->back, page, NET_TX_RING_SIZE);
}

uint32_t shim_free_requests(const struct shim *shim)
{
    return ring_free_requests(&shim->front);
}

void shim_put_request(struct shim *shim, uint16_t id)
{
    struct front_ring *ring = &shim->front;
    struct netif_tx_request req = {.id = id};

    shared_copy_to(&netif_tx_slot(ring->sring, ring->req_prod_pvt++)->req, &req,
                   sizeof(req));
}

uint16_t shim_take_request(struct shim *shim)
{
    struct back_ring *ring = &shim->back;
    struct netif_tx_request req;

    shared_copy_from(&req, &netif_tx_slot(ring->sring, ring->req_cons++)->req,
                     sizeof(req));
    return req.id;
}

void shim_put_response(struct shim *shim, uint16_t id)
{
    struct back_ring *ring = &shim->back;
    struct netif_tx_response rsp = {.id = id};

    shared_copy_to(&netif_tx_slot(ring->sring, ring->rsp_prod_pvt++)->rsp, &rsp,
                   sizeof(rsp));
}

uint16_t shim_take_response(struct shim *shim)
{
    struct front_ring *ring = &shim->front;
    struct netif_tx_response rsp;

    shared_copy_from(&rsp, &netif_tx_slot(ring->sring, ring->rsp_cons++)->rsp,
                     sizeof(rsp));
    return rsp.id;
}

_Bool shim_push_requests(struct shim *shim)
{
    return ring_push_requests_and_check_notify(&shim->front);
}

_Bool shim_push_responses(struct shim *shim)
{
    return ring_push_responses_and_check_notify(&shim->back);
}

uint32_t shim_final_check_for_requests(struct shim *shim, uint32_t ahead)
{
    return ring_final_check_for_requests(&shim->back, ahead);
}

uint32_t shim_final_check_for_responses(struct shim *shim, uint32_t ahead)
{
    return ring_final_check_for_responses(&shim->front, ahead);
}

_Bool shim_request_prod_overflow(const struct shim *shim, uint32_t prod)
{
    return ring_request_prod_overflow(&shim->back, prod);
}

_Bool shim_request_cons_overflow(const struct shim *shim, uint32_t cons)
{
    return ring_request_cons_overflow(&shim->back, cons);
}

_Bool shim_response_prod_overflow(const struct shim *shim, uint32_t prod)
{
    return ring_response_prod_overflow(&shim->front, prod);
}
