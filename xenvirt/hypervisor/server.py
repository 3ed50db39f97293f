"""The hypercall socket: who calls, in which order, and what goes with a caller.

No client can block it: sends never wait, a client that does not read is dropped,
and a slow hypercall only keeps its own connection waiting. What a hypercall has
changed is kept over a crash before the hypercall is answered.
"""

import asyncio
import contextlib
import logging
import os
import socket
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from xenvirt.abi.ids import DomId
from xenvirt.errors import HypercallError, XenvirtError
from xenvirt.hypervisor import arguments, wire
from xenvirt.hypervisor.caller import Caller, Identities, peer_credentials
from xenvirt.hypervisor.operations import Reply
from xenvirt.hypervisor.session import Session

if TYPE_CHECKING:
    from collections.abc import Awaitable, Sequence

    from xenvirt.hypervisor.operations import Operations
    from xenvirt.hypervisor.system import System

_log = logging.getLogger(__name__)

MAX_CONNECTIONS_PER_UID: Final = 64
"""An end needs one. Root's tools are not limited."""

_ACCEPT_PAUSE_S: Final = 0.5


class _Connection:
    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.pid, self.uid = peer_credentials(sock)
        self.session = Session(self.pid, self.uid)
        self.slow_call: asyncio.Task[None] | None = None
        self.open = True


@dataclass(frozen=True, slots=True)
class HandedOver:
    """A connection for the next image of this process, which owns `fd` then.

    `lasting`: its client knows the session by that name.
    """

    fd: int
    session: str
    lasting: bool


