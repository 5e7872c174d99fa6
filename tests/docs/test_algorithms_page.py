"""The page of algorithms is complete, and the code that it quotes is the code that runs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from madrigal.algorithms.catalog import ALGORITHMS

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/algorithms.md").read_text()
SOURCE = " ".join(" ".join(file.read_text().split()) for file in sorted((ROOT / "src").rglob("*.py")))


def quoted() -> list[str]:
    """The code cells of the tables `equation | code`."""
    tables = re.findall(r"^\| equation \| code \|\n\|[-|]+\|\n((?:\|.*\n)+)", PAGE, re.MULTILINE)
    return [row.rsplit(" | ", 1)[1].rstrip(" |") for table in tables for row in table.splitlines()]


@pytest.mark.parametrize("name", ALGORITHMS)
def test_every_algorithm_has_a_row(name: str) -> None:
    assert re.search(rf"^\| \[?`{name}`", PAGE, re.MULTILINE)


@pytest.mark.parametrize("cell", quoted())
def test_quoted_code_is_in_the_source(cell: str) -> None:
    assert cell.startswith("`") and cell.endswith("`")
    assert " ".join(cell.strip("`").split()) in SOURCE


def test_code_is_quoted() -> None:
    assert len(quoted()) >= 20
