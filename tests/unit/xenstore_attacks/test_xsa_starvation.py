"""One domain's writes, or its sleep, must not keep the others from their work.

Time is the engine's own clock here, which the tests move.
"""

from collections.abc import Iterator

import pytest

from tests.raw_store import RawClient
from tests.store_process import StoreProcess
from tests.xs_engine import Conn, Engine, result
from xenvirt.abi.xs_wire import XsWire as X
from xenvirt.xenstore.framing import encode

OK = b"OK\0"
WRITE = encode(X.WRITE, 1, 0, b"/shared\0v")
TIMEOUT_MS = 20_000


@pytest.fixture
def engine() -> Iterator[Engine]:
    made = Engine()
    made.set_time(1)
    dom0 = made.connect(0)
    assert result(dom0.ask(X.WRITE, b"/shared\0v")) == OK
    assert result(dom0.ask(X.SET_PERMS, b"/shared\0b0\0")) == OK
    yield made
    made.close()


class Writer:
    """A domain that writes as fast as it is let, and reads all replies."""

    def __init__(self, engine: Engine, domid: int = 1) -> None:
        self.conn = engine.connect(domid)
        self._waiting = b""

    def write(self, at_most: int) -> int:
        """Write until it has to wait; returns how often it could."""
        served = 0
        while served < at_most:
            self._waiting = self._waiting or WRITE
            self._waiting = self._waiting[self.conn.receive(self._waiting) :]
            if not self.conn.is_ready():
                break
            served += self.conn.serve(1)
            self.conn.take()
        return served


def test_xsa_206_a_slow_transaction_commits_beside_a_writer(engine: Engine) -> None:
    writer, slow = Writer(engine), engine.connect(2)
    now = 1
    while True:
        tx_id = int(result(slow.ask(X.TRANSACTION_START, b"\0"))[:-1])
        for step in (X.READ, X.DIRECTORY, X.READ):
            now += 1
            engine.set_time(now)
            engine.timeout()
            writer.write(at_most=1000)
            assert isinstance(result(slow.ask(step, b"/shared\0", tx_id)), bytes)
        ended = result(slow.ask(X.TRANSACTION_END, b"T\0", tx_id))
        if ended == OK:
            return
        assert ended == "EAGAIN"
        assert now < 1000


def test_xsa_206_writes_have_a_burst_and_then_a_rate(engine: Engine) -> None:
    writer, other = Writer(engine), engine.connect(2)
    other.ask(X.TRANSACTION_START, b"\0")
    burst = writer.write(at_most=10_000)
    assert 1 <= burst <= 60
    written = 0
    for now in range(2, 1002):
        engine.set_time(now)
        engine.timeout()
        written += writer.write(at_most=10_000)
    assert 50 <= written <= 200


def test_xsa_206_who_waits_is_told_when_to_go_on(engine: Engine) -> None:
    writer, other = Writer(engine), engine.connect(2)
    other.ask(X.TRANSACTION_START, b"\0")
    writer.write(at_most=10_000)
    due = engine.next_timeout()
    assert due is not None
    assert 1 < due <= 1001
    engine.woken()
    engine.set_time(due)
    engine.timeout()
    assert writer.conn.is_ready()
    assert writer.conn in engine.woken()


def test_xsa_206_reading_costs_nothing(engine: Engine) -> None:
    reader, other = engine.connect(1), engine.connect(2)
    other.ask(X.TRANSACTION_START, b"\0")
    for _ in range(5000):
        assert result(reader.ask(X.READ, b"/shared\0")) == b"v"


def test_xsa_206_writing_is_free_while_nobody_has_a_transaction(
    engine: Engine,
) -> None:
    writer, other = Writer(engine), engine.connect(2)
    assert writer.write(at_most=5000) == 5000
    tx_id = int(result(other.ask(X.TRANSACTION_START, b"\0"))[:-1])
    assert writer.write(at_most=5000) < 5000
    assert result(other.ask(X.TRANSACTION_END, b"F\0", tx_id)) == OK
    engine.set_time(10_000)
    engine.timeout()
    assert writer.write(at_most=5000) == 5000


def test_xsa_206_committing_in_a_loop_is_writing_too(engine: Engine) -> None:
    writer, other = engine.connect(1), engine.connect(2)
    other.ask(X.TRANSACTION_START, b"\0")
    commit = [
        encode(X.TRANSACTION_START, 1, 0, b"\0"),
        encode(X.WRITE, 1, 0, b"/shared\0v"),
        encode(X.TRANSACTION_END, 1, 0, b"T\0"),
    ]
    commits = 0
    while commits < 1000:
        assert writer.receive(commit[0])
        if not writer.is_ready():
            break
        writer.serve()
        tx_id = int(writer.messages()[0].payload[:-1])
        for request, payload in ((X.WRITE, b"/shared\0v"), (X.TRANSACTION_END, b"T\0")):
            assert result(writer.ask(request, payload, tx_id)) == OK
        commits += 1
    assert 1 <= commits <= 60


def test_xsa_206_the_privileged_never_wait(engine: Engine) -> None:
    other, dom0 = engine.connect(2), engine.connect(0)
    other.ask(X.TRANSACTION_START, b"\0")
    for _ in range(2000):
        assert result(dom0.ask(X.WRITE, b"/shared\0v")) == OK


