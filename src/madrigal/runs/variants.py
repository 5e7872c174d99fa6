"""Runs that differ in their seed alone, taken together; and what tells the others apart.

Knows: settings. Does not know: what was measured.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from madrigal.runs.read import Run

SPOKEN = 3  # settings that fit a name


@dataclass(frozen=True, slots=True)
class Variant:
    """Runs with the same settings and different seeds; the name says how they differ from the other variants."""

    name: str
    runs: tuple[Run, ...]


def variants(runs: Sequence[Run]) -> list[Variant]:
    """Groups runs by their settings, in the order in which they were given.

    A variant is named as its comparison calls it, or by the settings that no other shares; where these are many, by the
    folder of its first run.
    """
    together: dict[tuple[str, frozenset[tuple[str, str]]], list[Run]] = {}
    for run in runs:
        settings = dict(flat(run.settings))
        settings.pop("seed", None)
        together.setdefault((run.contender, frozenset(settings.items())), []).append(run)
    if len(together) == 1:
        return [Variant("", tuple(runs))]
    shared = frozenset.intersection(*(settings for _, settings in together))
    names = [_name(contender, settings - shared) for contender, settings in together]
    whole = all(names) and len(set(names)) == len(names)
    return [
        Variant(name if whole else members[0].name, tuple(members))
        for name, members in zip(names, together.values(), strict=True)
    ]


def _name(contender: str, own: frozenset[tuple[str, str]]) -> str:
    said = [f"{key} {value}" for key, value in sorted(own)]
    return contender or (", ".join(said) if len(said) <= SPOKEN else "")


def flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Nested settings as dotted names and values in words.

    >>> list(flat({"task": {"kind": "Tldr"}, "steps": 3, "betas": [0.9, 0.999], "clip": None}))
    [('task.kind', 'Tldr'), ('steps', '3'), ('betas', '0.9, 0.999'), ('clip', 'none')]
    """
    for key, value in settings.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", _words(value)


def _words(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(map(_words, value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "none" if value is None else str(value)
