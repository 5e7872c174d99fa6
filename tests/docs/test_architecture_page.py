"""What the page on architecture says of the modules is so: their order, and where the central types lie."""

from __future__ import annotations

import importlib
import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/architecture.md").read_text()


def section(title: str) -> str:
    return PAGE.partition(f"## {title}\n")[2].partition("\n## ")[0]


def test_the_order_of_imports_is_the_one_that_is_checked() -> None:
    """A line of the page is modules with spaces between, and perhaps a remark, which is of several words."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (order,) = (contract for contract in contracts if contract["id"] == "order")
    lines = re.findall(r"^    (\S.*)$", section("Order of imports"), re.MULTILINE)
    told = [[part for part in re.split(r" {2,}", line) if " " not in part] for line in lines]
    assert list(map(sorted, told)) == [sorted(layer.split(" | ")) for layer in order["layers"]]


def test_the_central_types_lie_where_the_page_says() -> None:
    rows = [row.strip("| ").split(" | ") for row in section("Central types").splitlines() if row.startswith("| `")]
    assert len(rows) > 10
    for names, _, places in rows:
        modules = [importlib.import_module(f"madrigal.{place}") for place in places.split(", ")]
        for name in re.findall(r"`(\w+)`", names):
            assert any(hasattr(module, name) for module in modules), f"{name} is not in {places}"
