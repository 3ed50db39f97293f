"""The engine and the plain model get the same requests, and must say the same."""

from collections.abc import Callable
from itertools import groupby

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from tests.native.xs_model import Model
from tests.native.xs_model_parts import (
    ANY,
    Answer,
    Client,
    Node,
    Perm,
    Perms,
    Refused,
)
from tests.xs_engine import Conn, Engine, result
from xenvirt.abi.xs_wire import XsWire as X

DOMAINS = (1, 2)
SLOTS = (0, 0, 1, 1, 2)
"""Whom the clients speak as."""

STEP_MS = 1000
OK = b"OK\0"

HOMES: list[tuple[str, Perms]] = [
    ("/local/domain/1", (Perm("n", 1),)),
    ("/local/domain/2", (Perm("n", 2),)),
    ("/shared", (Perm("b", 0),)),
]
ON_NODE = [X.READ, X.DIRECTORY, X.GET_PERMS, X.MKDIR, X.MKDIR, X.RM, X.RM]
QUOTAS = [
    ("nodes", 3), ("nodes", 6), ("nodes", 0),
    ("watches", 2), ("watches", 4), ("watches", 0),
    ("transactions", 2), ("transactions", 3),
    ("transaction-nodes", 4), ("transaction-nodes", 8), ("transaction-nodes", 0),
    ("node-permissions", 2), ("node-permissions", 4),
    ("node-size", 60), ("node-size", 120), ("node-size", 0),
]  # fmt: skip

# Few paths, so that clients meet.
below_shared = st.sampled_from(["", "/a", "/a", "/a/a", "/a/a", "/a/b", "/b", "/a/a/a"])
shared = below_shared.map("/shared{}".format)
homes = st.sampled_from(["/local/domain/1", "/local/domain/1/a", "/local/domain/2/a"])
absolute = st.one_of(shared, shared, shared, homes, st.sampled_from(["/", "/local"]))
paths = st.one_of(absolute, absolute, st.sampled_from(["a", "a/a", "b"]))
specials = st.sampled_from(
    ["@introduceDomain", "@releaseDomain", "@releaseDomain/1", "@other"]
)
perms = st.builds(
    Perm, st.sampled_from("nnrwb"), st.sampled_from([0, 0, 1, 1, 2, 2, 7, ANY])
)
perm_lists = st.lists(perms, min_size=1, max_size=4).map(tuple)
values = st.sampled_from([b"", b"v", b"x" * 30, b"x" * 100])
tokens = st.sampled_from(["s", "t"])
depths = st.sampled_from([None, None, None, 0, 1, 2])
clients = st.integers(0, len(SLOTS) - 1)
domids = st.sampled_from(DOMAINS)
transactions = st.sampled_from([0, 0, 1, 2])
"""0: none; otherwise one of those that the client has open, if it has one."""


