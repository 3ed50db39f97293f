"""A veth pair: what the kernel alone can do."""

from collections.abc import Iterator
from contextlib import contextmanager

from tests.perf.peers.link import Link, namespace, run


@contextmanager
def veth(number: int) -> Iterator[Link]:
    """The far end is made in its namespace, and both ends go with that."""
    near, far = f"vb{number}a", f"vb{number}b"
    with namespace(number) as netns:
        run("ip", "link", "add", near, "type", "veth", "peer", far, "netns", netns)
        link = Link(number, netns, near, far)
        link.configure()
        yield link
