"""The requests on nodes, for whoever can send one and wait for its reply."""

from collections.abc import Iterable, Mapping
from typing import TypeVar

from xenvirt.abi.xs_wire import XsWire
from xenvirt.xenstore import requests
from xenvirt.xenstore.errors import (
    RequestError,
    StoreNotFoundError,
    StoreTooBigError,
)
from xenvirt.xenstore.payloads import PartialListing, Value
from xenvirt.xenstore.perms import Perm, Perms
from xenvirt.xenstore.requests import Request

T = TypeVar("T")


class SyncNodes:
    """The requests on nodes: directly (`SyncClient`) or in a `SyncTransaction`.

    Every method raises a RequestError with the path, or StoreConnectionError.
    """

    def _ask(self, type_: XsWire, payload: bytes, path: str) -> bytes:
        raise NotImplementedError

    def _do(self, request: Request[T]) -> T:
        reply = self._ask(request.type, request.payload, request.path)
        return request.result(reply)

    def gather(self, asked: Iterable[Request[T]]) -> list[T | RequestError]:
        """What each request gives, in order; a refused one gives its error.

        They are sent without waiting for each other where that is possible.
        """
        return list(map(self._attempt, asked))

    def _attempt(self, request: Request[T]) -> T | RequestError:
        try:
            return self._do(request)
        except RequestError as error:
            return error

    def read(self, path: str) -> str:
        """The value as text; see `payloads.text` for bytes that are not UTF-8."""
        return self._do(requests.read(path))

    def read_bytes(self, path: str) -> bytes:
        """The value."""
        return self._do(requests.read_bytes(path))

    def write(self, pairs: Mapping[str, Value]) -> None:
        """Set the value of each path, in order; missing nodes are made."""
        for path, value in pairs.items():
            self._do(requests.write(path, value))

    def mkdir(self, path: str) -> None:
        """Make the node if it is missing."""
        self._do(requests.mkdir(path))

    def rm(self, path: str) -> None:
        """Remove the node and all below it; it may be missing if its parent is not."""
        self._do(requests.rm(path))

    def ls(self, path: str) -> list[str]:
        """The children's names, however many there are, in the store's order.

        Raises StoreAgainError if they do not fit into one message and change all the
        time while they are listed in parts.
        """
        try:
            return self._do(requests.directory(path))
        except StoreTooBigError:
            listing = PartialListing(path)
        while True:
            if listing.add(self._do(requests.directory_part(path, listing.offset))):
                return listing.children()

    def exists(self, path: str) -> bool:
        """Whether there is such a node."""
        try:
            self.read_bytes(path)
        except StoreNotFoundError:
            return False
        return True

    def get_perms(self, path: str) -> Perms:
        """The permission list, the owner's entry first."""
        return self._do(requests.get_perms(path))

    def set_perms(self, path: str, perms: Iterable[Perm | str]) -> None:
        """Replace the permission list; entries may be given as `"n5"`."""
        self._do(requests.set_perms(path, perms))
