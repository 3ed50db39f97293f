"""scripts/fuzz: fuzz the harnesses named, or all, and say what came of it."""

import argparse
import json
import sys
import tempfile
from pathlib import Path

from tests.fuzz.build import HARNESSES, Builder, Kind, has_libfuzzer
from tests.fuzz.campaign import (
    Campaign,
    Result,
    described,
    keep_what_reaches_more,
    say,
)
from tests.fuzz.program import Counts, Program
from tests.fuzz.races import CASES, race


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/fuzz", description=__doc__)
    parser.add_argument("harness", nargs="*", help=", ".join(HARNESSES))
    limit = parser.add_mutually_exclusive_group()
    limit.add_argument("--minutes", type=float, default=1, help="each harness; 1")
    limit.add_argument("--slots", type=int, help="until each has taken so many")
    parser.add_argument("--mutate", action="store_true", help="race with a peer")
    limit.add_argument("--replay", type=Path, action="append", help="try this file")
    parser.add_argument("--gcc", action="store_true", help="though clang is there")
    parser.add_argument("--keep", action="store_true", help="add to the corpus")
    parser.add_argument("--json", action="store_true", help="a summary on stdout")
    chosen = parser.parse_args()
    unknown = set(chosen.harness) - {*HARNESSES}
    if unknown:
        parser.error(
            f"no such harness: {', '.join(sorted(unknown))}; "
            f"there are {', '.join(HARNESSES)}"
        )
    if chosen.replay and len(chosen.harness) != 1:
        parser.error("--replay takes one harness")
    for path in chosen.replay or ():
        if not path.is_file():
            parser.error(f"--replay: there is no file {path}")
    return chosen


def enough(chosen: argparse.Namespace, counts: Counts, seconds: float) -> bool:
    if chosen.slots is not None:
        return counts.slots >= int(chosen.slots)
    return seconds >= float(chosen.minutes) * 60


def replayed(program: Program, files: list[Path]) -> int:
    done = program.replay(*files)
    print(done.stdout + done.stderr, end="")
    return 1 if done.returncode else 0


def keep(harness: str, work: Path) -> int:
    """Add what was found to reach more code to the corpus. Return: how many."""
    path = Builder(work / "merge", Kind.RUNNER).build([harness])[harness]
    program = Program(path, work / "merge" / f"{harness}.work")
    return keep_what_reaches_more(harness, program, work / f"corpus-{harness}")


def raced(chosen: argparse.Namespace, harnesses: list[str], directory: Path) -> int:
    """Each hop against a peer that rewrites memory; 1 if one of them failed."""
    say(f"Building race, then {chosen.minutes:g} min for each of them")
    program = Builder(directory, Kind.RACE).build(["race"])["race"]
    races = []
    for hop, features in CASES:
        if hop not in harnesses:
            continue
        done = race(program, hop, features, round(chosen.minutes * 60))
        say(done.stderr + f"{hop} {features:#04x}: {done.stdout.strip() or 'failed'}")
        races.append(json.loads(done.stdout) if done.returncode == 0 else None)
    if chosen.json:
        print(json.dumps({"races": races}, indent=2))
    return 1 if None in races else 0


def summary(results: list[Result], kind: Kind) -> str:
    return json.dumps(
        {
            "runner": kind.name.lower(),
            "slots": sum(result.counts.slots for result in results),
            "found": sum(result.found is not None for result in results),
            "harnesses": [result.as_json() for result in results],
        },
        indent=2,
    )


def main() -> int:
    chosen = arguments()
    harnesses = chosen.harness or [*HARNESSES]
    kind = Kind.LIBFUZZER if has_libfuzzer() and not chosen.gcc else Kind.RUNNER
    with tempfile.TemporaryDirectory(prefix="xenvirt-fuzz-") as directory:
        work = Path(directory)
        if chosen.mutate:
            return raced(chosen, harnesses, work)
        say(f"Building {', '.join(harnesses)} with {kind.compiler}")
        paths = Builder(work / "built", kind).build(harnesses)
        programs = {name: Program(paths[name], work / name) for name in harnesses}
        if chosen.replay:
            return replayed(programs[harnesses[0]], chosen.replay)
        campaign = Campaign(work, lambda counts, s: enough(chosen, counts, s))
        results = []
        for name, program in programs.items():
            # Long inputs from the beginning: a queue's life is in them.
            longer = ["-len_control=0"] if kind is Kind.LIBFUZZER else []
            result = campaign.fuzz(name, program, *longer)
            results.append(result)
            say(f"{name}: done in {result.seconds:.0f} s, {described(result.counts)}")
            if chosen.keep:
                new = keep(name, work)
                say(f"{name}: {new} more in the corpus")
    if chosen.json:
        print(summary(results, kind))
    return 1 if any(result.found for result in results) else 0


if __name__ == "__main__":
    sys.exit(main())
