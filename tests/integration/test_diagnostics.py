"""What a frontend says when its own node is wrong, in the words of xennet(4)."""

import os
import signal

import pytest

from tests.integration.links import LinkMaker
from xenvirt.xenstore.sync_client import SyncClient as Store

pytestmark = pytest.mark.root

CASES = {
    "missing mac": ("mac", None, "2 can't read mac address, err 2"),
    "bad mac": ("mac", "zz", "22 zz is not a valid mac address"),
    "bad mtu": ("mtu", "abc", "22 mtu abc is not a number"),
}


@pytest.mark.parametrize("case", CASES)
def test_a_frontend_that_cannot_use_its_node_says_why(
    module_links: LinkMaker, case: str
) -> None:
    key, value, text = CASES[case]
    link = module_links.up("diag")
    front = f"/local/domain/{link.domid}/device/vif/0"
    error = f"/local/domain/{link.domid}/error/device/vif/0/error"
    with Store(str(module_links.run_dir / "xenstored" / "socket")) as store:
        if value is None:
            store.rm(f"{front}/{key}")
        else:
            store.write({f"{front}/{key}": value})
        # The next one reads its node anew.
        os.kill(module_links.ends()["frontend", link.domid], signal.SIGKILL)
        store.wait_for(error, lambda found: found == text, timeout_s=10)
    assert f"xennet0: {text.split(' ', 1)[1]}" in module_links.log()
    module_links.down(link)


def test_an_attach_that_is_given_up_leaves_the_devid_free(links: LinkMaker) -> None:
    name = links.name("hasty")
    links.run("create", name)
    for timeout_s in ("0.001", "0.003", "0.005", "0.01"):
        attach = ("--timeout", timeout_s, "network-attach", name)
        done = links.run(*attach, status=None)
        assert done.returncode in (0, 5), done.stderr
        if done.returncode == 0:
            links.run("network-detach", name, "0")
    links.run("network-attach", name)
    links.run("destroy", name)
