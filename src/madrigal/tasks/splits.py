"""Three splits of any task: a wrapper that takes validation examples from training where a task brings none."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from madrigal.rollouts.task import Task, check_examples
from madrigal.rollouts.task.asking import PlayedAsItIs
from madrigal.types import ConfigError, Example, Split, TaskError

S = TypeVar("S")
SHARE = 5  # one in so many training examples, the last ones, where a task has no validation examples
_EMBEDDED = re.compile(r"[a-z0-9/]+/(train|validation)/\d+")
SEATING = ("seat", "opponent", "game", "cast")  # who plays is no part of what was dealt


@dataclass(frozen=True)
class Validated(PlayedAsItIs, Generic[S]):
    """A task with a validation split that shares nothing with train or test.

    Attributes:
        task: the task itself.
        train, validation: its examples for training and for choosing.
        note: in one line, where the validation examples come from; "" where the task brings them and nothing changed.
    """

    task: Task[S]
    train: Sequence[Example]
    validation: Sequence[Example]
    note: str = ""

    def examples(self, split: Split) -> Sequence[Example]:
        return self.task.examples("test") if split == "test" else getattr(self, split)


def with_validation(task: Task[S]) -> Validated[S]:
    """The task with three splits.

    A task's own validation examples are taken as they are, and what they share with training (the kind of an embedded
    problem, or the whole content) is left out of training, unless nothing would be left: chance deals six hands of
    Kuhn poker. A task without any (() or the test examples again) gives the last fifth of its training examples.

    Raises:
        TaskError: if validation examples are training or test examples, too.
        ConfigError: if there is a single training example.
    """
    train, test, own = (check_examples(task, "train"), check_examples(task, "test"), task.examples("validation"))
    tested = {example.id for example in test}
    if not own or {example.id for example in own} == tested:
        return _from_train(task, train)
    own = check_examples(task, "validation")
    for split, others in (("train", {example.id for example in train}), ("test", tested)):
        if shared := sorted({example.id for example in own} & others):
            raise TaskError(
                f"task {task.name}: {len(shared)} examples are in validation and {split}, {shared[0]!r} first; "
                "give each example to one split"
            )
    held = set(map(_content, own))
    rest = [example for example in train if _content(example) not in held]
    if not rest:
        return Validated(task, train, own, "validation plays what training plays: there is nothing else to deal")
    note = f"{len(train) - len(rest)} of {len(train)} training examples left out, for validation has the like"
    return Validated(task, rest, own, note if len(rest) < len(train) else "")


def _from_train(task: Task[S], train: Sequence[Example]) -> Validated[S]:
    if len(train) < 2:
        raise ConfigError(
            f"task {task.name}: a single training example leaves none for validation; give more, or set "
            "evaluation.keep to last"
        )
    cut = len(train) - max(1, len(train) // SHARE)
    note = f"no validation examples of its own: the last {len(train) - cut} of {len(train)} training examples serve"
    return Validated(task, train[:cut], train[cut:], note)


def _content(example: Example) -> str:
    """What makes two examples the same thing to learn: the kind of an embedded problem, else all that one holds."""
    if _EMBEDDED.fullmatch(example.id) and "kind" in example.data:
        return str(example.data["kind"])
    dealt = {name: value for name, value in example.data.items() if name not in SEATING}
    return json.dumps(dealt, sort_keys=True, default=repr)
