"""The hypercall socket: who calls, in which order, and what goes with a caller.

No client can block it: sends never wait, a client that does not read is dropped,
and a slow hypercall only keeps its own connection waiting.
"""

import asyncio
import logging
import socket
from typing import TYPE_CHECKING, Final

from xenvirt.abi.ids import DomId
from xenvirt.errors import HypercallError, XenvirtError
from xenvirt.hypervisor import arguments, wire
from xenvirt.hypervisor.caller import Caller, Identities, peer_credentials
from xenvirt.hypervisor.operations import Reply

if TYPE_CHECKING:
    from collections.abc import Awaitable, Sequence

    from xenvirt.hypervisor.operations import Operations
    from xenvirt.hypervisor.system import System

_log = logging.getLogger(__name__)

MAX_CONNECTIONS_PER_UID: Final = 64
"""An end needs one. Root's tools are not limited."""

_ACCEPT_PAUSE_S: Final = 0.5


class _Connection:
    def __init__(self, sock: socket.socket, pid: int, uid: int) -> None:
        self.sock = sock
        self.pid = pid
        self.uid = uid
        self.slow_call: asyncio.Task[None] | None = None
        self.open = True


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
        self._loop = asyncio.get_running_loop()
        listening.setblocking(False)
        self._loop.add_reader(listening.fileno(), self._accept)

    def stop_listening(self) -> None:
        """Refuse new clients, who then know that this daemon is going."""
        if self._listening.fileno() >= 0:
            self._loop.remove_reader(self._listening.fileno())
            self._listening.close()

    def close(self) -> None:
        """Drop every client and close the socket; again is harmless.

        Answers that have not been given are lost: see `drain`.
        """
        self.stop_listening()
        for connection in list(self._connections):
            self._drop(connection)

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
        connection = _Connection(sock, *peer_credentials(sock))
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
        try:
            self._handle(connection, packet)
        finally:
            wire.close_fds(packet.fds)

    def _handle(self, connection: _Connection, packet: wire.Packet) -> None:
        op = packet.body.pop("op", None)
        try:
            caller = self._caller(connection, packet.body)
            if not isinstance(op, str):
                raise HypercallError("EINVAL", "a request has no op that is a string")
            reply = self._operations.run(caller, op, packet)
        except Exception as error:
            self._refuse(connection, op, error)
            return
        if isinstance(reply, Reply):
            self._answer(connection, reply)
        else:
            # Answers are in order, so this connection is not read meanwhile.
            self._loop.remove_reader(connection.sock.fileno())
            connection.slow_call = self._loop.create_task(
                self._finish(connection, op, reply)
            )

    async def _finish(
        self, connection: _Connection, op: str, reply: "Awaitable[Reply]"
    ) -> None:
        try:
            self._answer(connection, await reply)
        except Exception as error:
            self._refuse(connection, op, error)
        connection.slow_call = None
        if connection.open:
            self._loop.add_reader(connection.sock.fileno(), self._receive, connection)

    def _caller(self, connection: _Connection, body: dict[str, object]) -> Caller:
        domid, privileged = self._identities.identify(connection.uid)
        if "as" in body:
            wanted = arguments.domid("as", body.pop("as"))
            if not privileged:
                raise HypercallError("EPERM", f"domain {domid} acts as itself only")
            domid, privileged = DomId(wanted), False
        if domid not in self._system.domains:
            raise HypercallError("ESRCH", f"there is no domain {domid}")
        return Caller(domid, privileged, connection.pid, connection)

    def _refuse(self, connection: _Connection, op: object, error: Exception) -> None:
        if isinstance(error, HypercallError):
            errno_name, why = error.errno_name, error.what
        elif isinstance(error, XenvirtError):
            errno_name, why = "EIO", str(error)
        else:
            _log.error(
                "hypercall %r of pid %d failed", op, connection.pid, exc_info=error
            )
            errno_name, why = "EIO", "an error inside the daemon; its log has more"
        self._send(connection, {"error": errno_name, "why": why})

    def _answer(self, connection: _Connection, reply: Reply) -> None:
        fds = [*reply.fds, *(sock.fileno() for sock in reply.given)]
        try:
            self._send(connection, {"ok": reply.body}, fds)
        finally:
            for sock in reply.given:
                sock.close()

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
        self._system.drop_owner(connection)
