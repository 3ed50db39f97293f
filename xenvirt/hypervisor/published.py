"""Statistics pages that the ends show to the tools."""

import fcntl
import os
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from xenvirt.abi.ids import DevId, DomId
from xenvirt.errors import HypercallError
from xenvirt.hypervisor.keeper import Keeper, Kept, OwnKeeper
from xenvirt.hypervisor.session import Session, owner_name
from xenvirt.hypervisor.wire import MAX_FDS

if TYPE_CHECKING:
    from xenvirt.hypervisor.interface import Side

MAX_QUEUES: Final = MAX_FDS // 2
"""So that the pages of both sides of a vif fit into one answer."""

MAX_PAGE_LEN: Final = 1 << 20
MAX_PAGES_PER_OWNER: Final = 16384


@dataclass(frozen=True, slots=True)
class Key:
    """Whose page: `domid` is the frontend's."""

    domid: DomId
    devid: DevId
    side: "Side"
    queue: int

    @property
    def record(self) -> str:
        """The key of the page's record."""
        return f"page/{self.domid}/{self.devid}/{self.side}/{self.queue}"


@dataclass(frozen=True, slots=True)
class Page:
    """One page; the table owns `fd`. `pid` is the end's process."""

    key: Key
    fd: int
    pid: int
    owner: Session


def check_page(fd: int) -> None:
    """Raise EINVAL unless a tool can map the file without risk of SIGBUS."""
    info = os.fstat(fd)
    if not stat.S_ISREG(info.st_mode) or not 0 < info.st_size <= MAX_PAGE_LEN:
        raise HypercallError(
            "EINVAL",
            f"a statistics page is a memfd of 1 to {MAX_PAGE_LEN} bytes, "
            f"not {info.st_size} bytes of file type {stat.S_IFMT(info.st_mode):#o}",
        )
    try:
        seals = fcntl.fcntl(fd, fcntl.F_GET_SEALS)
    except OSError:
        seals = 0
    if not seals & fcntl.F_SEAL_SHRINK:
        raise HypercallError(
            "EINVAL", "a statistics page is not sealed (F_SEAL_SHRINK)"
        )


class PublishedPages:
    """What is published now; a page goes with the session that showed it.

    Each has a record with the keeper.
    """

    def __init__(self, keeper: Keeper | None = None) -> None:
        self._keeper = keeper if keeper is not None else OwnKeeper()
        self._pages: dict[Key, Page] = {}

    def add(self, key: Key, fd: int, *, pid: int, owner: Session) -> None:
        """Take over `fd` in place of an earlier page; ENOSPC if an owner has too many.

        When it raises, `fd` is still the caller's.
        """
        mine = sum(1 for page in self._pages.values() if page.owner is owner)
        if mine >= MAX_PAGES_PER_OWNER and key not in self._pages:
            raise HypercallError(
                "ENOSPC", f"one end shows at most {MAX_PAGES_PER_OWNER} pages"
            )
        self._drop(key)
        self._pages[key] = Page(key, fd, pid, owner)
        self._put(self._pages[key])

    def of_vif(self, domid: DomId, devid: DevId) -> list[Page]:
        """Return a vif's pages in order of side and queue; they stay the table's."""
        return sorted(
            (
                page
                for page in self._pages.values()
                if (page.key.domid, page.key.devid) == (domid, devid)
            ),
            key=lambda page: (page.key.side, page.key.queue),
        )

    def drop_owner(self, owner: Session) -> None:
        """Forget every page that `owner` showed."""
        for page in self._owned(owner):
            self._drop(page.key)

    def drop_vif(
        self, owner: Session, domid: DomId, devid: DevId, side: "Side"
    ) -> None:
        """Forget the pages that `owner` showed of its end of a vif."""
        for page in self._owned(owner):
            key = page.key
            if (key.domid, key.devid, key.side) == (domid, devid, side):
                self._drop(key)

    def rename_owner(self, owner: Session) -> None:
        """Have the records of what `owner` showed say its new name."""
        for page in self._owned(owner):
            self._put(page)

    def restore(self, name: str, kept: Kept, owner: Session) -> None:
        """Take up the record of a page, and its descriptor."""
        _, domid, devid, side, queue = name.split("/")
        key = Key(
            DomId(int(domid)),
            DevId(int(devid)),
            "front" if side == "front" else "back",
            int(queue),
        )
        (fd,) = kept.fds
        self._pages[key] = Page(key, fd, int(str(kept.value["pid"])), owner)

    def drop_domain(self, domid: DomId) -> None:
        """Forget every page of a frontend domain's vifs."""
        for key in list(self._pages):
            if key.domid == domid:
                self._drop(key)

    def _owned(self, owner: Session) -> list[Page]:
        return [page for page in self._pages.values() if page.owner is owner]

    def _put(self, page: Page) -> None:
        self._keeper.put(
            page.key.record,
            {"pid": page.pid, "owner": owner_name(page.owner)},
            [page.fd],
        )

    def _drop(self, key: Key) -> None:
        page = self._pages.pop(key, None)
        if page is not None:
            self._keeper.drop(key.record)
            os.close(page.fd)
