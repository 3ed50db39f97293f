/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * One end's half of a queue: private ring indices, counters by cause, and the
 * reason why it is broken. The event loop owns a queue until xv_worker_add(),
 * the worker alone from then until xv_worker_remove() has returned.
 *
 * TX is frontend to backend and RX backend to frontend, in counters too.
 */
#ifndef XV_QUEUE_H
#define XV_QUEUE_H

#include <linux/virtio_net.h>
#include <sys/uio.h>

#include "credit.h"
#include "evtchn.h"
#include "gnttab.h"
#include "lateeoi.h"
#include "offload.h"
#include "polling.h"
#include "ring.h"
#include "rx_stall.h"
#include "xenvirt.h"

/* Pages that the largest frame fills, and the slots that it takes. */
#define XV_FRAME_PAGES 17
#define XV_FRAME_SLOTS XEN_NETIF_NR_SLOTS_MIN
#define XV_EXTRAS_MAX (XEN_NETIF_EXTRA_TYPE_MAX - 1)

/*
 * Slots that the frontend has in flight while frames take several pages: what is
 * copied in at one end is then still in the CPU's cache when it is copied out at the
 * other.
 */
#define XV_WINDOW_SLOTS 96

/* Frames after which the peer is told, if it asked, in the middle of a turn. */
#define XV_NOTIFY_FRAMES 8

#define XV_COUNTERS(X) \
    X(tx_packets) \
    X(tx_bytes) \
    X(tx_gso_packets) \
    X(tx_slots) \
    X(tx_dropped) \
    X(tx_bad_size) \
    X(tx_too_many_slots) \
    X(tx_bad_slot_size) \
    X(tx_bad_gref) \
    X(tx_csum_filled) \
    X(tx_csum_unparsable) \
    X(tx_gso_checksum_fixup) \
    X(tx_credit_exceeded) \
    X(tx_too_big) \
    X(tx_no_offload) \
    X(tx_tap_error) \
    X(tx_ring_full) \
    X(tx_rsp_error) \
    X(tx_rsp_dropped) \
    X(tx_bad_multicast) \
    X(rx_packets) \
    X(rx_bytes) \
    X(rx_gso_packets) \
    X(rx_slots) \
    X(rx_dropped) \
    X(rx_no_slots) \
    X(rx_drained) \
    X(rx_bad_gref) \
    X(rx_bad_response) \
    X(rx_missing_extra) \
    X(rx_bad_extra_type) \
    X(rx_need_more_slots) \
    X(rx_too_many_slots) \
    X(rx_bad_gso) \
    X(rx_bad_size) \
    X(rx_csum_filled) \
    X(rx_csum_unparsable) \
    X(rx_gso_checksum_fixup) \
    X(rx_too_big) \
    X(rx_no_offload) \
    X(rx_tap_error) \
    X(notify_sent) \
    X(wakeups) \
    X(spurious_events) \
    X(eoi_delayed)

enum xv_counter {
#define X(name) XV_##name,
    XV_COUNTERS(X)
#undef X
        XV_NR_COUNTERS
};

enum xv_role { XV_FRONT, XV_BACK };

/* When the pages of a queue go back to the system: give_back.h. */
struct xv_give_back {
    uint64_t at_ms; /* or XV_NEVER */
    uint32_t moved; /* frames, since that was set */
};

/* What the worker knows of a queue. */
struct xv_schedule {
    struct xv_queue *next;
    struct xv_polling polling;
    struct xv_give_back give_back;
    uint64_t now_ms;             /* what the hops take for the time */
    struct xv_queue *timer_next; /* in the worker's timers */
    uint64_t timer_ms;
    bool timed;        /* is in them */
    bool active;       /* in the worker's list of queues to run */
    bool deaf;         /* its event channels wake nobody */
    bool tap_readable; /* no read has found the TAP empty since EPOLLIN */
    bool tap_writable; /* no write has found the TAP full since EPOLLOUT */
};

/* What is to be moved before the queue ends: settle.h. */
struct xv_settling {
    bool on; /* nothing more is read from the TAP */
    bool held;
    uint32_t tx_end; /* indices of the rings */
    uint32_t rx_end;
};

