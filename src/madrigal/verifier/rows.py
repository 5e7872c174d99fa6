"""Labelled answers, and the files that hold them: one JSON object per line.

    {"id": "arithmetic/train/0", "question": "...", "answer": "2+5=7. The answer is 7.", "right": true, "way": "plain"}

Knows: files. Does not know: how the answers came about.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast, get_args

from madrigal.tasks.data import read_rows
from madrigal.tasks.discussion.verifier import Question
from madrigal.types import TaskError

Way = Literal["plain", "hint", "err"]


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
        said = {"id": row.id, "question": row.question, "answer": row.answer, "right": row.right, "way": row.way}
        lines.append(json.dumps(said | ({"choices": row.choices} if row.choices else {}), ensure_ascii=False))
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(f"{line}\n" for line in lines))


def load_rows(file: Path) -> list[Row]:
    """Reads what `write_rows` wrote, or anybody with the same columns; `way` and `choices` may be missing.

    Raises:
        ConfigError, TaskError: naming the file, the line and what is wrong with it.
    """
    return [_row(number, said, file) for number, said in enumerate(read_rows(str(file)), start=1)]


def _row(number: int, said: dict[str, object], file: Path) -> Row:
    match said:
        case {"id": str(name), "question": str(question), "answer": str(answer), "right": bool(right)}:
            way = said.get("way", "plain")
            choices = said.get("choices", ())
            if way in get_args(Way) and isinstance(choices, list | tuple):
                return Row(name, question, answer, right, cast(Way, way), tuple(map(str, choices)))
    raise TaskError(
        f"{file}, row {number}: expected the texts id, question and answer, and right as true or false, got "
        f"{json.dumps(said)[:80]}"
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
