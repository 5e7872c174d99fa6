"""Labelled answers on disk, one JSON object per line, and a journal of a gathering that may be stopped.

    {"id": "arithmetic/train/0", "question": "...", "answer": "2+5=7. The answer is 7.", "right": true, "way": "plain"}

Everything in a gathering derives from its seed, so that a resumed one asks the same in the same order: whatever was
answered is read from the journal, and only the rest is asked. The journal lies beside the file of the answers.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast, get_args

from madrigal.tasks.data import read_rows
from madrigal.tasks.discussion.verifier import Question
from madrigal.types import ConfigError, Messages, TaskError

PORTION = 64  # answers asked for at once; what a stop can lose
EVERY = 10.0  # seconds between lines
Way = Literal["plain", "hint", "err"]
Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Row:
    """One answer to one question, and whether it is right.

    Attributes:
        id: of the question.
        way: how it was come by: asked plainly, helped to be right, or made to err.
        choices: what an answer may name; empty where it is a number.
    """

    id: str
    question: str
    answer: str
    right: bool
    way: Way = "plain"
    choices: tuple[str, ...] = ()

    @property
    def asked(self) -> Question:
        """The question as a verifier is asked it, without the reference answer."""
        return Question(self.question, choices=self.choices)


def write_rows(rows: Iterable[Row], file: Path) -> None:
    """Writes one line per answer, replacing the file."""
    lines = []
    for row in rows:
        fields = {"id": row.id, "question": row.question, "answer": row.answer, "right": row.right, "way": row.way}
        lines.append(json.dumps(fields | ({"choices": row.choices} if row.choices else {}), ensure_ascii=False))
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(f"{line}\n" for line in lines))


def load_rows(file: Path) -> list[Row]:
    """Reads what `write_rows` wrote, or anybody with the same columns; `way` and `choices` may be missing.

    Raises:
        ConfigError, TaskError: naming the file, the line and what is wrong with it.
    """
    return [_row(number, fields, file) for number, fields in enumerate(read_rows(str(file)), start=1)]


def _row(number: int, fields: dict[str, object], file: Path) -> Row:
    match fields:
        case {"id": str(name), "question": str(question), "answer": str(answer), "right": bool(right)}:
            way = fields.get("way", "plain")
            choices = fields.get("choices", ())
            if way in get_args(Way) and isinstance(choices, list | tuple):
                return Row(name, question, answer, right, cast(Way, way), tuple(map(str, choices)))
    raise TaskError(
        f"{file}, row {number}: expected the texts id, question and answer, and right as true or false, got "
        f"{json.dumps(fields)[:80]}"
    )


def check_apart(train: Sequence[Row], held_out: Sequence[Row]) -> None:
    """Refuses a check on questions that were trained on.

    Raises:
        TaskError: naming how many.
    """
    shared = {row.question for row in train} & {row.question for row in held_out}
    if shared:
        raise TaskError(
            f"verifier: {len(shared)} held-out questions are in the training data too, {min(shared)[:60]!r} first; "
            "make the held-out rows from another split"
        )


@dataclass(frozen=True, slots=True)
class Ask:
    """One answer wanted. A prompt that ends with the assistant's words is gone on with."""

    prompt: Messages
    seed: int


# Prompts and a temperature; the whole answers, beginnings included.
Say = Callable[[Sequence[Ask], float], Sequence[str]]


class Journal:
    """The answers so far, one line of JSON each; the first line holds the settings that they were given under."""

    def __init__(self, target: Path, settings: Mapping[str, Any], *, resume: bool) -> None:
        """Opens the journal of a file.

        Raises:
            ConfigError: if there is one and it is not to be resumed, or it was begun under other settings.
        """
        self.path = target.with_name(f"{target.name}.partial")
        self.held: Iterator[str] = iter(())
        self.count = 0
        first = json.dumps(settings, sort_keys=True, default=str)
        if not self.path.is_file():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._append([first])
            return
        if not resume:
            raise ConfigError(f"{self.path} holds answers of a gathering that was stopped; add --resume, or remove it")
        lines = self.path.read_text("utf-8").split("\n")[:-1]  # a line that was cut off has no end
        if lines[:1] != [first]:
            raise ConfigError(f"{self.path} was begun with other settings; take those again, or remove it")
        self.path.write_text("".join(f"{line}\n" for line in lines), "utf-8")
        self.count = len(lines) - 1
        self.held = iter(lines[1:])

    def recording(self, say: Say) -> Say:
        """`say`, asked only for what the journal does not hold, a portion at a time."""

        def recorded(asks: Sequence[Ask], temperature: float) -> list[str]:
            known = [str(json.loads(line)) for _, line in zip(asks, self.held, strict=False)]
            rest = asks[len(known) :]
            for start in range(0, len(rest), PORTION):
                texts = say(rest[start : start + PORTION], temperature)
                self._append([json.dumps(text) for text in texts])
                known += texts
            return known

        return recorded

    def remove(self) -> None:
        """Forgets the answers; they are in the file now."""
        self.path.unlink()

    def _append(self, lines: Sequence[str]) -> None:
        try:
            with self.path.open("a", encoding="utf-8") as stream:
                stream.writelines(f"{line}\n" for line in lines)
        except OSError as error:
            raise ConfigError(f"{self.path} could not be written: {error.strerror}") from error


def counted(say: Say, plain: int, tell: Tell, clock: Callable[[], float] = time.monotonic) -> Say:
    """`say`, which tells now and then how many answers there are and how long the plain ones will still take.

    Args:
        plain: plain answers that will be asked for; helped and misled ones follow, as many as are needed.
    """
    began = shown = clock()
    count = 0

    def counting(asks: Sequence[Ask], temperature: float) -> Sequence[str]:
        nonlocal shown, count
        texts = say(asks, temperature)
        count, now = count + len(texts), clock()
        if shown == began or now - shown >= EVERY:
            shown = now
            tell(_progress(count, plain, now - began))
        return texts

    return counting


def _progress(count: int, plain: int, seconds: float) -> str:
    if count >= plain:
        return f"{count} answers, in {_minutes(seconds)}; helping and misleading where right or wrong ones are lacking"
    left = seconds / count * (plain - count)
    return f"{count} of {plain} plain answers, in {_minutes(seconds)}; about {_minutes(left)} left for these"


def _minutes(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"