class Server:
    """Serves hypercalls on a listening SOCK_SEQPACKET socket, which it owns."""

    def __init__(
        self,
        listening: socket.socket,
        system: "System",
        operations: "Operations",
        identities: Identities,
    ) -> None:
        self._listening = listening
        self._system = system
        self._operations = operations
        self._identities = identities
        self._connections: set[_Connection] = set()
        self._orphans: dict[Session, int] = {}
        self._named: list[Session] = []
        self._loop = asyncio.get_running_loop()
        listening.setblocking(False)

    def start(self) -> None:
        """Begin to serve; sessions whose process is gone end now, or when it goes."""
        for session in list(self._system.orphans.values()):
            self._wait_for_owner(session)
        self.go_on()

    def go_on(self) -> None:
        """Serve again after `hand_over`, because there is no next image."""
        for session in self._named:
            self._system.unname_session(session)
        self._named.clear()
        for connection in self._connections:
            self._loop.add_reader(connection.sock.fileno(), self._receive, connection)
        self._loop.add_reader(self._listening.fileno(), self._accept)

    def take_over(self, handed: HandedOver) -> None:
        """Serve a connection that an earlier image of this process had; owns it."""
        connection = _Connection(socket.socket(fileno=handed.fd))
        with contextlib.suppress(HypercallError):
            connection.session = self._system.resume_session(
                handed.session, connection.uid
            )
            if not handed.lasting:
                self._system.unname_session(connection.session)
        self._connections.add(connection)

    async def hand_over(self) -> list[HandedOver]:
        """Finish what was taken on, serve nobody any more, and return everybody.

        The descriptors stay open here; nothing is read until `go_on`.
        """
        self._loop.remove_reader(self._listening.fileno())
        for connection in self._connections:
            self._loop.remove_reader(connection.sock.fileno())
        await self.drain()
        handed = []
        for connection in self._connections:
            self._loop.remove_reader(connection.sock.fileno())
            session = connection.session
            if session.name is None:
                self._system.name_session(session)
                self._named.append(session)
            assert session.name is not None
            handed.append(
                HandedOver(
                    connection.sock.fileno(), session.name, session not in self._named
                )
            )
        return handed

    def stop_listening(self) -> None:
        """Refuse new clients, who then know that this daemon is going."""
        if self._listening.fileno() < 0:
            return
        self._loop.remove_reader(self._listening.fileno())
        # Other processes have the socket too.
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()

    def close(self) -> None:
        """Drop every client and close the socket; again is harmless.

        Answers that have not been given are lost: see `drain`.
        """
        self.stop_listening()
        for connection in list(self._connections):
            self._drop(connection)
        for session in list(self._orphans):
            self._forget_orphan(session)

    async def drain(self) -> None:
        """Wait until every hypercall that was taken on has been answered."""
        tasks = [c.slow_call for c in self._connections if c.slow_call is not None]
        if tasks:
            await asyncio.wait(tasks)

    def drop_domain(self, domid: "DomId") -> None:
        """Drop the connections of a domain's processes and what goes with them."""
        for connection in list(self._connections):
            try:
                caller_domid, privileged = self._identities.identify(connection.uid)
            except HypercallError:
                continue
            if caller_domid == domid and not privileged:
                self._drop(connection)

    def _accept(self) -> None:
        try:
            sock, _ = self._listening.accept()
        except BlockingIOError:
            return
        except OSError as error:
            # Out of descriptors: the waiting client would wake the loop for ever.
            _log.warning("cannot accept a hypercall client: %s", error.strerror)
            self._loop.remove_reader(self._listening.fileno())
            self._loop.call_later(_ACCEPT_PAUSE_S, self._accept_again)
            return
        sock.setblocking(False)
        connection = _Connection(sock)
        if self._too_many(connection):
            _log.warning(
                "uid %d (pid %d) has %d hypercall connections; refused another",
                connection.uid, connection.pid, MAX_CONNECTIONS_PER_UID,
            )  # fmt: skip
            sock.close()
            return
        self._connections.add(connection)
        self._loop.add_reader(sock.fileno(), self._receive, connection)

    def _accept_again(self) -> None:
        if self._listening.fileno() >= 0:
            self._loop.add_reader(self._listening.fileno(), self._accept)

    def _too_many(self, connection: _Connection) -> bool:
        if connection.uid in self._identities.privileged_uids:
            return False
        same = sum(1 for other in self._connections if other.uid == connection.uid)
        return same >= MAX_CONNECTIONS_PER_UID

    def _receive(self, connection: _Connection) -> None:
        try:
            packet = wire.receive(connection.sock, wire.MAX_REQUEST)
        except BlockingIOError:
            return
        except HypercallError as error:
            self._refuse(connection, None, error)
            return
        except OSError:
            self._drop(connection)
            return
        if packet is None:
            self._drop(connection)
            return
        self._handle(connection, packet)

    def _handle(self, connection: _Connection, packet: wire.Packet) -> None:
        op = packet.body.pop("op", None)
        try:
            reply = self._run(connection, op, packet)
        except Exception as error:
            wire.close_fds(packet.fds)
            self._refuse(connection, op, error)
            return
        if isinstance(reply, Reply):
            wire.close_fds(packet.fds)
            if self._system.keeper.settled:
                self._answer(connection, reply)
                return
            reply = _with_copies(reply)
        # Answers are in order, so this connection is not read meanwhile.
        self._loop.remove_reader(connection.sock.fileno())
        connection.slow_call = self._loop.create_task(
            self._finish(connection, op, packet, reply)
        )

    def _run(
        self, connection: _Connection, op: object, packet: wire.Packet
    ) -> "Reply | Awaitable[Reply]":
        if not isinstance(op, str):
            raise HypercallError("EINVAL", "a request has no op that is a string")
        if op == "session":
            return self._session(connection, packet)
        return self._operations.run(self._caller(connection, packet.body), op, packet)

    def _session(self, connection: _Connection, packet: wire.Packet) -> Reply:
        """Name what a connection holds, or give it what it held under that name."""
        self._identities.identify(connection.uid)
        checks = {"name": arguments.session, "resume": arguments.flag}
        checked = arguments.parse("session", packet.body, checks)
        name = str(checked["name"])
        if checked["resume"] or name in self._system.orphans:
            session = self._system.resume_session(name, connection.uid)
            self._forget_orphan(session)
            self._system.drop_owner(connection.session)
            connection.session = session
        else:
            self._system.name_session(connection.session, name)
        return Reply()

    async def _finish(
        self,
        connection: _Connection,
        op: object,
        packet: wire.Packet,
        reply: "Reply | Awaitable[Reply]",
    ) -> None:
        try:
            if not isinstance(reply, Reply):
                reply = await reply
            if not self._system.keeper.settled:
                reply = _with_copies(reply)
                await self._settle(reply)
            self._answer(connection, reply)
        except Exception as error:
            self._refuse(connection, op, error)
        wire.close_fds(packet.fds)
        connection.slow_call = None
        if connection.open:
            self._loop.add_reader(connection.sock.fileno(), self._receive, connection)
        else:
            # It may have been given something since.
            self._system.drop_owner(connection.session)

    async def _settle(self, reply: Reply) -> None:
        try:
            await self._system.keeper.settle()
        except BaseException:
            wire.close_fds(reply.given)
            raise

    def _caller(self, connection: _Connection, body: dict[str, object]) -> Caller:
        domid, privileged = self._identities.identify(connection.uid)
        if "as" in body:
            wanted = arguments.domid("as", body.pop("as"))
            if not privileged:
                raise HypercallError("EPERM", f"domain {domid} acts as itself only")
            domid, privileged = DomId(wanted), False
        if domid not in self._system.domains:
            raise HypercallError("ESRCH", f"there is no domain {domid}")
        serial = body.pop("serial", None)
        return Caller(
            domid,
            privileged,
            connection.pid,
            connection.session,
            None if serial is None else arguments.serial("serial", serial),
            arguments.flag("again", body.pop("again", False)),
        )

    def _refuse(self, connection: _Connection, op: object, error: Exception) -> None:
        if isinstance(error, HypercallError):
            errno_name, why = error.errno_name, error.why
        elif isinstance(error, XenvirtError):
            errno_name, why = "EIO", str(error)
        else:
            _log.error(
                "hypercall %r of pid %d failed", op, connection.pid, exc_info=error
            )
            errno_name, why = "EIO", "an error inside the daemon; its log has more"
        self._send(connection, {"error": errno_name, "why": why})

    def _answer(self, connection: _Connection, reply: Reply) -> None:
        try:
            self._send(connection, {"ok": reply.body}, [*reply.fds, *reply.given])
        finally:
            wire.close_fds(reply.given)

    def _send(
        self,
        connection: _Connection,
        body: dict[str, object],
        fds: "Sequence[int]" = (),
    ) -> None:
        if not connection.open:
            return
        try:
            wire.send(connection.sock, wire.encode(body, wire.MAX_REPLY), fds)
        except BlockingIOError:
            _log.warning(
                "pid %d (uid %d) does not read its hypercalls' answers; dropped",
                connection.pid, connection.uid,
            )  # fmt: skip
            self._drop(connection)
        except OSError:
            self._drop(connection)

    def _drop(self, connection: _Connection) -> None:
        if not connection.open:
            return
        connection.open = False
        self._connections.discard(connection)
        self._loop.remove_reader(connection.sock.fileno())
        connection.sock.close()
        self._system.drop_owner(connection.session)

    def _wait_for_owner(self, session: Session) -> None:
        """Keep what a session has until its process has come back, or ended."""
        try:
            fd = os.pidfd_open(session.pid)
        except OSError:
            self._system.drop_owner(session)
            return
        # In this order: a pid that was given out anew would be seen here.
        if not session.process_lives:
            os.close(fd)
            self._system.drop_owner(session)
            return
        self._orphans[session] = fd
        self._loop.add_reader(fd, self._owner_ended, session)

    def _owner_ended(self, session: Session) -> None:
        self._forget_orphan(session)
        self._system.drop_owner(session)

    def _forget_orphan(self, session: Session) -> None:
        fd = self._orphans.pop(session, None)
        if fd is not None:
            self._loop.remove_reader(fd)
            os.close(fd)


def _with_copies(reply: Reply) -> Reply:
    """Return a reply that can wait: a table may close its own descriptors meanwhile."""
    copies = tuple(os.dup(fd) for fd in reply.fds)
    return replace(reply, fds=(), given=(*copies, *reply.given))