struct xv_queue {
    enum xv_role role;
    int tap_fd;
    struct evtchn tx_evtchn;
    struct evtchn rx_evtchn; /* unused where one channel serves both rings */
    bool split_evtchns;
    struct lateeoi eoi; /* of both channels */
    struct xv_peer_features peer;
    struct xv_queue_stats *stats;
    struct xv_schedule schedule;
    struct xv_settling settling;
};

/* A request id that the backend has not answered, or a link in the free list. */
struct xv_front_tx {
    struct front_ring ring;
    uint32_t gref[NET_TX_RING_SIZE];
    uint32_t frame[NET_TX_RING_SIZE];
    bool in_flight[NET_TX_RING_SIZE];
    uint16_t free_ids[NET_TX_RING_SIZE];
    uint32_t nr_free;
    uint32_t window; /* slots that may be in flight */
};

/* A response comes in its request's slot; which buffer was posted there is ours to know. */
struct xv_front_rx {
    struct front_ring ring;
    uint32_t gref[NET_RX_RING_SIZE];
    uint32_t frame[NET_RX_RING_SIZE];
    uint16_t posted[NET_RX_RING_SIZE]; /* by slot: the id of its buffer */
    uint16_t free_ids[NET_RX_RING_SIZE];
    uint32_t nr_free;
    uint32_t window; /* slots that are posted */
};

struct xv_front_queue {
    struct xv_queue base;
    struct xv_gnttab *table;
    struct xv_front_tx tx;
    struct xv_front_rx rx;
};

struct xv_back_tx {
    struct back_ring ring;
    uint32_t ring_ref;
    uint32_t untold; /* packets answered since rsp_event was looked at */
    struct xv_credit credit;
    struct xv_tx_batch *batch; /* NULL unless payload is to be copied */
};

/*
 * An RX request, copied and, where that is how payload is reached, mapped: page is
 * NULL then only when its grant is refused.
 */
struct xv_rx_slot {
    void *page;
    uint32_t gref;
    uint16_t id;
    int16_t status; /* GNTST_* of the refusal */
};

struct xv_back_rx {
    struct back_ring ring;
    uint32_t ring_ref;
    uint32_t untold; /* frames handed over since rsp_event was looked at */
    /* Requests from req_cons up to here are in slot[], to be used in order. */
    uint32_t mapped_prod;
    struct xv_rx_slot slot[NET_RX_RING_SIZE];
    struct xv_rx_batch *batch; /* NULL unless payload is to be copied */
    /* A frame that was taken from the TAP when too few requests were posted. */
    uint8_t *held;
    uint32_t held_len; /* 0: none */
    struct virtio_net_hdr held_vnet;
    struct xv_rx_stall stall;
};

struct xv_back_queue {
    struct xv_queue base;
    struct xv_gnttab_peer *table;
    struct xv_back_tx tx;
    struct xv_back_rx rx;
};

/** queue_front() - The frontend's half that @queue is part of. */
static inline struct xv_front_queue *queue_front(struct xv_queue *queue)
{
    return (struct xv_front_queue *)(void *)queue;
}

/** queue_back() - The backend's half that @queue is part of. */
static inline struct xv_back_queue *queue_back(struct xv_queue *queue)
{
    return (struct xv_back_queue *)(void *)queue;
}

/** queue_count() - Add to a counter that others read while it changes. */
static inline void queue_count(struct xv_queue *queue, enum xv_counter counter,
                               uint64_t n)
{
    uint64_t *at = &queue->stats->counters[counter];

    __atomic_store_n(at, *at + n, __ATOMIC_RELAXED);
}

/** queue_broken() - Has the peer, or the TAP, made this queue useless? */
static inline bool queue_broken(const struct xv_queue *queue)
{
    return queue->stats->broken != XV_OK;
}

/* What a queue's owner is told of when it changes: broken, stalled, settled. */
static inline uint32_t queue_condition(const struct xv_queue *queue)
{
    const struct xv_queue_stats *stats = queue->stats;

    return stats->broken << 2 | stats->rx_stalled << 1 | stats->settled;
}

