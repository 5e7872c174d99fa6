"""Clues without forbidden words: what breaks the ban, who is shown what, and that a clue is left in every example."""

from __future__ import annotations

from collections import Counter

import pytest

from madrigal.rollouts.task import check_task, demonstrations_of
from madrigal.tasks.catalog import open_task
from madrigal.tasks.messages.taboo import CLUES, GIVER, GUESSER, REPEATS, Taboo, TabooTask, said, taboo
from madrigal.tasks.splits import with_validation
from madrigal.types import ConfigError, Example, Step

TASK = TabooTask(Taboo())
DOG = Example("dog", {"word": "dog", "forbidden": ["bark", "kennel"]})


def played(clue: str, guess: str = "dog") -> list[Step[object]]:
    first = TASK.step(TASK.reset(DOG), {GIVER: clue})
    return [first] if first.ending else [first, TASK.step(first.state, {GUESSER: guess})]  # type: ignore[list-item]


def test_who_is_shown_what() -> None:
    (first,) = TASK.observe(TASK.reset(DOG), GIVER, ())
    assert first.content == "Give a clue for dog in up to 2 words.\nForbidden: dog, bark, kennel."
    heard = TASK.step(TASK.reset(DOG), {GIVER: "a puppy, you know"}).state
    (second,) = TASK.observe(heard, GUESSER, ())
    assert second.content == "The clue is: a puppy,\nWhich animal is it? Answer with one word."
    assert TASK.acting(heard) == (GUESSER,)


@pytest.mark.parametrize(
    ("clue", "guess", "reward", "broken"),
    [
        ("puppy", "Dog!", 1, ""),
        ("puppy", "cat", 0, ""),
        ("puppy", "dog or cat", 0, ""),
        ("", "dog", 1, ""),
        ("barking", "dog", 0, "bark"),
        ("HotDog", "dog", 0, "dog"),
        ("a pet with a kennel", "dog", 1, ""),  # two words are brought over
    ],
)
def test_what_a_clue_is_worth(clue: str, guess: str, reward: float, broken: str) -> None:
    *before, last = played(clue, guess)
    assert last.rewards == {GIVER: reward, GUESSER: reward}
    assert all(step.rewards == {GIVER: 0, GUESSER: 0} for step in before)
    assert last.ending == ("failed" if broken else "solved") and last.details["broken"] == broken
    assert last.metrics["return_percent"] == 100 * reward and last.metrics["broken"] == 100 * bool(broken)


@pytest.mark.parametrize("forbidden", [1, 2, 3])
def test_a_clue_is_left_and_bans_are_held_out(forbidden: int) -> None:
    task = TabooTask(Taboo(forbidden=forbidden))
    split = with_validation(task)
    kinds = {name: Counter(e.data["kind"] for e in split.examples(name)) for name in ("train", "validation", "test")}  # type: ignore[arg-type]
    assert set(kinds["train"].values()) == {REPEATS} and set(kinds["test"].values()) == {1}
    assert not kinds["train"].keys() & kinds["test"].keys()
    assert {kind.partition("|")[0] for kind in kinds["train"]} == set(CLUES)
    for example in task.examples("test"):
        allowed = [clue for clue in CLUES[example.data["word"]] if not said(clue, taboo(example))]
        assert len(allowed) == 4 - forbidden, "no clue contains its animal, nor another clue"


def test_three_clues_are_an_animals_own() -> None:
    count = Counter(clue for clues in CLUES.values() for clue in clues)
    assert all(count[clue] == 1 for *own, _ in CLUES.values() for clue in own)
    assert all(count[kind] > 3 for *_, kind in CLUES.values())


@pytest.mark.parametrize("config", [Taboo(), Taboo(forbidden=3, words=1)])
def test_the_contract_and_novices(config: Taboo) -> None:
    with open_task(config) as task:
        check_task(task)
        given = demonstrations_of(task)
        examples = {example.id: example for example in task.examples("train")}
        assert given.keys() == examples.keys()
        heedless = [bool(said(texts[GIVER][0], taboo(examples[name]))) for name, texts in given.items()]
        assert sum(heedless) / len(heedless) == pytest.approx(config.forbidden / 4, abs=0.08), "by chance"
        assert all(texts[GIVER][0] in CLUES[texts[GUESSER][1]] for texts in given.values())


def test_settings_and_data_are_looked_at() -> None:
    with pytest.raises(ConfigError, match=r"task\.forbidden: expected 1 to 3, got 4"):
        Taboo(forbidden=4)
    with pytest.raises(ConfigError, match=r"task\.words: expected at least 1, got 0"):
        Taboo(words=0)
    with pytest.raises(ValueError, match="to be guessed, got 'unicorn'"):
        TASK.reset(Example("x", {"word": "unicorn"}))
