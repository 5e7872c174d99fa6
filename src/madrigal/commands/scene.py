"""Episodes in the terminal, turn by turn: who sees what, who says what, what it earns.

Models, users and data may write anything, so nothing of theirs reaches the terminal but as plain text: no markup of
rich, and what a terminal would act on is spelled out.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from itertools import takewhile
from statistics import fmean
from typing import Any

from rich.console import Console
from rich.text import Text

from madrigal.rollouts.play import Play, SpeakRequest, StepRequest
from madrigal.runs.plain import plain_text
from madrigal.types import AgentId, Completion, Message, Messages, Step, joint_reward


def shown(moves: Play, scene: Scene) -> Play:
    """The same play, shown as it goes; a step only after play has accepted it."""
    request = next(moves)
    while True:
        scene.asked(request)
        reply = yield request
        try:
            following = moves.send(reply)
        except StopIteration as end:
            scene.answered(reply)
            return end.value  # type: ignore[no-any-return]
        scene.answered(reply)
        request = following


class Scene:
    """Shows episodes one after the other, and what they came to.

    Attributes:
        seats: the agents whose words come from whoever is looking.
        rounds: the largest number of rounds; a single one is not numbered.
        best: the highest reward of a round.
    """

    def __init__(
        self, console: Console, seats: Collection[AgentId] = (), *, rounds: int = 1, best: float = 1.0
    ) -> None:
        self.console, self.seats, self.rounds, self.best = console, seats, rounds, best
        self.known: dict[AgentId, Messages] = {}
        self.round = -1
        self.returns: list[tuple[float, float]] = []

    def begin(self, title: str) -> None:
        """Opens an episode."""
        self.known, self.round = {}, -1
        self.console.print()
        self.console.rule(self._text(title, "bold"), align="left")

    def asked(self, request: SpeakRequest | StepRequest[Any]) -> None:
        """Who is about to speak, and what they see; who sees the same is named together, who is looking has seen it."""
        if isinstance(request, StepRequest):
            return
        if request.round > self.round and self.rounds > 1:
            self.part(f"Round {request.round + 1}")
        self.round = request.round
        listeners: dict[tuple[Messages, bool], list[AgentId]] = {}
        for agent, prompt in request.prompts.items():
            if agent in self.seats:
                continue
            added = news(prompt, self.known.get(agent, ()))
            listeners.setdefault((added, added != prompt), []).append(agent)
            self.known[agent] = prompt
        for (messages, more), agents in listeners.items():
            names = " and ".join(map(self._name, agents))
            self.heading(f"{names} {'see' if len(agents) > 1 else 'sees'}{' now' if more else ''}:")
            self.messages(messages, style="dim")

    def answered(self, reply: Mapping[AgentId, Completion] | Step[Any]) -> None:
        """What they said, or what the task says to it."""
        if isinstance(reply, Step):
            self._judged(reply)
            return
        for agent, completion in reply.items():
            cut = ", cut off by the length limit" if completion.finish == "length" else ""
            self.heading(f"{self._name(agent)} says{cut}:")
            self.lines(completion.text or "(nothing)")
            self.known[agent] = (*self.known.get(agent, ()), Message("assistant", completion.text))

    def ended(self, total: float, percent: float, ending: str) -> None:
        """Closes an episode with its return and its normalized return."""
        self.returns.append((total, percent))
        self.heading(f"Return {total:.2f} ({ending}), normalized {percent:.1f} %")

    def summary(self) -> None:
        """How many episodes were played, and what they returned in the mean."""
        self.console.print()
        if not self.returns:
            self.heading("No episode was finished.")
            return
        count, (total, percent) = len(self.returns), map(fmean, zip(*self.returns, strict=True))
        episodes = f"{count} episode{'s' if count > 1 else ''}"
        self.heading(f"{episodes}, mean return {total:.2f}, mean normalized return {percent:.1f} %")

    def messages(self, messages: Messages, style: str = "") -> None:
        """A prompt; roles are named where there is more than one message, or another role than the user's."""
        for message in messages:
            if len(messages) > 1 or message.role != "user":
                self.lines(f"[{message.role}]", "italic")
            self.lines(message.content, style)

    def part(self, text: str) -> None:
        """The beginning of a part of an episode."""
        self.console.print()
        self.heading(text, "bold underline")

    def heading(self, text: str, style: str = "bold") -> None:
        self.console.print(self._text(text, style), soft_wrap=True)

    def lines(self, text: str, style: str = "") -> None:
        """A text, indented; on a terminal wrapped between words, each line below its own beginning."""
        for line in self._text(text).plain.split("\n"):
            body = line.lstrip(" ")
            margin = " " * (2 + len(line) - len(body)) if body else ""
            whole = Text(body, style=style)
            wrapped = self.console.is_terminal and body
            room = max(20, self.console.width - len(margin))
            for piece in whole.wrap(self.console, room, tab_size=4) if wrapped else [whole]:
                self.console.print(Text(margin).append_text(piece), soft_wrap=True)

    def _judged(self, step: Step[Any]) -> None:
        self.heading(f"Joint reward {joint_reward(step):.2f} of {self.best:g}")
        if len(set(step.rewards.values())) > 1:
            self.lines(_figures(step.rewards.items()))
        if figures := _figures(_worth_showing(step.metrics)):
            self.lines(figures, "cyan")
        for line in outline(step.details):
            self.lines(line, "dim")

    def _name(self, agent: AgentId) -> str:
        return f"{agent} (you)" if agent in self.seats else agent

    def _text(self, text: str, style: str = "") -> Text:
        return plain_text(self.console, text, style)


