"""Kills, traffic, vifs that come and go, and hostile peers; then: is all as before?

With --kills only the first two, one kill after the other, each looked at by itself.
"""

import argparse
import random
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.integration.links import LinkMaker, tag
from tests.soak import kills_alone, mixture
from tests.soak.summary import Summary
from xenvirt.errors import XenvirtError


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/soak", description=__doc__)
    add = parser.add_argument
    how_long = parser.add_mutually_exclusive_group(required=True)
    how_long.add_argument("--minutes", type=float, metavar="N", help="of everything")
    how_long.add_argument("--kills", type=int, metavar="N", help="rounds of kills")
    add("--seed", type=int, metavar="S", help="what happens [any]")
    add("--json", action="store_true", help="print the table as JSON")
    add("--log", type=Path, metavar="FILE", help="keep the daemon's log there")
    arguments = parser.parse_args()
    if arguments.seed is None:
        arguments.seed = random.randrange(1 << 32)
    return arguments


@contextmanager
def _links() -> Iterator[LinkMaker]:
    with tempfile.TemporaryDirectory(prefix="xenvirt-soak-") as directory:
        # The ends are users of their own.
        Path(directory).chmod(0o755)
        maker = LinkMaker(Path(directory), tag())
        try:
            yield maker
        finally:
            maker.close()


def _run(arguments: argparse.Namespace) -> Summary:
    with _links() as links:
        try:
            if arguments.minutes is not None:
                return mixture.run(links, arguments.seed, arguments.minutes)
            return kills_alone.run(links, arguments.seed, arguments.kills)
        finally:
            if arguments.log:
                shutil.copyfile(links.run_dir / "log", arguments.log)


def main() -> int:
    """Run it, and show what came of it; returns the exit status."""
    # An end by a signal takes everything down, too.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    arguments = _arguments()
    print(f"soak: seed {arguments.seed}", file=sys.stderr, flush=True)
    try:
        summary = _run(arguments)
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except (OSError, AssertionError, XenvirtError) as error:
        print(f"soak: seed {arguments.seed}: {error}", file=sys.stderr)
        return 1
    print(summary.json() if arguments.json else summary.text())
    return 0 if summary.good else 1


if __name__ == "__main__":
    sys.exit(main())
