"""docs/security.md names tests that exist, and the lists that the code has."""

import ast
import platform
import re
from pathlib import Path

import pytest

from xenvirt.native.seccomp import filtered_calls
from xenvirt.toolstack.confinement import END_CAPABILITIES, LAUNCHER_CAPABILITIES

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "security.md").read_text()

LISTS = {
    "allowed": "Allowed:",
    "limited": "Allowed by an argument:",
    "killed": "Killed:",
    "refused": "Refused without a line:",
}


def written_tests() -> set[str]:
    return {
        node.name
        for path in (ROOT / "tests").rglob("test_*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    }


def test_each_named_test_is_written() -> None:
    named = set(re.findall(r"`(test_\w+)`", PAGE))
    assert named
    assert named <= written_tests(), named - written_tests()


def test_each_named_file_is_there() -> None:
    for name in re.findall(r"`((?:native|tests)/[\w/.]+)`", PAGE):
        assert (ROOT / name).exists(), name


@pytest.mark.skipif(
    platform.machine() != "x86_64" or not filtered_calls()["killed"],
    reason="the page has the system calls of x86_64",
)
@pytest.mark.parametrize("name", LISTS)
def test_the_lists_of_system_calls_are_those_of_the_filter(name: str) -> None:
    block = re.search(rf"^{LISTS[name]}\n\n((?:    .*\n)+)", PAGE, re.MULTILINE)
    assert block is not None
    assert block[1].split() == [*dict.fromkeys(filtered_calls()[name])]


def test_each_capability_that_stays_has_its_reason() -> None:
    section = PAGE.split("### Why a capability stays\n")[1].split("\n### ")[0]
    for who, kept in (("ends", END_CAPABILITIES), ("launcher", LAUNCHER_CAPABILITIES)):
        rows = re.findall(rf"^\| {who} \| (.*?) \|", section, re.MULTILINE)
        assert sorted(", ".join(rows).split(", ")) == sorted(kept)
