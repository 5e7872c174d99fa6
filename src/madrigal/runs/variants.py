"""Settings in words, and runs that differ in their seed alone taken together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, is_dataclass
from typing import Any

from madrigal.runs.read import Run

MOST_NAMED, LONGEST = 3, 100  # settings that fit a name, and characters of one's value
Settings = frozenset[tuple[str, str]]


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
    groups: dict[tuple[str, Settings], list[Run]] = {}
    for run in runs:
        settings = in_words(run.settings)
        settings.pop("seed", None)
        groups.setdefault((run.contender, frozenset(settings.items())), []).append(run)
    if len(groups) == 1:
        return [Variant("", tuple(runs))]
    own = distinctions([settings for _, settings in groups])
    names = [
        contender or (", ".join(f"{key} {value}" for key, value in distinct) if fit_a_name(distinct) else "")
        for (contender, _), distinct in zip(groups, own, strict=True)
    ]
    unique = all(names) and len(set(names)) == len(names)
    return [
        Variant(name if unique else members[0].name, tuple(members))
        for name, members in zip(names, groups.values(), strict=True)
    ]


def distinctions(kinds: Sequence[Settings]) -> list[list[tuple[str, str]]]:
    """Of each kind of run the settings that are not those of all kinds."""
    shared = frozenset.intersection(*kinds)
    return [sorted(settings - shared) for settings in kinds]


def fit_a_name(settings: Sequence[tuple[str, str]]) -> bool:
    """Whether settings are few and short enough to name a run; a prompt is not."""
    return len(settings) <= MOST_NAMED and all(len(value) <= LONGEST for _, value in settings)


def in_words(settings: Mapping[str, Any]) -> dict[str, str]:
    """Nested settings as dotted names and values in words.

    >>> in_words({"task": {"kind": "Tldr"}, "steps": 3, "betas": [0.9, 0.999], "clip": None})
    {'task.kind': 'Tldr', 'steps': '3', 'betas': '0.9, 0.999', 'clip': 'none'}
    """
    return {key: _words(value) for key, value in flat(settings)}


def flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Nested settings, records among them, as dotted names and values."""
    for key, value in settings.items():
        inner = asdict(value) if is_dataclass(value) and not isinstance(value, type) else value
        if isinstance(inner, Mapping):
            yield from flat(inner, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", inner


def flags(settings: Mapping[str, Any]) -> list[str]:
    """The flags that the command line has for nested settings.

    >>> flags({"steps": 1, "task": {"best_of": 2}})
    ['--steps', '--task.best-of']
    """
    return [f"--{name.replace('_', '-')}" for name, _ in flat(settings)]


def _words(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(map(_words, value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "none" if value is None else str(value)
