"""The joint reward of two writers: four levels, each of which counts only if all earlier ones hold.

    level           quantity                                      earns      gate
    1 structure     words of each text                            0.5        both within bounds
    2 length ratio  characters of the second / of the first       up to 1.0  within the band
    3 vocabulary    unique words of the second / of the first     up to 0.5  within the band
    4 style         0.4 T(transitions) + 0.6 min(J, c) / c        up to 1.0  -

A gate that fails stops the count; what was earned before it is kept. The nominal maximum is 3.0, the
reachable one 2.98, because twelve categories of transitions give T = 0.95.

References:
    Liu et al., "LLM Collaboration with Multi-Agent Reinforcement Learning", arXiv:2508.04652; the thresholds
    are those of the authors' writing code. The paper's text calls T logarithmic in the number of transition
    words and allows n-grams for J; the code, followed here, is linear in categories and uses single words.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace

from madrigal.tasks.writing.transitions import Matching, categories

BEST = 3.0
_WORD = re.compile(r"\b\w+\b")
_JACCARD, _TRANSITIONS = 0.6, 0.4

_FUNCTION_WORDS = """
    a an the this that these those some any each every no not nor
    i me my we us our you your he him his she her it its they them their who whom whose which what
    am is are was were be been being do does did have has had having
    can could will would shall should may might must
    and or but if then than so as because while when where why how
    of at by for with about against between into through from to in out on off over under up down
    after before during again here there all both more most other such only own same too very
"""
STOPWORDS = frozenset(_FUNCTION_WORDS.split())


@dataclass(frozen=True, slots=True)
class Band:
    """A trapezium: 0 at `low`, full from `best_low` to `best_high`, 0 at `high`; a shut gate outside."""

    low: float
    best_low: float
    best_high: float
    high: float
    weight: float

    def holds(self, value: float) -> bool:
        return self.low <= value <= self.high

    def earns(self, value: float) -> float:
        if not self.holds(value):
            return 0.0
        if value < self.best_low:
            return self.weight * (value - self.low) / (self.best_low - self.low)
        if value > self.best_high:
            return self.weight * (1 - (value - self.best_high) / (self.high - self.best_high))
        return self.weight


@dataclass(frozen=True, slots=True)
class Thresholds:
    """The numbers of one data set.

    Attributes:
        fewest, most: words (split at white space) that each text must have, both ends included.
        length: band of the ratio of characters, second text over first.
        vocabulary: band of the ratio of unique words, second over first.
        jaccard: the overlap of content words at which consistency is full.
        transitions_of_both: whether transitions count in both texts, or in the second alone.
        exclude_stopwords: whether stop-words are left out of the unique words. The published reward counts
            them although its description says otherwise; the published evaluation leaves them out.
    """

    fewest: int
    most: int
    length: Band
    vocabulary: Band
    jaccard: float
    transitions_of_both: bool
    exclude_stopwords: bool = False

    def allows(self, words: int) -> bool:
        """Whether a text of so many words is neither too short nor too long."""
        return self.fewest <= words <= self.most


TLDR = Thresholds(
    fewest=8,
    most=256,
    length=Band(1.1, 1.6, 3.2, 5.0, weight=1.0),
    vocabulary=Band(1.3, 2.0, math.inf, math.inf, weight=0.5),
    jaccard=0.03,
    transitions_of_both=False,
)
ARXIV_EARLY = Thresholds(
    fewest=128,
    most=256,
    length=Band(0.8, 1.0, 1.3, 1.5, weight=1.0),
    vocabulary=Band(0.5, 0.7, 1.3, 1.7, weight=0.5),
    jaccard=0.23,
    transitions_of_both=True,
)
ARXIV_LATER = replace(ARXIV_EARLY, length=Band(0.8, 1.3, 1.6, 2.0, weight=1.0))


@dataclass(frozen=True, slots=True)
class Gate:
    """One of the first three levels: what it earns, whether it lets the count go on, and what was measured."""

    name: str
    earns: float
    holds: bool
    measured: str


def gates(first: str, second: str, thresholds: Thresholds) -> tuple[Gate, Gate, Gate]:
    """Structure, length ratio and vocabulary ratio of two texts; one that does not hold earns 0."""
    counts = len(first.split()), len(second.split())
    within = all(map(thresholds.allows, counts))
    bounds = f"{thresholds.fewest} to {thresholds.most}"
    measured = f"expected {bounds} words of each, got {counts[0]} and {counts[1]}"
    unique = unique_ratio(first, second, thresholds.exclude_stopwords)
    return (
        Gate("structure", 0.5 if within else 0.0, within, measured),
        _ratio_gate("length ratio", thresholds.length, length_ratio(first, second)),
        _ratio_gate("vocabulary ratio", thresholds.vocabulary, unique),
    )


def _ratio_gate(name: str, band: Band, ratio: float) -> Gate:
    bounds = f"{band.low:g} to {band.high:g}" if band.high < math.inf else f"at least {band.low:g}"
    return Gate(name, band.earns(ratio), band.holds(ratio), f"expected {bounds}, got {ratio:.2f}")


@dataclass(frozen=True, slots=True)
class Score:
    """What two texts earn, part by part.

    Attributes:
        structure, length_ratio, vocabulary: the first three levels, as if every gate were open.
        consistency, coherence: the Jaccard part (up to 0.6) and the transition part (up to 0.38) of the style
            level.
        total: the reward, with gates.
        passed_level: how many gates opened before one was shut, 0 to 3.
        shut_gate: that one, with what was measured and expected; "" where all are open.
    """

    structure: float
    length_ratio: float
    vocabulary: float
    consistency: float
    coherence: float
    total: float
    passed_level: int
    shut_gate: str

    @property
    def ungated(self) -> float:
        """What the texts would earn if every gate were open."""
        return self.structure + self.length_ratio + self.vocabulary + self.consistency + self.coherence

    def percents(self) -> dict[str, float]:
        """The four numbers of the paper's Table 1, in percent: three without gates, the return with them."""
        return {
            "structure": 100 * (self.structure + self.length_ratio + self.vocabulary) / 2,
            "consistency": 100 * self.consistency / _JACCARD,
            "coherence": 100 * self.coherence / _TRANSITIONS,
            "return_percent": 100 * self.total / BEST,
        }


