"""Every algorithm and recipe comes to the numbers that are written down: what a redesign must not change."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from golden_runs import cases, numbers

GOLDEN: dict[str, Any] = json.loads(Path(__file__).with_name("golden.json").read_text())
CASES = cases()
# Between AVX-512, AVX2 and plain builds of the same products, records differed by up to 9e-4 and movements by up to
# 0.02 of what an unrelated direction would move them.
RECORD, MOVEMENT = 2e-3, 0.1


def test_all_cases_are_written_down() -> None:
    assert set(GOLDEN) == set(CASES)


@pytest.mark.parametrize("name", CASES)
def test_a_tiny_run_comes_to_the_same_numbers(name: str, tmp_path: Path) -> None:
    found, golden = numbers(CASES[name], tmp_path), GOLDEN[name]
    assert len(found["steps"]) == len(golden["steps"])
    for record, expected in zip(found["steps"], golden["steps"], strict=True):
        assert record == pytest.approx(expected, rel=RECORD, abs=RECORD)
    assert len(found["advantages"]) == len(golden["advantages"])
    for row, expected in zip(found["advantages"], golden["advantages"], strict=True):
        assert row == pytest.approx(expected, rel=RECORD, abs=RECORD)
    assert set(found["moved"]) == set(golden["moved"])
    for agent, moved in found["moved"].items():
        assert moved == pytest.approx(golden["moved"][agent], abs=MOVEMENT)
