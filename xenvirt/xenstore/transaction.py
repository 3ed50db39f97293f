"""A view of the store that becomes true at once, or not at all.

Every node that a transaction touches is recorded as it was when first seen: what it
read, what it changed, what it looked for and did not find, and the directory that a
child came to or went from. It commits only if each of them still has the generation
that was recorded; otherwise everything is dropped and the client gets EAGAIN.

Worked traces. A and B are transactions, S somebody outside of them; `a=3` is node a at
generation 3, `-` is a missing node.

1. Parallel, on other nodes: both commit.
       A: write /x/a     records /x/a=3
       B: write /y/b     records /y/b=4
       A: commit         /x/a is still 3: now /x/a=7
       B: commit         /y/b is still 4: now /y/b=8

2. Two children of one directory: the second is refused.
       A: mkdir /d/a     records /d/a=-, /d=3; own view: /d=7, /d/a=8
       B: mkdir /d/b     records /d/b=-, /d=3; own view: /d=9, /d/b=10
       A: commit         /d/a is missing, /d is 3: now /d=7
       B: commit         /d is 7, not 3: EAGAIN

3. Only reading is refused too, or it might act on values that never were together.
       A: read /a        records /a=3
       S: write /a       now /a=7
       A: read /b        records /b=4
       A: commit         /a is 7, not 3: EAGAIN

4. A node that was not there must still be missing.
       A: read /a        ENOENT, records /a=-
       S: mkdir /a       now /a=7
       A: commit         /a is 7, not missing: EAGAIN

5. Created and removed within: others never see it, no quota is used.
       A: mkdir /d/a     records /d/a=-, /d=3; own view: /d=7, /d/a=8
       A: rm /d/a        own view: /d=9, /d/a=-
       A: commit         now /d=9
"""

from xenvirt.errors import StoreError
from xenvirt.xenstore.perms import names
from xenvirt.xenstore.quota import exceeds
from xenvirt.xenstore.store import Node, Store, Tree
from xenvirt.xenstore.watch import Change


class Transaction(Tree):
    """One client's copy-on-write view; `max_nodes` as in `quota.exceeds`."""

    def __init__(self, tx_id: int, store: Store, max_nodes: int = 0) -> None:
        super().__init__(store.generations)
        self.tx_id = tx_id
        self.store = store
        self._max_nodes = max_nodes
        self._seen: dict[str, Node | None] = {}
        self._changed: dict[str, Node | None] = {}
        self._copied: set[str] = set()
        self._doomed = False
        self.changes: dict[str, Change] = {}
        self.get = self._get

    def _get(self, path: str) -> Node | None:
        if path in self._changed:
            return self._changed[path]
        if path in self._seen:
            return self._seen[path]
        if exceeds(len(self._seen) + 1, self._max_nodes):
            raise StoreError("ENOSPC")
        node = self._seen[path] = self.store.get(path)
        return node

    def _put(self, path: str, node: Node) -> None:
        self._changed[path] = node

    def _drop(self, path: str) -> None:
        self._changed[path] = None

    def _children_to_change(self, path: str, node: Node) -> dict[str, None]:
        if path in self._copied:
            return node.children
        self._copied.add(path)
        return dict(node.children)

    def owned_by(self, domid: int) -> int:
        """How many nodes the domain would own after a commit."""
        return self.store.owned_by(domid) + super().owned_by(domid)

    def note(self, change: Change) -> None:
        """Keep a change for the watches, which hear of it at commit, once a node."""
        earlier = self.changes.get(change.path)
        self.changes[change.path] = change.after(earlier) if earlier else change

    def forget_domain(self, domid: int) -> None:
        """Refuse the commit if a changed node names a domain that died meanwhile."""
        self._doomed |= any(
            node is not None and names(node.perms, domid)
            for node in self._changed.values()
        )

    def commit(self) -> None:
        """Make the changes true; raises StoreError EAGAIN if somebody else was faster.

        The caller tells the watches of `changes` afterwards.
        """
        if self._doomed or any(
            _generation(self.store.get(path)) != _generation(node)
            for path, node in self._seen.items()
        ):
            raise StoreError("EAGAIN")
        self.store.apply(self._changed, self._owned)


def _generation(node: Node | None) -> int | None:
    return None if node is None else node.generation
