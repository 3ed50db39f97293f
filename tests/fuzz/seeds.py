"""Inputs to begin with: good traffic through each hop, and each thing a peer can do.

A script is written as it is read by fuzz_hop.c, in the words of its two enums.
"""

import struct
from collections.abc import Callable
from enum import IntEnum, IntFlag, auto
from typing import Final, Self

from tests.xs_corpus import corpus as store_messages


class Op(IntEnum):
    """peer.h's enum peer_op, then fuzz_hop.c's enum script_op."""

    SLOT = 0
    SLOTS = auto()
    RAW = auto()
    PUSH = auto()
    REWRITE = auto()
    INDEX = auto()
    PAGE = auto()
    FRAME = auto()
    GRANT = auto()
    RING = auto()
    RUN = auto()
    LATER = auto()
    SEND = auto()
    LEAVE = auto()
    CLOCK = auto()
    ARM = auto()
    CREDIT = auto()


class Features(IntFlag):
    """victim.h's enum victim_features."""

    SG = 1
    CSUM_V4 = 2
    CSUM_V6 = 4
    GSO_V4 = 8
    GSO_V6 = 16
    RX_NOTIFY = 32
    COPYING = 64
    SPLIT = 128


ALL: Final = Features(0x3F)
BAD_PAGE: Final = 255

CSUM_BLANK, VALIDATED, MORE, EXTRA = 1, 2, 4, 8
"""A TX request's flags; in RX the first two are the other way round."""

IPV6, UDP, LONG = 1, 2, 4
"""Kinds of a frame (frames.h)."""

FIXED_LENGTH: Final = {
    Op.SLOTS: "B", Op.REWRITE: "<BBI", Op.INDEX: "<BI", Op.FRAME: "<BHB",
    Op.GRANT: "<HBBB", Op.RUN: "B", Op.SEND: "<BBHB", Op.CLOCK: "<H", Op.CREDIT: "<HB",
}  # fmt: skip


class Script:
    """What the peer does and when the hop runs, as bytes."""

    def __init__(self) -> None:
        self.bytes = b""

    def do(self, op: Op, *arguments: int, data: bytes = b"") -> Self:
        packed = struct.pack(FIXED_LENGTH.get(op, ""), *arguments)
        self.bytes += bytes([op]) + packed + data
        return self

    def tx_request(
        self, page: int, size: int, *, offset: int = 0, flags: int = 0
    ) -> Self:
        return self.do(Op.SLOT, data=struct.pack("<BHBH", page, offset, flags, size))

    def rx_requests(self, count: int, page: int = 0) -> Self:
        return self.do(Op.SLOTS, count - 1, data=bytes([page]))

    def tx_responses(self, count: int, *, wrong_by: int = 0, status: int = 0) -> Self:
        slot = struct.pack("<HB", wrong_by % 65536, status % 256)
        return self.do(Op.SLOTS, count - 1, data=slot)

    def rx_response(self, status: int, *, offset: int = 0, flags: int = 0) -> Self:
        slot = struct.pack("<HBH", offset, flags, status % 65536)
        return self.do(Op.SLOT, data=slot)

    def gso(self, size: int = 1448, kind: int = 1, *, more: int = 0) -> Self:
        """An extra-info slot, as long as one of the TX ring."""
        raw = struct.pack("<BBHBBHI", 1, more, size, kind, 0, 0, 0)
        return self.do(Op.RAW, data=raw)

    def send(self, kind: int, size: int, offload: int, count: int = 1) -> Self:
        """Frames that come by the TAP; offload 1: blank checksum, 2: GSO too."""
        return self.do(Op.SEND, count - 1, kind, size - 1, offload)

    def later(self, nth: int, what: "Script") -> Self:
        head = bytes([nth - 1, len(what.bytes)])
        return self.do(Op.LATER, data=head + what.bytes)

    def push(self) -> Self:
        return self.do(Op.PUSH)

    def run(self, budget: int = 64) -> Self:
        return self.do(Op.RUN, budget - 1)


