"""Builds harnesses: with libFuzzer, with runner.c, or for valgrind."""

import os
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Final

from tests.xs_engine import sources as store_sources

HERE: Final = Path(__file__).resolve().parent
ROOT: Final = HERE.parent.parent
NATIVE: Final = ROOT / "native"

HOPS: Final = (
    "front_tx",
    "back_tx",
    "back_rx",
    "front_rx",
    "front_queue",
    "back_queue",
)
HARNESSES: Final = (*HOPS, "ring_page", "offload", "xs_engine")

INCLUDES: Final = tuple(
    f"-I{directory}"
    for directory in (HERE, ROOT / "tests" / "native", NATIVE, NATIVE / "xenstore")
)
COMMON: Final = ("-std=gnu11", "-g", "-O1", "-fno-omit-frame-pointer", *INCLUDES)
SANITIZERS: Final = ("-fsanitize=address,undefined", "-fno-sanitize-recover=undefined")

QUEUE_FILES: Final = (
    "evtchn", "gnttab", "gntalloc", "gntdev", "tap", "offload", "credit", "rx_stall",
    "queue", "front_tx", "tx_packet", "back_tx", "back_rx", "back_rx_copy",
    "back_rx_stall", "front_rx", "give_back", "settle",
)  # fmt: skip
"""What of native/ a queue consists of."""

WORLD: Final = ("xs_world", "xs_peer", "xs_no_memory")
WRAPPED: Final = "-Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc"


class Kind(Enum):
    """What a harness is built for."""

    LIBFUZZER = "clang"
    RUNNER = "gcc"
    VALGRIND = "gcc, without sanitizers"
    RACE = "gcc, sanitizers alone"

    @property
    def compiler(self) -> str:
        return "clang" if self is Kind.LIBFUZZER else "gcc"

    @property
    def sanitizers(self) -> tuple[str, ...]:
        """For all files, and for linking."""
        return () if self is Kind.VALGRIND else SANITIZERS

    @property
    def coverage(self) -> tuple[str, ...]:
        """For the files of native/."""
        return {
            Kind.LIBFUZZER: ("-fsanitize=fuzzer-no-link",),
            Kind.RUNNER: ("-fsanitize-coverage=trace-pc",),
        }.get(self, ())


def has_libfuzzer() -> bool:
    """Is there clang with its runtime, which distributions package apart?"""
    if not shutil.which("clang"):
        return False
    found = subprocess.run(
        ["clang", "-print-runtime-dir"], capture_output=True, text=True, check=True
    )
    return any(Path(found.stdout.strip()).glob("libclang_rt.fuzzer*.a"))


@dataclass(frozen=True, slots=True)
class Part:
    """A C file, and what it is compiled with."""

    source: Path
    flags: tuple[str, ...] = ()

    @property
    def native(self) -> bool:
        return self.source.is_relative_to(NATIVE)


def queue_parts(*flags: str) -> list[Part]:
    """A queue, whose files get `flags`, and what surrounds it."""
    native = [Part(NATIVE / f"{name}.c", flags) for name in QUEUE_FILES]
    own = ("domain", "network", "frames", "peer", "victim", "hops")
    return native + [Part(HERE / f"{name}.c") for name in own]


def program_of(harness: str) -> str:
    """The hops are one program that goes by its name."""
    return "hop" if harness in HOPS else harness


def parts(program: str) -> list[Part]:
    """All files of a program but the runner."""
    if program == "race":
        # Nothing is in the way of the race: native/ as it is compiled anywhere.
        return [Part(HERE / "race.c"), Part(HERE / "harness.c"), *queue_parts()]
    own = [Part(HERE / f"fuzz_{program}.c"), Part(HERE / "harness.c")]
    if program in ("hop", "ring_page"):
        return own + queue_parts("-include", str(HERE / "during.h"))
    if program == "offload":
        return [*own, Part(NATIVE / "offload.c")]
    assert program == "xs_engine", program
    world = [Part(ROOT / "tests" / "native" / f"{name}.c") for name in WORLD]
    return [*own, *world, *(Part(path) for path in store_sources())]


class Builder:
    """Compiles each file once, into a directory of its own.

    `instead`: by a file's name in native/, another text for it.
    """

    def __init__(
        self, directory: Path, kind: Kind, instead: Mapping[str, str] | None = None
    ) -> None:
        self.directory = directory
        self.kind = kind
        self.instead = instead or {}
        directory.mkdir(parents=True, exist_ok=True)

    def build(self, harnesses: Iterable[str]) -> dict[str, Path]:
        """The harnesses' programs."""
        programs = {
            program_of(name): self._parts(program_of(name)) for name in harnesses
        }
        needed = {
            self._object(part): part for all_ in programs.values() for part in all_
        }
        with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
            list(pool.map(self._compile, needed.values()))
            list(pool.map(self._link, programs, programs.values()))
        return {name: self._named(name) for name in harnesses}

    def _parts(self, program: str) -> list[Part]:
        if self.kind in (Kind.LIBFUZZER, Kind.RACE):
            return parts(program)
        return [*parts(program), Part(HERE / "runner.c")]

    def _object(self, part: Part) -> Path:
        variant = "-".join(Path(flag).stem for flag in part.flags)
        name = f"{part.source.parent.name}-{part.source.stem}{variant}.o"
        return self.directory / name

    def _compile(self, part: Part) -> None:
        flags = [*COMMON, *self.kind.sanitizers, *part.flags]
        flags += self.kind.coverage if part.native else ()
        self._run(*flags, "-c", self._source(part), "-o", self._object(part))

    def _source(self, part: Part) -> Path:
        name = part.source.name
        if not part.native or name not in self.instead:
            return part.source
        path = self.directory / name
        path.write_text(self.instead[name])
        return path

    def _link(self, program: str, needed: list[Part]) -> None:
        flags = ["-no-pie", "-pthread", *self.kind.sanitizers]
        if self.kind is Kind.LIBFUZZER:
            flags += ["-fsanitize=fuzzer"]
        if program == "xs_engine":
            flags += [WRAPPED]
        objects = [self._object(part) for part in needed]
        self._run(*flags, *objects, "-o", self.directory / program)

    def _run(self, *arguments: str | Path) -> None:
        subprocess.run([self.kind.compiler, *arguments], check=True)

    def _named(self, harness: str) -> Path:
        path = self.directory / harness
        if not path.exists():
            path.symlink_to(program_of(harness))
        return path
