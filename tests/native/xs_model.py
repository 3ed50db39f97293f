"""The store as plainly as it can be said: dictionaries, lists, and the rules.

Paths are canonical, arguments are valid, everything is copied. What is modelled is who
may do what, what is seen by whom and when, and what is counted; not bytes, speed or
memory.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from tests.native.xs_model_parts import (
    ANY,
    Answer,
    Client,
    Domain,
    Event,
    Node,
    Perm,
    Perms,
    Refused,
    Transaction,
    View,
    Watch,
    exceeds,
    generation,
    is_at_or_below,
    join,
    level,
    parent,
)

READ, WRITE, OWN = 1, 2, 4
LETTERS: Final = {"n": 0, "r": READ, "w": WRITE, "b": READ | WRITE}
EVENT_TIMEOUT_MS: Final = 20_000


NONE: Final[Perms] = (Perm("n", 0),)


class Model:
    """The whole store. Each request's method returns its Answer, or raises Refused."""

    def __init__(self, existing: tuple[int, ...]) -> None:
        self.generation = 0
        self.now_ms = 0
        self.batch = 0
        self.loose = False
        self.nodes = {
            "/": Node(b"", NONE, ("tool",), self.next_generation()),
            "/tool": Node(b"", NONE, ("xenstored",), self.next_generation()),
            "/tool/xenstored": Node(b"", NONE, (), self.next_generation()),
            "@introduceDomain": Node(b"", NONE, (), self.next_generation()),
            "@releaseDomain": Node(
                b"", (*NONE, Perm("r", ANY)), (), self.next_generation()
            ),
        }
        self.domains = {domid: Domain() for domid in (0, *existing)}
        self.clients: list[Client] = []
        self.watches: list[Watch] = []
        self.quotas = {
            "nodes": 1000, "watches": 128, "transactions": 10,
            "transaction-nodes": 1024, "node-permissions": 5, "node-size": 2048,
        }  # fmt: skip

    def next_generation(self) -> int:
        self.generation += 1
        return self.generation

    # ---- who may what ----

    def rights(self, client: Client, perms: Perms) -> int:
        domain = self.domains.get(client.domid)
        target = domain.target if domain else None
        if client.privileged or perms[0].domid in (client.domid, target):
            return READ | WRITE | OWN
        for entry in perms[1:]:
            if entry.domid in (client.domid, target, ANY) and not entry.ignored:
                return LETTERS[entry.letter]
        return LETTERS[perms[0].letter]

    def may_read(self, client: Client, perms: Perms | None) -> bool:
        return perms is not None and bool(self.rights(client, perms) & READ)

    def quota(self, client: Client, name: str) -> int:
        if client.privileged:
            return 0
        return self.domains[client.domid].own_quotas.get(name, self.quotas[name])

    def view(self, client: Client, tx_id: int) -> View:
        if tx_id and tx_id not in client.transactions:
            raise Refused("ENOENT")
        return View(self.nodes, client.transactions[tx_id] if tx_id else None)

    def permitted(
        self, client: Client, view: View, path: str, needed: int
    ) -> Node | None:
        """The node, or None where the client may know that there is none."""
        node = view.get(path)
        if node is not None:
            allowed = self.rights(client, node.perms) & needed == needed
        else:
            above = self.nearest(view, path)[1]
            allowed = bool(self.rights(client, above.perms) & needed)
        if not allowed:
            raise Refused("EACCES")
        return node

    def existing(self, client: Client, view: View, path: str, needed: int) -> Node:
        node = self.permitted(client, view, path, needed)
        if node is None:
            raise Refused("ENOENT")
        return node

    def nearest(self, view: View, path: str) -> tuple[str, Node]:
        """The nearest node above a missing one; for an event's name, the root."""
        while True:
            path = parent(path) if path[0] == "/" else "/"
            node = view.get(path)
            if node is not None:
                return path, node

    # ---- requests on nodes ----

    def read(self, client: Client, tx_id: int, path: str) -> Answer:
        return self.existing(client, self.view(client, tx_id), path, READ).value

    def directory(self, client: Client, tx_id: int, path: str) -> Answer:
        node = self.existing(client, self.view(client, tx_id), path, READ)
        return b"".join(name.encode() + b"\0" for name in node.children)

    def directory_part(self, client: Client, tx_id: int, path: str) -> Node:
        """The node, for the generation that the reply begins with."""
        return self.existing(client, self.view(client, tx_id), path, READ)

    def get_perms(self, client: Client, tx_id: int, path: str) -> Answer:
        node = self.existing(client, self.view(client, tx_id), path, READ)
        entries = (f"{entry.letter}{entry.domid}\0" for entry in node.perms)
        return "".join(entries).encode()

    def write(self, client: Client, tx_id: int, path: str, value: bytes) -> Answer:
        view = self.view(client, tx_id)
        node = self.permitted(client, view, path, WRITE)
        if node is None:
            self.create(client, view, path, value)
            return b"OK\0"
        new = replace(node, value=value)
        self.check_size(client, view, new)
        view.put(path, replace(new, generation=self.next_generation()))
        self.changed(view, path, node.perms)
        return b"OK\0"

    def mkdir(self, client: Client, tx_id: int, path: str) -> Answer:
        view = self.view(client, tx_id)
        if self.permitted(client, view, path, WRITE) is None:
            self.create(client, view, path, b"")
        return b"OK\0"

    def check_size(self, client: Client, view: View, node: Node) -> None:
        if exceeds(node.size, self.quota(client, "node-size")):
            self.refuse(view)

    def refuse(self, view: View) -> None:
        if view.tx is not None:
            view.tx.failed = True
        raise Refused("ENOSPC")

    def create(self, client: Client, view: View, path: str, value: bytes) -> None:
        """Make the node and what is missing above it, or nothing at all."""
        above, lowest = self.nearest(view, path)
        rest = path[len(above) if above != "/" else 0 :].split("/")[1:]
        perms = lowest.perms
        if not client.privileged:
            perms = (replace(perms[0], domid=client.domid), *perms[1:])
        sizes = [replace(lowest, children=(*lowest.children, rest[0]))]
        sizes += (Node(b"", perms, (name,), 0) for name in rest[1:])
        sizes += [Node(value, perms, (), 0)]
        for size in sizes:
            self.check_size(client, view, size)
        owned = view.owned(client.domid) + len(rest)
        if exceeds(owned, self.quota(client, "nodes")):
            self.refuse(view)
        if view.tx is not None:
            view.tx.made_nodes = True
        for name in rest:
            self.add(view, above, name, perms)
            above = join(above, name)
        node = view.get(path)
        assert node is not None
        view.put(path, replace(node, value=value))
        self.changed(view, path, perms)

    def add(self, view: View, above: str, name: str, perms: Perms) -> None:
        directory = view.get(above)
        assert directory is not None
        path = join(above, name)
        view.put(path, Node(b"", perms, (), self.next_generation()))
        children = directory.children
        if name not in children:
            children = (*children, name)
        new = replace(directory, children=children, generation=self.next_generation())
        view.put(above, new)

    def rm(self, client: Client, tx_id: int, path: str) -> Answer:
        view = self.view(client, tx_id)
        if self.permitted(client, view, path, WRITE) is None:
            if view.get(parent(path)) is None:
                raise Refused("ENOENT")
            return b"OK\0"
        if path == "/":
            raise Refused("EINVAL")
        self.remove(view, path)
        return b"OK\0"

    def remove(self, view: View, top: str) -> None:
        gone = view.subtree(top)
        above = parent(top)
        directory = view.get(above)
        if directory is None:
            raise Refused("EINVAL")
        perms = {path: node.perms for path in gone if (node := view.get(path))}
        name = top[top.rfind("/") + 1 :]
        children = tuple(other for other in directory.children if other != name)
        new = replace(directory, children=children, generation=self.next_generation())
        view.put(above, new)
        perms[above] = directory.perms
        for path in gone:
            view.put(path, None)
        for path in gone:
            self.changed(view, path, perms[path], perms[parent(path)], path != top)

    def set_perms(self, client: Client, tx_id: int, path: str, perms: Perms) -> Answer:
        view = self.view(client, tx_id)
        if exceeds(len(perms), self.quota(client, "node-permissions")):
            raise Refused("ENOSPC")
        known = (*self.domains, ANY)
        perms = tuple(replace(p, ignored=p.domid not in known) for p in perms)
        if perms[0].ignored:
            raise Refused("ENOENT")
        node = self.existing(client, view, path, WRITE | OWN)
        if not client.privileged and perms[0].domid != node.owner:
            raise Refused("EPERM")
        new = replace(node, perms=perms)
        self.check_size(client, view, new)
        view.put(path, replace(new, generation=self.next_generation()))
        self.changed(view, path, node.perms)
        return b"OK\0"

    # ---- transactions ----

    def transaction_start(self, client: Client, tx_id: int) -> Answer:
        if self.view(client, tx_id).tx is not None:
            raise Refused("EBUSY")
        of_domain = [c for c in self.clients if c.domid == client.domid]
        open_now = sum(len(c.transactions) for c in of_domain)
        if exceeds(open_now + 1, self.quota(client, "transactions")):
            raise Refused("ENOSPC")
        client.last_tx_id += 1
        limit = self.quota(client, "transaction-nodes")
        client.transactions[client.last_tx_id] = Transaction(limit)
        return b"%d\0" % client.last_tx_id

    def transaction_end(self, client: Client, tx_id: int, commit: bool) -> Answer:
        tx = self.view(client, tx_id).tx
        if tx is None:
            raise Refused("ENOENT")
        del client.transactions[tx_id]
        if commit:
            self.commit(client, tx)
        return b"OK\0"

    def commit(self, client: Client, tx: Transaction) -> None:
        if tx.failed:
            raise Refused("ENOMEM")
        view = View(self.nodes, tx)
        owned = view.owned(client.domid)
        more = owned > View(self.nodes, None).owned(client.domid)
        if tx.made_nodes and more and exceeds(owned, self.quota(client, "nodes")):
            raise Refused("ENOSPC")
        if tx.doomed or any(
            generation(self.nodes.get(path)) != generation(node)
            for path, node in tx.before.items()
        ):
            raise Refused("EAGAIN")
        for path in tx.changed:
            node = tx.after[path]
            if node is None:
                self.nodes.pop(path, None)
            else:
                new = replace(node, generation=self.next_generation())
                self.nodes[path] = new
        self.loose = True
        for path in tx.events:
            if tx.before[path] or self.nodes.get(path):  # not made and removed within
                self.tell_of_commit(tx, path)

    def tell_of_commit(self, tx: Transaction, path: str) -> None:
        old, above = tx.before[path], self.nodes.get(parent(path))
        lists = (
            old.perms if old else None,
            above.perms if above and path[0] == "/" else None,
        )
        self.fire(path, lists, tx.events[path])

    # ---- watches ----

    def changed(
        self,
        view: View,
        path: str,
        old: Perms,
        above: Perms | None = None,
        exact: bool = False,
    ) -> None:
        """Tell of a change now, or when the transaction commits."""
        if view.tx is not None:
            earlier = view.tx.events.get(path, True)
            view.tx.events[path] = exact and earlier
            return
        directory = self.nodes.get(parent(path)) if path[0] == "/" else None
        if directory is not None:
            above = directory.perms
        self.fire(path, (old, above), exact)

    def fire(self, path: str, lists: tuple[Perms | None, ...], exact: bool) -> None:
        now = self.nodes.get(path)
        lists = (*lists, now.perms if now else None)
        for watch in self.watches:
            if exact or path[0] == "@":
                concerned = watch.path == path
            else:
                concerned = is_at_or_below(path, watch.path) and (
                    watch.depth is None
                    or level(path) - level(watch.path) <= watch.depth
                )
            if concerned and any(self.may_read(watch.client, one) for one in lists):
                self.report(watch, path)

    def fire_special(self, name: str, domid: int) -> None:
        self.loose = True
        perms = self.nodes[name].perms
        one = f"{name}/{domid}"
        for watch in self.watches:
            if not self.may_read(watch.client, perms):
                continue
            if watch.path == one:
                self.report(watch, one)
            elif watch.path == name and watch.depth is None:
                self.report(watch, name)
            elif watch.path == name and watch.depth != 0:
                self.report(watch, one)

    def report(self, watch: Watch, path: str) -> None:
        told = watch.sent + path[len(watch.path) :]
        client = watch.client
        waiting = [(event.path, event.token) for event in client.unread]
        if told[0] != "@" and (told, watch.token) in waiting:
            return
        deadline = 1 << 63 if client.privileged else self.now_ms + EVENT_TIMEOUT_MS
        event = Event(told, watch.token, deadline, self.batch, self.loose)
        client.unread.append(event)

    def watch(
        self, client: Client, path: str, token: str, sent: str, depth: int | None
    ) -> Answer:
        if any(
            (w.client, w.path, w.token) == (client, path, token) for w in self.watches
        ):
            raise Refused("EEXIST")
        of_domain = sum(w.client.domid == client.domid for w in self.watches)
        if exceeds(of_domain + 1, self.quota(client, "watches")):
            raise Refused("ENOSPC")
        new = Watch(client, path, token, sent, depth)
        self.watches.append(new)
        self.report(new, path)
        return b"OK\0"

    def unwatch(self, client: Client, path: str, token: str) -> Answer:
        for watch in self.watches:
            if (watch.client, watch.path, watch.token) == (client, path, token):
                self.watches.remove(watch)
                return b"OK\0"
        raise Refused("ENOENT")

    def reset_watches(self, client: Client, tx_id: int) -> Answer:
        self.view(client, tx_id)
        self.watches = [w for w in self.watches if w.client is not client]
        client.transactions.clear()
        return b"OK\0"

    # ---- clients, domains, time ----

    def connect(self, domid: int) -> Client:
        client = Client(domid, privileged=domid == 0)
        self.clients.append(client)
        return client

    def disconnect(self, client: Client) -> None:
        self.reset_watches(client, 0)
        self.clients.remove(client)

    def set_quota(self, domid: int | None, name: str, value: int) -> Answer:
        if domid is None:
            self.quotas[name] = value
        elif domid not in self.domains:
            raise Refused("ENOENT")
        else:
            self.domains[domid].own_quotas[name] = value
        return b"OK\0"

    def introduce(self, domid: int) -> Answer:
        domain = self.domains.setdefault(domid, Domain())
        if not domain.introduced:
            domain.introduced = True
            self.fire_special("@introduceDomain", domid)
        return b"OK\0"

    def set_target(self, domid: int, target: int) -> Answer:
        for one in (domid, target):
            if one not in self.domains or not self.domains[one].introduced:
                raise Refused("ENOENT")
        self.domains[domid].target = target
        return b"OK\0"

    def domain_created(self, domid: int) -> None:
        """Permissions may name it from now on."""
        self.domains.setdefault(domid, Domain())

    def release(self, domid: int) -> Answer:
        if domid not in self.domains or not self.domains[domid].introduced:
            raise Refused("ENOENT")
        self.domain_dead(domid)
        return b"OK\0"

    def domain_dead(self, domid: int) -> None:
        """Its connections, nodes and rights go; who watches hears of it."""
        domain = self.domains.get(domid)
        if domain is None:
            return
        for client in [c for c in self.clients if c.domid == domid]:
            self.disconnect(client)
        self.loose = True
        view = View(self.nodes, None)
        while tops := [
            path
            for path, node in self.nodes.items()
            if node.owner == domid and path != "/" and path[0] == "/"
        ]:
            self.remove(view, min(tops, key=len))
        self.forget_rights(domid)
        del self.domains[domid]
        for other in self.domains.values():
            other.target = None if other.target == domid else other.target
        if domain.introduced:
            self.fire_special("@releaseDomain", domid)

    def forget_rights(self, domid: int) -> None:
        for path, node in self.nodes.items():
            if all(entry.domid != domid for entry in node.perms):
                continue
            owner, *grants = node.perms
            if owner.domid == domid:
                owner = replace(owner, domid=0)
            kept = (entry for entry in grants if entry.domid != domid)
            new = replace(node, perms=(owner, *kept))
            self.nodes[path] = replace(new, generation=self.next_generation())
        for client in self.clients:
            for tx in client.transactions.values():
                named = (tx.after[path] for path in tx.changed)
                tx.doomed |= any(
                    entry.domid == domid
                    for node in named
                    if node
                    for entry in node.perms
                )

    def next_batch(self, ms: int) -> None:
        """Time goes by before the next request; events unread for too long go."""
        self.batch += 1
        self.loose = False
        self.now_ms += ms
        for client in self.clients:
            client.unread = [e for e in client.unread if e.deadline_ms > self.now_ms]
