"""Measures of samples and transcripts: pass@k, diversity of texts, and each agent's share of tokens and credit.

References:
    Chen et al., 2021, "Evaluating Large Language Models Trained on Code", arXiv:2107.03374: unbiased pass@k.
    Li et al., 2016, "A Diversity-Promoting Objective Function for Neural Conversation Models", arXiv:1510.03055:
    distinct-n.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
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
    check_k(tries, k)
    if not 0 <= passed <= tries:
        raise ConfigError(f"pass@{k}: expected between 0 and {tries} passed tries, got {passed}")
    failing = 1.0
    for i in range(tries - passed + 1, tries + 1):
        failing *= 1 - k / i
    return 1 - failing


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


def token_shares(transcripts: Sequence[Record]) -> dict[AgentId, float]:
    """Each agent's share of all tokens that are counted; without agents whose policies show none and count none."""
    turns = (turn for record in transcripts for turn in record["turns"])
    return _shares((turn["agent"], turn["tokens"]) for turn in turns if turn["tokens"])


def credit_shares(transcripts: Sequence[Record]) -> dict[AgentId, float]:
    """Each agent's share of the credit given: of the sum of absolute advantages over all turns.

        share_i = sum_{turns of i} |A| / sum_{all turns} |A|

    How much an agent is being moved, not which way; under a joint advantage all are moved alike, and the shares
    follow the number of turns. Turns without an advantage (evaluations) do not count; empty where no credit was given.
    """
    turns = (turn for record in transcripts for turn in record["turns"])
    return _shares((turn["agent"], abs(turn["advantage"] or 0.0)) for turn in turns)


def check_k(tries: int, k: int) -> None:
    """Refuses a measure at k of fewer than k tries.

    Raises:
        ConfigError: if k is not between 1 and the number of tries.
    """
    if not 1 <= k <= tries:
        raise ConfigError(f"a measure at k needs k tries of every example: expected k between 1 and {tries}, got {k}")


def _grams(tokens: Sequence[str], n: int) -> list[tuple[str, ...]]:
    return [tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1)]


def _shares(amounts: Iterable[tuple[AgentId, float]]) -> dict[AgentId, float]:
    sums: dict[AgentId, float] = defaultdict(float)
    for agent, amount in amounts:
        sums[agent] += amount
    total = sum(sums.values())
    return {agent: amount / total for agent, amount in sums.items()} if total else {}
