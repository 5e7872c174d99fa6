"""A small talk to play, and a keyboard that remembers what was on the screen."""

from __future__ import annotations

from collections.abc import Callable, Sequence

TALK = '''
from dataclasses import dataclass, replace

from madrigal.types import Example, Message, Step


@dataclass(frozen=True)
class State:
    word: str
    said: tuple = ()


@dataclass(frozen=True)
class Talk:
    """Two rounds: say the word; then both hear how long the answers were."""

    name: str = "talk"
    agents: tuple = ("ann", "bob")
    horizon: int = 2
    best_return: float = 1.0

    def examples(self, split):
        return tuple(Example(f"{split}-{n}", {"word": f"word{n}"}) for n in range(2))

    def reset(self, example):
        return State(example.data["word"])

    def acting(self, state):
        return self.agents

    def observe(self, state, agent, heard):
        text = f"{agent}, say {state.word}." + "".join(f" {t.agent} said <{t.completion.text}>." for t in heard)
        messages = [Message("user", text)]
        for said in state.said:
            lengths = ", ".join(str(len(text)) for text in said.values())
            messages += [Message("assistant", said[agent]), Message("user", f"{agent}, the lengths were {lengths}.")]
        return tuple(messages)

    def step(self, state, actions):
        said = dict(actions)
        if "fail" in said["ann"]:
            raise ValueError("cannot judge " + said["ann"])
        reward = float(state.word in said["ann"]) / 2 + float(state.word in said["bob"]) / 2
        ending = "horizon" if state.said else ""
        verdicts = [{"who": agent, "right": state.word in text} for agent, text in said.items()]
        return Step(
            replace(state, said=(*state.said, said)), dict.fromkeys(self.agents, reward), ending,
            {"reward": reward, "length": float(len(said["ann"])), "kind/loud": 0.0}, {"verdicts": verdicts},
        )


@dataclass(frozen=True)
class Hidden(Talk):
    """A talk whose details JSON cannot hold, from the second round on."""

    def step(self, state, actions):
        step = super().step(state, actions)
        return replace(step, details={"kinds": {1, 2}}) if "word0" in actions["ann"] else step


task, hidden = Talk(), Hidden()
'''


class Keyboard:
    """A standard input: lines, one by one, and what was on the screen when each of them was asked for."""

    def __init__(self, lines: Sequence[str | type[BaseException]], read: Callable[[], str], terminal: bool) -> None:
        self.lines, self.read, self.terminal, self.screens = list(lines), read, terminal, list[str]()

    def isatty(self) -> bool:
        return self.terminal

    def readline(self) -> str:
        self.screens.append(self.read())
        line = self.lines.pop(0) if self.lines else ""
        if isinstance(line, str):
            return line
        raise line


Types = Callable[..., Keyboard]
