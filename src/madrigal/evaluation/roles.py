"""Roles, measured: does a role tell what its bearer does, is that the same in every run, and what if roles are swapped?

    information      I(Z; B) of role and behavior, in nats: 0 where roles mean nothing, ln Z where each has its own
    specialization   1 - H(B | Z) / H(B): the share of all variety of behavior that roles account for
    purity, Rand     how well clusters of behavior, found without looking at roles, are the roles
    agreement        whether the roles of two runs do the same, role by role or in the best order
    swap loss        what the return loses if seats exchange roles, or all have the same one

A behavior is any symbol. For answers in words it is the cluster that an answer belongs to (`clusters`), as many
clusters as roles unless told otherwise: a measure of kinds of answers, not of answers. Estimates from counts are
corrected for the bias that few of them have, and stand beside what chance would show (`chance_information`).

References:
    Miller, 1955, "Note on the bias of information estimates". Hubert and Arabie, 1985, "Comparing partitions": the
    adjusted Rand index. Theil, 1970: the uncertainty coefficient. Arthur and Vassilvitskii, 2007, "k-means++: The
    Advantages of Careful Seeding". Wang et al., 2020, "ROMA: Multi-Agent Reinforcement Learning with Emergent Roles",
    arXiv:2003.08039: roles as what makes behavior identifiable and different.
"""

from __future__ import annotations

import math
import random
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, permutations
from statistics import fmean
from typing import Any

import numpy as np
from numpy.typing import NDArray

from madrigal.evaluation.evaluate import EvalSetup, normalized_returns, play_examples
from madrigal.evaluation.statistics import Comparison, paired_bootstrap
from madrigal.rollouts.task.asking import PlayedAsItIs
from madrigal.tasks.roles import ROLES, Cast
from madrigal.types import AgentId, ConfigError, Example

WORDS = 256  # the most frequent words, by which answers are compared
DEALS = 200  # of roles, to see what chance shows
STARTS = 8  # of k-means, of which the best is kept
Profile = Mapping[str, Mapping[Any, float]]  # for each role the share of each behavior


@dataclass(frozen=True, slots=True)
class Act:
    """What an agent did in one episode.

    Attributes:
        run: of which team; "" where there is one.
        text: everything that it said.
    """

    role: str
    agent: AgentId
    text: str
    run: str = ""


@dataclass(frozen=True, slots=True)
class RoleMeasures:
    """How far roles tell behavior, of one run or of several together.

    Attributes:
        acts: how many were looked at.
        information: of role and behavior, in nats; at most `ceiling`.
        chance: what 95 % of deals of the same roles to the same acts stay below.
        seat_information: the same of seat and behavior: who decides, the role or the seat?
        specialization: from 0 to 1.
        purity: the share of acts in whose cluster their role is the commonest; chance is the commonest role's share.
        rand: the adjusted Rand index of roles and clusters; 0 by chance, 1 where they are the same.
        profile: for each role the share of each behavior.
        typical: of each behavior the commonest text.
    """

    acts: int
    information: float
    ceiling: float
    chance: float
    seat_information: float
    specialization: float
    purity: float
    rand: float
    profile: dict[str, dict[int, float]]
    typical: dict[int, str]


def acts_of(transcripts: Iterable[Mapping[str, Any]], run: str = "") -> list[Act]:
    """What agents did in transcripts whose steps say their roles; agents without a role are left out."""
    acts = []
    for record in transcripts:
        details = record.get("details")
        roles = details.get(ROLES) if isinstance(details, Mapping) else None
        for agent, role in roles.items() if isinstance(roles, Mapping) else ():
            said = [str(turn.get("text", "")) for turn in record.get("turns", ()) if turn.get("agent") == agent]
            if said:
                acts.append(Act(str(role), str(agent), "\n".join(said), run))
    return acts


def measure_roles(acts: Sequence[Act], behaviors: Sequence[int] = (), *, seed: int = 0) -> RoleMeasures:
    """All measures of one run's acts.

    Args:
        behaviors: of each act; by default its cluster, of as many as there are roles.

    Raises:
        ConfigError: if there are no two roles.
    """
    roles = [act.role for act in acts]
    names = sorted(set(roles))
    if len(names) < 2:
        raise ConfigError(f"roles: expected acts of at least two roles, got {', '.join(names) or 'none'}")
    found = list(behaviors) or clusters([act.text for act in acts], len(names), seed=seed)
    return RoleMeasures(
        acts=len(acts),
        information=information(roles, found),
        ceiling=math.log(len(names)),
        chance=chance_information(roles, found, seed=seed),
        seat_information=information([act.agent for act in acts], found),
        specialization=specialization(roles, found),
        purity=purity(roles, found),
        rand=adjusted_rand(roles, found),
        profile=profile(roles, found),
        typical=typical_texts(acts, found),
    )


def typical_texts(acts: Sequence[Act], behaviors: Sequence[int]) -> dict[int, str]:
    """Of each behavior the commonest text."""
    texts: dict[int, Counter[str]] = defaultdict(Counter)
    for act, behavior in zip(acts, behaviors, strict=True):
        texts[behavior][act.text] += 1
    return {behavior: count.most_common(1)[0][0] for behavior, count in sorted(texts.items())}


