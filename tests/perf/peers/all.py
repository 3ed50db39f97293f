"""Ways to join two interfaces, a file each; xenvirt is one of them."""

from typing import Final

from tests.perf.peers.link import Peer
from tests.perf.peers.qemu import qemu
from tests.perf.peers.relay import relay
from tests.perf.peers.testpmd import testpmd
from tests.perf.peers.vde import vde
from tests.perf.peers.veth import veth
from tests.perf.peers.xenvirt import xenvirt

PEERS: Final[dict[str, Peer]] = {
    "xenvirt": xenvirt,
    "veth": veth,
    "relay": relay,
    "testpmd": testpmd,
    "qemu": qemu,
    "vde": vde,
}
