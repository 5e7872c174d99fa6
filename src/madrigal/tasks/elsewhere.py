"""A team that lives elsewhere: a program of the user's own plays the episodes, and says what each was worth."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import json
import math
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, Literal

from madrigal.rollouts.play import Play
from madrigal.rollouts.sessions import Desk, Outcome, Session, SessionError, moves
from madrigal.rollouts.task import Rewards, explain
from madrigal.rollouts.task.contract import plain_number
from madrigal.rollouts.task.single import numbers_of, parted
from madrigal.tasks.data import Source, columns_of, load_examples
from madrigal.types import (
    ROLES,
    AgentId,
    Completion,
    ConfigError,
    Example,
    Message,
    Messages,
    Point,
    RewardError,
    Split,
    Step,
    TaskError,
    Turn,
    unknown,
)

Rollout = Callable[[Example, "Client"], Any]  # what it returns, or comes to when awaited, is a `single.Worth`
Lost = Callable[[Session, str], None]
LARGEST = 1e9  # reward: squares of advantages, and sums of these, are float32
NOBODY = (
    "this team is played by a program of its own: hand it to madrigal.train_rollouts or madrigal.evaluate_rollouts, or "
    "let it ask: madrigal gateway"
)


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """What is known of a team that a program plays: its seats, its examples, and what a session may cost.

    Attributes:
        agents: the seats, by the names that the program asks for as models.
        source: the examples, with all their columns.
        rewards: "joint" for one number that all agents earn, "own" for one for each.
        best_return: the highest joint reward of a session; tables show returns in percent of it.
        seconds: that a session may take, its answers included; one that takes longer is lost.
        lost: the reward of a session whose program died or hung; None leaves it out of its group. In evaluations it
            earns 0 then.
        gather: seconds that a request waits for those of other sessions at most, to be answered together.
        unclaimed: seconds for which sessions wait for a program while none plays, before the run ends; None is without
            end.
    """

    agents: tuple[str, ...] = ("one", "two")
    source: Source = field(default_factory=lambda: Source("examples.jsonl"))
    rewards: Literal["joint", "own"] = "joint"
    best_return: float = 1.0
    seconds: float = 600.0
    lost: float | None = None
    gather: float = 1.0
    unclaimed: float | None = 3600.0

    def __post_init__(self) -> None:
        above = {"best_return": self.best_return, "seconds": self.seconds, "unclaimed": self.unclaimed}
        for name, value in above.items():
            if value is not None and not 0 < value < math.inf:
                raise ConfigError(f"task.{name}: expected a positive number, got {value}")
        if not 0 <= self.gather < math.inf:
            raise ConfigError(f"task.gather: expected seconds, 0 or more, got {self.gather}")
        if self.lost is not None and not math.isfinite(self.lost):
            raise ConfigError(f"task.lost: expected a finite reward, or None to leave them out, got {self.lost}")


@dataclass(frozen=True, eq=False)
class ElsewhereTask:
    """A task that nobody here can play: its sessions are played by a program, if one is there.

    Attributes:
        rollout: plays a session in a thread of its own; None where programs take their sessions themselves.
        open: whether anybody plays: without it there are agents to be asked one by one, and nothing to train.
        check: raises if an agent cannot be shown a prompt.
        address: where a server for this desk is, for those who ask by HTTP.
        on_lost: is told of a session that was lost, and why.
        stop: raises if the run is to stop; asked while no program plays.
    """

    config: Elsewhere
    rollout: Rollout | None = None
    open: bool = False
    check: Callable[[AgentId, Messages], None] | None = None
    address: Callable[[], str] | None = None
    on_lost: Lost | None = None
    stop: Callable[[], None] | None = None
    name: ClassVar[str] = "elsewhere"
    horizon: ClassVar[int] = 1

    @property
    def agents(self) -> tuple[AgentId, ...]:
        return self.config.agents

    @property
    def best_return(self) -> float:
        return self.config.best_return

    @property
    def rewards(self) -> Rewards:
        return self.config.rewards

    @cached_property
    def desk(self) -> Desk:
        """Where its sessions are."""
        times: dict[str, Any] = {name: getattr(self.config, name) for name in ("seconds", "gather", "unclaimed")}
        return Desk(self._lose, **times, check=self.check, stop=self.stop)

    def examples(self, split: Split) -> Sequence[Example]:
        source = self.config.source
        if split == "validation" and not source.validation:
            return ()
        always, sometimes = columns_of(source, split)
        return load_examples(source, split, {name: name for name in always}, optional=sometimes)

    @cached_property
    def _trained(self) -> frozenset[str]:
        return frozenset(example.id for example in self.examples("train"))

    def reset(self, example: Example) -> Example:
        return example

    def acting(self, state: Any) -> tuple[AgentId, ...]:
        return self.agents

    def observe(self, state: Any, agent: AgentId, heard: Sequence[Turn]) -> Messages:
        """The example, which is what is known beforehand of what the program will show."""
        data = state.data if isinstance(state, Example) else {}
        return (Message("user", json.dumps(data, ensure_ascii=False, default=str)),)

    def step(self, state: Outcome, actions: Mapping[AgentId, str]) -> Step[Outcome]:
        """What the session came to."""
        details = {"lost": state.why} if state.why else {}
        return Step(state, state.rewards, state.ending, state.metrics, details)

    def ask(self, data: object) -> Any:
        raise ConfigError(
            "this team is played by a program of its own, and cannot be asked without it; its agents can, one by one: "
            "madrigal serve"
        )

    def moves(self, start: Point[Any]) -> Play:
        """A session, open from now on, and its play."""
        if not self.open:
            raise ConfigError(NOBODY)
        session = self.desk.open(start.state, evaluating=start.example not in self._trained)
        if self.rollout is not None:
            session.claim()
            threading.Thread(target=self._play, args=(self.rollout, session), name="rollout", daemon=True).start()
        return moves(self, session, start)

    def _play(self, rollout: Rollout, session: Session) -> None:
        """Plays a session in the present thread, to its end or to the program's."""
        try:
            worth = rollout(session.example, Client(session, self.agents, self.address))
            worth = asyncio.run(_awaited(worth)) if inspect.isawaitable(worth) else worth
            outcome = self.outcome(worth)
        except (Exception, SystemExit) as error:  # noqa: BLE001 (told of, and counted)
            with contextlib.suppress(SessionError):  # ended before: by the clock, or with the run
                session.fail(error) if isinstance(error, RewardError) else self._lose(session, explain(error))
        else:
            with contextlib.suppress(SessionError):
                session.end(outcome)

    def outcome(self, worth: object) -> Outcome:
        """What a program said that a session was worth.

        Raises:
            RewardError: if it is no finite number, or not one for each agent, or its metrics are none.
        """
        paid, metrics = parted(worth)
        rewards, own = numbers_of(paid, self.agents, self.config.rewards), self.config.rewards == "own"
        if rewards is None or not all(-LARGEST <= number <= LARGEST for number in rewards.values()):
            wanted = f"a finite number for each of {', '.join(self.agents)}" if own else "one finite number"
            hint = '; for a reward of its own for each agent set rewards to "own"' if isinstance(paid, Mapping) else ""
            raise RewardError(
                f"the reward of a session: expected {wanted}, alone or with a mapping of numbers to log, none beyond "
                f"{LARGEST:.0e}, got {worth!r:.200}{hint if not own else ''}"
            )
        sound = isinstance(metrics, Mapping) and all(
            isinstance(number, bool) or plain_number(number) is not None for number in metrics.values()
        )
        if not sound:
            raise RewardError(f"the metrics of a session: expected finite numbers by name, got {metrics!r:.200}")
        mean = math.fsum(rewards.values()) / len(rewards)
        return Outcome(rewards, "horizon", {"reward": mean, "lost": 0.0, **metrics})

    def _lose(self, session: Session, why: str) -> None:
        """Ends a session whose program died or hangs as the settings say, and tells of it."""
        lost = self.config.lost
        rewards = dict.fromkeys(self.agents, lost or 0.0)
        metrics = {"reward": lost or 0.0, "lost": 1.0}
        session.end(Outcome(rewards, "lost" if lost is None else "failed", metrics, why), why)
        if self.on_lost:
            self.on_lost(session, why)


