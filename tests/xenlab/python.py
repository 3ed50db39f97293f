"""The project and what it needs of Python, as the lab has them in /opt.

Python compiles slowly under emulation, so everything goes there compiled, and is
believed to be what its source says.
"""

import compileall
import importlib.metadata
import re
import shutil
import subprocess
from collections.abc import Iterable
from importlib.util import MAGIC_NUMBER
from pathlib import Path
from py_compile import PycInvalidationMode
from typing import Final

from packaging.requirements import Requirement

from tests.xenlab.errors import LabError
from tests.xenlab.work import ROOT

PROJECT: Final = "opt/xenvirt"
SITE: Final = "opt/site"

_TEST_TOOLS: Final = ("pytest", "pytest-timeout", "scapy", "hypothesis")
_PARTS: Final = ("xenvirt", "tests", "scripts", "setup.cfg", "pyproject.toml")
_SITE_LEFT_OUT: Final = re.compile(
    r"(.*/)?__pycache__/.*|.*\.(pyx|pxd|pyi|c|h|exe)"
    r"|.*\.dist-info/(?!METADATA|entry_points\.txt).*"
    r"|scapy/contrib/.*"
    r"|pygments/(lexers/(?!__init__|_mapping|_builtins|diff|python).*|styles/(?!__|_m|def).*)"
)


def project_files() -> list[Path]:
    """Return the checkout's files, committed or not, and its built extension.

    The paths are relative to it.
    """
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    done = subprocess.run(
        [*command, "--", *_PARTS], cwd=ROOT, capture_output=True, text=True
    )
    if done.returncode != 0:
        raise LabError(f"{ROOT} has to be a git checkout:\n{done.stderr.strip()}")
    listed = {Path(name) for name in done.stdout.split("\0") if name}
    built = {path.relative_to(ROOT) for path in ROOT.glob("xenvirt/_native*.so")}
    return sorted(path for path in listed | built if (ROOT / path).is_file())


def copy_project(files: Iterable[Path], root: Path) -> None:
    """Have those files in `root`, the tree of a domain, compiled."""
    for file in files:
        target = root / PROJECT / file
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / file, target)
    compile_tree(root, PROJECT)


def site_distributions() -> list[importlib.metadata.Distribution]:
    """Return what xenvirt and its tests depend on, as it is installed here."""
    found: dict[str, importlib.metadata.Distribution] = {}
    wanted = ["xenvirt", *_TEST_TOOLS]
    while wanted:
        name = wanted.pop()
        if name in found:
            continue
        try:
            found[name] = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            raise LabError(f"{name} is not installed in .venv: remove .venv") from None
        requirements = map(Requirement, found[name].requires or ())
        wanted += [each.name.lower() for each in requirements if _applies(each)]
    return [found[name] for name in sorted(found)]


def _applies(requirement: Requirement) -> bool:
    marker = requirement.marker
    return marker is None or marker.evaluate({"extra": ""})


def copy_site(
    distributions: Iterable[importlib.metadata.Distribution], root: Path
) -> None:
    """Have the distributions in `root`, the tree of a domain, compiled."""
    for distribution in distributions:
        for file in distribution.files or ():
            name = str(file)
            # An editable xenvirt is a hook that finds the checkout by its path here.
            if ".." in file.parts or "__editable__" in name:
                continue
            if _SITE_LEFT_OUT.fullmatch(name):
                continue
            target = root / SITE / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(Path(str(distribution.locate_file(file))), target)
    compile_tree(root, SITE)


def compile_tree(root: Path, directory: str) -> None:
    """Compile all Python in a directory of a domain's tree."""
    done = compileall.compile_dir(
        root / directory,
        stripdir=str(root),
        prependdir="/",
        quiet=1,
        workers=0,
        invalidation_mode=PycInvalidationMode.UNCHECKED_HASH,
    )
    if not done:
        raise LabError(f"/{directory} does not compile")


def check_python(root: Path) -> None:
    """Refuse a tree whose Python takes no extensions or compiled files of ours."""
    libraries = root / "usr/lib/x86_64-linux-gnu"
    program = "import importlib.util as u; print(u.MAGIC_NUMBER.hex())"
    loader = [f"{libraries}/ld-linux-x86-64.so.2", "--library-path", f"{libraries}"]
    done = subprocess.run(
        [*loader, f"{root}/usr/bin/python3", "-I", "-S", "-c", program],
        env={"PYTHONHOME": str(root / "usr")},
        capture_output=True,
        text=True,
    )
    if done.stdout.strip() != MAGIC_NUMBER.hex():
        theirs = (root / "usr/bin/python3").readlink().name
        raise LabError(
            f"Debian's packages have {theirs}, and .venv has another Python: remove "
            f".venv and make it with {theirs}\n{done.stderr}".rstrip()
        )