def score(first: str, second: str, thresholds: Thresholds, transitions: Matching = categories) -> Score:
    """The joint reward of two texts, with and without gates; `transitions` finds the categories of a text.

    >>> result = score("Too short.", "Too short as well.", TLDR)
    >>> result.total, result.shut_gate
    (0.0, 'structure: expected 8 to 256 words of each, got 2 and 4')
    """
    levels = gates(first, second, thresholds)
    structure, length, vocabulary = (gate.earns for gate in levels)
    ties = transitions(second) | (transitions(first) if thresholds.transitions_of_both else frozenset())
    consistency = _JACCARD * min(jaccard(first, second), thresholds.jaccard) / thresholds.jaccard
    coherence = _TRANSITIONS * transition_share(len(ties))
    shut = next((gate for gate in levels if not gate.holds), None)
    passed = levels.index(shut) if shut else len(levels)
    earned = (0.0, structure, structure + length, structure + length + vocabulary + consistency + coherence)
    complaint = f"{shut.name}: {shut.measured}" if shut else ""
    return Score(structure, length, vocabulary, consistency, coherence, earned[passed], passed, complaint)


def length_ratio(first: str, second: str) -> float:
    """Characters of the second text over those of the first, blanks included; 0 where the first is empty."""
    return len(second) / len(first) if first else 0.0


def unique_ratio(first: str, second: str, exclude_stopwords: bool = False) -> float:
    """Unique words, lower-cased, of the second text over those of the first; 0 where the first has none."""
    left_out = STOPWORDS if exclude_stopwords else frozenset()
    ours, theirs = _words(first) - left_out, _words(second) - left_out
    return len(theirs) / len(ours) if ours else 0.0


def jaccard(first: str, second: str) -> float:
    """The share of content words (no stop-words) that two texts have in common; 1 where neither has any.

    J = |A ∩ B| / |A ∪ B|
    """
    ours, theirs = _words(first) - STOPWORDS, _words(second) - STOPWORDS
    union = ours | theirs
    return len(ours & theirs) / len(union) if union else 1.0


def transition_share(count: int) -> float:
    """The worth of `count` categories of transitions.

    T = 0 if k = 0, else min(1, 0.4 + min(0.05 (k - 1), 0.6))
    """
    return min(1.0, 0.4 + min(0.05 * (count - 1), 0.6)) if count else 0.0


def _words(text: str) -> frozenset[str]:
    return frozenset(_WORD.findall(text.lower()))
