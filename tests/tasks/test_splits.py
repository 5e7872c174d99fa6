"""Validation examples of any task: its own, or the last of training; never in two splits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest

from madrigal.recipes import recipe
from madrigal.rollouts.task import SingleRound
from madrigal.tasks.catalog import open_task
from madrigal.tasks.data import Source
from madrigal.tasks.own import guarded
from madrigal.tasks.splits import Validated, with_validation
from madrigal.types import ConfigError, Example, Split, TaskError

SPLITS: tuple[Split, ...] = ("train", "validation", "test")


def examples(split: str, count: int) -> tuple[Example, ...]:
    return tuple(Example(f"{split}-{n}", {"word": f"{split} {n}"}) for n in range(count))


TASK = SingleRound(
    "greet", ("ann",), examples("train", 10), examples("test", 3), lambda e, a: str(e.data["word"]), lambda e, s: 1.0
)


@dataclass(frozen=True)
class TwoSplits:
    """What was written for two splits: any other one is the test split, or there is no such key."""

    inner: SingleRound
    table: bool

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def examples(self, split: Split) -> Sequence[Example]:
        if self.table:
            return {"train": self.inner.train, "test": self.inner.test}[split]  # type: ignore[index]
        return self.inner.train if split == "train" else self.inner.test


def ids(task: Validated[Any]) -> list[list[str]]:
    return [[example.id for example in task.examples(split)] for split in SPLITS]


@pytest.mark.parametrize("task", [TASK, TwoSplits(TASK, table=False), TwoSplits(TASK, table=True)])
def test_without_validation_the_last_fifth_of_training_serves(task: Any) -> None:
    split = with_validation(guarded(task, "task"))
    train, validation, test = ids(split)
    assert train == [f"train-{n}" for n in range(8)] and validation == ["train-8", "train-9"]
    assert test == ["test-0", "test-1", "test-2"]
    assert split.note == "no validation examples of its own: the last 2 of 10 training examples serve"


def test_a_task_brings_its_own_validation_examples() -> None:
    split = with_validation(replace(TASK, validation=examples("dev", 4)))
    assert ids(split)[0] == [f"train-{n}" for n in range(10)]
    assert ids(split)[1] == [f"dev-{n}" for n in range(4)] and split.note == ""


def test_what_training_says_again_under_another_name_is_left_out() -> None:
    again = (*examples("dev", 1), Example("dev-1", {"word": "train 3"}))
    split = with_validation(replace(TASK, validation=again))
    assert "train-3" not in ids(split)[0] and len(ids(split)[0]) == 9


@pytest.mark.parametrize(("split", "own"), [("train", TASK.train[4:6]), ("test", TASK.test[:2])])
def test_validation_that_overlaps_is_refused_in_one_line(split: str, own: tuple[Example, ...]) -> None:
    with pytest.raises(TaskError, match=f"2 examples are in validation and {split}, '{own[0].id}' first") as error:
        with_validation(replace(TASK, validation=own))
    assert "\n" not in str(error.value)


def test_a_single_training_example_leaves_none_to_choose_by() -> None:
    with pytest.raises(ConfigError, match="a single training example leaves none for validation"):
        with_validation(replace(TASK, train=TASK.train[:1]))


@pytest.mark.parametrize("name", ["tldr", "arxiv", "gsm8k", "debate", "tictactoe", "coding", "office"])
def test_what_is_embedded_or_dealt_shares_neither_kind_nor_deal_with_train_or_test(name: str) -> None:
    with open_task(recipe(name).task) as task:
        split = with_validation(task)
        before = len(task.examples("train"))
    seating = ("seat", "opponent", "game")

    def things(examples: Sequence[Example]) -> set[str]:
        return {
            str(e.data.get("kind") or sorted((k, str(v)) for k, v in e.data.items() if k not in seating))
            for e in examples
        }

    train, validation, test = (things(split.examples(one)) for one in SPLITS)
    assert not validation & train and not validation & test and len(split.examples("validation")) >= 48
    assert 0.6 * before < len(split.examples("train")) < before


def test_where_chance_deals_nothing_else_validation_plays_what_training_plays() -> None:
    with open_task(recipe("kuhn").task) as task:
        split = with_validation(task)
    assert len(split.examples("train")) == 144 and "nothing else to deal" in split.note


def test_rows_in_memory_are_cut_into_three() -> None:
    rows = [{"question": f"{n} and 1?", "answer": f"#### {n + 1}"} for n in range(20)]
    source = Source.of(rows, validation="validation[12:15]", test="test[15:]")
    task = recipe("gsm8k").task
    assert source.validation == "validation[12:15]"
    with open_task(replace(task, source=source)) as opened:  # type: ignore[call-arg]
        counts = [[e.data["question"] for e in with_validation(opened).examples(split)] for split in SPLITS]
    assert [len(part) for part in counts] == [12, 3, 5] and len({q for part in counts for q in part}) == 20
