"""Environments of verifiers as tasks; the only file that imports verifiers.

A rollout of the package is run as it is, its rubric included. Where it asks a model, it waits for the answer that the
next step brings.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import threading
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from madrigal.rollouts.task.contract import one_line, plain_number
from madrigal.tasks.environments.live import Scene
from madrigal.tasks.environments.opening import arguments_of, checked
from madrigal.tasks.environments.replay import Replayed, Rules
from madrigal.tasks.environments.told import told_in_one_line
from madrigal.types import AgentId, ConfigError, Example, Message, Messages, RewardError, Split, TaskError

T = TypeVar("T")
TRIED = ("1", "yes", "I do not know.")  # answers at opening
TURNS = 20  # at most, where neither settings nor environment say so
HELD_OUT = 5  # one in so many rows, the last ones, where an environment has no rows for evaluation
ROW = ("prompt", "answer", "info", "task", "example_id")  # what a rollout is given of a row


@dataclass(frozen=True, slots=True)
class Verifiers:
    """An environment of verifiers, of one turn or several.

    Attributes:
        environment: an installed environment by its name.
        arguments: those of its load_environment, as JSON: '{"split": "train"}'.
        agents: who works on an example. The last one's words are the answer; the others help by what it hears.
        limit: rows that are taken of each split at most; 0 for all.
        horizon: turns after which an episode is cut, unpaid; 0 for as many as the environment has, or 20.
        best_return: the most that the rubric can come to.
    """

    environment: str
    arguments: str = ""
    agents: tuple[AgentId, ...] = ("solver",)
    limit: int = 0
    horizon: int = 0
    best_return: float = 1.0

    def __post_init__(self) -> None:
        if not self.agents:
            raise ConfigError("task.agents: expected one or more names")
        if min(self.limit, self.horizon) < 0:
            raise ConfigError(f"task: expected limit and horizon of 0 or more, got {self.limit} and {self.horizon}")


class Loop:
    """An event loop in a thread of its own, so that it runs wherever it is called from, a notebook's loop included."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, name="verifiers", daemon=True)
        self.thread.start()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """What a coroutine comes to."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result()

    def close(self) -> None:
        """Ends loop and thread."""
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()


class Rollout:
    """A rollout under way, which waits for the next answer."""

    def __init__(self, env: Any, loop: Loop, agent: AgentId) -> None:
        self.env, self.loop, self.agent = env, loop, agent
        self.asked = self.answer = self.running = cast("asyncio.Future[Any]", None)  # from `reset` on

    def reset(self, example: Example, seed: int) -> Scene:
        return self.loop.run(self._begin(dict(example.data)))

    def step(self, answers: Mapping[AgentId, str]) -> Scene:
        (text,) = answers.values()
        return self.loop.run(self._answered(text))

    def close(self) -> None:
        if not self.running.done():
            self.loop.run(self._cancelled())

    async def say(self, prompt: Any) -> str:
        """What stands in for a model: the prompt goes out, the answer comes with the next step."""
        self.answer = asyncio.get_running_loop().create_future()
        self.asked.set_result(messages_of(prompt))
        return str(await self.answer)

    async def _begin(self, row: dict[str, Any]) -> Scene:
        self.asked = asyncio.get_running_loop().create_future()
        self.running = asyncio.create_task(self._whole(row))
        return await self._scene()

    async def _answered(self, text: str) -> Scene:
        self.asked = asyncio.get_running_loop().create_future()
        self.answer.set_result(text)
        return await self._scene()

    async def _cancelled(self) -> None:
        self.running.cancel()
        await asyncio.wait([self.running])

    async def _scene(self) -> Scene:
        await asyncio.wait([self.running, self.asked], return_when=asyncio.FIRST_COMPLETED)
        if not self.running.done():
            return Scene({self.agent: self.asked.result()}, {self.agent: TRIED})
        state = self.running.result()
        if (error := state.get("error")) is not None:
            raise TaskError(f"the rollout failed: {type(error).__name__}: {one_line(error)}")
        reward = plain_number(state["reward"])
        if reward is None:
            raise RewardError(f"the rubric must come to a finite number, got {state['reward']!r:.80}")
        metrics = {
            name: value for name, given in state["metrics"].items() if (value := plain_number(given)) is not None
        }
        return Scene({}, rewards={self.agent: reward}, ending="solved", metrics=metrics)

    async def _whole(self, row: dict[str, Any]) -> Any:
        state = await self.env.rollout(row, client_for(self), "madrigal", {})
        with rubric_errors():
            await self.env.rubric.score_rollout(state)
        await self.env.rubric.cleanup(state)
        return state


def client_for(rollout: Rollout) -> Any:
    """A client of verifiers whose answers are a rollout's."""
    from verifiers.clients import Client
    from verifiers.types import Response, ResponseMessage

    class Waiting(Client):  # type: ignore[misc,type-arg,unused-ignore]
        def setup_client(self, config: Any) -> Any:
            return config

        async def get_response(self, prompt: Any, *given: Any, **named: Any) -> Any:
            text = await rollout.say(prompt)
            message = ResponseMessage(content=text, finish_reason="stop", is_truncated=False)
            return Response(id="", created=0, model="madrigal", message=message)

        async def _unused(self, *given: Any, **named: Any) -> Any:
            raise NotImplementedError("get_response answers by itself")

        to_native_tool = to_native_prompt = get_native_response = from_native_response = _unused
        raise_from_native_response = close = _unused

    return Waiting(None)