def news(prompt: Messages, known: Messages) -> Messages:
    """What a prompt adds to what an agent knows: its last prompt and its own answer to it.

    >>> first, mine, told = Message("user", "2 + 2?"), Message("assistant", "5"), Message("user", "Wrong.")
    >>> news((first, mine, told), (first, mine)) == (told,)
    True
    >>> news((Message("user", "2 + 2? Bob said: 4"),), (first, mine))
    (Message(role='user', content='Bob said: 4'),)
    """
    same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(prompt, known, strict=False)))
    if same == len(prompt):
        return prompt[-1:]
    longer = prompt[same]
    if same < len(known) and known[same].role == longer.role and longer.content.startswith(known[same].content):
        longer = Message(longer.role, longer.content.removeprefix(known[same].content).strip())
    return (longer, *prompt[same + 1 :])


def outline(details: Mapping[str, Any]) -> Iterator[str]:
    r"""A step's details, line by line; what is empty is left out.

    >>> list(outline({"tests": [{"test": "f(1)", "outcome": "passed", "message": ""}], "ratio": 2.5, "none": ""}))
    ['tests:', '  test f(1), outcome passed', 'ratio: 2.5']
    """
    for key, value in details.items():
        if value is None or value in ("", [], {}, ()):
            continue
        if isinstance(value, str) and "\n" in value:
            yield f"{key}:"
            yield from (f"  {line}" for line in value.splitlines())
        elif isinstance(value, (list, tuple)) and all(isinstance(item, Mapping) for item in value):
            yield f"{key}:"
            yield from ("  " + ", ".join(f"{k} {v}" for k, v in item.items() if v != "") for item in value)
        else:
            yield f"{key}: {value}"


def _worth_showing(metrics: Mapping[str, float]) -> Iterator[tuple[str, float]]:
    """Not the reward again, and of kinds (scheme/fallback, scheme/none) only those that occurred."""
    return ((name, value) for name, value in metrics.items() if name != "reward" and (value or "/" not in name))


def _figures(figures: Iterable[tuple[str, float]]) -> str:
    return "  ".join(f"{name}={f'{value:.4g}' if isinstance(value, float) else value}" for name, value in figures)
