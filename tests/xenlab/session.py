"""What goes on in dom0, and between it and this program's files."""

import os
import select
import shlex
import shutil
import sys
import termios
import time
import tty
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from tests.xenlab.machine import READY, Machine
from tests.xenlab.work import Work

TIMED_OUT: Final = 124
"""The exit status that timeout(1) has for it."""

_END: Final = b"\x04"
_ESCAPE: Final = b"\x1d"
_BLOCK: Final = 4096

# A line at a time, as only so there is an end of file; no other character has a
# meaning.
_PIPE_SETTINGS: Final = (
    "-echo -iexten icanon eof ^D erase undef kill undef eol undef eol2 undef"
)


def prepare_command(work: Work, command: Sequence[str]) -> None:
    """Have the next machine run a command, which can read nothing."""
    _prepare(work, "true", f"{shlex.join(command)} </dev/null")


def prepare_shell(work: Work) -> Callable[[Machine], int]:
    """Have the next machine run a shell; return what then connects it with us."""
    if not sys.stdin.isatty():
        _prepare(work, f"stty {_PIPE_SETTINGS}", "bash /dev/stdin")
        return _relay
    columns, rows = os.get_terminal_size(sys.stdin.fileno())
    term = shlex.quote(os.environ.get("TERM", "dumb"))
    (work.host / "bashrc").write_text("PS1='dom0:\\w# '\n")
    _prepare(
        work,
        f"stty sane rows {rows} columns {columns}; export TERM={term}",
        "bash --rcfile /host/bashrc -i",
    )
    return _be_terminal


def _prepare(work: Work, setup: str, body: str) -> None:
    shutil.rmtree(work.results)
    work.results.mkdir()
    (work.host / "status").unlink(missing_ok=True)
    ready = f"printf %s {READY.decode()}"
    (work.host / "session").write_text(f"{setup}\n{ready}\n{body}\n")


def watch(machine: Machine, timeout_s: float) -> int:
    """Print what the session writes; return its exit status."""
    deadline = time.monotonic() + timeout_s
    while select.select([machine], [], [], max(0, deadline - time.monotonic()))[0]:
        data = machine.receive()
        if not data:
            return machine.status()
        _print(data)
    print(f"xen-lab: not done after {timeout_s:g} s", file=sys.stderr)
    return TIMED_OUT


def _be_terminal(machine: Machine) -> int:
    print("exit, or ^D, switches the machine off; ^] at once", file=sys.stderr)
    before = termios.tcgetattr(sys.stdin)
    tty.setraw(sys.stdin)
    try:
        return _relay(machine, escape=_ESCAPE)
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)


def _relay(machine: Machine, escape: bytes | None = None) -> int:
    """Pass on what either writes until the session ends, or is escaped from."""
    keyboard = _typed()
    pending = b""
    reading = True
    while True:
        sources = [machine, sys.stdin] if reading and not pending else [machine]
        sinks = [machine] if pending else []
        readable, writable, _ = select.select(sources, sinks, [])
        if machine in readable:
            data = machine.receive()
            if not data:
                return machine.status()
            _print(data)
        if sys.stdin in readable:
            pending = next(keyboard, b"")
            reading = pending != b""
            if escape is not None and escape in pending:
                return 0
        if writable:
            pending = pending[machine.send(pending) :]


def _typed() -> Iterator[bytes]:
    """Yield what there is to read, and its end as a terminal has it."""
    data = b"\n"
    while following := os.read(sys.stdin.fileno(), _BLOCK):
        data = following
        yield data
    # In a line that is begun, the first only ends the line.
    yield _END if data.endswith(b"\n") else _END + _END


def _print(data: bytes) -> None:
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()