@contextmanager
def rubric_errors() -> Iterator[None]:
    """Raises what a reward function raised: the package writes a line into its log and counts 0.

    Raises:
        RewardError: with that line.
    """
    said: list[str] = []

    class Heard(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said.append(record.getMessage())

    log, heard = logging.getLogger("verifiers"), Heard(logging.ERROR)
    log.addHandler(heard)
    try:
        yield
    finally:
        log.removeHandler(heard)
    if said:
        raise RewardError(f"{' '.join(said[0].split())}; mend the reward, it is never replaced by a number")


def messages_of(prompt: Any) -> Messages:
    """A prompt of the package as chat messages.

    Raises:
        TaskError: if it has anything but texts in it.
    """
    if isinstance(prompt, str):
        return (Message("user", prompt),)
    return tuple(_message(each) for each in prompt)


def _message(given: Any) -> Message:
    role, content = _part(given, "role"), _part(given, "content")
    if isinstance(content, Sequence) and not isinstance(content, str):
        texts = [_part(part, "text") for part in content]
        content = "".join(map(str, texts)) if all(isinstance(text, str) for text in texts) else None
    if role not in ("system", "user", "assistant") or not isinstance(content, str):
        raise TaskError(f"expected messages of system, user and assistant with texts, got {role} with {content!r:.80}")
    return Message(role, content)


def _part(given: Any, name: str) -> Any:
    """A part of a message, which may be a mapping or a record."""
    return given.get(name) if isinstance(given, Mapping) else getattr(given, name, None)


def open_verifiers(config: Verifiers) -> Replayed:
    """The task of an environment, its loop at hand.

    Raises:
        ConfigError: if the package or the environment is missing, or asks for more than texts.
        TaskError: if it is not a function of rows and answers.
    """
    name, answering = config.environment, config.agents[-1]
    with told_in_one_line(name), signals_kept():
        env = loaded(config)
        rows = rows_of(env, config.limit)
    if getattr(env, "tool_defs", None):
        raise ConfigError(f"task {name}: it offers its model tools to call, and agents here answer by text")
    if env.requires_group_rollouts:
        raise ConfigError(
            f"task {name}: its rubric compares the answers of a group; expected one that judges each alone"
        )
    loop = Loop()
    turns = config.horizon or max(0, getattr(env, "max_turns", 0)) or TURNS
    rules = Rules(horizon=turns, best_return=config.best_return)
    data = {split: [Example(f"{split}-{row['example_id']}", row) for row in part] for split, part in rows.items()}
    task = Replayed(
        name,
        config.agents,
        rules,
        lambda: Rollout(env, loop, answering),
        data,
        answering=(answering,),
        finish=loop.close,
    )
    with told_in_one_line(name):
        return checked(task)


def loaded(config: Verifiers) -> Any:
    """The environment itself."""
    logging.getLogger("verifiers").addHandler(logging.NullHandler())  # else it logs what it also raises
    try:
        import verifiers
    except ImportError as error:
        raise ConfigError("task verifiers needs verifiers 0.2 or 0.3: pip install 'madrigal[verifiers]'") from error
    if not hasattr(verifiers, "SingleTurnEnv"):
        raise ConfigError(
            f"expected verifiers 0.2 or 0.3, whose environments answer here, got {verifiers.__version__}: "
            "pip install 'madrigal[verifiers]'"
        )
    return verifiers.load_environment(config.environment, **arguments_of(config.arguments))


def rows_of(env: Any, limit: int) -> dict[Split, list[dict[str, Any]]]:
    """The rows by split; where there are none for evaluation, the last fifth of those for training serves."""
    train = _rows(env.get_dataset()) if env.build_dataset() is not None else None
    test = _rows(env.get_eval_dataset()) if env.build_eval_dataset() is not None else None
    if train is None or test is None:
        every = train or test or []
        cut = len(every) - max(1, len(every) // HELD_OUT)
        train, test = every[:cut], every[cut:]
    size = limit or max(len(train), len(test))
    return {"train": train[:size], "test": test[:size], "validation": []}


def _rows(data: Any) -> list[dict[str, Any]]:
    return [{name: row[name] for name in ROW if row.get(name) is not None} for row in data]


@contextmanager
def signals_kept() -> Iterator[None]:
    """Signals are handled as before: an environment takes SIGINT and SIGTERM when it is made."""
    kinds = (signal.SIGINT, signal.SIGTERM)
    before = [signal.getsignal(kind) for kind in kinds]
    try:
        yield
    finally:
        for kind, handler in zip(kinds, before, strict=True):
            signal.signal(kind, handler)