def test_xsa_206_the_rate_is_shared_by_however_many_domains() -> None:
    engine = Engine(existing=range(1, 401))
    engine.set_time(1)
    dom0 = engine.connect(0)
    dom0.ask(X.WRITE, b"/shared\0v")
    dom0.ask(X.SET_PERMS, b"/shared\0b0\0")
    for domid in range(1, 401):
        dom0.ask(X.INTRODUCE, b"%d\x001\x001\0" % domid)
    engine.connect(2).ask(X.TRANSACTION_START, b"\0")
    writer = Writer(engine)
    writer.write(at_most=10_000)
    written = 0
    for now in range(2, 20_002):
        engine.set_time(now)
        engine.timeout()
        written += writer.write(at_most=10_000)
    assert 5 <= written <= 200 * 20
    engine.close()


def test_xsa_206_the_last_domain_dies_in_debt() -> None:
    engine = Engine(existing=[1])
    engine.set_time(1)
    dom0 = engine.connect(0)
    dom0.ask(X.WRITE, b"/shared\0v")
    dom0.ask(X.SET_PERMS, b"/shared\0b0\0")
    dom0.ask(X.TRANSACTION_START, b"\0")
    writer = Writer(engine)
    assert writer.write(at_most=10_000) < 10_000
    engine.domain_dead(1)
    assert not writer.conn.is_alive()
    for now in (10, 20_000):
        engine.set_time(now)
        engine.timeout()
    assert engine.is_consistent()
    engine.close()


def test_xsa_206_a_client_of_domain_0_without_privilege_is_limited_too(
    engine: Engine,
) -> None:
    for domid in (1, 2, 3):
        engine.domain_dead(domid)
    engine.connect(0).ask(X.TRANSACTION_START, b"\0")
    writer = Writer(engine)
    engine.disconnect(writer.conn)
    writer.conn = engine.connect(0, privileged=False)
    assert writer.write(at_most=10_000) < 10_000


def test_xsa_206_a_transaction_commits_beside_a_real_writer(
    store: StoreProcess,
) -> None:
    dom0 = store.client()
    dom0.do(X.WRITE, b"/shared\0v")
    dom0.do(X.SET_PERMS, b"/shared\0b0\0")
    writer, slow = store.client(1), store.client(2)
    for _ in range(1000):
        _feed(writer)
        tx_id = slow.start()
        slow.result(X.READ, b"/shared\0", tx_id)
        _feed(writer)
        slow.do(X.WRITE, b"/shared\0mine", tx_id)
        if slow.result(X.TRANSACTION_END, b"T\0", tx_id) == OK:
            return
    pytest.fail("the transaction never commits")


def _feed(writer: RawClient) -> None:
    """Have writes wait for the server at all times; drop the replies."""
    writer.sock.setblocking(False)
    for move in (
        lambda: writer.sock.send(WRITE * 1000),
        lambda: writer.sock.recv(1 << 16),
    ):
        try:
            move()
        except BlockingIOError:
            continue


def watching(engine: Engine, domid: int) -> Conn:
    """A connection of a domain that hears of every write to /shared."""
    conn = engine.connect(domid)
    assert result(conn.ask(X.WATCH, b"/shared\0t\0")) == OK
    assert conn.events() == [("/shared", "t")]
    return conn


def test_xsa_326_events_that_nobody_reads_go_after_twenty_seconds(
    engine: Engine,
) -> None:
    sleeper, dom0 = watching(engine, 1), engine.connect(0)
    dom0.ask(X.WRITE, b"/shared\0v")
    assert engine.next_timeout() == 1 + TIMEOUT_MS
    engine.set_time(TIMEOUT_MS)
    engine.timeout()
    assert sleeper.output() != b""
    engine.set_time(1 + TIMEOUT_MS)
    engine.timeout()
    assert sleeper.output() == b""
    assert engine.next_timeout() is None


def test_xsa_326_who_causes_unread_events_waits_for_twenty_seconds(
    engine: Engine,
) -> None:
    sleeper, writer = watching(engine, 1), engine.connect(2)
    asked = 0
    writer.send(X.WRITE, b"/shared/0\0v")
    while writer.take():
        asked += 1
        assert asked < 100
        writer.send(X.WRITE, b"/shared/%d\0v" % asked)
    assert asked == 20
    assert not writer.is_ready()
    engine.woken()
    engine.set_time(1 + TIMEOUT_MS)
    engine.timeout()
    assert writer.is_ready()
    assert writer in engine.woken()
    assert sleeper.output() == b""


def test_xsa_326_events_for_the_privileged_wait_for_ever(engine: Engine) -> None:
    sleeper = watching(engine, 0)
    engine.connect(0).ask(X.WRITE, b"/shared\0v")
    engine.set_time(100 * TIMEOUT_MS)
    engine.timeout()
    assert sleeper.events() == [("/shared", "t")]


def test_xsa_326_an_event_that_is_half_sent_is_sent_whole(engine: Engine) -> None:
    sleeper, dom0 = watching(engine, 1), engine.connect(0)
    dom0.ask(X.WRITE, b"/shared\0v")
    whole = sleeper.output()
    sleeper.sent(5)
    engine.set_time(1 + TIMEOUT_MS)
    engine.timeout()
    assert sleeper.output() == whole[5:]


def test_xsa_326_replies_never_time_out(engine: Engine) -> None:
    sleeper = engine.connect(1)
    sleeper.send(X.READ, b"/shared\0")
    engine.set_time(100 * TIMEOUT_MS)
    engine.timeout()
    assert [m.payload for m in sleeper.messages()] == [b"v"]
