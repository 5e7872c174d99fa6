"""PMIC's buffers: rounds of superior and of inferior episodes, from which its bounds are learned."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from statistics import fmean
from typing import Literal, TypedDict

from madrigal.algorithms.scores import needed
from madrigal.types import Episode, Group, Turn

Within = Literal["task", "all"]


class Entry(TypedDict):
    """One round as JSON: the return of its whole episode, the example and round, and the vectors s and u."""

    value: float
    context: str
    state: list[float]
    action: list[float]


@dataclass(frozen=True, slots=True)
class Buffers:
    """PMIC's dual progressive buffers: rounds of superior (positive) and of inferior (negative) episodes.

        superior:  R > max( lowest return in the positive buffer, mean of the last `window` returns before it )

    While the team gets better the bar rises with it. As in the public code, a full positive buffer gives up its lowest
    entries, a full negative one its oldest, and while nothing is positive yet every return is above the bar.

    Attributes:
        positive: lowest return first.
        negative: oldest first.
        recent: the last returns, oldest first.
    """

    positive: Sequence[Entry] = ()
    negative: Sequence[Entry] = ()
    recent: Sequence[float] = ()

    @property
    def bar(self) -> float:
        """What a return must exceed to be superior; minus infinity while nothing is."""
        return max(self.positive[0]["value"], fmean(self.recent)) if self.positive else -math.inf

    def with_episode(self, rounds: Sequence[Entry], capacity: int, window: int) -> Buffers:
        """The buffers after one more episode.

        Args:
            rounds: of the episode, at least one.
            capacity: the most entries of either buffer.
            window: the most returns whose mean makes the bar.
        """
        value, positive, negative = rounds[0]["value"], self.positive, self.negative
        if value > self.bar:
            positive = sorted([*positive, *rounds], key=lambda entry: entry["value"])[-capacity:]
        else:
            negative = [*negative, *rounds][-capacity:]
        return Buffers(positive, negative, [*self.recent, value][-window:])


def comparable(entries: Sequence[Entry], within: Within) -> list[int]:
    """The places of entries whose context holds more than one state; elsewhere there is nothing to estimate."""
    shown: dict[str, set[tuple[float, ...]]] = defaultdict(set)
    contexts = contexts_of(entries, within)
    for context, entry in zip(contexts, entries, strict=True):
        shown[context].add(tuple(entry["state"]))
    return [n for n, context in enumerate(contexts) if len(shown[context]) > 1]


def contexts_of(entries: Sequence[Entry], within: Within) -> list[str]:
    """Entries of one context may be compared: of one round of one example, or all of them."""
    return [entry["context"] if within == "task" else "" for entry in entries]


def entries_of(group: Group[object], episode: Episode[object], value: float) -> list[Entry]:
    """What was shown and done in each round of an episode, whose return is `value`.

    The state is the mean over what the agents were shown who were asked before anybody had spoken in the round: a
    prompt that holds a teammate's words would share them with the joint action. Where an agent speaks more than once in
    a round, its part of the joint action is the mean; where it does not speak, zeros.

    Raises:
        TrainingError: if a turn was not embedded.
    """

    def prompt(turn: Turn) -> tuple[float, ...]:
        return needed(turn.scores.prompt_embedding, "an embedding of the prompt", "pmic", turn)

    def answer(turn: Turn) -> tuple[float, ...]:
        return needed(turn.scores.answer_embedding, "an embedding", "pmic", turn)

    entries: list[Entry] = []
    for index in range(episode.start.round, episode.start.round + len(episode.steps)):
        turns = [turn for turn in episode.turns if turn.round == index]
        context = f"{episode.start.example}, round {index}"
        opening = min(turn.after for turn in turns)
        state = _mean([prompt(turn) for turn in turns if turn.after == opening])
        silence = (0.0,) * len(answer(turns[0]))
        parts = [_mean([answer(t) for t in turns if t.agent == agent] or [silence]) for agent in group.agents]
        entries.append({"value": value, "context": context, "state": state, "action": list(chain(*parts))})
    return entries


def _mean(rows: Sequence[Sequence[float]]) -> list[float]:
    import torch

    mean: list[float] = torch.tensor(rows, dtype=torch.float64).mean(0).tolist()
    return mean
