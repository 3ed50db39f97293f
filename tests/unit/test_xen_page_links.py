"""Statistics pages that processes show by links in the run directory."""

import fcntl
import os
import subprocess
import sys
from pathlib import Path

from xenvirt.abi.ids import DevId, DomId
from xenvirt.hypervisor.page_links import PageLinks

DOMID, DEVID = DomId(5), DevId(1)


def page(data: bytes) -> int:
    fd = os.memfd_create("page", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.write(fd, data)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
    return fd


def shown(links: PageLinks) -> dict[str, bytes]:
    pages = {}
    for each in links.pages(DOMID, DEVID):
        pages[each.side] = os.pread(each.fd, 100, 0)
        os.close(each.fd)
    return pages


def test_both_ends_are_seen_by_others(tmp_path: Path) -> None:
    front, back = PageLinks(tmp_path), PageLinks(tmp_path)
    for links, side in ((front, "front"), (back, "back")):
        fd = page(side.encode())
        links.add(DOMID, DEVID, side, 0, fd)
        os.close(fd)
    assert shown(PageLinks(tmp_path)) == {"front": b"front", "back": b"back"}
    front.remove_all()
    assert shown(PageLinks(tmp_path)) == {"back": b"back"}
    back.remove_all()
    assert list((tmp_path / "published").iterdir()) == []


def test_other_vifs_are_not_seen(tmp_path: Path) -> None:
    links = PageLinks(tmp_path)
    fd = page(b"other")
    links.add(DomId(51), DEVID, "back", 0, fd)
    links.add(DOMID, DevId(11), "back", 0, fd)
    os.close(fd)
    assert shown(links) == {}
    links.remove_all()


def test_a_new_page_takes_the_place_of_the_old(tmp_path: Path) -> None:
    links = PageLinks(tmp_path)
    before = len(os.listdir("/proc/self/fd"))
    for data in (b"old", b"new"):
        fd = page(data)
        links.add(DOMID, DEVID, "back", 0, fd)
        os.close(fd)
    assert shown(links) == {"back": b"new"}
    links.remove_all()
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_process_that_is_gone_shows_nothing(tmp_path: Path) -> None:
    program = (
        "import os, sys; from pathlib import Path;"
        "from xenvirt.hypervisor.page_links import PageLinks;"
        "PageLinks(Path(sys.argv[1])).add(5, 1, 'back', 0, os.memfd_create('x'))"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=True)
    assert len(list((tmp_path / "published").iterdir())) == 1
    assert shown(PageLinks(tmp_path)) == {}
    # The next one takes its place.
    links = PageLinks(tmp_path)
    fd = page(b"next")
    links.add(DOMID, DEVID, "back", 0, fd)
    os.close(fd)
    assert shown(links) == {"back": b"next"}
    links.remove_all()


def test_a_number_that_became_another_file_s_is_passed_over(tmp_path: Path) -> None:
    directory = tmp_path / "published"
    directory.mkdir()
    unsealed = os.memfd_create("page", os.MFD_CLOEXEC)
    pipe, end = os.pipe()
    for queue, fd in enumerate((unsealed, pipe)):
        (directory / f"5-1-back-{queue}").symlink_to(f"/proc/{os.getpid()}/fd/{fd}")
    assert list(PageLinks(tmp_path).pages(DOMID, DEVID)) == []
    for fd in (unsealed, pipe, end):
        os.close(fd)


def test_a_vif_that_is_gone_is_shown_no_longer(tmp_path: Path) -> None:
    links = PageLinks(tmp_path)
    fd = page(b"page")
    for devid in (DEVID, DevId(11)):
        links.add(DOMID, devid, "back", 0, fd)
    os.close(fd)
    links.remove(DOMID, DEVID, "back")
    assert shown(links) == {}
    assert [link.name for link in (tmp_path / "published").iterdir()] == ["5-11-back-0"]
    links.remove_all()


def test_strange_names_are_passed_over(tmp_path: Path) -> None:
    directory = tmp_path / "published"
    directory.mkdir()
    (directory / "5-1-back-0").symlink_to("nowhere")
    (directory / "5-1-x").symlink_to("/proc/1")
    (directory / "5-1-back-x").write_text("")
    assert list(PageLinks(tmp_path).pages(DOMID, DEVID)) == []
