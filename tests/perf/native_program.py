"""C programs of the benchmarks, alone or linked with the product's data path."""

import subprocess
from pathlib import Path
from typing import Final

HERE: Final = Path(__file__).parent
NATIVE: Final = HERE.parent.parent / "native"


def compile_program(directory: Path, *sources: str | Path) -> Path:
    """Compile C files, as seen from this directory; it is called as the first."""
    program = directory / Path(sources[0]).stem
    parts = [str(HERE / source) for source in sources]
    flags = ("-std=gnu11", "-O2", "-pthread", f"-I{NATIVE}")
    subprocess.run(["cc", *flags, "-o", str(program), *parts], check=True)
    return program


def compile_native(directory: Path, *sources: str) -> Path:
    """The same, linked with native/*.c."""
    native = [path for path in NATIVE.glob("*.c") if path.name != "_native.c"]
    return compile_program(directory, *sources, *native)


def output(program: Path, *arguments: object) -> str:
    """What a program prints; RuntimeError with what it said when it fails."""
    command = [str(program), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr}")
    return done.stdout
