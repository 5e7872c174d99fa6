"""Measures of samples and transcripts: pass@k and its kin, diversity, and who did how much.

Knows: numbers, and transcripts as `measure.transcript` writes them. Does not know: tasks, models, tensors.

The three measures at k answer "how good is the best of k tries", from n tries of one example:

| measure | value of a try |
|---|---|
| pass@k | 1 if it passes every test, else 0 |
| acc@k | share of its tests that pass |
| coop@k | its cooperation bonus |

By default all n tries count: the expected best of k tries drawn from them. The paper's tables take the best of the
first k, which wastes the others; `first=True` gives that.

References:
    Chen et al., 2021, "Evaluating Large Language Models Trained on Code", arXiv:2107.03374: unbiased pass@k.
    Liu et al., 2025, arXiv:2508.04652, and its code: acc@k, coop@k.
    Li et al., 2016, "A Diversity-Promoting Objective Function for Neural Conversation Models", arXiv:1510.03055:
    distinct-n.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from madrigal.types import AgentId, ConfigError

Record = Mapping[str, Any]


def pass_at_k(tries: int, passed: int, k: int) -> float:
    """The probability that at least one of k tries passes, drawn without replacement from n of which m passed.

        pass@k = 1 - C(n-m, k) / C(n, k) = 1 - prod_{i = n-m+1}^{n} (1 - k/i)

    The product never forms the binomials, which overflow. Plugging the rate m/n into 1 - (1 - m/n)^k instead would be
    too low.

        >>> pass_at_k(tries=4, passed=1, k=2)
        0.5

    Raises:
        ConfigError: if k is not between 1 and the number of tries, or more passed than were tried.
    """
    _check_k(tries, k)
    if not 0 <= passed <= tries:
        raise ConfigError(f"pass@{k}: expected between 0 and {tries} passed tries, got {passed}")
    failing = 1.0
    for i in range(tries - passed + 1, tries + 1):
        failing *= 1 - k / i
    return 1 - failing


def best_at_k(values: Sequence[float], k: int, *, first: bool = False) -> float:
    """The expected best of k values drawn without replacement; or, with `first`, the best of the first k.

        E[max] = sum_{i = k}^{n} v_(i) * C(i-1, k-1) / C(n, k)          v_(1) <= ... <= v_(n)

    v_(i) is the best where the other k-1 come from the i-1 below it. For values of 0 and 1 this is pass@k.

        >>> best_at_k([0.0, 0.5, 1.0], k=2)  # pairs: 0.5, 1, 1
        0.8333333333333333
        >>> best_at_k([0.0, 0.5, 1.0], k=2, first=True)
        0.5

    Raises:
        ConfigError: if k is not between 1 and the number of values.
    """
    _check_k(len(values), k)
    if first:
        return float(max(values[:k]))
    ordered, weight, expected = sorted(values), k / len(values), 0.0
    for i in range(len(ordered), k - 1, -1):
        expected += weight * ordered[i - 1]
        weight *= (i - k) / (i - 1) if i > 1 else 0.0
    return expected


def acc_at_k(fractions: Sequence[float], k: int, *, first: bool = False) -> float:
    """The best share of passed tests among k tries; see `best_at_k`."""
    return best_at_k(fractions, k, first=first)


def coop_at_k(bonuses: Sequence[float], k: int, *, first: bool = False) -> float:
    """The best cooperation bonus among k tries, in the unit given; 0 for a single agent. See `best_at_k`."""
    return best_at_k(bonuses, k, first=first)


@dataclass(frozen=True, slots=True)
class AtK:
    """The three measures at one k, mean over examples: `passed` and `accuracy` from 0 to 1, the bonus as it is paid."""

    k: int
    passed: float
    accuracy: float
    cooperation: float
    examples: int


def coding_at_k(transcripts: Sequence[Record], k: int, *, first: bool = False) -> AtK:
    """pass@k, acc@k and coop@k of transcripts of a coding task; several transcripts of one example are its tries.

    Raises:
        ConfigError: if there are none, they are of another task, or an example has fewer than k.
    """
    tries: dict[str, list[Mapping[str, float]]] = defaultdict(list)
    for record in transcripts:
        tries[record["example"]].append(record["metrics"])
    if not tries or not all("full_test_pass" in row for rows in tries.values() for row in rows):
        raise ConfigError(f"pass@{k}: expected transcripts of a coding task, with full_test_pass among their metrics")

    def mean(metric: str, scale: float = 1.0) -> float:
        columns = [[row.get(metric, 0.0) * scale for row in rows] for rows in tries.values()]
        return fmean(best_at_k(column, k, first=first) for column in columns)

    return AtK(k, mean("full_test_pass"), mean("tests", 0.01), mean("reward_cooperation"), len(tries))


def distinct_n(texts: Sequence[str], n: int = 2) -> float:
    """Different n-grams over all n-grams, pooled over texts; 0 where no text has n tokens.

    Tokens are what stands between white space, as it is written; n-grams do not cross from one text to the next. The
    measure falls as texts grow longer or more numerous, so compare equal amounts of text only.

        >>> distinct_n(["to be or not to be"], n=1), distinct_n(["a b", "a b"], n=2)
        (0.6666666666666666, 0.5)
    """
    grams = [gram for text in texts for gram in _grams(text.split(), n)]
    return len(set(grams)) / len(grams) if grams else 0.0


def overlap(one: str, other: str) -> float:
    """Jaccard overlap of two texts' words, white space between them, case ignored; 0 where both are empty.

    >>> overlap("The cat sat", "the dog sat")
    0.5
    """
    words, others = set(one.lower().split()), set(other.lower().split())
    return len(words & others) / len(words | others) if words | others else 0.0


def lengths(transcripts: Sequence[Record]) -> dict[AgentId, tuple[float, float]]:
    """For each agent the mean length of an answer: in tokens, as sampled, and in words between white space."""
    turns = _turns(transcripts)
    return {
        agent: (fmean(turn["tokens"] for turn in said), fmean(len(turn["text"].split()) for turn in said))
        for agent, said in turns.items()
    }


def token_shares(transcripts: Sequence[Record]) -> dict[AgentId, float]:
    """For each agent its part of all sampled tokens; empty where there are none, as for policies that show none."""
    return _shares({agent: sum(turn["tokens"] for turn in said) for agent, said in _turns(transcripts).items()})


def credit_shares(transcripts: Sequence[Record]) -> dict[AgentId, float]:
    """For each agent its part of the credit given: of the sum of absolute advantages over all turns.

        share_i = sum_{turns of i} |A| / sum_{all turns} |A|

    How much an agent is being moved, not which way; under a joint advantage all are moved alike, and the shares
    follow the number of turns. Turns without an advantage (evaluations) do not count; empty where no credit was given.
    """
    return _shares({a: sum(abs(turn["advantage"] or 0.0) for turn in said) for a, said in _turns(transcripts).items()})


def _check_k(tries: int, k: int) -> None:
    if not 1 <= k <= tries:
        raise ConfigError(f"a measure at k needs k tries of every example: expected k between 1 and {tries}, got {k}")


def _grams(tokens: Sequence[str], n: int) -> list[tuple[str, ...]]:
    return [tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1)]


def _turns(transcripts: Sequence[Record]) -> dict[AgentId, list[Record]]:
    turns: dict[AgentId, list[Record]] = defaultdict(list)
    for record in transcripts:
        for turn in record["turns"]:
            turns[turn["agent"]].append(turn)
    return dict(turns)


def _shares(amounts: Mapping[AgentId, float]) -> dict[AgentId, float]:
    total = sum(amounts.values())
    return {agent: amount / total for agent, amount in amounts.items()} if total else {}