class EngineAndModel(RuleBasedStateMachine):
    """Each rule is one request of one client, or something that happens to a domain."""

    def __init__(self) -> None:
        super().__init__()
        self.engine = Engine(existing=DOMAINS)
        self.model = Model(DOMAINS)
        self.conns: list[Conn] = [self.engine.connect(domid) for domid in SLOTS]
        self.clients: list[Client] = [self.model.connect(domid) for domid in SLOTS]
        self.generations: dict[int, bytes] = {}
        self.engine.set_time(1)

    def teardown(self) -> None:
        for slot in range(len(SLOTS)):
            self.read_events(slot)
        self.compare_trees("/")
        for domid in DOMAINS:
            self.die(domid)
        self.compare_trees("/")
        self.engine.close()

    def expect(
        self,
        slot: int,
        type_: int,
        payload: bytes,
        tx_id: int,
        said: Callable[[], Answer],
    ) -> None:
        """One request; what the model says of it must be the reply.

        A transaction that has failed is only good for its end.
        """
        self.next_step()
        tx = self.clients[slot].transactions.get(tx_id)
        is_lost = tx is not None and tx.failed and type_ != X.TRANSACTION_END
        try:
            expected = said()
        except Refused as error:
            expected = str(error)
        got = result(self.conns[slot].ask(type_, payload, tx_id))
        assert is_lost or got == expected, (X(type_).name, payload, tx_id)

    def next_step(self) -> None:
        self.model.next_batch(STEP_MS)
        self.engine.set_time(1 + self.model.now_ms)
        self.engine.timeout()

    def seldom(self, steps: int = 7) -> bool:
        """What undoes or forbids much is not tried at every step."""
        return self.model.batch % steps == 0

    def tx_id(self, slot: int, number: int) -> int:
        open_ids = sorted(self.clients[slot].transactions)
        if number == 0 or not open_ids:
            return 0
        return open_ids[(number - 1) % len(open_ids)]

    def canonical(self, slot: int, path: str) -> str:
        if path.startswith(("/", "@")):
            return path
        return f"/local/domain/{SLOTS[slot]}/{path}"

    @initialize(
        limits=st.lists(st.sampled_from(QUOTAS), max_size=3),
        nodes=st.lists(st.tuples(absolute, perm_lists), max_size=6),
        watches=st.lists(st.tuples(clients, paths, depths), max_size=6),
    )
    def set_up(
        self,
        limits: list[tuple[str, int]],
        nodes: list[tuple[str, Perms]],
        watches: list[tuple[int, str, int | None]],
    ) -> None:
        """Domains have their own directories; the rest may be anything."""
        for name in (b"outstanding", b"memory"):
            assert result(self.conns[0].ask(X.SET_QUOTA, name + b"\x000\0")) == OK
        for path, entries in [*HOMES, *nodes]:
            self.write(0, path, b"", 0)
            self.set_perms(0, path, entries, 0)
        for slot, path, depth in watches:
            self.watch(slot, path, "u", depth)
        for limit in limits:
            self.set_quota(limit, None)

    # ---- nodes ----

    @rule(slot=clients, path=paths, tx=transactions, type_=st.sampled_from(ON_NODE))
    def ask_of_node(self, slot: int, path: str, tx: int, type_: X) -> None:
        client, tx_id = self.clients[slot], self.tx_id(slot, tx)
        method: Callable[[Client, int, str], Answer] = {
            X.READ: self.model.read,
            X.DIRECTORY: self.model.directory,
            X.GET_PERMS: self.model.get_perms,
            X.MKDIR: self.model.mkdir,
            X.RM: self.model.rm,
        }[type_]
        at = self.canonical(slot, path)
        payload = path.encode() + b"\0"
        self.expect(slot, type_, payload, tx_id, lambda: method(client, tx_id, at))

    @rule(slot=clients, path=specials, tx=transactions)
    def ask_of_special(self, slot: int, path: str, tx: int) -> None:
        self.ask_of_node(slot, path, tx, X.GET_PERMS)

    @rule(slot=clients, path=paths, value=values, tx=transactions)
    def write(self, slot: int, path: str, value: bytes, tx: int) -> None:
        client, tx_id = self.clients[slot], self.tx_id(slot, tx)
        at = self.canonical(slot, path)
        payload = path.encode() + b"\0" + value
        self.expect(
            slot, X.WRITE, payload, tx_id,
            lambda: self.model.write(client, tx_id, at, value),
        )  # fmt: skip

    @rule(slot=clients, path=paths | specials, entries=perm_lists, tx=transactions)
    def set_perms(self, slot: int, path: str, entries: Perms, tx: int) -> None:
        client, tx_id = self.clients[slot], self.tx_id(slot, tx)
        at = self.canonical(slot, path)
        payload = strings(path, *(f"{entry.letter}{entry.domid}" for entry in entries))
        self.expect(
            slot, X.SET_PERMS, payload, tx_id,
            lambda: self.model.set_perms(client, tx_id, at, entries),
        )  # fmt: skip

    @rule(path=absolute)
    def generation(self, path: str) -> None:
        """A node has another generation exactly when the model's has."""
        got = result(self.conns[0].ask(X.DIRECTORY_PART, strings(path, "0")))
        node = self.model.nodes.get(path)
        if node is None:
            assert got == "ENOENT"
            return
        assert isinstance(got, bytes)
        said, _, listing = got.partition(b"\0")
        assert listing == strings(*node.children) + b"\0"
        assert self.generations.setdefault(node.generation, said) == said
        assert list(self.generations.values()).count(said) == 1

    # ---- transactions ----

    @rule(slot=clients, tx=st.sampled_from([0, 0, 0, 1]))
    def start(self, slot: int, tx: int) -> None:
        client, tx_id = self.clients[slot], self.tx_id(slot, tx)
        self.expect(
            slot, X.TRANSACTION_START, b"\0", tx_id,
            lambda: self.model.transaction_start(client, tx_id),
        )  # fmt: skip

    def open_transactions(self) -> list[tuple[int, int]]:
        return [
            (slot, tx_id)
            for slot, client in enumerate(self.clients)
            for tx_id in client.transactions
        ]

    @precondition(lambda self: self.open_transactions())
    @rule(number=st.integers(0, 99), commit=st.sampled_from([True] * 4 + [False]))
    def end(self, number: int, commit: bool) -> None:
        open_now = self.open_transactions()
        slot, tx_id = open_now[number % len(open_now)]
        client = self.clients[slot]
        self.expect(
            slot, X.TRANSACTION_END, b"T\0" if commit else b"F\0", tx_id,
            lambda: self.model.transaction_end(client, tx_id, commit),
        )  # fmt: skip

    @precondition(lambda self: self.open_transactions())
    @rule(
        number=st.integers(0, 99),
        path=absolute,
        inside=st.lists(st.sampled_from(ON_NODE), min_size=1, max_size=3),
        other=clients,
        outside=st.sampled_from(ON_NODE),
        commit=st.booleans(),
    )
    def race(
        self,
        number: int,
        path: str,
        inside: list[X],
        other: int,
        outside: X,
        commit: bool,
    ) -> None:
        """A transaction and somebody outside of it work on the same node."""
        open_now = self.open_transactions()
        slot, tx_id = open_now[number % len(open_now)]
        tx = 1 + sorted(self.clients[slot].transactions).index(tx_id)
        self.ask_of_node(slot, path, tx, inside[0])
        self.ask_of_node(other, path, 0, outside)
        for type_ in inside[1:]:
            self.ask_of_node(slot, path, tx, type_)
        if commit:
            self.end(number, True)

    # ---- watches ----

    @rule(slot=clients, path=paths | specials, token=tokens, depth=depths)
    def watch(self, slot: int, path: str, token: str, depth: int | None) -> None:
        client, at = self.clients[slot], self.canonical(slot, path)
        payload = strings(path, token, *([] if depth is None else [str(depth)]))
        self.expect(
            slot, X.WATCH, payload, 0,
            lambda: self.model.watch(client, at, token, path, depth),
        )  # fmt: skip

    @rule(
        slot=clients,
        node=st.tuples(below_shared, perm_lists),
        above=st.tuples(below_shared, perm_lists),
        change=st.sampled_from([X.MKDIR, X.RM, X.RM]),
        tx=transactions,
    )
    def notice(
        self,
        slot: int,
        node: tuple[str, Perms],
        above: tuple[str, Perms],
        change: X,
        tx: int,
    ) -> None:
        """Somebody watches a node; domain 0 changes rights, and it or one near it."""
        for below, entries in (node, above):
            self.set_perms(0, f"/shared{below}", entries, 0)
        self.watch(slot, f"/shared{node[0]}", "t", None)
        self.ask_of_node(0, f"/shared{above[0]}", tx, change)

    @rule(slot=clients, path=paths | specials, token=tokens)
    def unwatch(self, slot: int, path: str, token: str) -> None:
        client, at = self.clients[slot], self.canonical(slot, path)
        self.expect(
            slot, X.UNWATCH, strings(path, token), 0,
            lambda: self.model.unwatch(client, at, token),
        )  # fmt: skip

    @rule(slot=clients)
    def read_events(self, slot: int) -> None:
        client = self.clients[slot]
        got = self.conns[slot].events()
        for _, group in groupby(client.unread, key=lambda event: event.batch):
            batch = list(group)
            expected = [(event.path, event.token) for event in batch]
            part, got = got[: len(batch)], got[len(batch) :]
            if batch[0].loose:
                assert sorted(part) == sorted(expected)
            else:
                assert part == expected
        assert got == []
        client.unread.clear()

    # ---- clients and domains ----

    def connect(self, slot: int) -> None:
        self.conns[slot] = self.engine.connect(SLOTS[slot])
        self.clients[slot] = self.model.connect(SLOTS[slot])

    @precondition(lambda self: self.seldom())
    @rule(slot=clients, tx=transactions, how=st.sampled_from(["reset", "reconnect"]))
    def begin_anew(self, slot: int, tx: int, how: str) -> None:
        client, tx_id = self.clients[slot], self.tx_id(slot, tx)
        if how == "reset":
            self.expect(
                slot, X.RESET_WATCHES, b"\0", tx_id,
                lambda: self.model.reset_watches(client, tx_id),
            )  # fmt: skip
        else:
            self.next_step()
            self.engine.disconnect(self.conns[slot])
            self.model.disconnect(client)
            self.connect(slot)

    @precondition(lambda self: self.seldom(3))
    @rule(quota=st.sampled_from(QUOTAS), domid=domids | st.none())
    def set_quota(self, quota: tuple[str, int], domid: int | None) -> None:
        name, value = quota
        whose = [] if domid is None else [str(domid)]
        self.expect(
            0, X.SET_QUOTA, strings(*whose, name, str(value)), 0,
            lambda: self.model.set_quota(domid, name, value),
        )  # fmt: skip

    @precondition(lambda self: self.seldom(2))
    @rule(domid=domids)
    def introduce(self, domid: int) -> None:
        payload = strings(str(domid), "1", "1")
        self.expect(0, X.INTRODUCE, payload, 0, lambda: self.model.introduce(domid))

    @precondition(lambda self: self.seldom(2))
    @rule(domid=domids, served=domids)
    def set_target(self, domid: int, served: int) -> None:
        self.expect(
            0, X.SET_TARGET, strings(str(domid), str(served)), 0,
            lambda: self.model.set_target(domid, served),
        )  # fmt: skip

    @precondition(lambda self: self.seldom())
    @rule(domid=domids)
    def release(self, domid: int) -> None:
        payload = strings(str(domid))
        self.expect(0, X.RELEASE, payload, 0, lambda: self.model.release(domid))
        self.create_again(domid)

    @precondition(lambda self: self.seldom())
    @rule(domid=domids)
    def die(self, domid: int) -> None:
        self.next_step()
        self.model.domain_dead(domid)
        self.engine.domain_dead(domid)
        self.create_again(domid)

    def create_again(self, domid: int) -> None:
        """A new domain with the old domid, if the old one is gone."""
        if domid in self.model.domains:
            return
        self.model.domain_created(domid)
        self.engine.domain_created(domid)
        for slot, of in enumerate(SLOTS):
            if of == domid:
                assert not self.conns[slot].is_alive()
                self.engine.disconnect(self.conns[slot])
                self.connect(slot)

    # ---- what holds at all times ----

    @invariant()
    def the_store_is_consistent(self) -> None:
        assert self.engine.is_consistent()

    def compare_trees(self, path: str) -> None:
        """The node and all below it are what the model has there."""
        node = self.model.nodes[path]
        for type_, told in node_as_told(node).items():
            assert result(self.conns[0].ask(type_, strings(path))) == told
        for name in node.children:
            self.compare_trees(f"{path.rstrip('/')}/{name}")


def strings(*parts: str) -> bytes:
    return "".join(f"{part}\0" for part in parts).encode()


def node_as_told(node: Node) -> dict[X, bytes]:
    entries = (f"{entry.letter}{entry.domid}" for entry in node.perms)
    return {
        X.READ: node.value,
        X.DIRECTORY: strings(*node.children),
        X.GET_PERMS: strings(*entries),
    }


TestEngineAndModel = EngineAndModel.TestCase
TestEngineAndModel.settings = settings(max_examples=200, stateful_step_count=60)
