"""The hypercalls: one table row each, one function each, no sockets.

The rules of access are here. What a hypercall asks of the rest of the daemon goes
through the three seams at the top.
"""

import socket
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol

from xenvirt.abi.ids import DOM0, DevId, DomId, Port
from xenvirt.errors import HypercallError
from xenvirt.hypervisor import arguments
from xenvirt.hypervisor.eventfds import set_pending
from xenvirt.hypervisor.memory import NR_GRANT_FRAMES, NR_PAGES, STORE_GFN
from xenvirt.hypervisor.published import Key, check_page

if TYPE_CHECKING:
    from xenvirt.hypervisor.caller import Caller
    from xenvirt.hypervisor.domains import Domain
    from xenvirt.hypervisor.evtchn import PortEntry
    from xenvirt.hypervisor.interface import Side
    from xenvirt.hypervisor.system import System
    from xenvirt.hypervisor.wire import Packet

LIST_LEN: Final = 128
"""Entries of a list in one reply, which keeps every reply below its limit."""


class VifRegistry(Protocol):
    """Who has a vif with whom, as only domain 0 can have written it."""

    async def has_vif(self, backend_domid: DomId, frontend_domid: DomId) -> bool:
        """Return whether that backend domain serves a vif of that frontend domain."""


class XenbusPort(Protocol):
    """Where the sockets that speak xs_wire are served."""

    def attach(self, sock: socket.socket, domid: DomId, privileged: bool) -> None:
        """Serve a connection of `domid`; owns `sock` unless it raises."""


class Control(Protocol):
    """What only the daemon as a whole can do."""

    async def domain_create(
        self, name: str, domain_uuid: str | None, bare: bool
    ) -> "Domain":
        """Make a domain and, unless it is to be `bare`, start its frontend.

        Leaves nothing when it raises.
        A domain of that name and uuid, which the caller chose, was made before.
        """

    async def domain_destroy(self, domid: DomId) -> None:
        """Stop a domain's ends and take it down."""

    def ends(self, domid: DomId) -> list[dict[str, object]]:
        """Return role, pid and restarts of each end of a domain."""

    def shutdown(self) -> int:
        """Begin to take everything down; return at once whose end is the end of it."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What a hypercall answers; `fds` stay their table's, `given` go with the reply."""

    body: dict[str, object] = field(default_factory=dict)
    fds: tuple[int, ...] = ()
    given: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class _Op:
    handler: Callable[..., Reply | Awaitable[Reply]]
    args: Mapping[str, arguments.Check] = field(default_factory=dict)
    defaults: Mapping[str, object] = field(default_factory=dict)
    privileged: bool = False
    takes_fd: bool = False


