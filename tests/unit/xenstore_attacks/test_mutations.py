"""Mutated requests through the real server, from privileged clients and from domains.

The engine alone gets a million of them in tests/native/test_xs_fuzz.py; here they meet
sockets, a ring and the thread. What is not a message ends its connection, no other.
"""

import random
import struct

from tests.raw_ring import CONNECTION, ERROR, RawRing
from tests.raw_store import RawClient
from tests.store_process import StoreProcess
from tests.xs_corpus import corpus
from xenvirt.abi.xs_wire import HEADER, XENSTORE_PAYLOAD_MAX
from xenvirt.abi.xs_wire import XsWire as X

MESSAGES = 30_000
RING_MESSAGES = 3_000
BATCH = 300
GROWTH_MAX = 64 << 20

HOME = b"/local/domain/1\0"
EDGES = (0, 1, 4096, 4097, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)


class Mutator:
    """The same messages each time, for a seed."""

    def __init__(self, seed: int) -> None:
        self._dice = random.Random(seed)
        self._corpus = corpus()

    def message(self) -> bytes:
        """A valid message with some changes; its length is still right."""
        dice = self._dice
        whole = bytearray(dice.choice(self._corpus))
        for _ in range(dice.choice([0, 0, 1, 2, 4])):
            at = dice.randrange(16, len(whole) + 1)
            match dice.randrange(5):
                case 0:
                    whole[at:at] = bytes([dice.choice(b"\0/@n1\x80\xff")])
                case 1:
                    del whole[at : at + dice.randrange(1, 5)]
                case 2:
                    whole[at:at] = dice.choice(self._corpus)[16:]
                case 3:
                    whole[at:at] = dice.choice([b"\0", b"/a", b"x"]) * 600
                case _:
                    struct.pack_into("<I", whole, 4 * dice.randrange(3), self._word())
        del whole[16 + XENSTORE_PAYLOAD_MAX :]
        struct.pack_into("<I", whole, 12, len(whole) - 16)
        return bytes(whole)

    def _word(self) -> int:
        return self._dice.choice([*EDGES, self._dice.randrange(28)])

    def nonsense(self) -> bytes:
        """A header with a length that is not allowed, or noise."""
        if self._dice.random() < 0.5:
            return HEADER.pack(X.READ, 0, 0, self._dice.randrange(4097, 1 << 32))
        return b"\xff" * 16 + self._dice.randbytes(self._dice.randrange(100))


def test_mutated_messages_get_an_answer_each(store: StoreProcess) -> None:
    mutator = Mutator(1)
    store.at_home(1)
    before = store.rss()
    sent = 0
    while sent < MESSAGES:
        for domid in (0, 1, 0, 2):
            sent += send_batch(store, store.client(domid), mutator)
    store.check()
    assert store.rss() - before < GROWTH_MAX


def send_batch(store: StoreProcess, client: RawClient, mutator: Mutator) -> int:
    """Messages, each with its answer, on a connection that nonsense then ends."""
    messages = [mutator.message() for _ in range(BATCH)]
    replies = client.pipeline(b"".join(messages), BATCH)
    for request, reply in zip(messages, replies, strict=True):
        assert HEADER.unpack_from(request)[1:3] == (reply.req_id, reply.tx_id)
    client.send(mutator.nonsense())
    assert client.is_closed()
    client.close()
    for domid in (1, 2, 3):
        store.tell("domain_created", domid)
    return BATCH


def test_mutated_messages_on_a_ring(store: StoreProcess) -> None:
    mutator = Mutator(2)
    store.at_home(1)
    ring = store.ring(1)
    for number in range(RING_MESSAGES):
        message = mutator.message()
        ring.send(message)
        reply = ring.reply()
        assert HEADER.unpack_from(message)[1:3] == (reply.req_id, reply.tx_id)
        if number % 100 == 0:
            ring.put(mutator.nonsense())
            assert ring.wait_until(lambda: ring.word(ERROR) != 0, 10)
            reconnect(ring)
    assert ring.result(X.GET_DOMAIN_PATH, b"1\0") == HOME


def reconnect(ring: RawRing) -> None:
    ring.set_word(CONNECTION, 1)
    ring.notify()
    assert ring.wait_until(lambda: ring.word(CONNECTION) == 0, 10)
    ring.start_anew_here()
