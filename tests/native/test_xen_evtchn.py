"""A queue whose event channel is Xen's device, with a socket in the device's place.

The kernel's side writes the port that fired, and reads the port that is unmasked.
"""

import mmap
import select
import socket
from contextlib import ExitStack

import pytest

from tests.native.frames import plain
from tests.native.helpers import PAGE, FakeTap, socket_pair
from tests.native.scripted import ScriptedFront
from xenvirt.native.evtchn import Evtchn
from xenvirt.native.queue import QueueIO, back_queue
from xenvirt.native.queue_stats import QueueStats
from xenvirt.native.worker import Worker
from xenvirt.testing.slots import TxRequest

PATIENCE_S = 20
PORT, OTHER_PORT = 7, 8


class Device:
    """/dev/xen/evtchn, open for one port."""

    def __init__(self, stack: ExitStack, port: int) -> None:
        self._kernel, device = socket.socketpair()
        for each in (self._kernel, device):
            each.setblocking(False)
            stack.enter_context(each)
        self._port = port.to_bytes(4, "little")
        self.evtchn = Evtchn(device.fileno(), device.fileno(), port)

    def fire(self) -> None:
        self._kernel.send(self._port)

    def unmasked(self, timeout_s: float = PATIENCE_S) -> bool:
        if not select.select([self._kernel], [], [], timeout_s)[0]:
            return False
        assert self._kernel.recv(4) == self._port
        return True


@pytest.mark.parametrize("split", [False, True])
def test_a_port_that_fired_is_masked_until_its_queue_is_armed(
    stack: ExitStack, split: bool
) -> None:
    front = ScriptedFront(stack)
    tap = FakeTap(socket_pair(stack))
    tx = Device(stack, PORT)
    rx = Device(stack, OTHER_PORT) if split else tx
    queue = back_queue(
        QueueIO(tap.fd, tx.evtchn, rx.evtchn),
        front.link.peer_table,
        front.tx_page.gref,
        front.rx_page.gref,
        front.takes,
        QueueStats(mmap.mmap(-1, PAGE)),
    )
    stack.callback(queue.close)
    worker = Worker("test-evtchn")
    stack.callback(worker.close)
    worker.add(queue)
    stack.callback(worker.remove, queue)
    for seed in range(3):
        front.put(TxRequest(front.page_with(plain(seed=seed)), id=seed, size=60))
        front.push()
        tx.fire()
        received = tap.receive(PATIENCE_S)
        assert received is not None
        assert received.frame == plain(seed=seed)
        assert tx.unmasked()
    # What wakes the queue now is its TAP: nothing fired, so nothing is unmasked.
    tap.send(plain())
    assert not tx.unmasked(0.2)
    if split:
        assert not rx.unmasked(0)
        rx.fire()
        assert rx.unmasked()
