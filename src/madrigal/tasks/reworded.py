"""The same prompts in other words: a wrapper, for the A/A pair that shows what wording alone does to a return.

Phrases of a task's prompts are replaced, whole; examples, answers and feedback stay. The words for the tasks here are
our own, and as plain as what they stand for; names that are read back (aux, the delimiter, "The answer is") stay.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Generic, TypeVar

from madrigal.rollouts.task import Task
from madrigal.rollouts.task.asking import PlayedAsItIs
from madrigal.tasks.coding.config import Coding
from madrigal.tasks.data import EMBEDDED
from madrigal.tasks.discussion.debate import Debate
from madrigal.tasks.discussion.gsm8k import Gsm8k
from madrigal.tasks.writing.task import Arxiv, Tldr
from madrigal.types import AgentId, ConfigError, Messages, Turn

S = TypeVar("S")
REWORDABLE = (Tldr, Arxiv, Coding, Gsm8k, Debate)
WORDS: Mapping[str, str] = {
    "Write a concise summary of the post: one or a few short sentences, facts only.": (
        "Summarize the post concisely, in one or a few short sentences that state nothing but facts."
    ),
    "Write a detailed summary of the post: use more unique words and some transition words.": (
        "Summarize the post in detail, with more different words and with a few transition words."
    ),
    "Write two summaries of the post with the line": "Summarize the post twice, with the line",
    "First a concise summary: one or a few short sentences, facts only.": (
        "Begin with a concise summary, one or a few short sentences that state nothing but facts."
    ),
    "Then a detailed summary, two to three times as long, in the same style: use more unique words and some transition "
    "words.": (
        "Go on with a detailed summary in the same style, two to three times as long, with more different words and "
        "with a few transition words."
    ),
    "Expand the abstract into an introduction. Another writer does": (
        "Make an introduction out of the abstract. A second writer takes care of"
    ),
    "Write only the background and motivation part, and do not repeat the other part.": (
        "Your part is background and motivation alone; leave out what belongs to the other part."
    ),
    "Write only the method and implications part, and do not repeat the other part.": (
        "Your part is method and implications alone; leave out what belongs to the other part."
    ),
    "Expand the abstract into an introduction of two paragraphs of equal length": (
        "Make an introduction of two equally long paragraphs out of the abstract,"
    ),
    "Write a helper function": "Define a helper function",
    "that returns useful data for": "whose result is of use for",
    "is available: do not redefine it, call it and use its result.": (
        "exists already: call it and use what it returns, and do not define it again."
    ),
    "Code only.": "Answer with code and nothing else.",
    "Solve it step by step.": "Work it out one step at a time.",
    "Think step by step.": "Reason one step at a time.",
    "Compare the answers, then solve the question again.": (
        "Hold the answers against each other, then work the question out anew."
    ),
    "Consider all answers, your own included: keep what is right, mend what is wrong, and do not just repeat an "
    "answer. Solve the question again.": (
        "Weigh all answers, yours among them: hold on to what is right, correct what is wrong, and do not merely "
        "repeat an answer. Work the question out anew."
    ),
}


@dataclass(frozen=True)
class Reworded(PlayedAsItIs, Generic[S]):
    """A task whose agents are told the same in other words.

    Attributes:
        task: the task itself.
        words: phrases of its prompts, and what stands for them.
    """

    task: Task[S]
    words: Mapping[str, str]

    def observe(self, state: S, agent: AgentId, heard: Sequence[Turn]) -> Messages:
        shown = self.task.observe(state, agent, heard)
        given = {text for text in _texts((state, heard)) if any(p in text and p != text for p in self.words)}
        return tuple(
            message if message.role == "assistant" else replace(message, content=self._reworded(message.content, given))
            for message in shown
        )

    def _reworded(self, text: str, given: Iterable[str]) -> str:
        """The text in other words, but for what it quotes of the given texts."""
        longest_first = sorted(given, key=len, reverse=True)
        # With a group in the pattern every second part is a quote.
        parts = re.split(f"({'|'.join(map(re.escape, longest_first))})", text) if longest_first else [text]
        for phrase, other in self.words.items():
            parts[::2] = [part.replace(phrase, other) for part in parts[::2]]
        return "".join(parts)


def _texts(data: object) -> Iterator[str]:
    """All texts in a state or in turns, without the space around them: examples, and what was answered."""
    if isinstance(data, str):
        yield data.strip()
    elif is_dataclass(data):
        for field in fields(data):
            yield from _texts(getattr(data, field.name))
    elif isinstance(data, Mapping):
        for value in data.values():
            yield from _texts(value)
    elif isinstance(data, (list, tuple)):
        for value in data:
            yield from _texts(value)


def in_words(task: Task[S], words: str) -> Task[S]:
    """The task in other words, or as it is where `words` is "" (`Experiment.reworded`); needs no examples."""
    return Reworded(task, WORDS if words == EMBEDDED else read_words(words)) if words else task


def reworded(task: Task[S], words: str) -> Task[S]:
    """The same, once it has been seen to change what every agent is shown.

    Raises:
        ConfigError: if the words cannot be read, or the prompt of an agent would stay as it is.
    """
    made = in_words(task, words)
    if made is task:
        return task
    for state in [task.reset(example) for example in task.examples("train")[:1]]:
        for agent in task.acting(state):
            if made.observe(state, agent, ()) == task.observe(state, agent, ()):
                raise ConfigError(
                    f"reworded: no phrase of {words} stands in the prompt of {agent} of {task.name}; give each agent's "
                    "prompt other words, in a JSON file of phrases and what stands for them"
                )
    return made


def read_words(name: str) -> dict[str, str]:
    """The phrases of a JSON file and what stands for them, {"Greet the guest.": "Say hello to the guest.", ...}.

    Raises:
        ConfigError: if there is no such file, or it holds anything else.
    """
    try:
        words = json.loads(Path(name).expanduser().read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise ConfigError(
            f"{name} could not be read ({error.strerror}); name a JSON file of phrases and what stands for them"
        ) from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{name} is not JSON in UTF-8; name a file of phrases and what stands for them") from error
    if not isinstance(words, dict) or not words:
        raise ConfigError(f"{name}: expected phrases and what stands for them, as one JSON object, got {words!r:.80}")
    for phrase, other in words.items():
        if not phrase or not isinstance(other, str) or phrase == other:
            raise ConfigError(f"{name}: expected other words, as a text, for {phrase!r:.80}, got {other!r:.80}")
    return words
