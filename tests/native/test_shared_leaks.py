"""What the other end can read beside what it is to be told: nothing of ours."""

from contextlib import ExitStack

from tests.native.frames import big_tcp, plain
from tests.native.scripted import ScriptedBack, ScriptedFront
from xenvirt.testing.ring import RING_SIZE
from xenvirt.testing.slots import (
    RxRequest,
    RxResponse,
    TxRequest,
    TxResponse,
    gso,
    pack,
    parse,
)

FILLED = 0xAA


def test_xsa_216_a_tx_response_is_four_bytes_and_no_more(stack: ExitStack) -> None:
    front = ScriptedFront(stack)
    request = TxRequest(front.page_with(plain(), 5), 5, 2, 7, 60)
    front.send(request)
    assert front.tx.raw(0) == pack(TxResponse(7, 0)) + pack(request)[4:]


def test_xsa_216_every_byte_of_an_rx_response_is_written(stack: ExitStack) -> None:
    front = ScriptedFront(stack)
    front.post(40)
    for index in range(40):
        # The id and what stands between it and the gref.
        front.rx.write_raw(index, bytes([index, 0, FILLED, FILLED]))
    frame, vnet = big_tcp(4, 3000)
    front.end.tap.send(frame, vnet)
    front.run_rx()
    assert front.rx.raw(0) == pack(RxResponse(0, 0, 2 | 8 | 1, 3000))
    assert front.rx.raw(1) == pack(gso(vnet.gso_size))


def test_xsa_216_every_byte_of_a_request_is_written(stack: ExitStack) -> None:
    back = ScriptedBack(stack)
    for index in range(RING_SIZE):
        raw = back.rx.raw(index)
        assert raw == pack(parse(RxRequest, raw))
    back.tx.page[64:] = bytes([FILLED]) * (len(back.tx.page) - 64)
    back.end.tap.send(*big_tcp(4, 3000))
    back.run_tx()
    request = parse(TxRequest, back.tx.raw(0))
    assert back.tx.raw(0) == pack(request)
    assert back.tx.raw(1) == pack(gso(1448)) + bytes([FILLED]) * 4


def test_xsa_403_a_granted_page_holds_frames_of_this_vif_alone(
    stack: ExitStack,
) -> None:
    back = ScriptedBack(stack)
    frames = [plain(4096, seed=1), plain(60, seed=2)]
    for frame in frames:
        back.end.tap.send(frame)
        back.run_tx()
        (packet,) = back.tx_packets()
        assert back.data(packet) == frame
        (request,) = packet
        assert isinstance(request, TxRequest)
        back.answer(TxResponse(request.id))
    pages = [back.table.map(gref, readonly=True) for gref in back.end.buffers.tx_grefs]
    whole = {bytes(page) for page in pages}
    own = {bytes(4096), frames[0], frames[1] + bytes(4096 - 60)}
    assert whole <= own | {frames[1] + frames[0][60:]}