def entropy(symbols: Iterable[Hashable]) -> float:
    """The plug-in entropy H = -sum p ln p of counted symbols, in nats.

    >>> round(entropy("aabb"), 4), entropy("aaa")
    (0.6931, 0.0)
    """
    counts = Counter(symbols)
    total = counts.total()
    return max(0.0, -math.fsum(n / total * math.log(n / total) for n in counts.values()))


def information(roles: Sequence[Hashable], behaviors: Sequence[Hashable]) -> float:
    """The mutual information of roles and behaviors, in nats, corrected for its bias.

        I = H(Z) + H(B) - H(Z, B) - (m_ZB - m_Z - m_B + 1) / (2 n)          m: symbols that were seen

    Of few acts the plug-in estimate is too large, by about the last term (Miller and Madow's correction of each
    entropy). No estimate below 0 is given, nor one above either entropy.

    >>> round(information("aabb" * 50, "xxyy" * 50), 2), information("abab", "xxyy")
    (0.69, 0.0)
    """
    pairs = list(zip(roles, behaviors, strict=True))
    first, second = entropy(roles), entropy(behaviors)
    seen = len(set(pairs)) - len(set(roles)) - len(set(behaviors)) + 1
    return max(0.0, min(first, second, first + second - entropy(pairs) - seen / (2 * len(pairs))))


def chance_information(
    roles: Sequence[Hashable], behaviors: Sequence[Hashable], level: float = 0.95, *, seed: int = 0
) -> float:
    """What a share of `level` of random deals of the same roles to the same behaviors stays below, in nats."""
    rng, dealt, found = random.Random(seed), list(roles), []
    for _ in range(DEALS):
        rng.shuffle(dealt)
        found.append(information(dealt, behaviors))
    return float(np.quantile(found, level))


def specialization(roles: Sequence[Hashable], behaviors: Sequence[Hashable]) -> float:
    """The share of the variety of behavior that roles account for, 1 - H(B|Z) / H(B); 0 where all behave alike.

    >>> round(specialization("aabb" * 50, "xxyy" * 50), 2), specialization("abab", "xxxx")
    (1.0, 0.0)
    """
    variety = entropy(behaviors)
    return min(1.0, information(roles, behaviors) / variety) if variety else 0.0


def purity(roles: Sequence[Hashable], labels: Sequence[Hashable]) -> float:
    """The share of acts whose role is the commonest of their cluster.

    >>> purity("aabb", "xxxy")
    0.75
    """
    within: dict[Hashable, Counter[Hashable]] = defaultdict(Counter)
    for role, label in zip(roles, labels, strict=True):
        within[label][role] += 1
    return sum(max(count.values()) for count in within.values()) / len(roles)


def adjusted_rand(one: Sequence[Hashable], other: Sequence[Hashable]) -> float:
    """The agreement of two partitions beyond chance: (sum - expected) / (mean - expected) over pairs of items.

    1 for the same partition whatever its labels, 0 on average for a random one; 1 where both have a single part.

    >>> adjusted_rand("aabb", "yyxx"), round(adjusted_rand("aabb", "xyxy"), 4)
    (1.0, -0.5)
    """
    together = math.fsum(math.comb(n, 2) for n in Counter(zip(one, other, strict=True)).values())
    first, second = (math.fsum(math.comb(n, 2) for n in Counter(part).values()) for part in (one, other))
    expected = first * second / max(1, math.comb(len(one), 2))
    most = (first + second) / 2
    return 1.0 if most == expected else (together - expected) / (most - expected)


def profile(roles: Sequence[str], behaviors: Sequence[Any]) -> dict[str, dict[Any, float]]:
    """For each role the share of each behavior that anybody showed, both in order.

    >>> profile("aab", [0, 1, 1])
    {'a': {0: 0.5, 1: 0.5}, 'b': {0: 0.0, 1: 1.0}}
    """
    every, pairs, counts = sorted(set(behaviors)), Counter(zip(roles, behaviors, strict=True)), Counter(roles)
    return {role: {each: pairs[role, each] / counts[role] for each in every} for role in sorted(counts)}


def agreement(one: Profile, other: Profile, *, in_order: bool = False) -> float:
    """How much two runs' roles do the same: 1 minus the distance of their profiles, mean over roles.

        max over orders of   1 - 1/Z sum_z 1/2 sum_b | p(b|z) - q(b|order(z)) |

    1 where both divide behavior alike, 0 where no role of one does what any of the other does. Roles without any
    meaning agree, too: read it beside the specialization.

    >>> agreement({"a": {0: 1.0}, "b": {1: 1.0}}, {"a": {1: 1.0}, "b": {0: 1.0}})
    1.0
    >>> agreement({"a": {0: 1.0}, "b": {1: 1.0}}, {"a": {1: 1.0}, "b": {0: 1.0}}, in_order=True)
    0.0

    Args:
        in_order: compare each role with the one of the same name, instead of in the order that fits best.

    Raises:
        ConfigError: if there are not as many roles in both.
    """
    if len(one) != len(other):
        raise ConfigError(f"roles: expected as many roles in both runs, got {len(one)} and {len(other)}")
    ours, theirs = ([runs[role] for role in sorted(runs)] for runs in (one, other))

    def overlap(order: Sequence[Mapping[Any, float]]) -> float:
        return fmean(1 - _distance(p, q) for p, q in zip(ours, order, strict=True))

    return overlap(theirs) if in_order else max(map(overlap, permutations(theirs)))