def back_tx() -> dict[str, Script]:
    """Requests that a frontend sends."""
    good = Script()
    for kind in range(8):
        good.do(Op.FRAME, kind, 0, kind).tx_request(kind, 200, flags=CSUM_BLANK)
    big = Script().do(Op.FRAME, 0, 0, 0)
    big.tx_request(0, 60000, flags=CSUM_BLANK | MORE | EXTRA).gso()
    for page in range(1, 14):
        big.tx_request(page, 4096, flags=MORE)
    big.tx_request(14, 60000 - 14 * 4096 + 2656)
    many = Script().do(Op.SLOTS, 255, data=struct.pack("<BHBH", 0, 0, 0, 60))
    changed = Script().do(Op.FRAME, 0, 0, 0).tx_request(0, 100, flags=CSUM_BLANK)
    for nth in (2, 6, 12, 20):
        changed.push().later(nth, Script().do(Op.PAGE, data=b"\0\x0e\0\x01\x46")).run()
        changed.tx_request(0, 100, flags=CSUM_BLANK)
    full = Script().do(Op.LEAVE)
    for _ in range(3):
        full.do(Op.SLOTS, 40, data=struct.pack("<BHBH", 0, 0, 0, 4000)).push().run()
    full.do(Op.LEAVE).run()
    steady = Script()
    for _ in range(20):
        steady.do(Op.SLOTS, 199, data=struct.pack("<BHBH", 0, 0, 0, 60)).push()
        steady.run().run().run().run()
    slow = Script().do(Op.CREDIT, 100, 50).tx_request(0, 90).tx_request(1, 90).push()
    slow.run().do(Op.CLOCK, 60).run().do(Op.ARM)
    return {
        "good": good.push().run(),
        "big": big.push().run(),
        "many": many.push().run().run().run().run(),
        "steady": steady,
        "changed": changed.push().run(),
        "tap-full": full,
        "credit": slow,
        "bad-gref": Script().tx_request(BAD_PAGE, 60).push().run(),
        "revoked": Script().do(Op.GRANT, 16, 0, 0, 0).tx_request(0, 60).push().run(),
        "req-prod": Script().do(Op.INDEX, 0, 257).run(),
    }


def back_rx() -> dict[str, Script]:
    """Buffers that a frontend posts, for frames that come by the TAP."""
    good = Script().rx_requests(200).push()
    for kind in range(8):
        good.send(kind, 200, 1)
    big = Script().rx_requests(60).push()
    big.send(0, 60000, 2).send(IPV6, 50000, 2).send(2, 9000, 1)
    steady = Script()
    for _ in range(20):
        steady.rx_requests(200).push().send(2, 60, 1, count=60).run()
        steady.send(2, 60, 0, count=60).run().run().run()
    held = Script().rx_requests(3).push().send(0, 20000, 0).run()
    held.do(Op.ARM).rx_requests(10).push().run()
    stalled = Script().send(0, 100, 0).run().do(Op.CLOCK, 11000).run()
    stalled.send(0, 100, 0).run().do(Op.CLOCK, 60000).run().do(Op.ARM)
    return {
        "good": good.run(),
        "big": big.run(),
        "steady": steady,
        "held": held,
        "stalled": stalled,
        "bad-gref": Script().rx_requests(4, BAD_PAGE).push().send(0, 99, 0).run(),
        "revoked": Script().rx_requests(9).push().do(Op.GRANT, 272, 0, 0, 0)
        .send(0, 9999, 0).run(),
        "req-prod": Script().do(Op.INDEX, 0, 300).send(0, 100, 0).run(),
        "taken-back": Script().rx_requests(20).push().send(0, 100, 0).run()
        .do(Op.INDEX, 0, 2**32 - 8).send(0, 100, 0).run(),
    }  # fmt: skip


def full_ring() -> Script:
    """A frontend's TX ring with as many requests as it sends unanswered."""
    full = Script()
    for _ in range(8):
        full.send(0, 65000, 0).run()
    return full


def small_full_ring() -> Script:
    """The same with small frames."""
    full = Script()
    for _ in range(2):
        full.send(0, 60, 0, count=160).run(64).run(64).run(64)
    return full


def front_tx() -> dict[str, Script]:
    """Responses of a backend to what comes by the TAP."""
    good = Script()
    for kind in range(8):
        good.send(kind, 200, 1)
    big = Script().send(0, 60000, 2).send(1, 50000, 2).run()
    steady = Script()
    for _ in range(6):
        steady.send(0, 60, 0, count=250).run().run().run().run().run()
        steady.tx_responses(240).push().run()
    return {
        "steady": steady,
        "good": good.run().tx_responses(8).push().run(),
        "big": big.tx_responses(1)
        .tx_responses(1, status=1)
        .tx_responses(14)
        .push()
        .run(),
        "full": full_ring().do(Op.ARM).tx_responses(80).push().run(),
        "small": small_full_ring().tx_responses(200).push().run(),
        "twice": full_ring().tx_responses(1).tx_responses(1, wrong_by=-1).push().run(),
        "wrong-id": full_ring().tx_responses(9, wrong_by=300).push().run(),
        "in-use": full_ring().do(Op.GRANT, 16, 9, 0, 0).tx_responses(9).push().run(),
    }


