"""Hypercalls for a command: one at a time, blocking, without an event loop."""

import socket
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from xenvirt.abi.ids import DevId, DomId
from xenvirt.errors import (
    HypercallError,
    LocalError,
    NotFoundError,
    NotPermittedError,
)
from xenvirt.hypervisor import wire

DEFAULT_TIMEOUT_S: Final = 30.0
"""Longer than a domain takes to stop, killed ends included."""


@dataclass(frozen=True, slots=True)
class PublishedPage:
    """A queue's statistics page; whoever was handed it closes `fd`."""

    side: str
    queue: int
    pid: int
    fd: int


def connect(path: Path, timeout_s: float | None = None) -> socket.socket:
    """Return a socket to the hypervisor, not inheritable.

    NotFoundError if there is no daemon behind `path`, NotPermittedError, LocalError;
    BlockingIOError if `timeout_s` is 0 and too many wait already.
    """
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        sock.settimeout(timeout_s)
        sock.connect(str(path))
    except (FileNotFoundError, ConnectionRefusedError) as error:
        sock.close()
        raise NotFoundError(
            f"no daemon answers on {path}", cause=error.strerror or ""
        ) from error
    except PermissionError as error:
        sock.close()
        raise NotPermittedError(
            f"may not connect to {path}", cause=error.strerror or ""
        ) from error
    except OSError as error:
        sock.close()
        if timeout_s == 0 and isinstance(error, BlockingIOError):
            raise
        raise LocalError(
            f"cannot connect to {path}", cause=error.strerror or str(error)
        ) from error
    return sock


def unpack(packet: wire.Packet | None) -> tuple[dict[str, object], list[int]]:
    """Return result and descriptors of a reply; the caller owns these.

    HypercallError if it is a refusal; ECONNRESET if the hypervisor has closed.
    """
    if packet is None:
        raise HypercallError("ECONNRESET", "the hypervisor has closed the connection")
    result = packet.body.get("ok")
    if isinstance(result, dict):
        return result, packet.fds
    wire.close_fds(packet.fds)
    raise HypercallError(
        str(packet.body.get("error", "EPROTO")),
        str(packet.body.get("why", "the hypervisor's answer is no answer")),
    )


class SyncClient:
    """A blocking connection; `close` it, or use it as a context.

    When the daemon was killed it connects again, and repeats a call that got no
    answer; what was allocated through it is gone then.
    """

    sees_ports: Final = True

    def __init__(self, path: Path, *, timeout_s: float = DEFAULT_TIMEOUT_S) -> None:
        self._path = path
        self._timeout_s = timeout_s
        self._sock = connect(path, timeout_s)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; what was allocated through it goes with it."""
        self._sock.close()

    def call(
        self, op: str, fds: Sequence[int] = (), /, **args: object
    ) -> tuple[dict[str, object], list[int]]:
        """Make one hypercall; return its result and descriptors, now the caller's.

        `fds` stay the caller's. HypercallError when refused, ETIMEDOUT without an
        answer in time, ECONNRESET when the daemon is gone for good.
        """
        body: dict[str, object] = {"op": op, **args}
        deadline = time.monotonic() + self._timeout_s
        while True:
            packet = self._exchange(op, wire.encode(body, wire.MAX_REQUEST), fds)
            if packet is not None or time.monotonic() > deadline:
                return unpack(packet)
            self._reconnect()
            body["again"] = True

    def _exchange(
        self, op: str, request: bytes, fds: Sequence[int]
    ) -> wire.Packet | None:
        try:
            wire.send(self._sock, request, fds)
            return wire.receive(self._sock, wire.MAX_REPLY)
        except TimeoutError:
            # The answer would be taken for that of the next call.
            self.close()
            raise HypercallError(
                "ETIMEDOUT", f"the daemon has not answered {op}"
            ) from None
        except (BrokenPipeError, ConnectionResetError):
            return None
        except OSError as error:
            raise HypercallError(
                "ECONNRESET", f"the connection to the daemon broke: {error.strerror}"
            ) from error

    def _reconnect(self) -> None:
        """Connect to the daemon that is started again, which may take a moment."""
        self._sock.close()
        try:
            self._sock = connect(self._path, self._timeout_s)
        except (NotFoundError, TimeoutError) as error:
            raise HypercallError("ECONNRESET", "the daemon is gone") from error

    def start_info(self) -> dict[str, object]:
        """Return who the caller is to the hypervisor, without the descriptors."""
        return self._plain("start_info")

    def domain_create(self, name: str, *, bare: bool = False) -> dict[str, object]:
        """Create a domain; return domid, store_gfn and store_port.

        Nobody starts the ends of a `bare` one, which has no namespace either.
        """
        # Its uuid tells the domain that this call has made from any other.
        args: dict[str, object] = {"name": name, "uuid": str(uuid.uuid4())}
        if bare:
            # Not said otherwise: a daemon of before knows no such word.
            args["bare"] = True
        return self._plain("domain_create", **args)

    def domain_destroy(self, domid: DomId) -> None:
        """Stop a domain's processes and take it down."""
        self._plain("domain_destroy", domid=domid)

    def domain_list(self) -> list[dict[str, object]]:
        """Return every domain: domid, name, uuid, created (s), ends."""
        return self._list("domains", "domid", "domain_list")

    def ports(self, domid: DomId) -> list[dict[str, object]]:
        """Return a domain's open ports: port, state, remote_domid, remote_port."""
        return self._list("ports", "port", "ports", domid=domid)

    def published(self, domid: DomId, devid: DevId) -> list[PublishedPage]:
        """Return the statistics pages of a vif of a frontend domain."""
        result, fds = self.call("published", domid=domid, devid=devid)
        return [
            PublishedPage(str(page["side"]), _int(page["queue"]), _int(page["pid"]), fd)
            for page, fd in zip(_rows(result, "pages"), fds, strict=True)
        ]

    def shutdown(self) -> int:
        """Tell the daemon to take everything down; return its pid at once."""
        return _int(self._plain("shutdown")["pid"])

    def _plain(self, op: str, **args: object) -> dict[str, object]:
        result, fds = self.call(op, (), **args)
        wire.close_fds(fds)
        return result

    def _list(
        self, name: str, key: str, op: str, **args: object
    ) -> list[dict[str, object]]:
        rows: list[dict[str, object]] = []
        more = True
        while more:
            first = _int(rows[-1][key]) + 1 if rows else 0
            result = self._plain(op, first=first, **args)
            rows += _rows(result, name)
            more = result["more"] is True
        return rows


def _rows(result: dict[str, object], name: str) -> list[dict[str, object]]:
    rows = result[name]
    assert isinstance(rows, list)
    return rows


def _int(value: object) -> int:
    assert isinstance(value, int)
    return value
