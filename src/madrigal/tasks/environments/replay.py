"""Environments that remember as tasks that do not: a state is an example and all that was answered since.

What an environment shows is written down in the state (`Scene`), so that only `step` needs the environment itself. It
is taken as it stood where play went on in a line, and played again from its seed where play starts from an earlier
point: slower, and the same. An environment for which that is not the same is refused.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from madrigal.rollouts.seeds import derive
from madrigal.rollouts.task import Rewards, said_lines
from madrigal.rollouts.task.asking import ASKED
from madrigal.tasks.environments.live import Answers, Held, Live, Pool, Scene
from madrigal.types import AgentId, ConfigError, Ending, Example, Message, Messages, Split, Step, TaskError, Turn

PROBED = 32  # actions that are tried at opening


@dataclass(frozen=True, slots=True)
class Rules:
    """What holds in every environment.

    Attributes:
        rewards: "joint" pays every agent the sum of what all earn, "own" each its own; "zero-sum" is "own" less the
            mean of all, which changes nothing where the sum is zero.
        horizon: joint actions after which an episode is cut.
        best_return: the most that the joint reward of an episode can come to; of a zero-sum game what can be won.
        examples: seeds for training.
        tests: seeds for evaluation, and as many for validation.
        test_against: who plays the other seats in evaluation: "self", or "random" legal actions, every seed once from
            each seat.
    """

    rewards: Rewards = "joint"
    horizon: int = 100
    best_return: float = 1.0
    examples: int = 256
    tests: int = 64
    test_against: Literal["self", "random"] = "self"

    def __post_init__(self) -> None:
        for name in ("horizon", "examples", "tests"):
            if getattr(self, name) < 1:
                raise ConfigError(f"task.rules.{name}: expected at least 1, got {getattr(self, name)}")


@dataclass(frozen=True, slots=True)
class Played:
    """A state: an example, the joint actions since, and what they led to.

    Attributes:
        seed: all chance of the episode; a function of the example.
        returns: what each agent has earned so far.
    """

    example: Example
    seed: int
    actions: tuple[Answers, ...]
    scene: Scene
    returns: Mapping[AgentId, float]


@dataclass(frozen=True, eq=False)
class Replayed:
    """The task of playing an environment.

    Metrics at the end of an episode, beside the environment's own: `cut`, in percent, how many came to the horizon; of
    zero-sum games `draw` and `AGENT_wins`; against a random player `win`, `draw` and `loss` of the seat that is not. A
    normalized return is of the whole episode; against a random player it is 50 (1 + return / best_return).

    Attributes:
        make: a new environment, for one episode.
        data: the examples by split; without a "seed" among their data it follows from these.
        answering: () where each agent that acts has an action of its own. Else all agents work on one action, and what
            this one says is it; the others help by what it hears.
        finish: frees what all environments share.
    """

    name: str
    agents: tuple[AgentId, ...]
    rules: Rules
    make: Callable[[], Live]
    data: Mapping[Split, Sequence[Example]]
    answering: tuple[()] | tuple[AgentId] = ()
    finish: Callable[[], None] = lambda: None
    pool: Pool = field(default_factory=Pool)

    def close(self) -> None:
        """Closes all environments."""
        self.pool.close()
        self.finish()

    @property
    def horizon(self) -> int:
        return self.rules.horizon

    @property
    def best_return(self) -> float:
        return self.rules.best_return

    @property
    def rewards(self) -> Rewards:
        return self.rules.rewards

    def examples(self, split: Split) -> Sequence[Example]:
        return self.data[split]

    def scripted(self, example: Example) -> Mapping[AgentId, str]:
        seat = example.data.get("seat")
        return {agent: "a script (random)" for agent in self.agents if seat and agent != seat}

    def reset(self, example: Example) -> Played:
        held, scene = self._begin(example)
        state = Played(example, seed_of(example), (), scene, dict.fromkeys(self.agents, 0.0))
        self.pool.put(state.seed, (), held)
        step = self._until_ours(self._step(state, scene))
        if step.ending:
            raise TaskError(f"task {self.name}: the episode of {example.id} is over before anybody could act")
        return step.state

    def acting(self, state: Played) -> tuple[AgentId, ...]:
        if self.answering:
            return self.agents
        return self._ours(state, state.scene)

    def observe(self, state: Played, agent: AgentId, heard: Sequence[Turn]) -> Messages:
        (shown_to,) = self.answering or (agent,)
        shown = state.scene.shown[shown_to]
        lines = said_lines(heard, agent)
        if agent != shown_to:
            lines.append(f"You are {agent}. Help {shown_to}, who gives the answer.")
        if not lines:
            return shown
        if shown[-1].role != "user":
            return (*shown, Message("user", "\n".join(lines)))
        return (*shown[:-1], Message("user", "\n\n".join([shown[-1].content, "\n".join(lines)])))

    def step(self, state: Played, actions: Mapping[AgentId, str]) -> Step[Played]:
        acting = self.answering or self._ours(state, state.scene)
        given = {agent: actions[agent] for agent in acting}  # whoever is scored by hand answers for all
        return self._until_ours(self._played(state, {**self._scripted_answers(state), **given}))

    def trial(self, example: Example, draw: random.Random) -> list[Scene]:
        """What an environment shows and pays when answers are drawn, twice from the same seed.

        Raises:
            TaskError: if it does not do the same twice.
        """
        held, scene = self._begin(example)
        scenes, given = [scene], list[dict[AgentId, str]]()
        while not scene.ending and len(given) < min(PROBED, self.horizon):
            given.append({agent: draw.choice(scene.moves.get(agent) or ("1",)) for agent in scene.shown})
            scenes.append(scene := held.step(given[-1]))
        held.close()
        again, scene = self._begin(example)
        for place, seen in enumerate(scenes):
            self._check_same(seen, scene, place)
            if place < len(given):
                scene = again.step(given[place])
        again.close()
        return scenes

    def _begin(self, example: Example) -> tuple[Held, Scene]:
        return Held.begin(self.make(), example, seed_of(example))

    def _played(self, state: Played, answers: Mapping[AgentId, str]) -> Step[Played]:
        """The step of one joint action of all that act."""
        action: Answers = tuple(sorted(answers.items()))
        held = self.pool.take(state.seed, state.actions) or self._again(state)
        scene = held.step(dict(action))
        after = (*state.actions, action)
        if scene.ending:
            held.close()
        else:
            self.pool.put(state.seed, after, held)
        return self._step(replace(state, actions=after, scene=scene), scene)

    def _again(self, state: Played) -> Held:
        """The environment played once more from its seed to where a state is."""
        held, scene = self._begin(state.example)
        for action in state.actions:
            scene = held.step(dict(action))
        self._check_same(state.scene, scene, len(state.actions))
        return held

    def _check_same(self, one: Scene, other: Scene, place: int) -> None:
        if one != other:
            raise TaskError(
                f"task {self.name}: after {place} actions the environment did not show or pay what it did before, by "
                "the same seed and actions; expected one whose chance comes from its seed alone, for play may go on "
                "from any point"
            )

    def _step(self, state: Played, scene: Scene) -> Step[Played]:
        """What a scene pays, shared out as the rules say, and how it ends."""
        raw = {agent: float(scene.rewards.get(agent, 0.0)) for agent in self.agents}
        total = sum(raw.values())
        match self.rewards:
            case "joint":
                paid = dict.fromkeys(self.agents, total)
            case "zero-sum":
                paid = {agent: reward - total / len(raw) for agent, reward in raw.items()}
            case _:
                paid = raw
        cut = not scene.ending and len(state.actions) >= self.horizon
        returns = {agent: state.returns[agent] + paid[agent] for agent in self.agents}
        ending: Ending = "horizon" if cut else scene.ending
        after = replace(state, scene=replace(scene, ending=ending), returns=returns)
        return Step(after, paid, ending, scene.metrics, {"game": self.name})

    def _until_ours(self, step: Step[Played]) -> Step[Played]:
        """Lets scripted players move until a seat of the team acts, or the episode is over."""
        rewards = dict(step.rewards)
        while not step.ending and not self._ours(step.state, step.state.scene):
            step = self._played(step.state, self._scripted_answers(step.state))
            rewards = {agent: rewards[agent] + step.rewards[agent] for agent in self.agents}
        metrics = {**step.metrics, **self._score(step.state)} if step.ending else step.metrics
        return replace(step, rewards=rewards, metrics=metrics)

    def _ours(self, state: Played, scene: Scene) -> tuple[AgentId, ...]:
        seat = state.example.data.get("seat")
        return tuple(agent for agent in scene.shown if not seat or agent == seat)

    def _scripted_answers(self, state: Played) -> dict[AgentId, str]:
        ours = self._ours(state, state.scene)
        return {
            agent: random.Random(derive("opponent", state.seed, len(state.actions), agent)).choice(
                state.scene.moves.get(agent) or ("",)
            )
            for agent in state.scene.shown
            if agent not in ours
        }

    def _score(self, state: Played) -> dict[str, float]:
        cut = {"cut": 100.0 * (len(state.actions) >= self.horizon and state.scene.ending == "horizon")}
        returns, seat = state.returns, state.example.data.get("seat")
        if seat:
            won, share = returns[seat], max(-1.0, min(1.0, returns[seat] / self.best_return))
            score = {"win": 100.0 * (won > 0), "draw": 100.0 * (won == 0), "loss": 100.0 * (won < 0)}
            return cut | score | {"return_percent": 50 * (1 + share)}
        if self.rewards == "zero-sum":
            wins = {f"{agent}_wins": 100.0 * (returns[agent] > 0) for agent in self.agents}
            return cut | wins | {"draw": 100.0 * (not any(returns.values()))}
        mean = sum(returns.values()) / len(returns)
        return cut | {"return_percent": 100 * mean / self.best_return}

    def ask(self, data: str | Mapping[str, Any]) -> Played:
        """A state of new data, where agents work on one answer; games are played instead."""
        if not self.answering:
            raise ConfigError(f"task {self.name} is an environment: it is played, not asked; see madrigal play")
        row = dict(self.data["train"][0].data)
        if isinstance(data, str):
            before = [message for message in row["prompt"] if message["role"] == "system"]
            data = {"prompt": [*before, {"role": "user", "content": data}]}
        return self.reset(Example(ASKED, {"example_id": 0, **data}))


def seed_of(example: Example) -> int:
    """The seed of an example's episodes: its own, or one that follows from all that it holds."""
    given = example.data.get("seed")
    return int(given) if given is not None else derive(json.dumps([example.id, dict(example.data)], default=repr))
