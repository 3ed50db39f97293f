"""One end of a device, as xenbus_client.c has it: its node, its state, its errors."""

import errno as errno_module
import logging
from collections.abc import (
    AsyncGenerator,
    Awaitable,
    Callable,
    Collection,
    Iterable,
)
from dataclasses import dataclass, field
from typing import Final, NoReturn

from xenvirt.abi.ids import DomId
from xenvirt.abi.xenbus import XenbusState
from xenvirt.errors import HypercallError, XenvirtError
from xenvirt.xenstore.client import Client, Transaction
from xenvirt.xenstore.errors import (
    RequestError,
    StoreAccessError,
    StoreConnectionError,
    StoreNotFoundError,
)

log = logging.getLogger(__name__)

_SWITCHED: Final = {state: f"%s: %s -> {state.label}" for state in XenbusState}
"""A kind of log line for each state: a vif may run through all of them ten times."""


class DeviceFatalError(XenvirtError):
    """This device cannot go on: becomes its error node, and Closing."""

    def __init__(self, number: int, message: str) -> None:
        super().__init__(message)
        self.number = number


@dataclass(slots=True)
class XenbusDevice:
    """This end of a device.

    `label` names it in the log (xennet0, xvif1i0). `nodename` is relative to the own
    domain (device/vif/0, backend/vif/1/0), `otherend` is absolute.
    """

    store: Client
    label: str
    nodename: str
    otherend: str
    otherend_id: DomId
    state: XenbusState = field(default=XenbusState.INITIALISING)

    async def switch_state(self, state: XenbusState) -> bool:
        """Write the own `state`; False when the node is gone.

        The node is read in the same transaction: a directory that the toolstack has
        removed must not come back (xenbus_switch_state).
        """
        if state is self.state:
            return True

        async def write(transaction: Transaction) -> bool:
            path = f"{self.nodename}/state"
            try:
                await transaction.read(path)
            except StoreNotFoundError:
                return False
            await transaction.write(path, str(int(state)))
            return True

        log.info(_SWITCHED[state], self.label, self.state.label)
        self.state = state
        return await self.store.transact(write, idempotent=True)

    async def read(self, key: str, default: str | None = None) -> str | None:
        """A key of the own node."""
        return await read_optional(self.store, f"{self.nodename}/{key}", default)

    async def read_otherend(self, key: str, default: str | None = None) -> str | None:
        """A key of the other end's node."""
        return await read_optional(self.store, f"{self.otherend}/{key}", default)

    async def otherend_state(self) -> XenbusState:
        """The other end's state; UNKNOWN when it is gone or unreadable."""
        return XenbusState.parse(await self._otherend_state_text())

    async def otherend_states(self) -> AsyncGenerator[XenbusState, None]:
        """The other end's state now and after every event.

        An event is a hint: the state is read again, and some may have merged.
        """
        async for text in self.otherend_state_texts():
            yield XenbusState.parse(text)

    async def otherend_state_texts(self) -> AsyncGenerator[str | None, None]:
        """The same as the other end wrote it; None when it is gone."""
        async with self.store.watch(f"{self.otherend}/state") as watch:
            async for _ in watch:
                yield await self._otherend_state_text()

    async def _otherend_state_text(self) -> str | None:
        try:
            return await self.read_otherend("state")
        except StoreAccessError:
            return None

    async def write_if_there(
        self,
        pairs: Iterable[tuple[str, str]],
        *,
        in_place_of: Collection[str] = (),
    ) -> bool:
        """Write keys of the own node in one transaction; False when it is gone.

        Those of `in_place_of` that are there are removed first.
        """
        pairs = tuple(pairs)

        async def write(transaction: Transaction) -> bool:
            try:
                await transaction.read(f"{self.nodename}/state")
            except StoreNotFoundError:
                return False
            if in_place_of:
                for key in await transaction.ls(self.nodename):
                    if key in in_place_of:
                        await transaction.rm(f"{self.nodename}/{key}")
            for key, value in pairs:
                await transaction.write(f"{self.nodename}/{key}", value)
            return True

        return await self.store.transact(write, idempotent=True)

    async def error(self, number: int, message: str) -> None:
        """Log an error and leave it where tools look: error/<nodename>/error."""
        log.error("%s: %s", self.label, message)
        text = f"{abs(number)} {message}"
        try:
            await self.store.write(f"error/{self.nodename}/error", text)
        except RequestError as refused:
            log.warning(
                "xenbus: failed to write error node for %s (%s): %s",
                self.nodename,
                text,
                refused.errno_name,
            )

    async def clear_error(self) -> None:
        """Remove what `error` has left, and directories that are empty then.

        For a device that works again: an error that is there is one of now.
        """
        path = f"error/{self.nodename}/error"
        if await read_optional(self.store, path) is None:
            return
        await self.store.rm(path)
        # `error` itself is the domain's, and stays.
        while (path := path.rpartition("/")[0]) != "error":
            try:
                if await self.store.ls(path):
                    return
                await self.store.rm(path)
            except StoreNotFoundError:
                # Another vif's error was the last one there, and was cleared as well.
                continue

    async def fatal(self, number: int, message: str) -> None:
        """`error`, and this end goes to Closing (xenbus_dev_fatal)."""
        await self.error(number, message)
        await self.switch_state(XenbusState.CLOSING)

    async def attempt(self, work: Awaitable[None]) -> bool:
        """Await `work`; False after an error of this device, which is then fatal.

        A lost connection to the store is not the device's own and passes through.
        """
        try:
            await work
        except StoreConnectionError:
            raise
        except DeviceFatalError as error:
            await self.fatal(error.number, error.what)
        except XenvirtError as error:
            await self.fatal(errno_module.EIO, str(error))
        except OSError as error:
            number = error.errno or errno_module.EIO
            await self.fatal(number, error.strerror or str(error))
        else:
            return True
        return False


async def read_optional(
    store: Client, path: str, default: str | None = None
) -> str | None:
    """A node's value, or `default` when there is none."""
    try:
        return await store.read(path)
    except StoreNotFoundError:
        return default


async def read_mtu(device: XenbusDevice) -> int:
    """The own `mtu`, bytes; 1500 when there is none, DeviceFatalError for no number."""
    text = await device.read("mtu", "1500") or "1500"
    if not (text.isascii() and text.isdigit() and len(text) <= 5):
        raise DeviceFatalError(errno_module.EINVAL, f"mtu {text} is not a number")
    return int(text)


async def read_required(
    read: Callable[[str], Awaitable[str | None]], key: str, where: str
) -> str:
    """A key that must be there; DeviceFatalError `reading <where>/<key>`."""
    value = await read(key)
    if value is None:
        raise DeviceFatalError(errno_module.ENOENT, f"reading {where}/{key}")
    return value


def raise_refused(error: HypercallError, what: str) -> NoReturn:
    """Raise DeviceFatalError: `what` was refused by the hypervisor."""
    number = getattr(errno_module, error.errno_name, errno_module.EIO)
    raise DeviceFatalError(number, f"{what}: {error.what}") from error