def front_rx() -> dict[str, Script]:
    """Frames that a backend delivers."""
    good = Script()
    for kind in range(8):
        good.do(Op.FRAME, kind, 0, kind).rx_response(200, flags=VALIDATED)
    big = Script().do(Op.FRAME, 0, 0, 0)
    big.rx_response(4096, flags=VALIDATED | MORE | EXTRA)
    big.do(Op.RAW, data=struct.pack("<BBHBBH", 1, 0, 1448, 1, 0, 0))
    for _ in range(13):
        big.rx_response(4096, flags=MORE)
    changed = Script()
    for nth in (2, 6, 12, 20):
        changed.do(Op.FRAME, nth, 0, 0).rx_response(100, flags=VALIDATED).push()
        changed.later(nth, Script().do(Op.PAGE, data=b"\0\x0e\0\x01\x46")).run()
    steady = Script()
    for _ in range(20):
        steady.do(Op.SLOTS, 249, data=struct.pack("<HBH", 0, 0, 60)).push()
        steady.run().run().run().run()
    return {
        "steady": steady,
        "good": good.push().run(),
        "big": big.rx_response(100).push().run(),
        "changed": changed,
        "error": Script().rx_response(-1).rx_response(100, offset=4090).push().run(),
        "many": Script().do(Op.SLOTS, 255, data=struct.pack("<HBH", 0, 0, 60)).push()
        .run().run().run().run(),
        "rsp-prod": Script().do(Op.INDEX, 2, 257).run(),
    }  # fmt: skip


def both(tx: dict[str, Script], rx: dict[str, Script]) -> dict[str, Script]:
    """Scripts of two hops, one ring after the other."""
    scripts = {}
    for (name, first), second in zip(tx.items(), rx.values(), strict=False):
        script = Script()
        script.bytes = first.bytes + bytes([Op.RING]) + second.bytes
        scripts[name] = script
    return scripts


def hop_inputs(scripts: dict[str, Script], *, back: bool) -> dict[str, bytes]:
    """Inputs of fuzz_hop.c: with all features, and with none and a wrap ahead."""
    inputs = {}
    for name, script in scripts.items():
        for features in (ALL, Features(0), ALL | Features.COPYING):
            if features & Features.COPYING and not back:
                continue
            start = bytes([0xF0 if features == 0 else 0]) if back else b""
            inputs[f"{name}-{features:02x}"] = bytes([features]) + start + script.bytes
    return inputs


def ring_page() -> dict[str, bytes]:
    """Pages with indices that can be, and cannot."""
    slots = struct.pack("<IHHHHHHI", 16, 0, 0, 0, 60, 0, 0, 272) * 20
    indices = {
        "new": (0, 1, 0, 1),
        "full": (0x80, 1, 0xFFFFFF80, 1),
        "few": (20, 1, 0, 1),
        "impossible": (257, 1, 0, 1),
        "behind": (0, 1, 1, 1),
    }
    return {
        f"{name}-{features:02x}": bytes([features])
        + struct.pack("<4I", *words) * 2
        + slots
        for name, words in indices.items()
        for features in (ALL, ALL | Features.COPYING)
    }


def offload() -> dict[str, bytes]:
    """Frames with flags that fit."""
    ipv4 = bytes(12) + b"\x08\0\x45" + bytes(8) + b"\x06" + bytes(22) + b"\x50"
    ipv6 = bytes(12) + b"\x86\xdd\x60" + bytes(5) + b"\x06" + bytes(45) + b"\x50"
    tagged = ipv4[:12] + b"\x88\xa8\0\x01\x81\0\0\x02" + ipv4[12:]
    udp = ipv4[:23] + b"\x11" + ipv4[24:]
    head = struct.pack("<BBBHHHH", 0x1F, 1, 1, 1448, 34, 16, 40)
    return {
        name: head + frame + bytes(60)
        for name, frame in (
            ("tcp4", ipv4),
            ("tcp6", ipv6),
            ("tags", tagged),
            ("udp", udp),
        )
    }


def xs_engine() -> dict[str, bytes]:
    """One request each."""
    return {
        str(number): bytes([number % 6]) + len(message).to_bytes(2, "little") + message
        for number, message in enumerate(store_messages())
    }


SEEDS: Final[dict[str, Callable[[], dict[str, bytes]]]] = {
    "front_tx": lambda: hop_inputs(front_tx(), back=False),
    "back_tx": lambda: hop_inputs(back_tx(), back=True),
    "back_rx": lambda: hop_inputs(back_rx(), back=True),
    "front_rx": lambda: hop_inputs(front_rx(), back=False),
    "front_queue": lambda: hop_inputs(both(front_tx(), front_rx()), back=False),
    "back_queue": lambda: hop_inputs(both(back_tx(), back_rx()), back=True),
    "ring_page": ring_page,
    "offload": offload,
    "xs_engine": xs_engine,
}
"""By harness: inputs by name."""
