"""A domain that writes into its ring page whatever it likes, whenever it likes.

The worst that may come of it is that its own ring is given up, with an error code that
says why; a new INTRODUCE, or the server's `reset_ring`, begins anew.
"""

import random

import pytest

from tests.raw_ring import (
    CONNECTION,
    ERROR,
    FEATURES,
    REQ_CONS,
    REQ_PROD,
    RSP_CONS,
    RSP_PROD,
    SIZE,
    RawRing,
)
from tests.raw_store import RawClient
from tests.store_process import StoreProcess
from xenvirt.abi.xs_wire import RingError
from xenvirt.abi.xs_wire import XsWire as X
from xenvirt.xenstore.framing import encode

INDICES = (REQ_CONS, REQ_PROD, RSP_CONS, RSP_PROD)
REQUEST = encode(X.GET_DOMAIN_PATH, 1, 0, b"1\0")
HOME = b"/local/domain/1\0"
BAD_DISTANCES = (SIZE + 1, SIZE * 2, 2**31 - 1, 2**31, 2**32 - 1)


@pytest.fixture
def dom0(store: StoreProcess) -> RawClient:
    return store.at_home(1)


@pytest.fixture
def ring(store: StoreProcess, dom0: RawClient) -> RawRing:
    dom0.do(X.INTRODUCE, b"1\x001\x001\0")
    return store.ring(1)


def begin_anew(dom0: RawClient, ring: RawRing) -> None:
    """Have the domain introduced again, with an idle ring."""
    dom0.do(X.INTRODUCE, b"1\x001\x001\0")
    ring.start_anew()
    assert ring.word(ERROR) == RingError.NONE
    assert ring.result(X.GET_DOMAIN_PATH, b"1\0") == HOME


@pytest.mark.parametrize("start", [0, 1, 1023, 0x7FFFFFFF, 0xFFFFFFF0, 0xFFFFFFFF])
def test_indices_may_begin_anywhere(store: StoreProcess, start: int) -> None:
    store.at_home(1)
    ring = store.ring(1, start=start)
    for number in range(200):
        ring.do(X.WRITE, b"a\0%d" % number)
        assert ring.result(X.READ, b"a\0") == b"%d" % number


@pytest.mark.parametrize("distance", BAD_DISTANCES)
def test_a_producer_too_far_ahead_ends_the_ring(
    dom0: RawClient, ring: RawRing, distance: int
) -> None:
    ring.set_word(REQ_PROD, ring.word(REQ_CONS) + distance)
    ring.notify()
    assert ring.fails_with(RingError.RINGIDX)
    begin_anew(dom0, ring)


@pytest.mark.parametrize("distance", BAD_DISTANCES)
def test_a_consumer_too_far_behind_ends_the_ring(
    dom0: RawClient, ring: RawRing, distance: int
) -> None:
    ring.set_word(RSP_CONS, ring.word(RSP_PROD) - distance)
    ring.put(REQUEST)
    assert ring.fails_with(RingError.RINGIDX)
    begin_anew(dom0, ring)


@pytest.mark.parametrize("by", [1, -1, 17, SIZE, SIZE + 1, 2**31])
def test_a_servers_index_moved_by_the_domain_ends_the_ring(
    dom0: RawClient, ring: RawRing, by: int
) -> None:
    assert ring.result(X.GET_DOMAIN_PATH, b"1\0") == HOME
    ring.set_word(REQ_CONS, ring.word(REQ_CONS) + by)
    ring.notify()
    assert ring.fails_with(RingError.RINGIDX)
    begin_anew(dom0, ring)
    ring.set_word(RSP_PROD, ring.word(RSP_PROD) + by)
    ring.put(REQUEST)
    assert ring.fails_with(RingError.RINGIDX)
    begin_anew(dom0, ring)


def test_indices_moved_in_the_middle_of_a_message(
    store: StoreProcess, dom0: RawClient, ring: RawRing
) -> None:
    whole = encode(X.WRITE, 1, 0, b"a\0" + bytes(1800))
    for offset in INDICES:
        for value in (0, 1, 500, 2**31, 2**32 - 1):
            ring.put(whole)
            ring.set_word(offset, value)
            ring.notify()
            store.check()
            begin_anew(dom0, ring)


def test_an_index_that_moves_back_over_a_request_asks_it_again(
    store: StoreProcess, dom0: RawClient, ring: RawRing
) -> None:
    assert ring.result(X.GET_DOMAIN_PATH, b"1\0") == HOME
    ring.set_word(REQ_PROD, ring.word(REQ_PROD) - len(REQUEST))
    ring.notify()
    assert ring.fails_with(RingError.RINGIDX)
    store.check()
    begin_anew(dom0, ring)


