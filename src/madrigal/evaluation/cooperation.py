"""Drops of the return without an agent, without its messages, or with another team's agent.

Every comparison plays the same examples with the same seeds, so that what the change does not touch stays word for
word the same: an agent that nobody needs has a drop of exactly 0. Drops are in points of the normalized return, which
is in percent of the best. Several agents make several tests: correct their p-values with `statistics.holm`.

References:
    Carroll et al., 2019, "On the Utility of Learning about Humans for Human-AI Coordination", arXiv:1910.05789, and
    Hu et al., 2020, "Other-Play for Zero-Shot Coordination", arXiv:2003.02979: play with partners of other runs.
    Lowe et al., 2019, "On the Pitfalls of Measuring Emergent Communication", arXiv:1903.05168: why messages must be
    changed, not only looked at.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any

from madrigal.evaluation.ablations import MessageAblation, Retell, ablated_judge, by_agent, override_actions
from madrigal.evaluation.evaluate import EvalSetup, normalized_returns, play_examples
from madrigal.evaluation.statistics import Comparison, Interval, hierarchical_bootstrap, paired_bootstrap
from madrigal.rollouts.play import Generate, Play
from madrigal.types import AgentId, ConfigError, Episode, Example


@dataclass(frozen=True, slots=True)
class CrossPlay:
    """Teams that play with each other's agents.

    Attributes:
        teams: their names, in the order of rows and columns.
        returns: mean normalized return where row i's agent plays with column j's others; own teams on the diagonal.
        own, crossed: mean of the diagonal and of the rest.
        gap: own minus crossed, with an interval over teams and examples; above 0 where teams have conventions that
            strangers do not know.
    """

    teams: tuple[str, ...]
    returns: tuple[tuple[float, ...], ...]
    own: float
    crossed: float
    gap: Interval


def leave_one_agent_out(setup: EvalSetup, *, borrowed: bool = False) -> dict[AgentId, Comparison]:
    """The drop of the normalized return where one agent says nothing, for each agent.

    Args:
        borrowed: instead of nothing the agent says what it said on another example, in the same round. This keeps
            length and style, so that only what it knows of this example is lost.

    Raises:
        ConfigError: if there are no examples, or only one to borrow from.
    """
    episodes = play_examples(setup)
    retell = _borrower(setup, episodes) if borrowed else _nothing
    drops = {}
    for agent in setup.task.agents:

        def change(moves: Play, example: Example, agent: AgentId = agent) -> Play:
            return override_actions(moves, agent, lambda round: retell(example.id, round, agent) or "")

        drops[agent] = _drop(setup, episodes, play_examples(setup, change))
    return drops


def leave_messages_out(setup: EvalSetup, *, borrowed: bool = False) -> dict[AgentId, Comparison]:
    """The drop of the normalized return where one agent does not hear the others, for each listener.

    Hidden is what it would hear in the same round (sequential play) and what it would see of the others' answers of
    earlier rounds; the task still judges what was really said. In parallel play of one round nothing is heard, and all
    drops are 0.

    Args:
        borrowed: instead of nothing it hears what the others said on another example.

    Raises:
        ConfigError: if there are no examples, or only one to borrow from.
    """
    episodes = play_examples(setup)
    retell = _borrower(setup, episodes) if borrowed else _nothing
    drops = {}
    for listener in setup.task.agents:
        task = MessageAblation(setup.task, listener, retell)
        changed = replace(setup, task=task, judge=ablated_judge(task, setup.judge))
        drops[listener] = _drop(setup, episodes, play_examples(changed))
    return drops


def cross_play(setup: EvalSetup, teams: Mapping[str, Generate], seat: AgentId | None = None) -> CrossPlay:
    """The returns of every pair of teams, one agent of the first with the other agents of the second.

    Args:
        setup: what is played; its own speaker is not asked.
        teams: the speaker of each team: of runs that differ in their seed, say.
        seat: whose agent is exchanged; the first one by default.

    Raises:
        ConfigError: if there are fewer than two teams or agents, no examples, or no such seat.
    """
    agents = setup.task.agents
    seat = agents[0] if seat is None else seat
    if len(teams) < 2 or len(agents) < 2 or seat not in agents:
        raise ConfigError(
            f"cross-play: expected at least 2 teams of at least 2 agents and a seat of {', '.join(agents)}, "
            f"got {len(teams)} teams and the seat {seat}"
        )

    def row(one: Generate) -> list[list[float]]:
        speakers = ({**dict.fromkeys(agents, other), seat: one} for other in teams.values())
        pairs = (replace(setup, speak=by_agent(speaking)) for speaking in speakers)
        return [normalized_returns(setup.task, play_examples(pair)) for pair in pairs]

    table = [row(one) for one in teams.values()]
    means = tuple(tuple(map(fmean, line)) for line in table)
    places = range(len(teams))
    gap = hierarchical_bootstrap([_gaps(table, i) for i in places], seed=setup.seed)
    own = fmean(means[i][i] for i in places)
    return CrossPlay(tuple(teams), means, own, own - gap.mean, gap)


def _drop(setup: EvalSetup, episodes: Sequence[Episode[Any]], changed: Sequence[Episode[Any]]) -> Comparison:
    before, after = (normalized_returns(setup.task, played) for played in (episodes, changed))
    return paired_bootstrap(before, after, seed=setup.seed)


def _gaps(table: Sequence[Sequence[Sequence[float]]], i: int) -> list[float]:
    """For each example, what team i earns by itself above what its two halves earn with strangers."""
    strangers = [table[a][b] for j in range(len(table)) if j != i for a, b in ((i, j), (j, i))]
    return [own - fmean(values) for own, *values in zip(table[i][i], *strangers, strict=True)]


def _nothing(example: str, round: int, agent: AgentId) -> str | None:
    return None


def _borrower(setup: EvalSetup, episodes: Sequence[Episode[Any]]) -> Retell:
    """What an agent said on the next example in the same round, or last if it spoke no more by then."""
    if len(setup.examples) < 2:
        raise ConfigError(f"task {setup.task.name}: expected at least two examples to borrow messages, got one")
    following = [*episodes[1:], episodes[0]]
    donors = {example.id: donor for example, donor in zip(setup.examples, following, strict=True)}

    def borrow(example: str, round: int, agent: AgentId) -> str | None:
        turns = [turn for turn in donors[example].turns if turn.agent == agent and turn.round <= round]
        return turns[-1].completion.text if turns else None

    return borrow
