"""The store's engine (native/xenstore/engine.h), called directly and without I/O.

Built on its own, from the header's own declarations. `ask`, `result` and `events` are
what most tests need; a test that is about the bytes uses `Conn.feed` and `Conn.take`.
"""

import os
import re
import subprocess
import tempfile
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import Any, Final, NamedTuple

from cffi import FFI

from xenvirt.abi.xs_wire import XsWire
from xenvirt.xenstore.framing import Message, MessageDecoder, encode

NATIVE: Final = Path(__file__).resolve().parent.parent / "native"

IO_HEADERS: Final = ('"io.h"', '"server.h"')
"""What the files of native/xenstore include that do I/O."""

LOG: Final = 4
"""The upcall that nobody waits for."""

NEVER: Final = (1 << 64) - 1

PIECES: Final = 1024
"""Output pieces that are looked at together."""


def sources() -> list[Path]:
    """The engine's C files."""
    return [
        path
        for path in sorted((NATIVE / "xenstore").glob("*.c"))
        if not any(header in path.read_text() for header in IO_HEADERS)
    ]


def compiler_flags() -> list[str]:
    """As the extension is built; XENVIRT_SANITIZE=address as there."""
    flags = ["-std=gnu11", "-O2", "-g", "-pthread", f"-I{NATIVE}"]
    if os.environ.get("XENVIRT_SANITIZE") == "address":
        flags += ["-O1", "-fno-omit-frame-pointer"]
        flags += ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"]
    return flags


def declarations() -> str:
    """engine.h and what it includes, without what the preprocessor takes out."""
    headers = ("abi/xs_wire.h", "xenstore/engine.h", "xenstore/journal.h")
    text = "\n".join((NATIVE / header).read_text() for header in headers)
    iovec = "struct iovec { void *iov_base; size_t iov_len; };\n"
    opaque = "struct xs_perm;\nvoid free(void *);\n"
    return iovec + opaque + re.sub(r"^#.*$", "", text, flags=re.MULTILINE)


@cache
def compiled() -> tuple[FFI, Any]:
    """Build it, once a run; the library stays loaded when its file is gone."""
    ffi = FFI()
    ffi.cdef(declarations())
    with tempfile.TemporaryDirectory() as directory:
        library = Path(directory) / "xs_engine.so"
        flags = [*compiler_flags(), "-shared", "-fPIC"]
        subprocess.run(["gcc", *flags, "-o", library, *sources()], check=True)
        return ffi, ffi.dlopen(str(library))


class Upcall(NamedTuple):
    """What a request needs of the hypervisor."""

    conn_id: int
    kind: int
    domid: int
    gfn: int
    evtchn: int
    text: str


def succeed(upcall: Upcall) -> int:
    """A hypervisor that can do everything."""
    return 0


