"""PettingZoo's environments as tasks; the only file that imports pettingzoo.

The agents of a parallel environment act all at once, those of an AEC environment one at a time. What an agent observes
is written out as text, and its answer is read as an action.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, get_args

from madrigal.rollouts.seeds import derive
from madrigal.tasks.environments.live import Scene
from madrigal.tasks.environments.opening import arguments_of, checked, seeded
from madrigal.tasks.environments.replay import Replayed, Rules
from madrigal.tasks.environments.spaces import asked, check_space, drawn_action, read_action, samples
from madrigal.tasks.environments.texts import MASK, described
from madrigal.tasks.environments.told import told_in_one_line
from madrigal.tasks.games.table import AGAIN
from madrigal.tasks.own import CustomTask, module_object
from madrigal.types import AgentId, ConfigError, Ending, Example, Message, TaskError, unknown

Mode = Literal["auto", "parallel", "aec"]
Observe = Callable[[Any, AgentId, Mapping[str, Any]], str]


@dataclass(frozen=True, slots=True)
class PettingZoo:
    """An environment of PettingZoo.

    An answer names an action by its number; which one counts is said in `games.moves`. One that names none, or none
    that is legal, costs `penalty`, in a zero-sum game paid to the others. It may be taken back `retries` times in an
    episode; the next one is settled as `illegal` says.

    Attributes:
        environment: a name that PettingZoo knows ("classic/tictactoe_v3"), or a function that makes an environment, as
            "file.py:function" or "package.module:function".
        mode: whether agents act at once ("parallel") or in turn ("aec"); "auto" takes the first that there is.
        arguments: those of the environment, as JSON: '{"num_cycles": 10}'.
        observe: a function of an observation, the agent's name and its info that returns what the agent is told, as
            "file.py:function"; "" writes arrays out.
        illegal: "lose" ends the episode, "random" plays a random legal action instead.
        rules: what holds in every environment.
    """

    environment: str
    mode: Mode = "auto"
    arguments: str = ""
    observe: str = ""
    illegal: Literal["lose", "random"] = "lose"
    retries: int = 0
    penalty: float = 1.0
    rules: Rules = field(default_factory=Rules)

    def __post_init__(self) -> None:
        if self.retries < 0:
            raise ConfigError(f"task.retries: expected 0 or more, got {self.retries}")
        if not 0 <= self.penalty < float("inf"):
            raise ConfigError(f"task.penalty: expected 0 or more, got {self.penalty}")


class Stage(Protocol):
    """One of PettingZoo's two kinds of environment, with the few words that both are played by.

    Attributes:
        env: the environment.
    """

    env: Any

    def reset(self, seed: int) -> None: ...
    def acting(self) -> Sequence[str]: ...
    def observation(self, agent: str) -> tuple[Any, Mapping[str, Any]]: ...
    def step(self, actions: Mapping[str, Any]) -> tuple[Mapping[str, float], bool]:
        """What each agent earned, and whether any came to an end of its own, not by a limit."""
        ...


@dataclass(slots=True, eq=False)
class Parallel:
    """All agents that are still there act at once; who is gone acts no more."""

    env: Any
    seen: Mapping[str, Any] = field(default_factory=dict)
    infos: Mapping[str, Any] = field(default_factory=dict)

    def reset(self, seed: int) -> None:
        self.seen, self.infos = self.env.reset(seed=seed)

    def acting(self) -> Sequence[str]:
        return list(self.env.agents)

    def observation(self, agent: str) -> tuple[Any, Mapping[str, Any]]:
        return self.seen[agent], self.infos.get(agent, {})

    def step(self, actions: Mapping[str, Any]) -> tuple[Mapping[str, float], bool]:
        self.seen, rewards, terminated, _, self.infos = self.env.step(dict(actions))
        return rewards, any(terminated.values())


@dataclass(slots=True, eq=False)
class InTurn:
    """One agent acts at a time. What an agent earns is paid with the action after which it is due.

    Added up, that is what the package's own loop is told by `last()`: there an agent hears of it when its turn comes.
    """

    env: Any

    def reset(self, seed: int) -> None:
        self.env.reset(seed=seed)
        self._bury()

    def acting(self) -> Sequence[str]:
        return [self.env.agent_selection] if self.env.agents else []

    def observation(self, agent: str) -> tuple[Any, Mapping[str, Any]]:
        return self.env.observe(agent), self.env.infos.get(agent, {})

    def step(self, actions: Mapping[str, Any]) -> tuple[Mapping[str, float], bool]:
        ((agent, action),) = actions.items()
        before = {**self.env._cumulative_rewards, agent: 0.0}
        self.env.step(action)
        earned = {name: total - before.get(name, 0.0) for name, total in self.env._cumulative_rewards.items()}
        ended = any(self.env.terminations.values())
        self._bury()
        return earned, ended

    def _bury(self) -> None:
        """Agents whose episode is over act once more, by None, and are gone."""
        while self.env.agents and self._over(self.env.agent_selection):
            self.env.step(None)

    def _over(self, agent: str) -> bool:
        return bool(self.env.terminations[agent] or self.env.truncations[agent])


@dataclass(slots=True, eq=False)
class Told:
    """A live environment whose observations are told and whose actions are read.

    Attributes:
        stage: the environment.
        names: the agents' names there, and as agents are called here.
        chosen: actions of this round that are settled while somebody is asked again.
        illegal: illegal answers so far, by agent.
        again: who is asked again.
        answers: how many were given in all.
    """

    stage: Stage
    config: PettingZoo
    names: Mapping[str, AgentId]
    observe: Observe | None
    seed: int = 0
    chosen: dict[str, Any] = field(default_factory=dict)
    illegal: dict[str, int] = field(default_factory=dict)
    again: tuple[str, ...] = ()
    answers: int = 0

    def reset(self, example: Example, seed: int) -> Scene:
        self.seed = seed
        self.stage.reset(seed % 2**31)
        return self._scene({}, "")

    def step(self, answers: Mapping[AgentId, str]) -> Scene:
        there = {agent: name for name, agent in self.names.items()}
        penalties, failed, self.again = dict[str, float](), False, ()
        for agent, text in answers.items():
            name = there[agent]
            space, legal = self.stage.env.action_space(name), self._legal(name)
            action = read_action(space, text, legal)
            self.answers += 1
            if action is None:
                penalties[name] = -self.config.penalty
                self.illegal[name] = self.illegal.get(name, 0) + 1
                if self.illegal[name] <= self.config.retries:
                    self.again = (*self.again, name)
                    continue
                failed = failed or self.config.illegal == "lose"
                action = drawn_action(
                    self.stage.env.action_space(name), legal, derive("illegal", self.seed, self.answers)
                )
            self.chosen[name] = action
        if self.config.rules.rewards == "zero-sum":
            penalties = paid_out(penalties, list(self.names))
        if failed:
            return self._scene(penalties, "failed")
        if self.again:
            return self._scene(penalties, "")
        rewards, ended = self.stage.step(self.chosen)
        self.chosen = {}
        earned = {name: float(rewards.get(name, 0.0)) + penalties.get(name, 0.0) for name in self.names}
        over: Ending = "solved" if ended else "horizon"
        return self._scene(earned, "" if self.stage.acting() else over)

    def close(self) -> None:
        self.stage.env.close()

    def _scene(self, rewards: Mapping[str, float], ending: Ending) -> Scene:
        acting = [] if ending else list(self.again or self.stage.acting())
        told = {self.names[name]: self._told(name) for name in acting}
        metrics = {"legal": 100 * (1 - sum(self.illegal.values()) / self.answers)} if ending else {}
        return Scene(
            {agent: (Message("user", text),) for agent, (text, _) in told.items()},
            {agent: moves for agent, (_, moves) in told.items()},
            {self.names[name]: reward for name, reward in rewards.items()},
            ending,
            metrics,
        )

    def _told(self, name: str) -> tuple[str, Sequence[str]]:
        """What an agent is shown, and answers that would do."""
        seen, info = self.stage.observation(name)
        space, legal = self.stage.env.action_space(name), self._legal(name)
        if legal == []:
            raise TaskError(f"task {self.config.environment}: {name} is to act, and its {MASK} allows nothing")
        text = self.observe(seen, name, info) if self.observe else described(seen)
        moves = (
            [str(action) for action in legal] if legal is not None else samples(space, derive(self.seed, self.answers))
        )
        start = [AGAIN] if name in self.again else []
        return "\n".join([*start, f"You are {name}.", text.rstrip(), asked(space, legal)]), moves

    def _legal(self, name: str) -> list[int] | None:
        """The legal actions, by number; None where actions are no single numbers."""
        space = self.stage.env.action_space(name)
        if type(space).__name__ != "Discrete":
            return None
        seen, info = self.stage.observation(name)
        mask = seen[MASK] if isinstance(seen, Mapping) and MASK in seen else info.get(MASK)
        first = int(space.start)
        return [first + n for n in range(int(space.n)) if mask is None or mask[n]]


def paid_out(penalties: Mapping[str, float], names: Sequence[str]) -> dict[str, float]:
    """The same penalties, with what one pays shared out among the others: to lose is never worse than to break rules.

    >>> paid_out({"a": -1.0}, ["a", "b", "c"])
    {'a': -1.0, 'b': 0.5, 'c': 0.5}
    """
    total, others = sum(penalties.values()), max(1, len(names) - 1)
    return {name: (own := penalties.get(name, 0.0)) - (total - own) / others for name in names} if penalties else {}


def open_pettingzoo(config: PettingZoo) -> Replayed:
    """The task of playing an environment.

    Raises:
        ConfigError: if the package or the environment is missing, or cannot be told or answered by text.
        TaskError: if it is not a function of seed and actions.
    """
    pettingzoo = package()
    make, arguments = maker(config), arguments_of(config.arguments)
    function = _function(config.observe) if config.observe else None
    with told_in_one_line(config.environment):
        first = make(**arguments)
        if not isinstance(first, pettingzoo.AECEnv | pettingzoo.ParallelEnv):
            raise ConfigError(f"task {config.environment}: expected an environment of PettingZoo, got {first!r:.80}")
        names = agent_names(first.possible_agents, config.environment)
        for name in first.possible_agents:
            check_space(first.action_space(name), config.environment)
        stage = Parallel if isinstance(first, pettingzoo.ParallelEnv) else InTurn
        first.close()
    name, agents = slug(config.environment), tuple(names.values())

    def live() -> Told:
        return Told(stage(make(**arguments)), config, names, function)

    with told_in_one_line(config.environment):
        return checked(Replayed(name, agents, config.rules, live, seeded(name, agents, config.rules)))


def package() -> Any:
    """The package.

    Raises:
        ConfigError: if it is not installed.
    """
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    try:
        import pettingzoo
        import pettingzoo.env_registry
    except ImportError as error:
        raise ConfigError(
            "task pettingzoo needs PettingZoo 1.27 or newer: pip install 'madrigal[pettingzoo]'"
        ) from error
    return pettingzoo


def maker(config: PettingZoo) -> Callable[..., Any]:
    """The function that makes an environment, in the mode that is wanted."""
    if ":" in config.environment:
        return _function(config.environment)
    package()
    from pettingzoo.env_registry import exceptions, registration

    modes = get_args(Mode)[1:] if config.mode == "auto" else (config.mode,)
    known = {mode: getattr(registration, f"{mode}_registry") for mode in modes}
    for mode in modes:
        try:
            spec = registration.spec(mode, config.environment)
        except exceptions.PettingZooRegistryError:
            continue
        return lambda **arguments: registration.make(mode, spec, **arguments)
    names = [re.sub(r"-(v\d+)$", r"_\1", name) for mode in modes for name in known[mode]]
    raise ConfigError(
        f"{unknown('environment of PettingZoo', config.environment, names)}; your own is file.py:function"
    )


def agent_names(there: Sequence[str], environment: str) -> dict[str, AgentId]:
    """The environment's names of its agents, and names that a folder can have.

    >>> agent_names(["player_1", "0"], "mine")
    {'player_1': 'player_1', '0': 'agent_0'}
    """
    names = {name: re.sub(r"\W", "_", str(name)) for name in there}
    names = {name: agent if re.match("[A-Za-z]", agent) else f"agent_{agent}" for name, agent in names.items()}
    if len(set(names.values())) < len(names):
        raise ConfigError(
            f"task {environment}: two agents have names that differ in signs only: {', '.join(map(str, there))}"
        )
    return names


def slug(environment: str) -> str:
    """The name of an environment for ids: letters, digits, points and hyphens."""
    return re.sub(r"[^\w.-]+", "-", environment.rpartition("/")[2])


def _function(path: str) -> Callable[..., Any]:
    module, _, name = path.rpartition(":")
    found = module_object(CustomTask(path), name)
    if not callable(found):
        raise ConfigError(
            f"expected a function {name} in {module}, found {'none' if found is None else repr(found)[:80]}"
        )
    made: Callable[..., Any] = found
    return made
