"""Working in an office, as a task: a board that a team of roles changes round by round, until somebody ends it.

Knows: rounds, whose actions count when, what a round earns, when an episode ends. Does not know: what can be done to a
board (primitives), how a piece is judged (work), who hears whom (a topology).

An example: Example("posts/train/0", {"post": "My aunt Julia and I live in a rented cabin. ..."}), or a problem in
HumanEval's schema.

A round earns what it added to the worth of the accepted piece, so that the return is what that piece is worth in the
end, and every round is paid for its own part:

    r_t = worth(accepted after the round) - worth(accepted before)           hand-off: 0 - worth(accepted before)

References:
    Qiu, Xu, Yue, 2025, "Reinforcement Learning-Augmented LLM Agents for Collaborative Decision Making and Performance
    Optimization", arXiv:2512.24609: the five roles, shared and private state, the primitives with their conditions,
    tools as effects of the environment with a trace, and the three endings. All the rest is ours: data, prompts, who
    may do what, and what is earned when.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from madrigal.rollouts.task import joint
from madrigal.tasks.office.acts import act
from madrigal.tasks.office.board import OfficeState, Worth
from madrigal.tasks.office.primitives import PRIMITIVES, Bench
from madrigal.tasks.office.prompts import office_prompt
from madrigal.tasks.office.roles import ROLES, WORKER, actions_of
from madrigal.tasks.office.work import Code, Prose, Work
from madrigal.types import AgentId, Ending, Example, Message, Messages, Split, Step, TaskError, Turn

Trace = list[dict[str, Any]]
ENDINGS: dict[str, Ending] = {"finalize": "solved", "hand-off": "failed", "limit": "horizon", "": ""}


@dataclass(frozen=True)
class OfficeTask:
    """Roles at a shared board make one piece for each example.

    Attributes:
        train, test: posts and problems; an example with an `entry_point` is a problem.
        prose, code: the kinds of work; None where no example asks for it.
        horizon: the safety limit on rounds.
        alone: a single worker does everybody's part.
    """

    train: Sequence[Example]
    test: Sequence[Example]
    prose: Prose | None = None
    code: Code | None = None
    horizon: int = 3
    alone: bool = False
    name: str = "office"
    best_return: float = 1.0

    @property
    def agents(self) -> tuple[AgentId, ...]:
        """All who have a part in some example, in the order in which their actions take effect."""
        staff = {role for work in (self.prose, self.code) if work for role in work.staff}
        return (WORKER,) if self.alone else tuple(role for role in ROLES if role in staff)

    def examples(self, split: Split) -> Sequence[Example]:
        return self.train if split == "train" else self.test

    def reset(self, example: Example) -> OfficeState:
        return OfficeState(example)

    def acting(self, state: OfficeState) -> tuple[AgentId, ...]:
        return (WORKER,) if self.alone else self._bench(state).work.staff

    def observe(self, state: OfficeState, agent: AgentId, heard: Sequence[Turn]) -> Messages:
        brief = self._bench(state).work.ask(state.example)
        shown = office_prompt(agent, state.board, state.desk(agent), brief, heard)
        return (Message("user", shown),)

    def step(self, state: OfficeState, actions: Mapping[AgentId, str]) -> Step[OfficeState]:
        """The actions of all take effect one after the other, in the order of the roles; after an end none does."""
        after, ended, trace = self._acted(state, actions)
        after = replace(after, round=state.round + 1)
        if not ended and after.round >= self.horizon:
            ended = "limit"
        after = replace(after, worth=self._worth(after, ended))
        earned = after.worth.quality - state.worth.quality
        details = {**after.worth.details, "facts": list(after.board.facts), "trace": trace, "ended_by": ended}
        return Step(after, joint(self.agents, earned), ENDINGS[ended], self._metrics(after, trace), details)

    def _acted(self, state: OfficeState, actions: Mapping[AgentId, str]) -> tuple[OfficeState, str, Trace]:
        """The office after all actions, by which of them the episode ended, and the trace."""
        bench, trace = self._bench(state), Trace()
        for agent in self.acting(state):
            for action in actions_of(actions.get(agent, "")):
                done = act(state, agent, action, bench)
                state = done.state
                trace += [done.entry] if done.entry else []
                if done.name and PRIMITIVES[done.name].ends:
                    return state, done.name, trace
        return state, "", trace

    def _worth(self, state: OfficeState, ended: str) -> Worth:
        """What the accepted piece is worth, judged once; nothing where the work was handed over."""
        piece = state.board.accepted
        if ended == "hand-off" or not piece:
            return Worth()
        if state.worth.details.get("piece") == piece:
            return state.worth
        worth = self._bench(state).work.worth(state.example, piece)
        return replace(worth, details={**worth.details, "piece": piece})

    def _metrics(self, state: OfficeState, trace: Trace) -> dict[str, float]:
        outcomes = [entry["outcome"] for entry in trace]
        return {
            **dict.fromkeys(self._bench(state).work.measures, 0.0),
            **state.worth.metrics,
            "return_percent": 100 * state.worth.quality,
            "accepted": float(bool(state.board.accepted)),
            "rounds": float(state.round),
            "actions": float(len(outcomes)),
            "refused": float(outcomes.count("refused") + outcomes.count("failed")),
        }

    def _bench(self, state: OfficeState) -> Bench:
        work: Work | None = self.code if "entry_point" in state.example.data else self.prose
        if work is None:
            raise TaskError(f"task {self.name}: example {state.example.id} asks for work that this office does not do")
        return Bench(work, state.example)
