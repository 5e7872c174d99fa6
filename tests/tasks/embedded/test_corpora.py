"""The corpora: fixed sets, splits by kind, sizes, and reference answers that keep their promises."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from madrigal.tasks.embedded import arithmetic, papers, posts, programs
from madrigal.tasks.embedded.grammar import expand, held_out, with_opening
from madrigal.types import Example, Split

CORPORA = {"posts": posts, "papers": papers, "programs": programs, "arithmetic": arithmetic}
SPLITS: tuple[Split, ...] = ("train", "test")


@pytest.fixture(params=CORPORA)
def corpus(request: pytest.FixtureRequest) -> Any:
    return CORPORA[request.param]


def kinds(examples: tuple[Example, ...]) -> set[str]:
    return {example.data["kind"] for example in examples}


def atoms(examples: tuple[Example, ...]) -> set[str]:
    """What kinds are made of: relations, deeds, fields, methods, scenes, operations, steps."""
    return {atom for kind in kinds(examples) for part in kind.split("|") for atom in part.split(",")}


def test_examples_are_the_same_every_time(corpus: Any) -> None:
    for split in SPLITS:
        again = corpus.examples.__wrapped__(split)
        assert again == corpus.examples(split)


def test_there_are_enough_examples_with_ids_of_their_own(corpus: Any) -> None:
    train, test = corpus.examples("train"), corpus.examples("test")
    assert len(train) >= 400
    assert len(test) >= 150
    assert len({example.id for example in (*train, *test)}) == len(train) + len(test)


def test_no_kind_is_in_both_splits(corpus: Any) -> None:
    assert not kinds(corpus.examples("train")) & kinds(corpus.examples("test"))
    assert all(held_out(kind) for kind in kinds(corpus.examples("test")))


def test_every_atom_of_the_test_kinds_occurs_in_training(corpus: Any) -> None:
    assert atoms(corpus.examples("test")) <= atoms(corpus.examples("train"))


def test_fresh_problems_of_pre_training_keep_out_of_the_test_kinds(corpus: Any) -> None:
    rng = random.Random(5)
    assert not any(held_out(corpus.problem(rng, "train")["kind"]) for _ in range(500))


def test_posts_and_abstracts_have_their_length() -> None:
    for example in posts.examples("test"):
        assert 45 <= len(example.data["post"].split()) <= 80
        assert 6 <= len(example.data["facts"]) <= 9
    for example in papers.examples("test"):
        assert 50 <= len(example.data["abstract"].split()) <= 80


@pytest.mark.parametrize(("style", "low", "high"), [("concise", 6, 45), ("detailed", 12, 75)])
def test_summaries_have_their_length(style: posts.Style, low: int, high: int) -> None:
    rng = random.Random(0)
    lengths = [len(posts.summary(example, rng, style).split()) for example in posts.examples("test")]
    assert low <= min(lengths) <= max(lengths) <= high


def share(hits: list[bool]) -> float:
    return sum(hits) / len(hits)


def test_random_summaries_fit_each_other_now_and_then() -> None:
    rng, ratios = random.Random(0), list[float]()
    for example in posts.examples("train"):
        concise, detailed = posts.summary(example, rng), posts.summary(example, rng, "detailed")
        ratios.append(len(detailed) / len(concise))
    assert 0.3 < share([1.6 <= ratio <= 3.2 for ratio in ratios]) < 0.5


@pytest.mark.parametrize("part", ["background", "method"])
def test_introductions_are_often_too_short_and_never_repeat_a_sentence(part: papers.Part) -> None:
    rng, long = random.Random(0), list[bool]()
    for example in papers.examples("train"):
        text = papers.introduction(example, rng, part)
        sentences = text.split(". ")
        assert len(set(sentences)) == len(sentences)
        assert 60 <= len(text.split()) <= 240
        long.append(len(text.split()) >= 128)
    assert 0.55 < share(long) < 0.8


def test_worked_answers_calculate_correctly() -> None:
    for split in SPLITS:
        for example in arithmetic.examples(split):
            *steps, last = arithmetic.answer_text(example).split(". ")
            for step in steps:
                left, right = step.split("=")
                assert eval(left) == int(right)
            assert last == f"The answer is {steps[-1].split('=')[1]}."
            assert example.data["answer"].endswith(f"#### {steps[-1].split('=')[1]}")
            assert max(int(step.split("=")[1]) for step in steps) <= 100


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda: expand("[a|a] {x}.", random.Random(0), {"x": "b"}), "a b."),
        (lambda: with_opening("However,", "I am here."), "However, I am here."),
        (lambda: with_opening("However,", "It is late."), "However, it is late."),
    ],
)
def test_templates_become_sentences(make: Callable[[], str], expected: str) -> None:
    assert make() == expected