def stability(profiles: Sequence[Profile], *, in_order: bool = False) -> float:
    """The mean agreement of every two of several runs; behaviors must mean the same in all of them.

    Raises:
        ConfigError: if there are fewer than two runs.
    """
    if len(profiles) < 2:
        raise ConfigError(f"roles: expected at least two runs to compare, got {len(profiles)}")
    return fmean(agreement(one, other, in_order=in_order) for one, other in combinations(profiles, 2))


def _distance(p: Mapping[Any, float], q: Mapping[Any, float]) -> float:
    return math.fsum(abs(p.get(each, 0.0) - q.get(each, 0.0)) for each in {*p, *q}) / 2


def clusters(texts: Sequence[str], count: int, *, seed: int = 0) -> list[int]:
    """The cluster of each text, by k-means over its words; equal texts share one, and clusters come in order of size.

    Texts are vectors of length 1 that count the `WORDS` most frequent words. With fewer different texts than clusters
    each is its own.
    """
    vectors = _vectors(texts)
    rows, place = np.unique(vectors, axis=0, return_inverse=True)
    place = place.reshape(-1)
    if len(rows) <= count:
        labels = place
    else:
        tries = (_k_means(rows, np.bincount(place), count, random.Random(seed + n)) for n in range(STARTS))
        labels = min(tries, key=lambda found: found[0])[1][place]
    sizes = Counter(labels.tolist())
    # By size, and what was said first before what was said later: not by where k-means happened to begin.
    order = sorted(sizes, key=lambda label: (-sizes[label], labels.tolist().index(label)))
    return [order.index(label) for label in labels.tolist()]


def _vectors(texts: Sequence[str]) -> NDArray[np.float64]:
    words = [re.findall(r"\w+", text.casefold()) for text in texts]
    frequent = Counter(word for said in words for word in said).most_common(WORDS)
    columns = {word: column for column, (word, _) in enumerate(frequent)}
    vectors = np.zeros((len(texts), max(1, len(columns))))
    for row, said in zip(vectors, words, strict=True):
        for word in said:
            if word in columns:
                row[columns[word]] += 1
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.where(lengths > 0, lengths, 1), dtype=np.float64)


def _k_means(
    rows: NDArray[np.float64], weights: NDArray[np.int64], count: int, rng: random.Random
) -> tuple[float, NDArray[np.int64]]:
    """The sum of squared distances, and the cluster of each row, from centers drawn as k-means++ draws them."""
    chosen = rng.choices(range(len(rows)), weights.tolist())
    while len(chosen) < count:
        nearest = np.min([np.sum((rows - rows[n]) ** 2, axis=1) for n in chosen], axis=0) * weights
        chosen += rng.choices(range(len(rows)), nearest.tolist())
    centers = rows[chosen]
    while True:
        distances = np.sum((rows[:, None] - centers[None]) ** 2, axis=2)
        labels = distances.argmin(axis=1)
        moved = np.array(
            [
                np.average(rows[labels == n], axis=0, weights=weights[labels == n]) if (labels == n).any() else center
                for n, center in enumerate(centers)
            ]
        )
        if np.array_equal(moved, centers):
            return float((distances.min(axis=1) * weights).sum()), labels
        centers = moved


@dataclass(frozen=True)
class Recast(PlayedAsItIs):
    """A task with roles in which they are dealt otherwise than its examples say."""

    task: Any
    change: Callable[[tuple[str, ...]], tuple[str, ...]]

    def reset(self, example: Example) -> Any:
        state = self.task.reset(example)
        return replace(state, roles=self.change(state.roles))


def swap_losses(setup: EvalSetup) -> dict[str, Comparison]:
    """What the normalized return loses if roles are moved on by one seat, or all seats have the same one.

    The same examples are played with the same seeds. With one shared policy, whose seats are equals, moving roles
    changes nothing but who says what; one role for all takes away whatever roles were for. An empty result is of a task
    without roles.
    """
    states = [setup.task.reset(example) for example in setup.examples]
    names = list(dict.fromkeys(role for state in states if isinstance(state, Cast) for role in state.roles))
    if not names:
        return {}
    before = normalized_returns(setup.task, play_examples(setup))

    def loss(change: Callable[[tuple[str, ...]], tuple[str, ...]]) -> Comparison:
        changed = play_examples(replace(setup, task=Recast(setup.task, change)))
        return paired_bootstrap(before, normalized_returns(setup.task, changed), seed=setup.seed)

    swapped = {"roles are swapped": loss(lambda roles: (*roles[1:], roles[0]))}
    return swapped | {f"all are {name}": loss(lambda roles, name=name: (name,) * len(roles)) for name in names}  # type: ignore[misc]
