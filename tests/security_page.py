"""A page with tables of attacks: its rows, and the tests that they name."""

import ast
import re
from collections.abc import Iterable
from pathlib import Path


def rows(page: str, heading: str) -> list[list[str]]:
    """The cells of the table below a heading, which is a whole line."""
    section = re.split("\n#+ ", page.split(f"# {heading}\n", 1)[1])[0]
    lines = [line for line in section.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines[1:]]


def named_tests(cell: str) -> list[str]:
    return re.findall(r"`(test_\w+)`", cell)


def written_tests(paths: Iterable[Path]) -> set[str]:
    return {
        node.name
        for path in paths
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    }


def cannot_apply(here: str) -> bool:
    """Whether a row says why there is no test."""
    return here.startswith("not here: ")