class Engine:
    """One store. `answer` tells the errno of each upcall; None leaves them waiting."""

    def __init__(
        self,
        existing: Iterable[int] = (1, 2, 3),
        answer: Callable[[Upcall], int] | None = succeed,
        journal: Path | None = None,
    ) -> None:
        self.ffi, self.lib = compiled()
        engine = self.lib.xs_engine_new()
        assert engine
        self.handle = self.ffi.gc(engine, self.lib.xs_engine_free)
        self.connections: dict[int, Conn] = {}
        self.answer_upcall = answer
        self.log: list[str] = []
        if journal is not None:
            opened = self.ffi.new("struct xs_journal **")
            assert self.lib.xs_journal_open(str(journal).encode(), opened) == 0
            assert self.lib.xs_engine_use_journal(engine, opened[0]) == 0
        for domid in existing:
            self.domain_created(domid)
        self._own = self.connect(0)

    def close(self) -> None:
        """Free it, with every connection; no more calls on any of them."""
        self.ffi.release(self.handle)
        self.connections.clear()

    def connect(self, domid: int, *, privileged: bool | None = None) -> "Conn":
        """A new client that speaks as `domid`; dom0 is privileged unless told."""
        privileged = domid == 0 if privileged is None else privileged
        conn = Conn(self, self.lib.xs_engine_connect(self.handle, domid, privileged))
        self.connections[conn.id] = conn
        return conn

    def disconnect(self, conn: "Conn") -> None:
        """Forget a client."""
        del self.connections[conn.id]
        self.lib.xs_engine_disconnect(self.handle, conn.handle)

    def domain_created(self, domid: int) -> None:
        """Permissions may name the domain from now on."""
        assert self.lib.xs_engine_domain_created(self.handle, domid) == 0

    def domain_dead(self, domid: int) -> None:
        """A domain is gone; a transport would now close its dropped connections."""
        self.lib.xs_engine_domain_dead(self.handle, domid)

    def introduced(self, domid: int) -> bool:
        """Whether the domain was introduced."""
        return bool(self.lib.xs_engine_introduced(self.handle, domid))

    def features(self, domid: int) -> int:
        """Bits of server_features that the domain's ring page offers."""
        return int(self.lib.xs_engine_features(self.handle, domid))

    def set_time(self, now_ms: int) -> None:
        """Move the engine's clock; nothing happens until `timeout`."""
        self.lib.xs_engine_set_time(self.handle, now_ms)

    def next_timeout(self) -> int | None:
        """When something is due without input, in ms; None for never."""
        due = int(self.lib.xs_engine_next_timeout(self.handle))
        return None if due == NEVER else due

    def timeout(self) -> None:
        """Do what is due."""
        self.lib.xs_engine_timeout(self.handle)

    def next_upcall(self) -> Upcall | None:
        """The next upcall that waits, taken away."""
        raw = self.ffi.new("struct xs_upcall *")
        if not self.lib.xs_engine_next_upcall(self.handle, raw):
            return None
        text = self.ffi.buffer(raw.text, raw.text_len)[:].decode("latin-1")
        return Upcall(raw.conn_id, raw.kind, raw.domid, raw.gfn, raw.evtchn, text)

    def answer(self, conn_id: int, error: int = 0) -> None:
        """End the request that made an upcall, with success or with an errno."""
        self.lib.xs_engine_answer(self.handle, conn_id, error)

    def answer_all(self) -> int:
        """Answer every upcall that waits as `answer` says; returns how many."""
        if self.answer_upcall is None:
            return 0
        answered = 0
        while (upcall := self.next_upcall()) is not None:
            if upcall.kind == LOG:
                self.log.append(upcall.text)
            else:
                self.answer(upcall.conn_id, self.answer_upcall(upcall))
                answered += 1
        return answered

    def woken(self) -> list["Conn"]:
        """The connections that have output or were dropped since the last call."""
        found = []
        while (handle := self.lib.xs_engine_woken(self.handle)) != self.ffi.NULL:
            found.append(self.connections[int(self.lib.xs_conn_id(handle))])
        return found

    def control(self, *command: str) -> bytes | str:
        """The reply to CONTROL, on a connection of the tests' own."""
        payload = b"".join(word.encode() + b"\0" for word in command)
        found = result(self._own.ask(XsWire.CONTROL, payload))
        self._own.take()
        return found

    def is_consistent(self) -> bool:
        """What CONTROL check says."""
        return self.control("check") == b"OK\0"


