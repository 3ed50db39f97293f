"""A store in a process of its own, with unprivileged domains, for tests that attack it.

What would crash a server crashes that process, its memory can be measured, and it can
be stopped while requests pile up. The test is its hypervisor: it says which domains
there are and hands their ring pages over. At the end the process must still be there,
and must not have logged an exception.
"""

import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

from tests.raw_ring import RawRing
from tests.raw_store import RawClient
from xenvirt.abi.xs_wire import XsWire
from xenvirt.xenstore.server import StoreServer, UpcallKind

ROOT: Final = Path(__file__).resolve().parent.parent
PATIENCE_S: Final = 60
PAGE: Final = os.sysconf("SC_PAGE_SIZE")
FORBIDDEN: Final = ("Traceback", "ERROR", "CRITICAL", "Sanitizer", "runtime error")


class StoreProcess:
    """The test's side. Everything that it makes is closed with it."""

    def __init__(self, domains: Iterable[int] = (1, 2, 3)) -> None:
        self._stack = ExitStack()
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._control.settimeout(PATIENCE_S)
        self._log = self._stack.enter_context(tempfile.TemporaryFile())  # noqa: SIM115
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", __name__, str(theirs.fileno())],
                cwd=ROOT,
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=self._log,
            )
        for domid in domains:
            self.tell("domain_created", domid)

    def tell(self, what: str, domid: int, *fds: int, privileged: bool = False) -> None:
        """Have the process call one of StoreServer's methods; returns when it has."""
        order = {"what": what, "domid": domid, "privileged": privileged}
        socket.send_fds(self._control, [json.dumps(order).encode()], list(fds))
        assert self._control.recv(64) == b"done", self.log()

    def client(self, domid: int = 0) -> RawClient:
        """A new connection that speaks as the domain; domain 0 is privileged."""
        ours, theirs = socket.socketpair()
        with theirs:
            self.tell("adopt", domid, theirs.fileno(), privileged=domid == 0)
        return self._stack.enter_context(RawClient(ours))

    def ring(self, domid: int, *, start: int = 0) -> RawRing:
        """A domain's ring page, served; its indices begin at `start`."""
        ring = self._stack.enter_context(RawRing(start))
        self.tell("add_ring", domid, ring.memory_fd, ring.to_server, ring.to_client)
        return ring

    def at_home(self, domid: int) -> RawClient:
        """Give the domain a directory, /local/domain/N, that it owns; returns dom0."""
        dom0 = self.client()
        dom0.do(XsWire.MKDIR, b"/local/domain/%d\0" % domid)
        dom0.do(XsWire.SET_PERMS, b"/local/domain/%d\0n%d\0" % (domid, domid))
        return dom0

    def check(self) -> None:
        """The store is alive, and its tree and counts are what they should be."""
        with self.client() as client:
            assert client.result(XsWire.CONTROL, b"check\0") == b"OK\0"

    def rss(self) -> int:
        """Bytes of memory that the process has now."""
        statm = Path(f"/proc/{self._process.pid}/statm").read_text()
        return int(statm.split()[1]) * PAGE

    def stop(self) -> None:
        """Let nothing run there until `go_on`."""
        os.kill(self._process.pid, signal.SIGSTOP)
        os.waitid(os.P_PID, self._process.pid, os.WSTOPPED | os.WNOWAIT)

    def go_on(self) -> None:
        """End `stop`."""
        os.kill(self._process.pid, signal.SIGCONT)

    def log(self) -> str:
        """What the process has written."""
        # From its beginning, and not by moving the place at which it writes.
        fd = self._log.fileno()
        return os.pread(fd, os.fstat(fd).st_size, 0).decode(errors="replace")

    def close(self) -> None:
        """End the process, and everything that was connected to it."""
        self._control.close()
        try:
            status = self._process.wait(PATIENCE_S)
        finally:
            self._process.kill()
            self._process.wait()
            log = self.log()
            self._stack.close()
        assert status == 0, log
        assert not any(word in log for word in FORBIDDEN), log

    def __enter__(self) -> "StoreProcess":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.check()
        self.close()


class Served:
    """The process's side: a StoreServer that does as the test says."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._server = StoreServer()
        self._rings: dict[int, tuple[memoryview, int, int]] = {}

    def run(self) -> None:
        """Obey until the test closes the control socket."""
        ready = select.poll()
        ready.register(self._control, select.POLLIN)
        ready.register(self._server.upcall_fd, select.POLLIN)
        while True:
            for fd, _ in ready.poll():
                if fd == self._server.upcall_fd:
                    self._answer_upcalls()
                elif not self._obey():
                    self._server.close()
                    return

    def _obey(self) -> bool:
        data, fds, _, _ = socket.recv_fds(self._control, 4096, 3)
        if not data:
            return False
        order = json.loads(data)
        self._call(order["what"], order["domid"], fds, privileged=order["privileged"])
        self._control.send(b"done")
        return True

    def _call(self, what: str, domid: int, fds: list[int], *, privileged: bool) -> None:
        if what == "adopt":
            sock = socket.socket(fileno=fds[0])
            self._server.adopt(sock, domid, privileged=privileged)
        elif what == "add_ring":
            self._rings[domid] = (RawRing.map(fds[0]), fds[1], fds[2])
            self._server.add_ring(domid, *self._rings[domid])
        else:
            if what in ("domain_dead", "remove_ring"):
                self._rings.pop(domid, None)
            getattr(self._server, what)(domid)

    def _answer_upcalls(self) -> None:
        while (upcall := self._server.next_upcall()) is not None:
            if upcall.domid in self._rings:
                self._change_ring(upcall)
            self._server.answer(upcall.conn_id)

    def _change_ring(self, upcall: Any) -> None:
        """INTRODUCE makes a ring begin anew, RELEASE ends it."""
        if upcall.kind == UpcallKind.INTRODUCE:
            self._server.reset_ring(upcall.domid)
        elif upcall.kind == UpcallKind.RELEASE:
            self._server.remove_ring(upcall.domid)
            del self._rings[upcall.domid]


if __name__ == "__main__":
    with socket.socket(fileno=int(sys.argv[1])) as inherited:
        Served(inherited).run()
