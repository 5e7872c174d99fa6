"""The critics of a run: what each is shown of a turn, its values, and what it learns from.

A critic reads a turn like an answer to a prompt: the prompt is the history that it may see, the answer what was said,
token by token. One that is asked once per turn reads the history alone. Critics serve training only: no team has one.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, Literal

from madrigal.algorithms import CriticNeed
from madrigal.learning.critic_learner import CriticLearner, Lesson
from madrigal.policies.local import LocalPolicy, map_policies
from madrigal.policies.team import Team
from madrigal.rollouts.tree import walk
from madrigal.types import AgentId, EngineError, Episode, Group, Sample, Turn, TurnScores, ValueRow

CENTRAL = "critic-joint"  # no policy can bear this name
UNREAD = (0,)  # stands where an answer would: the value before it is that of the history alone
Ids = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Critics:
    """All critics of a run.

    Attributes:
        need: what the algorithm asks of them.
        learners: by name: `CENTRAL`, or "critic-" and the name of the policy that each judges. None for an algorithm
            that learns without: nothing is read then, and nothing learned.
        team: who took a turn; only what trainable policies said is judged.
        same_vocabulary: for each critic the policies whose prompts it reads as they were given; other prompts are
            encoded for it.
    """

    need: CriticNeed
    learners: Mapping[str, CriticLearner]
    team: Team
    same_vocabulary: Mapping[str, Collection[str]]

    @property
    def bodies(self) -> list[LocalPolicy]:
        """The models that they are made of; each has its critic's name."""
        return [learner.critic.body for learner in self.learners.values()]

    def read(self, groups: Sequence[Group[Any]]) -> list[TurnScores]:
        """Values of every turn, in the order of `rollouts.tree.walk`, with what the critic was shown.

        Raises:
            EngineError: if a critic is shown more than fits its context.
        """
        row_of = self.rows(groups)
        if not self.learners:
            return [TurnScores()] * len(row_of)
        rows: dict[str, list[ValueRow]] = {name: [] for name in self.learners}
        for row in row_of:
            if row is not None and row.place == len(rows[row.critic]):  # the first turn that shows this row
                rows[row.critic].append(row)
        values = map_policies(lambda body: self.learners[body.name].read(rows[body.name]), self.bodies)
        values_of = dict(zip(self.learners, values, strict=True))
        return [TurnScores(() if row is None else values_of[row.critic][row.place], row=row) for row in row_of]

    def lessons(self, stages: Sequence[Sequence[Sample]]) -> dict[str, list[list[Lesson]]]:
        """For each critic what it learns from, in the stages of the policies: one step of each critic per stage.

        Turns that a critic sees as one are one lesson: a central critic that is asked once per joint action has one row
        for it, however many agents learn from it. Its target is the mean of theirs, which all have the same where the
        reward is joint.
        """
        return {name: [_lessons(name, stage) for stage in stages] for name in self.learners}

    def rows(self, groups: Sequence[Group[Any]]) -> list[ValueRow | None]:
        """What a critic is shown of every turn, in the order of `rollouts.tree.walk`; None where nobody judges it.

        A turn without tokens was taken by a partner (`learning.partners`): of its returns nobody learns.

        Raises:
            EngineError: if a history is longer than the critic's context.
        """
        joint_turn = (self.need.sees, self.need.at) == ("joint", "turn")  # then one value serves all agents of a round
        counts = dict.fromkeys(self.learners, 0)
        rows: list[ValueRow | None] = []
        together: dict[tuple[int, Ids], ValueRow] = {}  # of one stretch, by round and history
        stretch: Episode[Any] | None = None
        for group, episode, turn in walk(groups):
            if episode is not stretch:
                together, stretch = {}, episode
            name = self.critic_of(turn) if turn.completion.token_ids else ""
            if name not in self.learners:
                rows.append(None)
                continue
            history, answer = self.shown(name, turn, visible_turns(episode, turn), group.agents)
            self.check_length(name, len(history) + len(answer), episode.start.example, turn.round)
            row = together.get((turn.round, history)) if joint_turn else None
            if row is None:
                row = together[turn.round, history] = ValueRow(name, counts[name], history, answer)
                counts[name] += 1
            rows.append(row)
        return rows

    def critic_of(self, turn: Turn) -> str:
        """The name of the critic that judges a turn; "" for a turn from which nobody learns."""
        policy = self.team.policy_of(turn.agent, turn.round)
        if not policy.trainable:
            return ""
        return CENTRAL if self.need.sees == "joint" else f"critic-{policy.name}"

    def shown(
        self, name: str, turn: Turn, others: Mapping[AgentId, Turn], agents: Sequence[AgentId]
    ) -> tuple[Ids, Ids]:
        """Token ids of the history that a critic sees of a turn, and of the answer where it reads that too.

        Args:
            others: by agent the last turns asked for by then, this one included.
        """
        answer = answer_read(turn, self.need.at)
        if self.need.sees == "own":
            return self._prompt(name, turn), answer
        present = [others[agent] for agent in agents if agent in others]
        last = turn.agent if self.need.at == "token" else None
        end = self.learners[name].critic.body.tokenizer.eos_token_id
        return joint_history(present, lambda one: self._prompt(name, one), end, last), answer

    def _prompt(self, name: str, turn: Turn) -> tuple[int, ...]:
        ids, policy = turn.completion.prompt_ids, self.team.policy_of(turn.agent, turn.round)
        if ids and policy.name in self.same_vocabulary[name]:
            return ids
        return self.learners[name].critic.body.encode(turn.prompt)

    def check_length(self, name: str, length: int, example: str, round: int) -> None:
        """Refuses a history, with the answer where that is read too, that is longer than its critic can read.

        Raises:
            EngineError: naming example, critic and both lengths.
        """
        context = self.learners[name].critic.body.context
        if length > context:
            raise EngineError(
                f"example {example}, round {round}: the {self.need.sees} history that {name} is to read, with the "
                f"answer where it reads that too, is {length} tokens and does not fit its context of {context}; "
                "name a model with a longer context as critic.model, leave the example out, or lower "
                "sampling.max_new_tokens"
            )