class Conn:
    """One client. What it is sent waits in the engine until `take`."""

    def __init__(self, engine: Engine, handle: Any) -> None:
        assert handle != engine.ffi.NULL
        self.engine = engine
        self.handle = handle
        self.id = int(engine.lib.xs_conn_id(handle))

    @property
    def domid(self) -> int:
        """Whom it speaks as."""
        return int(self.engine.lib.xs_conn_domid(self.handle))

    def is_alive(self) -> bool:
        """Whether the transport may keep it open."""
        return bool(self.engine.lib.xs_conn_alive(self.handle))

    def is_broken(self) -> bool:
        """Whether a message came that is too long."""
        return bool(self.engine.lib.xs_conn_broken(self.handle))

    def is_ready(self) -> bool:
        """Whether a whole request waits that may be served now."""
        engine = self.engine
        return bool(engine.lib.xs_conn_ready(engine.handle, self.handle))

    def receive(self, data: bytes) -> int:
        """Give the engine what it has room for; returns the bytes taken."""
        ffi, lib = self.engine.ffi, self.engine.lib
        room = ffi.new("void **")
        size = min(lib.xs_conn_room(self.engine.handle, self.handle, room), len(data))
        if size:
            ffi.memmove(room[0], data, size)
            lib.xs_conn_received(self.engine.handle, self.handle, size)
        return int(size)

    def serve(self, budget: int = NEVER >> 32) -> int:
        """Serve up to `budget` requests that wait; returns how many were."""
        engine = self.engine
        return int(engine.lib.xs_conn_serve(engine.handle, self.handle, budget))

    def run(self) -> None:
        """Serve until nothing may be served, with the answers to its upcalls."""
        while self.is_alive() and (
            (self.is_ready() and self.serve()) or self.engine.answer_all()
        ):
            pass

    def feed(self, data: bytes) -> bytes:
        """Receive and serve in turn; returns what it has no room for now."""
        while data and self.is_alive():
            taken = self.receive(data)
            data = data[taken:]
            self.run()
            if not taken:
                break
        return data

    def reset(self) -> None:
        """As if it had just connected."""
        self.engine.lib.xs_conn_reset(self.engine.handle, self.handle)

    def output(self) -> bytes:
        """What waits to be sent, which stays there."""
        ffi, lib = self.engine.ffi, self.engine.lib
        pieces = ffi.new("struct iovec[]", PIECES)
        count = lib.xs_conn_output(self.handle, pieces, PIECES)
        return b"".join(
            ffi.buffer(pieces[i].iov_base, pieces[i].iov_len)[:] for i in range(count)
        )

    def sent(self, size: int) -> None:
        """The first `size` bytes of the output are away."""
        self.engine.lib.xs_conn_sent(self.engine.handle, self.handle, size)

    def take(self) -> bytes:
        """Everything that waits to be sent, taken away."""
        taken = []
        while output := self.output():
            self.sent(len(output))
            taken.append(output)
        return b"".join(taken)

    def messages(self) -> list[Message]:
        """Everything that waits to be sent, taken away."""
        return MessageDecoder().feed(self.take())

    def send(self, type_: int, payload: bytes, tx_id: int = 0, req_id: int = 7) -> None:
        """One request, received and, if nothing delays it, served."""
        assert self.feed(encode(type_, req_id, tx_id, payload)) == b""

    def ask(self, type_: int, payload: bytes = b"", tx_id: int = 0) -> Message:
        """One request's reply; events stay unread, and replies behind unread events."""
        before = len(self.output())
        self.send(type_, payload, tx_id)
        new = MessageDecoder().feed(self.output()[before:])
        self._drop_replies()
        (reply,) = (m for m in new if m.type != XsWire.WATCH_EVENT)
        assert reply.req_id == 7
        assert reply.tx_id == tx_id
        assert reply.type in (type_, XsWire.ERROR)
        return reply

    def _drop_replies(self) -> None:
        """Take the replies before the first event away, as a client would."""
        size = 0
        for message in MessageDecoder().feed(self.output()):
            if message.type == XsWire.WATCH_EVENT:
                break
            size += len(encode(*message))
        if size:
            self.sent(size)

    def events(self) -> list[tuple[str, str]]:
        """The (path, token) of every event that waits; all output is taken away."""
        found = []
        for message in self.messages():
            if message.type == XsWire.WATCH_EVENT:
                assert message[1:3] == (0, 0)
                path, token, end = message.payload.split(b"\0")
                assert end == b""
                found.append((path.decode(), token.decode("latin-1")))
        return found


def ask(
    engine: Engine, conn: Conn, type_: int, payload: bytes = b"", tx_id: int = 0
) -> Message:
    """One request on the engine; returns the reply, leaves events unread."""
    return conn.ask(type_, payload, tx_id)


def result(reply: Message) -> bytes | str:
    """A reply's payload, or an error's name as text."""
    if reply.type == XsWire.ERROR:
        return reply.payload.rstrip(b"\0").decode()
    return reply.payload


def events(conn: Conn) -> list[tuple[str, str]]:
    """The (path, token) of every event that waits, taken away."""
    return conn.events()