def test_the_words_that_are_the_servers_can_be_scribbled_over(
    store: StoreProcess, dom0: RawClient, ring: RawRing
) -> None:
    for offset in (FEATURES, ERROR, 2076, 2080, 4092):
        for value in (0, 1, 2, 3, 0xFFFFFFFF):
            ring.set_word(offset, value)
            ring.put(REQUEST)
            assert ring.wait_until(ring.has_reply, 10), (offset, value)
            assert ring.get().endswith(HOME)
    begin_anew(dom0, ring)


def test_a_depth_may_not_be_had_by_writing_the_feature_word(
    store: StoreProcess, dom0: RawClient
) -> None:
    dom0.do(X.SET_FEATURE, b"1\x002\0")
    dom0.do(X.INTRODUCE, b"1\x001\x001\0")
    ring = store.ring(1)
    assert ring.word(FEATURES) == 2
    ring.set_word(FEATURES, 0xFFFFFFFF)
    assert ring.result(X.WATCH, b"a\0t\x001\0") == "EINVAL"
    assert ring.result(X.GET_FEATURE) == b"2\0"


@pytest.mark.parametrize("cut", [0, 1, 15, 16, 17, len(REQUEST)])
def test_a_reconnection_at_any_moment_begins_anew(
    dom0: RawClient, ring: RawRing, cut: int
) -> None:
    ring.do(X.WATCH, b"a\0t\0")
    ring.put(REQUEST[:cut])
    ring.set_word(CONNECTION, 1)
    ring.notify()
    assert ring.wait_until(lambda: ring.word(CONNECTION) == 0, 10)
    ring.start_anew_here()
    assert ring.result(X.UNWATCH, b"a\0t\0") == "ENOENT"
    assert ring.result(X.GET_DOMAIN_PATH, b"1\0") == HOME


def test_a_reconnection_without_the_feature_is_not_heard(
    store: StoreProcess, dom0: RawClient
) -> None:
    dom0.do(X.SET_FEATURE, b"1\x002\0")
    dom0.do(X.INTRODUCE, b"1\x001\x001\0")
    ring = store.ring(1)
    ring.do(X.WATCH, b"a\0t\0")
    for value in (1, 2, 0xFFFFFFFF):
        ring.set_word(CONNECTION, value)
        ring.notify()
        ring.do(X.WRITE, b"a\0v")
        assert ring.word(CONNECTION) == value
    ring.do(X.UNWATCH, b"a\0t\0")


def test_a_thousand_reconnections_leave_nothing(
    store: StoreProcess, dom0: RawClient, ring: RawRing
) -> None:
    before = store.rss()
    for _ in range(1000):
        ring.do(X.WATCH, b"a\0" + b"t" * 100 + b"\0")
        assert isinstance(ring.result(X.TRANSACTION_START, b"\0"), bytes)
        ring.set_word(CONNECTION, 1)
        ring.notify()
        assert ring.wait_until(lambda: ring.word(CONNECTION) == 0, 10)
        ring.start_anew_here()
    assert store.rss() - before < 2 << 20


def test_a_ring_that_breaks_again_and_again_fills_no_log(
    store: StoreProcess, dom0: RawClient, ring: RawRing
) -> None:
    for _ in range(200):
        ring.set_word(REQ_PROD, ring.word(REQ_CONS) + SIZE + 1)
        ring.notify()
        assert ring.fails_with(RingError.RINGIDX)
        ring.set_word(REQ_PROD, ring.word(REQ_CONS))
        ring.set_word(CONNECTION, 1)
        ring.notify()
        assert ring.wait_until(lambda: ring.word(CONNECTION) == 0, 10)
    ring.start_anew_here()
    assert ring.result(X.GET_DOMAIN_PATH, b"1\0") == HOME
    assert 1 <= store.log().count("domain 1") < 20


def test_noise_in_every_word_harms_nobody_else(
    store: StoreProcess, dom0: RawClient, ring: RawRing
) -> None:
    noise = random.Random(1)
    dom0.do(X.WRITE, b"/quiet\0v")
    for _ in range(300):
        for _ in range(noise.randrange(1, 20)):
            ring.set_word(4 * noise.randrange(1024), noise.getrandbits(32))
            ring.notify()
        ring.set_word(noise.choice(INDICES), ring.word(noise.choice(INDICES)) + 100)
        ring.notify()
        assert dom0.result(X.READ, b"/quiet\0") == b"v"
        if noise.random() < 0.3:
            begin_anew(dom0, ring)
    assert dom0.result(X.DIRECTORY, b"/local/domain\0") == b"1\0"
