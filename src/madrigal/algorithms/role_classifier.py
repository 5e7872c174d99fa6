"""Who spoke? A small classifier of roles by the words of an answer, and what it says of mutual information.

    q(z | u) = (1 - floor) * softmax_z( w_z . x(u) + b_z ) + floor / Z
    b(z, u)  = ln q(z | u) + ln Z                                            in nats

    z   the role, one of Z           u   an answer          x(u)   its words, each once, as a vector of length 1

For roles that are dealt equally often, the mean of b is at most I(z; u), whatever q is, and equal to it where q(z | u)
is p(z | u): I - E[b] is the mean Kullback-Leibler divergence of q from p. This holds for answers that the classifier
has not learned from. `floor` keeps q above 0, so that one odd answer costs at most ln(1/floor), and q a distribution,
so that the bound stays one; clipping b would break it.

Words are told apart by a hash, in `BUCKETS` places, so that what is kept does not grow with what is said.

References:
    Barber and Agakov, 2003, "The IM Algorithm: A Variational Approach to Information Maximization": the bound.
    Eysenbach et al., 2018, "Diversity is All You Need", arXiv:1802.06070: ln q(z | s) - ln p(z) as a reward. The bag of
    words is ours.
"""

from __future__ import annotations

import math
import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

BUCKETS = 512
Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class RoleClassifier:
    """Weights of the words for each role; in float64 and on the CPU.

    Attributes:
        roles: those that were met, in the order in which they were.
        weights: for every role and place of a word, and one more for the bias.
    """

    roles: tuple[str, ...]
    weights: Float[Tensor, "Z W"]

    def information(self, roles: Sequence[str], texts: Sequence[str], floor: float) -> list[float]:
        """b of each answer, in nats; 0 of a role that was never met, or as long as there is only one."""
        if len(self.roles) < 2:
            return [0.0] * len(texts)
        probabilities = (features(texts) @ self.weights.t()).softmax(-1)
        mixed = ((1 - floor) * probabilities + floor / len(self.roles)).log() + math.log(len(self.roles))
        places = {role: place for place, role in enumerate(self.roles)}
        return [float(mixed[n, places[role]]) if role in places else 0.0 for n, role in enumerate(roles)]

    def fitted(self, roles: Sequence[str], texts: Sequence[str], fits: int, lr: float, decay: float) -> RoleClassifier:
        """The classifier after some steps up the mean log-likelihood of these answers' roles.

            w <- w + lr * ( mean_i (1[z_i = z] - q(z | u_i)) x(u_i) - decay * w )

        Each role counts the same, however often it was met.
        """
        known = tuple(dict.fromkeys((*self.roles, *roles)))
        blank = torch.zeros((len(known) - len(self.roles), BUCKETS + 1), dtype=torch.float64)
        weights = torch.cat([self.weights, blank])
        x, z = features(texts), torch.tensor([known.index(role) for role in roles])
        target = torch.nn.functional.one_hot(z, len(known)).double()
        each = _shares(z)
        for _ in range(fits):
            missed = (target - (x @ weights.t()).softmax(-1)) * each[:, None]
            weights = weights + lr * (missed.t() @ x - decay * weights)
        return RoleClassifier(known, weights)

    def to_json(self) -> Json:
        """A JSON value from which `loaded` makes the very same numbers; what is 0 for every role is left out."""
        used = self.weights.abs().sum(0).nonzero().flatten().tolist()
        columns = zip(used, self.weights.t()[used].tolist(), strict=True)
        return {"roles": list(self.roles), "weights": {str(place): column for place, column in columns}}


def loaded(state: Mapping[str, Any]) -> RoleClassifier:
    """The classifier that `to_json` wrote down; of an empty state one that has met nobody."""
    roles = tuple(state.get("roles", ()))
    weights = torch.zeros((len(roles), BUCKETS + 1), dtype=torch.float64)
    for place, column in state.get("weights", {}).items():
        weights[:, int(place)] = torch.tensor(column, dtype=torch.float64)
    return RoleClassifier(roles, weights)


def features(texts: Sequence[str]) -> Float[Tensor, "B W"]:
    """Which words each text has, as vectors of length 1, and a last number 1 for the bias; case does not count."""
    rows = torch.zeros((len(texts), BUCKETS + 1), dtype=torch.float64)
    for n, text in enumerate(texts):
        places = {zlib.crc32(word.encode()) % BUCKETS for word in re.findall(r"\w+", text.casefold())}
        for place in places:
            rows[n, place] = 1 / math.sqrt(len(places))
    rows[:, BUCKETS] = 1.0
    return rows


def _shares(z: Int[Tensor, " B"]) -> Float[Tensor, " B"]:
    """What each answer counts, so that all roles together count 1 and each as much as the others."""
    counts = z.bincount().double()
    return 1 / (counts[z] * (counts > 0).sum())
