"""The filters of system calls, in a process of each test's own."""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from xenvirt.native.seccomp import filtered_calls

pytestmark = pytest.mark.skipif(
    not filtered_calls()["killed"],
    reason="no filter with a sanitizer, and on other processors",
)

PREPARED = """
import ctypes, fcntl, mmap, os, resource, signal, socket, struct, sys, threading
from xenvirt.native import seccomp
libc = ctypes.CDLL(None, use_errno=True)
def syscall(*words):
    if libc.syscall(*words) < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
def number(x86_64, aarch64):
    return x86_64 if os.uname().machine == "x86_64" else aarch64
def upper(word):
    return ctypes.c_uint64(word | 1 << 32)
def netlink(protocol):
    return socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, protocol)
"""
EXECVE = "os.execv('/bin/true', ['true'])"
UNSHARE_USER = f"syscall({272 if os.uname().machine == 'x86_64' else 97}, 0x10000000)"


def run(code: str, whose: str = "end") -> subprocess.CompletedProcess[str]:
    """Run code in a process that has had itself filtered."""
    filtered = f"{PREPARED}\nseccomp.filter_calls_of_{whose}()\n{code}"
    return subprocess.run(
        [sys.executable, "-c", filtered],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
    )


@pytest.mark.parametrize(
    "code",
    [
        EXECVE,
        UNSHARE_USER,
        "syscall(101 if os.uname().machine == 'x86_64' else 117, 0, 0, 0, 0)",
        "libc.mount(b'a', b'/', b'none', 0, None)",
        "libc.process_vm_readv(1, None, 0, None, 0, 0)",
    ],
    ids=["execve", "unshare", "ptrace", "mount", "process_vm_readv"],
)
def test_what_no_end_does_kills_the_process(code: str) -> None:
    assert run(code).returncode == -signal.SIGSYS


def test_any_thread_kills_the_process() -> None:
    code = f"""
import os, threading
from xenvirt.native import seccomp
go = threading.Event()
def late():
    go.wait()
    {EXECVE}
thread = threading.Thread(target=late)
thread.start()
seccomp.filter_calls_of_end()
go.set()
thread.join()
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2])
    assert done.returncode == -signal.SIGSYS


@pytest.mark.parametrize(
    "code",
    [
        "socket.socket(socket.AF_INET)",
        "socket.socket(socket.AF_PACKET, socket.SOCK_RAW)",
        "mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_EXEC)",
        "os.fork()",
        "os.kill(os.getppid(), 0)",
        "os.unlink('/tmp/none')",
        "os.mkdir('/tmp/none')",
        "fcntl.ioctl(0, 0x5412, b'a')",
        "os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))",
        "syscall(425)",
        "netlink(4)",
        "netlink(6)",
        "netlink(9)",
        "netlink(12)",
        "netlink(16)",
        "syscall(number(41, 198), upper(socket.AF_INET), socket.SOCK_STREAM, 0)",
        "syscall(number(41, 198), socket.AF_NETLINK, socket.SOCK_RAW, upper(12))",
        "syscall(number(9, 222), None, 4096, upper(mmap.PROT_EXEC), 34, -1, 0)",
        "syscall(number(16, 29), 0, upper(0x5412), b'a')",
    ],
    ids=[
        "AF_INET", "AF_PACKET", "PROT_EXEC", "fork", "kill", "unlink", "mkdir",
        "TIOCSTI", "sched_setscheduler", "io_uring", "NETLINK_SOCK_DIAG",
        "NETLINK_XFRM", "NETLINK_AUDIT", "NETLINK_NETFILTER", "NETLINK_GENERIC",
        "AF_INET and more", "NETLINK_NETFILTER and more", "PROT_EXEC and more",
        "TIOCSTI and more",
    ],
)  # fmt: skip
def test_what_is_not_allowed_is_eperm(code: str) -> None:
    refused = f"""
try:
    {code}
except PermissionError as error:
    print(error.errno)
"""
    done = run(refused)
    assert done.stdout == f"{errno.EPERM}\n", done.stderr


def test_what_an_end_does_is_allowed() -> None:
    done = run("""
thread = threading.Thread(target=lambda: print("a thread", flush=True))
thread.start()
thread.join()
socket.socket(socket.AF_UNIX).close()
socket.socket(socket.AF_NETLINK, socket.SOCK_RAW).close()
print(socket.if_nametoindex("lo"), mmap.mmap(-1, 4096)[0], flush=True)
os.abort()
""")
    assert done.stdout == "a thread\n1 0\n"
    assert done.returncode == -signal.SIGABRT


def test_of_a_number_the_filter_sees_as_much_as_the_kernel() -> None:
    """The upper half of a register is nobody's: a caller may leave anything there."""
    done = run("""
syscall(number(41, 198), upper(socket.AF_UNIX), socket.SOCK_STREAM, 0)
syscall(number(41, 198), upper(socket.AF_NETLINK), socket.SOCK_RAW, upper(0))
""")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("address", [1 << 32, 0x7000_0000, (1 << 32) + 0x7000_0000])
def test_a_limit_is_set_from_no_address(address: int) -> None:
    """Not from one either that has nothing in its lower half, as null has not."""
    done = run(f"""
before = resource.getrlimit(resource.RLIMIT_NOFILE)
place = ctypes.c_void_p({address})
MAP_FIXED_NOREPLACE = 0x100000
flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | MAP_FIXED_NOREPLACE
syscall(number(9, 222), place, 4096, mmap.PROT_READ | mmap.PROT_WRITE, flags, -1, 0)
ctypes.memmove(place, struct.pack("=QQ", 16, 16), 16)
try:
    syscall(number(302, 261), 0, resource.RLIMIT_NOFILE, place, None)
except PermissionError as error:
    print(error.errno, resource.getrlimit(resource.RLIMIT_NOFILE) == before)
""")
    assert done.stdout == f"{errno.EPERM} True\n", done.stderr


def test_the_daemon_may_exec_and_make_no_namespace() -> None:
    assert run(EXECVE, "daemon").returncode == 0
    assert run(UNSHARE_USER, "daemon").returncode == -signal.SIGSYS
    # By clone(2), whose number is the same as that of a fork.
    number = 56 if os.uname().machine == "x86_64" else 220
    refused = f"""
try:
    syscall({number}, 0x10000000 | 17, 0, 0, 0, 0)
except PermissionError:
    sys.exit(7)
"""
    assert run(refused, "daemon").returncode == 7
    updated = "import subprocess; sys.exit(subprocess.run(['/bin/true']).returncode)"
    assert run(updated, "daemon").returncode == 0