class Operations:
    """Runs requests against the system on behalf of their callers."""

    def __init__(
        self, system: "System", vifs: VifRegistry, xenbus: XenbusPort, control: Control
    ) -> None:
        self._system = system
        self._vifs = vifs
        self._xenbus = xenbus
        self._control = control
        self._ops: Final[Mapping[str, _Op]] = {
            "start_info": _Op(self._start_info),
            "memory": _Op(self._memory, {"domid": arguments.domid}),
            "alloc_unbound": _Op(
                self._alloc_unbound, {"remote_domid": arguments.domid}
            ),
            "bind_interdomain": _Op(
                self._bind_interdomain,
                {"remote_domid": arguments.domid, "remote_port": arguments.port},
            ),
            "close_port": _Op(self._close_port, {"port": arguments.port}),
            "open_xenbus": _Op(self._open_xenbus),
            "publish": _Op(
                self._publish,
                {
                    "domid": arguments.domid, "devid": arguments.devid,
                    "side": arguments.side, "queue": arguments.queue,
                },
                takes_fd=True,
            ),
            "unpublish": _Op(
                self._unpublish,
                {
                    "domid": arguments.domid, "devid": arguments.devid,
                    "side": arguments.side,
                },
            ),
            "domain_create": _Op(
                self._domain_create,
                {
                    "name": arguments.text, "uuid": arguments.domain_uuid,
                    "bare": arguments.flag,
                },
                defaults={"uuid": None, "bare": False},
                privileged=True,
            ),
            "domain_destroy": _Op(
                self._domain_destroy, {"domid": arguments.domid}, privileged=True
            ),
            "domain_list": _Op(
                self._domain_list,
                {"first": arguments.index},
                defaults={"first": 0},
                privileged=True,
            ),
            "ports": _Op(
                self._ports,
                {"domid": arguments.domid, "first": arguments.index},
                defaults={"first": 0},
                privileged=True,
            ),
            "published": _Op(
                self._published,
                {"domid": arguments.domid, "devid": arguments.devid},
                privileged=True,
            ),
            "shutdown": _Op(self._shutdown, privileged=True),
        }  # fmt: skip

    def run(
        self, caller: "Caller", op_name: str, packet: "Packet"
    ) -> Reply | Awaitable[Reply]:
        """Check a request and run it; HypercallError when it is refused.

        `packet.body` is without `op` and `as`. A descriptor that the operation keeps
        is taken out of `packet.fds`; the others stay the server's to close.
        """
        op = self._ops.get(op_name)
        if op is None:
            raise HypercallError("ENOSYS", f"there is no hypercall {op_name!r}")
        if op.privileged and not caller.privileged:
            raise HypercallError(
                "EPERM", f"{op_name} is for domain 0's tools, not domain {caller.domid}"
            )
        if len(packet.fds) != int(op.takes_fd):
            raise HypercallError(
                "EINVAL",
                f"{op_name} takes {int(op.takes_fd)} descriptors, "
                f"not {len(packet.fds)}",
            )
        args = arguments.parse(op_name, {**op.defaults, **packet.body}, op.args)
        if op.takes_fd:
            args["packet"] = packet
        return op.handler(caller, **args)

    def _start_info(self, caller: "Caller") -> Reply:
        domain = self._system.domains.get(caller.domid)
        body: dict[str, object] = {"domid": domain.domid, "name": domain.name}
        if domain.domid == DOM0:
            return Reply(
                body
                | {"nr_pages": 0, "nr_grant_frames": 0, "store_gfn": 0, "store_port": 0}
            )
        store = self._system.store_port(domain.domid)
        body |= _memory_body() | {"store_gfn": STORE_GFN, "store_port": store.port}
        memory = self._system.memory(domain.domid)
        return Reply(body, (memory.fd, store.pending_fd, store.notify_fd))

    async def _memory(self, caller: "Caller", *, domid: DomId) -> Reply:
        self._system.memory(domid)
        own = domid == caller.domid
        if not (
            own or caller.privileged or await self._vifs.has_vif(caller.domid, domid)
        ):
            raise HypercallError(
                "EACCES", f"domain {caller.domid} has no vif with domain {domid}"
            )
        # Now, and not what was there before somebody was asked.
        memory = self._system.memory(domid)
        if not own:
            self._system.note_mapping(caller.owner, caller.domid, domid)
        return Reply(_memory_body(), (memory.fd,))

    def _alloc_unbound(self, caller: "Caller", *, remote_domid: DomId) -> Reply:
        entry = self._opened_before(caller)
        if entry is None:
            entry = self._system.ports.alloc_unbound(
                caller.domid, remote_domid, owner=caller.owner, serial=caller.serial
            )
        return _port_reply(entry)

    def _bind_interdomain(
        self, caller: "Caller", *, remote_domid: DomId, remote_port: Port
    ) -> Reply:
        entry = self._opened_before(caller)
        if entry is None:
            entry = self._system.ports.bind_interdomain(
                caller.domid, remote_domid, remote_port,
                owner=caller.owner, serial=caller.serial,
            )  # fmt: skip
        else:
            set_pending(entry.pending_fd)
        return _port_reply(entry)

    def _opened_before(self, caller: "Caller") -> "PortEntry | None":
        if not caller.again:
            return None
        return self._system.ports.opened(caller.domid, caller.owner, caller.serial)

    def _close_port(self, caller: "Caller", *, port: Port) -> Reply:
        try:
            self._system.close_port(caller.domid, port)
        except HypercallError as error:
            if not (caller.again and error.errno_name == "EINVAL"):
                raise
        return Reply()

    def _open_xenbus(self, caller: "Caller") -> Reply:
        self._system.domains.get(caller.domid)
        ours, theirs = socket.socketpair()
        try:
            # As on Xen, where /dev/xen/xenbus of domain 0 is privileged.
            self._xenbus.attach(ours, caller.domid, caller.domid == DOM0)
        except BaseException:
            ours.close()
            theirs.close()
            raise
        return Reply(given=(theirs.detach(),))

    async def _publish(
        self, caller: "Caller", *, domid: DomId, devid: DevId, side: "Side",
        queue: int, packet: "Packet",
    ) -> Reply:  # fmt: skip
        (fd,) = packet.fds
        check_page(fd)
        self._system.domains.get(domid)
        mine = (
            domid == caller.domid
            if side == "front"
            else await self._vifs.has_vif(caller.domid, domid)
        )
        if not (mine or caller.privileged):
            raise HypercallError(
                "EACCES",
                f"domain {caller.domid} is not the {side}end of a vif "
                f"of domain {domid}",
            )
        # Again: it may have gone while somebody was asked.
        self._system.domains.get(domid)
        self._system.published.add(
            Key(domid, devid, side, queue), fd, pid=caller.pid, owner=caller.owner
        )
        packet.fds.clear()
        return Reply()

    def _unpublish(
        self, caller: "Caller", *, domid: DomId, devid: DevId, side: "Side"
    ) -> Reply:
        self._system.published.drop_vif(caller.owner, domid, devid, side)
        return Reply()

    async def _domain_create(
        self, caller: "Caller", *, name: str, uuid: str | None, bare: bool
    ) -> Reply:
        del caller
        domain = await self._control.domain_create(name, uuid, bare)
        store = self._system.store_port(domain.domid)
        return Reply(
            {"domid": domain.domid, "store_gfn": STORE_GFN, "store_port": store.port}
        )

    async def _domain_destroy(self, caller: "Caller", *, domid: DomId) -> Reply:
        try:
            await self._control.domain_destroy(domid)
        except HypercallError as error:
            if not (caller.again and error.errno_name == "ESRCH"):
                raise
        return Reply()

    def _domain_list(self, caller: "Caller", *, first: int) -> Reply:
        del caller
        found = [domain for domain in self._system.domains if domain.domid >= first]
        return Reply(
            {
                "domains": [
                    {
                        "domid": domain.domid,
                        "name": domain.name,
                        "uuid": domain.uuid,
                        "created": domain.created,
                        "ends": self._control.ends(domain.domid),
                    }
                    for domain in found[:LIST_LEN]
                ],
                "more": len(found) > LIST_LEN,
            }
        )

    def _ports(self, caller: "Caller", *, domid: DomId, first: int) -> Reply:
        del caller
        found = [p for p in self._system.ports.status(domid) if p.port >= first]
        return Reply(
            {
                "ports": [
                    {
                        "port": entry.port,
                        "state": entry.state.name.lower(),
                        "remote_domid": entry.remote_domid,
                        "remote_port": entry.remote_port,
                    }
                    for entry in found[:LIST_LEN]
                ],
                "more": len(found) > LIST_LEN,
            }
        )

    def _published(self, caller: "Caller", *, domid: DomId, devid: DevId) -> Reply:
        del caller
        self._system.domains.get(domid)
        pages = self._system.published.of_vif(domid, devid)
        return Reply(
            {
                "pages": [
                    {"side": page.key.side, "queue": page.key.queue, "pid": page.pid}
                    for page in pages
                ]
            },
            tuple(page.fd for page in pages),
        )

    def _shutdown(self, caller: "Caller") -> Reply:
        del caller
        return Reply({"pid": self._control.shutdown()})


def _memory_body() -> dict[str, object]:
    return {"nr_pages": NR_PAGES, "nr_grant_frames": NR_GRANT_FRAMES}


def _port_reply(entry: "PortEntry") -> Reply:
    return Reply({"port": entry.port}, (entry.pending_fd, entry.notify_fd))
