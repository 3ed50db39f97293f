/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The ring of native/ring.h on weakly ordered memory (weak_memory.h): no wake-up is lost,
 * and no slot is read before it was written, or after it was written again.
 *
 *   ring_order front|back REQUESTS AHEAD
 *
 * It is ring.h and barrier.h themselves that run here, with the atomics under them
 * replaced. A ring of two slots passes so many requests and responses. The frontend, or
 * the backend, sleeps until AHEAD of them are there, the other one until there is one.
 */
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "abi/netif.h"
#include "weak_memory.h"

#define __atomic_load_n(word, order) model_load(word, order)
#define __atomic_store_n(word, value, order) model_store(word, value, order)
#undef atomic_thread_fence
#define atomic_thread_fence(order) model_fence(order)
#define NET_TX_RING_SIZE 2
#include "ring.h"

enum { REQUEST = 10, RESPONSE = 20 }; /* what slots say, with their index */

static union {
    struct netif_tx_sring tx;
    uint8_t page[4096];
} ring_page;

static uint32_t requests, front_ahead = 1, back_ahead = 1;

static struct xen_sring *const sring = &ring_page.tx.sring;

/* One word of a slot stands for all. */
static uint32_t *slot_word(uint32_t idx)
{
    return &netif_tx_slot(sring, idx)->req.gref;
}

static void write_slot(uint32_t idx, uint32_t what)
{
    shared_copy_to(slot_word(idx), &what, sizeof(what));
}

static void read_slot(uint32_t idx, uint32_t expected, const char *otherwise)
{
    uint32_t what;

    shared_copy_from(&what, slot_word(idx), sizeof(what));
    if (what != expected)
        model_fail(otherwise);
}

static void take_responses(struct front_ring *ring, uint32_t rsp_prod)
{
    if (ring_response_prod_overflow(ring, rsp_prod))
        model_fail("more responses than requests");
    for (; ring->rsp_cons != rsp_prod; ring->rsp_cons++)
        read_slot(ring->rsp_cons, RESPONSE + ring->rsp_cons,
                  "a response was read that was not there");
}

static uint32_t at_most(uint32_t count, uint32_t bound)
{
    return count < bound ? count : bound;
}

/* As front_tx.c: each request is pushed, the last one with a look at req_event. */
static void send_requests(struct front_ring *ring)
{
    uint32_t count =
        at_most(ring_free_requests(ring), requests - ring->req_prod_pvt);

    for (; count > 0; count--) {
        write_slot(ring->req_prod_pvt, REQUEST + ring->req_prod_pvt);
        ring->req_prod_pvt++;
        if (count > 1)
            ring_push_requests(ring);
        else if (ring_push_requests_and_check_notify(ring))
            model_notify();
    }
}

static void front(void)
{
    struct front_ring ring;

    front_ring_init(&ring, sring, NET_TX_RING_SIZE);
    for (;;) {
        uint32_t ahead, came;

        send_requests(&ring);
        ahead = at_most(front_ahead, ring.req_prod_pvt - ring.rsp_cons);
        if (ahead == 0)
            return;
        came = ring_final_check_for_responses(&ring, ahead);
        if (came < ahead) {
            model_sleep();
            came = shared_acquire(&sring->rsp_prod) - ring.rsp_cons;
        }
        take_responses(&ring, ring.rsp_cons + came);
    }
}

/* As back_tx.c: each answer is pushed, the last one with a look at rsp_event. */
static void answer_requests(struct back_ring *ring, uint32_t req_prod)
{
    if (ring_request_prod_overflow(ring, req_prod))
        model_fail("more requests than slots");
    while (ring->req_cons != req_prod) {
        read_slot(ring->req_cons, REQUEST + ring->req_cons,
                  "a request was read that was not there");
        ring->req_cons++;
        write_slot(ring->rsp_prod_pvt, RESPONSE + ring->rsp_prod_pvt);
        ring->rsp_prod_pvt++;
        if (ring->req_cons != req_prod)
            ring_push_responses(ring);
        else if (ring_push_responses_and_check_notify(ring))
            model_notify();
    }
}

static void back(void)
{
    struct back_ring ring = {.sring = sring, .nr_ents = NET_TX_RING_SIZE};

    while (ring.req_cons < requests) {
        uint32_t ahead = at_most(back_ahead, requests - ring.req_cons);
        uint32_t came = ring_final_check_for_requests(&ring, ahead);

        if (came < ahead) {
            model_sleep();
            came = shared_acquire(&sring->req_prod) - ring.req_cons;
        }
        answer_requests(&ring, ring.req_cons + came);
    }
}

/* The bits of @from to @from + @count. */
static uint64_t values(uint32_t from, uint32_t count)
{
    return ((UINT64_C(2) << count) - 1) << from;
}

static void add_words(struct model *model)
{
    uint64_t indices = values(0, requests + NET_TX_RING_SIZE);
    uint64_t slots = 1 | values(REQUEST, requests) | values(RESPONSE, requests);
    const struct {
        const uint32_t *word;
        const char *name;
        uint32_t initial;
        uint64_t values;
    } words[] = {
        {&sring->req_prod, "req_prod", 0, indices},
        {&sring->req_event, "req_event", 1, indices},
        {&sring->rsp_prod, "rsp_prod", 0, indices},
        {&sring->rsp_event, "rsp_event", 1, indices},
        {slot_word(0), "slot 0", 0, slots},
        {slot_word(1), "slot 1", 0, slots},
    };

    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        model->word[i] = words[i].word;
        model->name[i] = words[i].name;
        model->initial[i] = words[i].initial;
        model->values[i] = words[i].values;
    }
}

int main(int argc, char **argv)
{
    struct model model = {.thread = {{"front", front}, {"back", back}}};
    const char *wrong;
    uint64_t states;

    if (argc != 4)
        return 2;
    requests = (uint32_t)atoi(argv[2]);
    *(strcmp(argv[1], "front") == 0 ? &front_ahead : &back_ahead) =
        (uint32_t)atoi(argv[3]);
    add_words(&model);
    wrong = model_check(&model, &states);
    printf("%llu states: %s\n", (unsigned long long)states, wrong ? wrong : "all good");
    return wrong ? 1 : 0;
}
