"""Fidelity of credit: the rank correlation of messages' advantages with their worth when played on many times.

Whether a message moves anybody is for `influence` to say.

In a context h, everything before one agent's message, K alternatives are drawn and each is played on to the end, as C3
does in training. Playing on many times more tells what they are worth:

    A_j = R_j - mean_{k != j} R_k          R_j of as many continuations as training has, one by default
    D_j = R*_j - V(h)                      R*_j of further continuations, V(h) their mean over all alternatives

Fidelity is Spearman's rank correlation of A and D over all messages of all contexts: 1 where credit orders messages as
their worth does, near 0 where it is noise. The within-context variance, the population variance of A_j in one context,
says how much there is to learn from: 0 where all messages are alike. Both grow with the number of continuations, so
compare like with like.

References:
    Chen et al., 2026, "Contextual Counterfactual Credit Assignment" (C3), arXiv:2603.06859, and its code: 200 contexts,
    8 candidates, 1 continuation. There R*_j is R_j itself, and shares its noise; further continuations, 16 as in the
    third version of the paper, are our reading.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain
from statistics import fmean, pvariance
from typing import Any

from madrigal.evaluation.evaluate import EvalSetup
from madrigal.evaluation.statistics import Interval, bootstrap, centered, spearman
from madrigal.rollouts.play import EpisodeRun, Play, drive, end_of, play, play_turn
from madrigal.types import AgentId, ConfigError, Episode, Point, joint_reward


@dataclass(frozen=True, slots=True)
class Fidelity:
    """The fidelity of the credit of one agent's first message.

    Attributes:
        correlation: of credit and worth, from -1 to 1; 0 where either is the same for all messages.
        variance: of credit within a context, mean over contexts, with its bootstrap interval.
        credit, worth: A_j and D_j, context by context, in the order of the examples.
    """

    correlation: float
    variance: Interval
    credit: tuple[tuple[float, ...], ...]
    worth: tuple[tuple[float, ...], ...]


def fidelity(
    setup: EvalSetup, agent: AgentId, *, candidates: int = 8, continuations: int = 1, further: int = 16
) -> Fidelity:
    """The rank correlation of credit and worth of an agent's first message; one context per example.

    Args:
        agent: whose message is varied.
        candidates: K, the messages drawn in each context.
        continuations: plays to the end from each message, from which credit is given.
        further: plays from each message that tell its worth.

    Raises:
        ConfigError: if the agent is none of the task's or does not speak in the first round, or a number cannot work.
    """
    if agent not in setup.task.agents:
        raise ConfigError(f"fidelity: expected one of {', '.join(setup.task.agents)}, got {agent}")
    if candidates < 2 or continuations < 1 or further < 1 or not setup.examples:
        raise ConfigError(
            "fidelity: expected at least 2 candidates, 1 continuation, 1 further one and 1 example, got "
            f"{candidates}, {continuations}, {further} and {len(setup.examples)}"
        )
    starts = [Point(example.id, setup.task.reset(example)) for example in setup.examples]
    before = _played(setup, [(_until(setup, start, agent), start, ("before",)) for start in starts])
    contexts = [replace(start, history=episode.turns) for start, episode in zip(starts, before, strict=True)]
    messages = _played(
        setup,
        [
            (play_turn(setup.task, setup.topology, context), context, ("message", j))
            for context in contexts
            for j in range(candidates)
        ],
    )
    returns = _returns(setup, messages, candidates, continuations + further)
    credit = [leave_one_out([fmean(row[:continuations]) for row in rows]) for rows in returns]
    worth = [centered([fmean(row[continuations:]) for row in rows]) for rows in returns]
    return Fidelity(
        spearman(list(chain.from_iterable(credit)), list(chain.from_iterable(worth))),
        bootstrap([pvariance(row) for row in credit], seed=setup.seed),
        tuple(map(tuple, credit)),
        tuple(map(tuple, worth)),
    )


def leave_one_out(returns: Sequence[float]) -> list[float]:
    """Each return against the mean of the others.

    >>> leave_one_out([1.0, 0.0, 2.0])
    [0.0, -1.5, 1.5]
    """
    return [value * len(returns) / (len(returns) - 1) for value in centered(returns)]


def _until(setup: EvalSetup, start: Point[Any], agent: AgentId) -> Play:
    """Decision after decision until an agent is next to speak, and gives the turns before that."""
    here, acting = start, setup.task.acting(start.state)
    while (speakers := setup.topology.speakers(acting, here.history)) and speakers[0] != agent:
        episode = yield from play_turn(setup.task, setup.topology, here)
        here = replace(here, history=here.history + episode.turns)
    if not speakers or speakers[0] != agent:
        raise ConfigError(f"fidelity: {agent} does not speak in the first round of {start.example}; name another agent")
    return Episode(start, here.history, ())


def _returns(
    setup: EvalSetup, messages: Sequence[Episode[Any]], candidates: int, times: int
) -> list[list[list[float]]]:
    """By context and message, the return of each continuation."""
    ends = [end_of(message) for message in messages]
    going = [
        (play(setup.task, setup.topology, end), end, ("on", j % candidates, n))
        for j, end in enumerate(ends)
        if end is not None
        for n in range(times)
    ]
    continued = iter(_played(setup, going))
    rows = []
    for message, end in zip(messages, ends, strict=True):
        earned = sum(map(joint_reward, message.steps))
        later = [0.0 if end is None else sum(map(joint_reward, next(continued).steps)) for _ in range(times)]
        rows.append([earned + rest for rest in later])
    return [rows[start : start + candidates] for start in range(0, len(rows), candidates)]


def _played(setup: EvalSetup, games: Sequence[tuple[Play, Point[Any], tuple[object, ...]]]) -> list[Episode[Any]]:
    keyed = [EpisodeRun(moves, ("fidelity", setup.seed, point.example, *key)) for moves, point, key in games]
    return drive(keyed, setup.speak, setup.judge)
