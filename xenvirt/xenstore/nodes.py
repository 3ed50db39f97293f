"""The requests on nodes, for whoever can send one: a client or its transaction."""

from collections.abc import Iterable
from typing import TypeVar

from xenvirt.abi.xs_wire import XsWire
from xenvirt.xenstore import requests
from xenvirt.xenstore.errors import StoreNotFoundError, StoreTooBigError
from xenvirt.xenstore.payloads import PartialListing, Value
from xenvirt.xenstore.perms import Perm, Perms
from xenvirt.xenstore.requests import Request

T = TypeVar("T")


class Nodes:
    """The requests on nodes: directly (`Client`) or in a `Transaction`.

    Every method raises a RequestError with the path, or StoreConnectionError.
    """

    async def _ask(self, type_: XsWire, payload: bytes, path: str) -> bytes:
        raise NotImplementedError

    async def _do(self, request: Request[T]) -> T:
        reply = await self._ask(request.type, request.payload, request.path)
        return request.result(reply)

    async def read(self, path: str) -> str:
        """The value as text; see `payloads.text` for bytes that are not UTF-8."""
        return await self._do(requests.read(path))

    async def read_bytes(self, path: str) -> bytes:
        """The value."""
        return await self._do(requests.read_bytes(path))

    async def write(self, path: str, value: Value) -> None:
        """Set the value; the node and what is above it are made if missing."""
        await self._do(requests.write(path, value))

    async def mkdir(self, path: str) -> None:
        """Make the node if it is missing."""
        await self._do(requests.mkdir(path))

    async def rm(self, path: str) -> None:
        """Remove the node and all below it; it may be missing if its parent is not."""
        await self._do(requests.rm(path))

    async def ls(self, path: str) -> list[str]:
        """The children's names, however many there are, in the store's order.

        Raises StoreAgainError if they do not fit into one message and change all the
        time while they are listed in parts.
        """
        try:
            return await self._do(requests.directory(path))
        except StoreTooBigError:
            listing = PartialListing(path)
        while True:
            part = await self._do(requests.directory_part(path, listing.offset))
            if listing.add(part):
                return listing.children()

    async def exists(self, path: str) -> bool:
        """Whether there is such a node."""
        try:
            await self.read_bytes(path)
        except StoreNotFoundError:
            return False
        return True

    async def get_perms(self, path: str) -> Perms:
        """The permission list, the owner's entry first."""
        return await self._do(requests.get_perms(path))

    async def set_perms(self, path: str, perms: Iterable[Perm | str]) -> None:
        """Replace the permission list; entries may be given as `"n5"`."""
        await self._do(requests.set_perms(path, perms))
