"""Chores: what dividing them is worth, what equals can come to, and that prompts say nothing of who does what."""

from __future__ import annotations

import math
import random
from collections import Counter
from itertools import product

import pytest

from madrigal.rollouts.task import check_task, demonstrations_of
from madrigal.tasks.catalog import open_task
from madrigal.tasks.chores.task import NONE, VERBS, Chores, ChoresTask
from madrigal.tasks.splits import with_validation
from madrigal.types import ConfigError, Example, Step

FOUR = Example("x", {"jobs": ["dig the garden", "wash the car", "lock the house", "feed the dog"]})


def judged(*answers: str, haste: float = 0.25) -> Step[Example]:
    agents = ("ann", "bob", "cat")[: len(answers)]
    task = ChoresTask(Chores(agents, jobs=4, haste=haste))
    return task.step(FOUR, dict(zip(agents, answers, strict=True)))


@pytest.mark.parametrize(
    ("answers", "reward"),
    [
        (("garden, car", "house, dog"), 1.0),
        (("Car; the garden!", "dog and house, and dog"), 1.0),
        (("garden, car", "garden, car"), 0.0),
        (("garden, car, house, dog", "none"), 0.75),
        (("garden, car, house", "dog"), 0.875),
        (("garden, car, house", "dog, house"), 0.75 * 0.875),
        (("garden", "dog"), 0.5),
        (("cat", ""), 0.0),
        (("garden, car", "house", "dog"), 1 - 0.25 * (1 / 2 - 1 / 3) * 3 / 2),
        (("garden, car", "house, dog", "dog"), 0.75 * (1 - 0.25 * (1 / 2 - 1 / 3) * 3 / 2)),
    ],
)
def test_what_a_division_is_worth(answers: tuple[str, ...], reward: float) -> None:
    step = judged(*answers)
    assert step.rewards == pytest.approx(dict.fromkeys(step.rewards, reward))
    assert step.metrics["return_percent"] == pytest.approx(100 * reward)
    assert step.metrics["done"] + step.metrics["twice"] + step.metrics["left"] == pytest.approx(100)


def test_who_did_what_is_measured() -> None:
    step = judged("garden, dog", "car")
    assert {name: step.metrics[name] for name in ("done", "twice", "left", "share/ann", "share/bob")} == {
        "done": 75.0,
        "twice": 0.0,
        "left": 25.0,
        "share/ann": 50.0,
        "share/bob": 25.0,
    }
    assert (step.metrics["early/ann"], step.metrics["early/bob"]) == (50.0, 100.0)
    assert step.details["chosen"] == {"ann": ["garden", "dog"], "bob": ["car"]}
    assert "early/ann" not in judged("none", "car").metrics


@pytest.mark.parametrize("agents", [2, 3])
@pytest.mark.parametrize("seed", range(4))
def test_equals_that_draw_alike_earn_no_more_than_the_bound(agents: int, seed: int) -> None:
    """Exactly: the mean over all joint answers of agents that draw from one distribution over all sets of jobs."""
    things = [job.split()[-1] for job in FOUR.data["jobs"]]
    sets = [", ".join(t for t, taken in zip(things, each, strict=True) if taken) for each in product((0, 1), repeat=4)]
    rng = random.Random(seed)
    weights = {said: rng.random() ** 2 for said in rng.sample(sets, 6)}
    mean = 0.0
    for answers in product(weights, repeat=agents):
        chance = math.prod(weights[said] / sum(weights.values()) for said in answers)
        mean += chance * judged(*answers, haste=0.0).rewards["ann"]
    assert mean <= (1 - 1 / agents) ** (agents - 1) + 1e-12


def test_prompts_are_equal_and_lists_are_held_out() -> None:
    with open_task(Chores(jobs=4)) as task:
        check_task(task)
        for example in task.examples("test"):
            shown = {task.observe(task.reset(example), agent, ()) for agent in task.agents}
            assert len(shown) == 1
            assert sorted(job.split()[-1] for job in example.data["jobs"]) == sorted(VERBS)
        split = with_validation(task)
        kinds = {name: {e.data["kind"] for e in split.examples(name)} for name in ("train", "validation", "test")}  # type: ignore[arg-type]
        assert not kinds["train"] & kinds["test"] and not kinds["train"] & kinds["validation"]


def test_novices_toss_a_coin_for_each_job() -> None:
    with open_task(Chores()) as task:
        given = demonstrations_of(task)
        assert given.keys() == {example.id for example in task.examples("train")}
        said = Counter(text for answers in given.values() for texts in answers.values() for text in texts)
    assert said.total() == 400 and len(said) == 5, "two things, both in either order, and none"
    assert said[NONE] / said.total() == pytest.approx(1 / 4, abs=0.06)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"jobs": 1}, r"task\.jobs: expected 2 to 4, got 1"),
        ({"jobs": 5}, r"task\.jobs: expected 2 to 4, got 5"),
        ({"agents": ("ann",)}, r"at least 2 different names, and at most as many as jobs \(2\), got ann"),
        ({"agents": ("ann", "ann")}, r"task\.agents: .* got ann, ann"),
        ({"agents": ("a", "b", "c")}, r"task\.agents: expected at least 2 .* got a, b, c"),
        ({"haste": 1.5}, r"task\.haste: expected 0 to 1, got 1\.5"),
    ],
)
def test_settings_are_looked_at(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Chores(**settings)  # type: ignore[arg-type]


def test_an_example_without_jobs_is_refused() -> None:
    task = ChoresTask(Chores())
    with pytest.raises(ValueError, match="at least one job"):
        task.reset(Example("x", {"jobs": []}))
