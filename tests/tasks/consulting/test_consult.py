"""Questions, specialists and a coordinator: who is shown what, what answers cost, and what is held out."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from madrigal.compare.contenders import alone
from madrigal.rollouts.play import EpisodeRun, GenerationRequest, drive, judge_in_turn, play
from madrigal.rollouts.task import check_task, demonstrations_of
from madrigal.rollouts.task.asking import ask, unjudged
from madrigal.rollouts.topology import Coordinated
from madrigal.tasks.catalog import open_task
from madrigal.tasks.consulting.knowledge import ANSWERS, REPEATS, SUBJECTS
from madrigal.tasks.consulting.task import COORDINATOR, SOLVER, SPECIALISTS, Consult, Consultation, ConsultTask
from madrigal.tasks.splits import with_validation
from madrigal.types import Completion, ConfigError, Episode, Example, Point

TASK = ConsultTask(Consult())
BEE = Example("bee", {"question": "Where does the bee live?", "answer": "hive", "subject": "home"})


def shown(state: Consultation, agent: str) -> str:
    (message,) = TASK.observe(state, agent, ())
    return message.content


def said(**texts: str) -> dict[str, str]:
    return {agent: texts.get(agent, "") for agent in TASK.agents}


def played(*calls: str, task: ConsultTask = TASK) -> Episode[Any]:
    """An episode in which the coordinator makes these calls, and everybody answers "hive" but ann, who says "nest"."""

    def speak(requests: Any) -> list[Completion]:
        return [Completion(_words(request, calls)) for request in requests]

    start = Point(BEE.id, task.reset(BEE))
    return drive([EpisodeRun(play(task, Coordinated(turns=1), start), ("x",))], speak, judge_in_turn(task))[0]


def _words(request: GenerationRequest, calls: tuple[str, ...]) -> str:
    if request.agent == COORDINATOR:
        return calls[request.round]
    return "nest" if request.agent == "ann" else "Hive."


def test_who_is_shown_what() -> None:
    start = TASK.reset(BEE)
    assert shown(start, "ann") == "Where does the bee live?\nAnswer with one word."
    assert shown(start, COORDINATOR) == "Where does the bee live?\nWho is asked next? ann, ben, cleo, dan or done."
    later = TASK.step(start, said(ann=" nest ")).state
    assert shown(later, COORDINATOR).splitlines()[1:] == [
        "ann said: nest",
        "Who is asked next? ann, ben, cleo, dan or done.",
    ]
    assert shown(later, "ben") == shown(start, "ben"), "specialists answer alone"


@pytest.mark.parametrize(
    ("calls", "rewards", "right", "expert"),
    [
        (("ben", "done"), [-0.1, 1], 100, 100),
        (("ben", "ann"), [-0.1, -0.1], 0, 50),
        (("ann", "ben"), [-0.1, 0.9], 100, 50),
        (("done", "ben"), [0], 0, 0),
        (("dan", "cleo"), [-0.1, 0.9], 100, 0),
    ],
)
def test_the_last_answer_counts_and_each_costs(
    calls: tuple[str, ...], rewards: list[float], right: float, expert: float
) -> None:
    episode = played(*calls)
    assert [step.rewards[COORDINATOR] for step in episode.steps] == pytest.approx(rewards)
    asked = sum(call in SPECIALISTS for call in calls[: len(rewards)])
    assert episode.steps[-1].metrics == pytest.approx(
        {"return_percent": 100 * sum(rewards) / 0.9, "right": right, "calls": asked, "expert": expert}
    )
    assert all(len(set(step.rewards.values())) == 1 for step in episode.steps)


def test_more_rounds_give_more_calls() -> None:
    longer = ConsultTask(Consult(rounds=4, cost=0.2))
    episode = played("ann", "ann", "dan", "done", task=longer)
    assert sum(step.rewards["ann"] for step in episode.steps) == pytest.approx(1 - 3 * 0.2)
    assert played("ann", "ann", "dan", "cleo", task=longer).steps[-1].ending == "horizon"


def test_what_is_held_out_is_the_wording() -> None:
    split = with_validation(TASK)
    kinds = {name: Counter(e.data["kind"] for e in split.examples(name)) for name in ("train", "validation", "test")}  # type: ignore[arg-type]
    assert sum(map(len, kinds.values())) == 4 * 8 * 5
    assert set(kinds["train"].values()) == {REPEATS} and set(kinds["test"].values()) == {1}
    facts = {name: {kind.rpartition("|")[0] for kind in found} for name, found in kinds.items()}
    assert len(facts["train"]) == 32, "every fact is asked for in training"
    shares = Counter(kind.partition("|")[0] for kind in kinds["test"])
    assert set(shares) == set(SUBJECTS) and min(shares.values()) > 4


@pytest.mark.parametrize("config", [Consult(), Consult(rounds=1, cost=0), Consult(rounds=3), Consult(alone=True)])
def test_the_contract_and_the_makings_of_specialists(config: Consult) -> None:
    with open_task(config) as task:
        check_task(task)
        given = demonstrations_of(task)
        examples = {example.id: example.data for example in task.examples("train")}
        assert given.keys() == examples.keys()
        if config.alone:
            assert all(given[name][SOLVER] == [data["answer"]] for name, data in examples.items())
            return
        for agent, subject in SPECIALISTS.items():
            right = [
                (data["subject"] == subject, given[name][agent][0] == data["answer"]) for name, data in examples.items()
            ]
            own, other = ([hit for mine, hit in right if mine is which] for which in (True, False))
            assert all(own) and 0.08 < sum(other) / len(other) < 0.17, "by chance 1 in 8"
        calls = Counter(texts[0] for said in given.values() for texts in [said[COORDINATOR]])
        assert set(calls) == {*SPECIALISTS, "done"} and min(calls.values()) > len(given) / 8


def test_facts_have_one_answer_each() -> None:
    assert all(len(facts) == 8 for facts in ANSWERS.values())
    assert {"bee": "hive", "king": "castle"}.items() <= ANSWERS["home"].items()


def test_a_team_is_asked_without_an_answer() -> None:
    state = ask(TASK, "Where does the bee live?")
    step = unjudged(TASK, state, said(ben="hive"))
    assert step.state.answers == (("ben", "hive"),) and step.ending == ""
    with pytest.raises(ConfigError, match="expected a text, or a mapping with question, got answer"):
        ask(TASK, {"answer": "hive"})
    last = unjudged(TASK, step.state, said(dan="buzz"))
    assert last.ending == "horizon" and last.metrics == {}


def test_one_agent_alone_answers_at_once() -> None:
    single = alone(Consult())
    assert single == Consult(alone=True)
    task = ConsultTask(Consult(alone=True))
    step = task.step(task.reset(BEE), {SOLVER: "hive"})
    assert step.rewards == {SOLVER: 0.9} and step.metrics == {"return_percent": 100, "right": 100, "calls": 1}


def test_settings_are_looked_at() -> None:
    with pytest.raises(ConfigError, match=r"task\.rounds: expected 1 to 8, got 9"):
        Consult(rounds=9)
    with pytest.raises(ConfigError, match=r"task\.cost: expected 0 to less than 1, a right answer, got 1"):
        Consult(cost=1)
