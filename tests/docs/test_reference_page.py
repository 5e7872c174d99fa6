"""The reference has every name that `import madrigal` promises, and nothing that is not there."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import madrigal

PAGE = (Path(__file__).parents[2] / "docs/reference.md").read_text()


def told() -> dict[str, str]:
    """The module of every name of the page: a module's members, or the last part of the name of an object."""
    found = {}
    for place, members in re.findall(r"^::: ([\w.]+)(?:\n    options:\n      members: \[(.*)\])?", PAGE, re.MULTILINE):
        module, _, name = place.rpartition(".")
        found |= dict.fromkeys(members.split(", "), place) if members else {name: module}
    return found


def test_every_public_name_is_in_the_reference_and_is_the_same_thing_there() -> None:
    found = told()
    assert sorted(set(madrigal.__all__) - found.keys()) == []
    for name, module in found.items():
        there = getattr(importlib.import_module(module), name)
        assert there is getattr(madrigal, name, there)
