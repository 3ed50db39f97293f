"""Imports point down docs/architecture.md's list; some libraries have one door."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "xenvirt"

LAYERS = (
    ("errors", "abi", "log_limit"),
    ("log",),
    ("native",),
    ("xenstore",),
    ("hypervisor",),
    ("xenbus",),
    ("netdev",),
    ("vif",),
    ("toolstack",),
    ("cli",),
    ("testing",),
)
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}

ONLY_IMPORTER = {
    "pyroute2": "netdev",
    "xenvirt._native": "native",
    "click": "cli",
}


def modules() -> Iterator[tuple[str, Path]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        if path != PACKAGE / "__init__.py":
            yield path.relative_to(PACKAGE).parts[0].removesuffix(".py"), path


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            assert node.module is not None
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def layer_of(imported: str) -> str | None:
    parts = imported.split(".")
    return parts[1] if parts[0] == "xenvirt" and len(parts) > 1 else None


def test_every_package_has_a_layer() -> None:
    assert {layer for layer, _ in modules()} == set(LEVEL)


@pytest.mark.parametrize(
    ("layer", "path"), [*modules()], ids=lambda v: v.stem if isinstance(v, Path) else v
)
def test_imports_point_down(layer: str, path: Path) -> None:
    for imported in imports(path):
        target = layer_of(imported)
        if target in LEVEL and target != layer:
            assert LEVEL[target] < LEVEL[layer], f"{path} imports {imported}"


@pytest.mark.parametrize(("library", "owner"), [*ONLY_IMPORTER.items()])
def test_a_library_has_one_importer(library: str, owner: str) -> None:
    importers = {
        layer
        for layer, path in modules()
        for imported in imports(path)
        if imported == library or imported.startswith(library + ".")
    }
    assert importers <= {owner}


def test_nobody_installs_uvloop_for_everyone() -> None:
    for _, path in modules():
        assert "uvloop.install" not in path.read_text(), path
