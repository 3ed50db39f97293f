"""Xen in QEMU, without root and without KVM, to try this checkout in.

The work directory is $XENVIRT_LAB, or .xen-lab in the checkout; what a run leaves in
/host/results of dom0 is in its results/.
"""

import argparse
import signal
import sys
from collections.abc import Sequence
from typing import Final, NoReturn

from tests.xenlab import image, session
from tests.xenlab.errors import LabError
from tests.xenlab.machine import Machine
from tests.xenlab.work import ROOT, Work

_UNABLE: Final = 3
_DEFAULT_TIMEOUT_S: Final = 900.0
_PYTEST: Final = (
    "python3", "-m", "pytest", "-p", "no:cacheprovider",
    "--junit-xml=/host/results/junit.xml",
)  # fmt: skip
_SELECTION: Final = (
    "tests/xen/test_lab.py", "tests/xen", "tests/integration", "-m", "not slow",
)  # fmt: skip


def main(arguments: Sequence[str]) -> int:
    """Do as the command line says, and return the exit status."""
    options, command = _parse(arguments)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _end)
    try:
        return _do(options, command)
    except LabError as error:
        print(f"xen-lab: {error}", file=sys.stderr)
        return _UNABLE
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


def _do(options: argparse.Namespace, command: list[str]) -> int:
    work = Work.default()
    images = image.build(work)
    if options.verb == "build":
        return 0
    if options.verb == "shell":
        talk = session.prepare_shell(work)
    else:
        session.prepare_command(work, command)
    with Machine(work, images, cpus=options.smp) as machine:
        machine.wait_ready()
        if options.verb == "shell":
            return talk(machine)
        return session.watch(machine, options.timeout)


def _parse(arguments: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """Return the options, and the command for dom0."""
    parser = argparse.ArgumentParser(
        prog="scripts/xen-lab",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verbs = parser.add_subparsers(dest="verb", metavar="COMMAND", required=True)

    def add(name: str, does: str, usage: str = "") -> argparse.ArgumentParser:
        return verbs.add_parser(
            name,
            help=does,
            description=does[0].upper() + does[1:] + ".",
            usage=f"scripts/xen-lab {name} {usage}",
            allow_abbrev=False,
        )

    add("build", "bring the images up to date")
    shell = add("shell", "have a shell in dom0 here", "[--smp N]")
    options = "[--smp N] [--timeout S]"
    run = add(
        "run",
        "run a command in dom0, in /opt/xenvirt, and exit with its status",
        f"{options} -- COMMAND...",
    )
    test = add(
        "test",
        "run pytest in dom0, all that can run there unless told otherwise",
        f"{options} [PYTEST-ARGUMENT...]",
    )
    for each in (shell, run, test):
        each.add_argument(
            "--smp", type=int, default=1, metavar="N", help="processors (%(default)s)"
        )
    for each in (run, test):
        each.add_argument(
            "--timeout",
            type=float,
            default=_DEFAULT_TIMEOUT_S,
            metavar="S",
            help="seconds, from when dom0 is up (%(default)g)",
        )

    words = list(arguments)
    cut = words.index("--") if "--" in words else len(words)
    parsed, rest = parser.parse_known_args(words[:cut])
    rest += words[cut + 1 :]
    if parsed.verb == "run" and not rest:
        run.error("there is no command")
    if parsed.verb in ("build", "shell") and rest:
        parser.error(f"unknown: {' '.join(rest)}")
    if parsed.verb == "test":
        rest = _pytest(rest)
    return parsed, rest


def _pytest(arguments: list[str]) -> list[str]:
    selects = any((ROOT / each.partition("::")[0]).exists() for each in arguments)
    return [*_PYTEST, *arguments, *(() if selects else _SELECTION)]


def _end(number: int, frame: object) -> NoReturn:
    del frame
    sys.exit(128 + number)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