/** queue_notify_tx() - Tell the peer of the TX ring, and count it. */
static inline void queue_notify_tx(struct xv_queue *queue)
{
    evtchn_notify(&queue->tx_evtchn);
    queue_count(queue, XV_notify_sent, 1);
}

/** queue_notify_rx() - Tell the peer of the RX ring, and count it. */
static inline void queue_notify_rx(struct xv_queue *queue)
{
    evtchn_notify(queue->split_evtchns ? &queue->rx_evtchn : &queue->tx_evtchn);
    queue_count(queue, XV_notify_sent, 1);
}

/**
 * queue_break() - Stop for good; the first reason stays.
 * @queue:	Whose peer broke a rule
 * @reason:	Which rule
 * @a: @b: @c:	The values that xv_broken_format() prints
 */
void queue_break(struct xv_queue *queue, enum xv_broken reason, uint32_t a,
                 uint32_t b, uint32_t c);

/**
 * queue_read() - Read a frame from the queue's TAP, if it may have one.
 * @queue:	Whose TAP
 * @iov:	Room for the virtio_net_hdr first, then for the frame
 * @count:	Elements of @iov
 *
 * Return: bytes of the frame without the virtio_net_hdr, 0 when there is none.
 */
uint32_t queue_read(struct xv_queue *queue, const struct iovec *iov, int count);

/**
 * queue_append() - Add memory to an iovec, to its last element where that ends there.
 * @iov:	Room for one more
 * @count:	Elements so far, at least 1
 * @piece:	What to add
 *
 * Return: elements with it.
 */
static inline int queue_append(struct iovec *iov, int count, struct iovec piece)
{
    struct iovec *last = &iov[count - 1];

    if ((uint8_t *)last->iov_base + last->iov_len == (uint8_t *)piece.iov_base) {
        last->iov_len += piece.iov_len;
        return count;
    }
    iov[count] = piece;
    return count + 1;
}

/* A frame on its way out of a ring: in pages that the peer may still write. */
struct xv_frame {
    struct iovec data[XV_FRAME_SLOTS + 2];
    int count;
    uint32_t len;
    struct xv_offload offload;
};

/* What became of a frame that was to be written to the TAP. */
enum xv_write { XV_WRITTEN, XV_AGAIN, XV_UNPARSABLE, XV_TAP_ERROR };

/**
 * queue_write() - Write a frame to the queue's TAP.
 * @queue:	Whose TAP
 * @frame:	The frame; at least ETH_HLEN bytes
 * @fixup:	A GSO frame's checksum had to be made blank (output)
 *
 * Its headers go out from the private copy that was checked, the rest straight
 * from the pages.
 */
enum xv_write queue_write(struct xv_queue *queue, const struct xv_frame *frame,
                          bool *fixup);

/** queue_run() - Run both hops of a queue's role. Return: frames moved. */
int queue_run(struct xv_queue *queue, int budget);

/** queue_consumed() - A number that changes whenever the rings are read from. */
uint32_t queue_consumed(struct xv_queue *queue);

/** queue_publish_indices() - Show the private ring indices in the statistics. */
void queue_publish_indices(struct xv_queue *queue);

/* Each hop's part of xv_queue_arm(). */
bool front_tx_arm(struct xv_front_queue *queue);
bool back_tx_arm(struct xv_back_queue *queue);
bool back_rx_arm(struct xv_back_queue *queue);
bool front_rx_arm(struct xv_front_queue *queue);

/* Room for a batch, where payload is to be copied. Return: 0, -ENOMEM. */
int back_tx_prepare(struct xv_back_queue *queue);
int back_rx_prepare(struct xv_back_queue *queue);

/** back_rx_unmap() - Let go of the requests that no frame has used. */
void back_rx_unmap(struct xv_back_queue *queue);

/** front_tx_take_responses() - Get back the pages of requests that are answered. */
void front_tx_take_responses(struct xv_front_queue *queue);

/** front_rx_refill() - Post RX buffers that are ours, up to the window. */
void front_rx_refill(struct xv_front_queue *queue);

#endif