async def _awaited(worth: Any) -> Any:
    return await worth


class Client:
    """A session as the program of a rollout has it: its agents can be asked here, or by any client of OpenAI's.

    Attributes:
        evaluating: whether nothing is learned from this session.
        api_key: of the session, for a client of OpenAI's.
    """

    def __init__(self, session: Session, agents: Sequence[AgentId], address: Callable[[], str] | None) -> None:
        self._session, self._agents, self._address = session, agents, address
        self.evaluating, self.api_key = session.evaluating, session.id

    @property
    def base_url(self) -> str:
        """Where a client of OpenAI's asks; a server is started when this is first read.

        Raises:
            ConfigError: if madrigal[serve] is not installed.
        """
        if self._address is None:
            raise ConfigError("base_url: nobody listens here")
        return f"{self._address()}/v1"

    def chat(self, agent: AgentId, messages: str | Sequence[Message | Mapping[str, Any]]) -> str:
        """What an agent says to a text of the user's, or to chat messages."""
        return self._ask(agent, messages).result().text

    async def achat(self, agent: AgentId, messages: str | Sequence[Message | Mapping[str, Any]]) -> str:
        """The same, awaited."""
        return (await asyncio.wrap_future(self._ask(agent, messages))).text

    def _ask(self, agent: AgentId, messages: Any) -> Future[Completion]:
        if agent not in self._agents:
            raise ConfigError(unknown("agent", agent, self._agents))
        return self._session.ask(agent, as_messages(messages))


def as_messages(given: str | Sequence[Message | Mapping[str, Any]]) -> Messages:
    """A prompt as chat messages: a text is what the user says, and so is what a tool says.

    Raises:
        TaskError: if it is neither a text nor messages.
    """
    if isinstance(given, str):
        return (Message("user", given),)
    messages = [_message(one) for one in given] if isinstance(given, Sequence) else []
    if not messages:
        raise TaskError(f"messages: expected a text, or messages with a role and a text as content, got {given!r:.80}")
    return tuple(messages)


def _message(one: Any) -> Message:
    if isinstance(one, Message):
        return one
    if not isinstance(one, Mapping) or one.get("role") not in ROLES or not isinstance(one.get("content"), str):
        raise TaskError(f"messages: expected a role of {', '.join(ROLES)} and a text as content, got {one!r:.80}")
    return Message(ROLES[one["role"]], one["content"])