def _lessons(name: str, stage: Sequence[Sample]) -> list[Lesson]:
    """A stage as one critic learns from it: one lesson per row, whose target is the mean over its samples."""
    shown: dict[int, tuple[ValueRow, tuple[float, ...]]] = {}
    targets: dict[int, list[tuple[float, ...]]] = {}
    for sample in stage:
        row, values = sample.turn.scores.row, sample.turn.scores.values
        if row is not None and values is not None and row.critic == name:
            shown[row.place] = row, values
            targets.setdefault(row.place, []).append(sample.token_returns or (sample.return_,))
    return [Lesson(*shown[n], tuple(map(fmean, zip(*each, strict=True)))) for n, each in targets.items()]


def visible_turns(episode: Episode[Any], turn: Turn) -> dict[AgentId, Turn]:
    """By agent the last turn of the round that was asked for before this one or at the same time, itself included.

    What is asked for later has heard this turn, or may have: a critic that read it would know the answer that it is to
    judge, and credit nobody for it.
    """
    turns = (*episode.start.history, *episode.turns)
    return {one.agent: one for one in turns if one.round == turn.round and one.after <= turn.after} | {turn.agent: turn}


def joint_history(
    turns: Sequence[Turn], shown: Callable[[Turn], Ids], separator: int, last: AgentId | None = None
) -> Ids:
    """The prompts of several agents as one, with a separator between them.

    Each prompt holds what its agent has seen and said so far, as the task words it; together they are the joint
    history.

    Args:
        shown: the token ids of one agent's prompt.
        separator: a token that no prompt holds, the end token say.
        last: the agent whose prompt comes last, so that its answer can follow; None keeps the order.
    """
    ordered = sorted(turns, key=lambda turn: turn.agent == last)
    ids = shown(ordered[0])
    for turn in ordered[1:]:
        ids = (*ids, separator, *shown(turn))
    return ids


def answer_read(turn: Turn, at: Literal["token", "turn"]) -> Ids:
    """The token ids before each of which a critic is asked."""
    return turn.completion.token_ids if at == "token" else UNREAD
