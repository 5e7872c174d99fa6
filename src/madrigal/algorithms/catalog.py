"""The algorithms there are: one table that the command line, experiments and docs all read.

Knows: what each is called, what it is in one line, what settings it starts from. Does not know: how any of them works.

A new algorithm is a file of its own, a line in `ALGORITHMS` and a name in `AlgorithmConfig`.
"""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

from madrigal.algorithms.magrpo import Magrpo
from madrigal.algorithms.reinforce import Reinforce

AlgorithmConfig = Magrpo | Reinforce

# Each as it comes, and what it is in one line.
ALGORITHMS: dict[str, tuple[AlgorithmConfig, str]] = {
    "magrpo": (Magrpo(), "group-relative advantages of a joint reward, plain policy gradient (arXiv:2508.04652)"),
    "reinforce": (Reinforce(), "MA-REINFORCE: the joint return itself, no baseline"),
}
COMMON = ("width", "discount", "reward_shift", "kl")  # settings of a recipe that stay when its algorithm is changed


def name_of(algorithm: AlgorithmConfig) -> str:
    """What the catalog calls an algorithm."""
    return next(name for name, (known, _) in ALGORITHMS.items() if type(known) is type(algorithm))


def instead_of(old: AlgorithmConfig, name: str) -> AlgorithmConfig:
    """Another algorithm by name, with what the old one's settings say of the task rather than of the method.

    >>> instead_of(Magrpo(width=8, kl=0.01), "reinforce")
    Reinforce(width=8, discount=1.0, reward_shift=0.0, kl=0.01, updates='turn', reduction='sequence')
    """
    new = ALGORITHMS[name][0]
    known = {field.name for field in fields(new)} & {field.name for field in fields(old)}
    kept: dict[str, Any] = {key: getattr(old, key) for key in COMMON if key in known}
    return old if type(new) is type(old) else replace(new, **kept)
