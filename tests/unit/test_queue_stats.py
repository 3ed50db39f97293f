"""Statistics of several queues in one memfd, as tools read them."""

import os
import subprocess
import sys

import pytest

from xenvirt.hypervisor.published import check_page
from xenvirt.native.queue_stats import STATS_SIZE
from xenvirt.vif.queue_stats import StatsPages, read


def test_a_reader_finds_each_queues_own() -> None:
    pages = StatsPages("test")
    check_page(pages.fd)
    for number in range(8):
        pages.of_queue(number).cdata.tx_req = 100 + number
    for number in range(8):
        assert read(pages.fd, number).indices()["tx_req"] == 100 + number
        assert read(pages.fd, number).broken() is None
    pages.close()


def test_two_queues_of_an_idle_vif_touch_one_page() -> None:
    pages = StatsPages("test")
    for number in range(2):
        pages.of_queue(number).cdata.tx_req = 1
    assert os.fstat(pages.fd).st_blocks * 512 == 4096
    pages.close()


def test_what_is_read_outlives_the_descriptors() -> None:
    pages = StatsPages("test")
    stats = pages.of_queue(3)
    seen = read(pages.fd, 3)
    pages.close()
    stats.cdata.rx_rsp = 7
    assert seen.indices()["rx_rsp"] == 7


def test_a_page_of_one_queue_is_read_too_and_a_short_one_is_refused() -> None:
    fd = os.memfd_create("test")
    try:
        os.ftruncate(fd, 4096)
        assert read(fd, 1).indices()["tx_req"] == 0
        os.ftruncate(fd, STATS_SIZE - 1)
        with pytest.raises(ValueError, match="no statistics of queue 1"):
            read(fd, 1)
    finally:
        os.close(fd)


GARBAGE = """
import gc
from types import SimpleNamespace
from xenvirt.vif.queue_stats import StatsPages, read

pages = StatsPages("test")
for stats in pages.of_queue(3), read(pages.fd, 3):
    garbage = SimpleNamespace(stats=stats)
    garbage.itself = garbage
    del stats, garbage
pages.close()
del pages
gc.collect()
"""


def test_what_is_garbage_in_a_cycle_is_collected() -> None:
    """In a process of its own, which may crash."""
    command = [sys.executable, "-c", GARBAGE]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
