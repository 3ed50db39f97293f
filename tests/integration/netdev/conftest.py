"""TAPs, links, addresses and namespaces of the real kernel.

Each test has a network namespace of its own and works inside it, so names
and addresses need not be unique, and everything goes with the namespace:

    host | xvt<pid>-<n>: xvt0 (TAP) [- xvbr0 (bridge)]
"""

import os
from collections.abc import Iterator

import pytest

from tests.integration.netdev.interfaces import TAP, unused_name
from xenvirt.netdev import links, namespaces, tap


@pytest.fixture
def namespace() -> Iterator[str]:
    name = unused_name()
    namespaces.create(name)
    try:
        yield name
    finally:
        namespaces.delete(name)


@pytest.fixture
def home(namespace: str) -> Iterator[str]:
    """The test's thread is in the namespace."""
    with namespaces.inside(namespace):
        yield namespace


@pytest.fixture
def tap_fd(home: str) -> Iterator[int]:
    fd = tap.open_tap(TAP, persist=False)
    try:
        links.configure(TAP, alias="xenvirt test", ipv6_noise=False)
        yield fd
    finally:
        os.close(fd)
