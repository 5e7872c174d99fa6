"""Every measure of a team's cooperation at once: drops, influence, cross-play, shares of tokens."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import permutations
from typing import Any

from madrigal.evaluation.cooperation import CrossPlay, cross_play, leave_messages_out, leave_one_agent_out
from madrigal.evaluation.evaluate import EvalSetup, normalized_returns, play_examples
from madrigal.evaluation.influence import Influence, influence
from madrigal.evaluation.metrics import token_shares
from madrigal.evaluation.statistics import Interval, bootstrap, holm
from madrigal.rollouts.play import Generate, GenerationRequest
from madrigal.rollouts.topology import Parallel
from madrigal.types import AgentId, Completion, ConfigError, Episode

CHANGES = {
    "silent": "says nothing",
    "borrowed": "speaks of another example",
    "deaf": "does not hear the others",
}
REPLIES = 2  # to every message, where influence is measured
ALONE = "There is only one agent: nobody to leave out, to hear or to play with."
UNHEARD = "Agents speak once and at the same time: there are no messages to leave out or to be moved by."


@dataclass(frozen=True, slots=True)
class Drop:
    """What the normalized return loses by one change of one agent.

    Attributes:
        change: one of CHANGES.
        loss: in points, with its interval over examples; below 0 where the team does better so.
        p: of a loss or gain at least as large, if the change made no difference.
        corrected: p after Holm's correction for all drops of one team.
    """

    agent: AgentId
    change: str
    loss: Interval
    p: float
    corrected: float


@dataclass(frozen=True, slots=True)
class Teamwork:
    """All measures of one team.

    Attributes:
        examples: how many were played.
        return_percent: normalized return of the team as it is, with its interval over them.
        influence: by speaker and listener.
        cross_play: None where there is one team only.
        tokens: each agent's part of all that was said; empty for policies that show no tokens.
        notices: what could not be asked, and why.
    """

    examples: int
    return_percent: Interval
    drops: tuple[Drop, ...]
    influence: dict[AgentId, dict[AgentId, Influence]]
    cross_play: CrossPlay | None
    tokens: dict[AgentId, float]
    notices: tuple[str, ...]


def analyze_team(
    setup: EvalSetup, teams: Mapping[str, Generate], stage: Callable[[str], None] = lambda doing: None
) -> Teamwork:
    """Computes all measures that the first team has, and lets the agent in its first seat play with the others.

    Args:
        setup: what is played; its own speaker is not asked.
        teams: the speakers of teams, by their names.
        stage: is told what is being done.

    Raises:
        ConfigError: if there are fewer than two examples; each borrows what is said on another.
        TaskError: if a metric, the task's normalized return, say, is not finite.
    """
    speakers = {name: cached(speak) for name, speak in teams.items()}
    setup = replace(setup, speak=next(iter(speakers.values())))
    several, heard = len(setup.task.agents) > 1, _anybody_hears(setup)
    stage("playing")
    played = play_examples(setup)
    stage("leaving agents and messages out")
    drops = _drops(setup, heard=heard) if several else ()
    stage("drawing messages again")
    measured, notices = _influences(setup) if several and heard else ({}, [UNHEARD if several else ALONE])
    stage("playing with agents of other teams")
    return Teamwork(
        examples=len(played),
        return_percent=bootstrap(normalized_returns(setup.task, played), seed=setup.seed),
        drops=drops,
        influence=measured,
        cross_play=cross_play(setup, speakers) if several and len(speakers) > 1 else None,
        tokens=token_shares([_lengths(episode) for episode in played]),
        notices=tuple(notices),
    )


def cached(speak: Generate) -> Generate:
    """A speaker that answers each request once: changed play asks much again, word for word."""
    known: dict[GenerationRequest, Completion] = {}

    def answer(wanted: Sequence[GenerationRequest]) -> list[Completion]:
        new = [request for request in dict.fromkeys(wanted) if request not in known]
        known.update(zip(new, speak(new) if new else (), strict=True))
        return [known[request] for request in wanted]

    return answer


def _anybody_hears(setup: EvalSetup) -> bool:
    """Whether an agent may learn what another said before it acts."""
    return setup.task.horizon > 1 or not isinstance(setup.topology, Parallel)


def _drops(setup: EvalSetup, *, heard: bool) -> tuple[Drop, ...]:
    compared = {"silent": leave_one_agent_out(setup), "borrowed": leave_one_agent_out(setup, borrowed=True)}
    if heard:
        compared["deaf"] = leave_messages_out(setup)
    rows = [(agent, change, drop) for change, drops in compared.items() for agent, drop in drops.items()]
    corrected = holm([drop.p for _, _, drop in rows])
    return tuple(
        Drop(agent, change, drop.difference, drop.p, p)
        for (agent, change, drop), p in zip(rows, corrected, strict=True)
    )


def _influences(setup: EvalSetup) -> tuple[dict[AgentId, dict[AgentId, Influence]], list[str]]:
    """Of every pair; and of which pairs it cannot be measured, and why."""
    found: dict[AgentId, dict[AgentId, Influence]] = {}
    unmeasured = []
    for speaker, listener in permutations(setup.task.agents, 2):
        try:
            measured = influence(setup, speaker, listener, replies=REPLIES)
        except ConfigError as error:  # in a sequence, say, the later voice never reaches the earlier one
            reason = str(error).removeprefix("influence: ")
            unmeasured.append(f"The influence of {speaker} on {listener} cannot be measured: {reason}.")
        else:
            found.setdefault(speaker, {})[listener] = measured
    return found, unmeasured


def _lengths(episode: Episode[Any]) -> dict[str, Any]:
    """Of a transcript, what shares of tokens need."""
    return {"turns": [{"agent": turn.agent, "tokens": turn.completion.tokens} for turn in episode.turns]}
