"""Debates: who is shown what in each round, what an answer earns, and when they end."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from fakes.data import DATA
from fakes.play import judge_of
from madrigal.compare.contenders import alone, one_round
from madrigal.config import Experiment, from_json, to_json
from madrigal.rollouts.play import EpisodeRun, GenerationRequest, drive, play
from madrigal.rollouts.task import check_task, rewards_of
from madrigal.rollouts.topology import Discussion
from madrigal.tasks.catalog import open_task
from madrigal.tasks.data import Source
from madrigal.tasks.discussion import domains
from madrigal.tasks.discussion.debate import Debate, DebateState, DebateTask
from madrigal.tasks.discussion.metrics import discussion_metrics, flaw_of, is_repetitive
from madrigal.tasks.discussion.prompts import BANDS, question_prompt, rebuttal, score_words
from madrigal.tasks.discussion.verifier import Question
from madrigal.types import Completion, ConfigError, Example, Point, RewardError, Step, TaskError, Turn

EXAMPLE = Example("eggs", {"question": "3 + 4?", "answer": "3+4=7.\n#### 7"})
THREE = ("first", "second", "third")
EIGHT = ("a", "b", "c", "d", "e", "f", "g", "h")


def said(number: object) -> str:
    return f"3+4={number}. The answer is {number}."


def played(task: DebateTask, *rounds: Sequence[object], example: Example = EXAMPLE) -> Step[DebateState]:
    """The last step of a debate in which everybody comes to these numbers."""
    state = task.reset(example)
    for numbers in rounds:
        step = task.step(state, dict(zip(task.agents, map(said, numbers), strict=True)))
        state = step.state
    return step


def shown(task: DebateTask, agent: str, *rounds: Sequence[object]) -> list[tuple[str, str]]:
    messages = task.observe(played(task, *rounds).state if rounds else task.reset(EXAMPLE), agent, ())
    return [(message.role, message.content) for message in messages]


def test_every_answer_earns_its_own_score() -> None:
    task = DebateTask(Debate(agents=THREE))
    assert rewards_of(task) == "own"
    step = played(task, (7, 8, 7))
    assert step.rewards == {"first": 1.0, "second": 0.0, "third": 1.0}
    assert step.details == {
        "answers": ["7", "8", "7"],
        "reference": "7",
        "right": {"first": True, "second": False, "third": True},
        "flaws": {"first": "", "second": "", "third": ""},
    }


def test_a_verifier_scores_and_the_reference_says_what_is_right() -> None:
    def doubtful(question: Question, answers: Sequence[str]) -> list[float]:
        assert question.text == "3 + 4?"
        return [0.25, 0.75]

    step = played(DebateTask(Debate(), doubtful), (7, 8))
    assert step.rewards == {"first": 0.25, "second": 0.75}
    assert step.details["right"] == {"first": True, "second": False}
    assert (step.metrics["score"], step.metrics["accuracy"]) == (50.0, 50.0)


@pytest.mark.parametrize("scores", [[0.5], [0.5, 1.5], [0.5, float("nan")], [True, 0.5], ["0.5", 0.5]])
def test_a_verifier_that_breaks_its_promise_is_an_error(scores: list[Any]) -> None:
    with pytest.raises(RewardError, match="verifier: expected"):
        played(DebateTask(Debate(), lambda question, answers: scores), (7, 8))


def test_the_first_round_is_independent() -> None:
    for shows in ("all", "others"):
        task = DebateTask(Debate(shows=shows))  # type: ignore[arg-type]
        assert shown(task, "first") == [("user", question_prompt("3 + 4?"))]


def test_later_rounds_show_the_question_and_everybody_s_answers() -> None:
    task = DebateTask(Debate(agents=THREE, rounds=3))
    quotes = [
        f"The first agent answered: {said(1)}",
        f"You answered: {said(2)}",
        f"The third agent answered: {said(3)}",
    ]
    expected = "\n\n".join([question_prompt("3 + 4?"), rebuttal(quotes)])
    assert shown(task, "second", (1, 2, 3)) == [("user", expected)]
    later = shown(task, "second", (1, 2, 3), (4, 5, 6))[0][1]
    assert [later.index(said(n)) for n in range(1, 7)] == sorted(later.index(said(n)) for n in range(1, 7))
    only = shown(replace(task, config=replace(task.config, recall=1)), "second", (1, 2, 3), (4, 5, 6))[0][1]
    assert said(2) not in only and said(5) in only


def test_as_a_chat_one_s_own_answers_are_one_s_turns() -> None:
    task = DebateTask(Debate(agents=THREE, shows="others"))
    first, own, others = shown(task, "second", (1, 2, 3))
    assert first == ("user", question_prompt("3 + 4?"))
    assert own == ("assistant", said(2))
    quotes = [f"The first agent answered: {said(1)}", f"The third agent answered: {said(3)}"]
    assert others == ("user", rebuttal(quotes))


def test_scores_are_shown_as_figures_and_words() -> None:
    config = Debate(score_feedback=True)
    page = shown(DebateTask(config), "first", (7, 8))[0][1]
    assert "(Score of this answer: 1.000 out of 1.0, it is likely right.)" in page
    assert "(Score of this answer: 0.000 out of 1.0, it is likely wrong.)" in page
    *_, (_, told) = shown(DebateTask(replace(config, shows="others")), "second", (7, 8))
    assert told.startswith("(Score of your answer: 0.000 out of 1.0, it is likely wrong.)\n\nThe first agent answered")
    assert "out of" not in shown(DebateTask(Debate()), "first", (7, 8))[0][1]


@pytest.mark.parametrize(
    ("score", "words"),
    [
        (0.0, "it is likely wrong"),
        (0.299, "it is likely wrong"),
        (0.3, "it might be wrong"),
        (0.599, "it might be wrong"),
        (0.6, "it seems right"),
        (0.799, "it seems right"),
        (0.8, "it is likely right"),
        (1.0, "it is likely right"),
    ],
)
def test_bands_of_scores(score: float, words: str) -> None:
    assert score_words(score) == f"Score of this answer: {score:.3f} out of 1.0, {words}."
    assert len(BANDS) == 4


def test_words_of_this_round_are_shown_after_the_question() -> None:
    task = DebateTask()
    heard = (Turn("first", (), Completion("7")), Turn("second", (), Completion("8")))
    (message,) = task.observe(task.reset(EXAMPLE), "second", heard)
    assert message.content == f"{question_prompt('3 + 4?')}\n\nThe first agent answered: 7\n\nYou answered: 8"


def test_unscored_talk_before_every_scored_round() -> None:
    """The discussion topology inside a round, the debate over rounds: 2 x 2 passes of 2 agents, and 2 scores each."""
    task = DebateTask(Debate(rounds=2))
    numbers = iter([1, 2, 7, 8, 3, 4, 7, 7])

    def speak(wanted: Sequence[GenerationRequest]) -> list[Completion]:
        return [Completion(said(next(numbers))) for _ in wanted]

    (episode,) = drive(
        [EpisodeRun(play(task, Discussion(2), Point("eggs", task.reset(EXAMPLE))), ())],
        speak,
        judge_of(task),
    )
    assert [step.rewards for step in episode.steps] == [{"first": 1.0, "second": 0.0}, {"first": 1.0, "second": 1.0}]
    talk = [turn.prompt[-1].content for turn in episode.turns]
    assert said(1) not in talk[1] and said(1) in talk[2] and said(1) not in talk[4]
    assert said(7) in talk[4] and said(8) in talk[4] and said(3) in talk[7]


def test_a_debate_ends_at_its_horizon() -> None:
    task = DebateTask(Debate(rounds=2))
    assert (played(task, (7, 7)).ending, played(task, (7, 7), (8, 8)).ending) == ("", "horizon")


@pytest.mark.parametrize(
    ("consensus", "numbers", "score", "ending"),
    [
        (None, (7, 7, 7, 7), 1.0, ""),
        (0.9, (7, 7, 7, 7), 1.0, "agreed"),
        (0.9, (7, 7, 7, 8), 1.0, ""),
        (0.75, (7, 7, 7, 8), 1.0, ""),  # the share has to be exceeded
        (0.7, (7, 7, 7, 8), 1.0, "agreed"),
        (0.7, (8, 8, 8, 7), 0.71, "agreed"),  # whether it is right is the verifier's word alone
        (0.9, (7, 7, 7, 7), 0.7, ""),  # and so has the score
        (0.9, ("x", "x", "x", "x"), 1.0, ""),  # no result is no consensus
    ],
)
def test_early_stop_on_consensus(consensus: float | None, numbers: Sequence[object], score: float, ending: str) -> None:
    config = Debate(agents=("a", "b", "c", "d"), consensus=consensus)
    answers = [f"The answer is {n}." for n in numbers]
    task = DebateTask(config, lambda question, given: [score] * len(given))
    assert task.step(task.reset(EXAMPLE), dict(zip(config.agents, answers, strict=True))).ending == ending


def test_the_mean_score_of_those_who_agree_counts() -> None:
    """Three say 7 with scores 0.9, 0.9 and 0.0: their mean is 0.6; the fourth's score is not asked."""
    task = DebateTask(
        Debate(agents=("a", "b", "c", "d"), consensus=0.7, consensus_score=0.6), lambda q, a: [0.9, 0.9, 0.0, 1.0]
    )
    assert played(task, (7, 7, 7, 8)).ending == ""
    lower = DebateTask(replace(task.config, consensus_score=0.59), task.verifier)
    assert played(lower, (7, 7, 7, 8)).ending == "agreed"


def test_figures_of_every_round() -> None:
    step = played(DebateTask(Debate(agents=THREE, rounds=3)), (7, 8, 8), (7, 7, 8), (7, 7, 7))
    got = step.metrics
    thirds = {"accuracy_1": 100 / 3, "accuracy_2": 200 / 3, "accuracy_3": 100.0}
    assert {key: got[key] for key in thirds} == pytest.approx(thirds)
    assert (got["majority_1"], got["majority_2"], got["majority_3"]) == (0.0, 100.0, 100.0)
    assert got["return_percent"] == got["majority_accuracy"] == 100.0


def test_an_early_end_keeps_its_figures_for_the_rounds_left_out() -> None:
    got = discussion_metrics([["7", "7"]], "7", horizon=3)
    assert [got[f"accuracy_{n}"] for n in (1, 2, 3)] == [100.0] * 3
    assert [got[f"majority_{n}"] for n in (1, 2, 3)] == [100.0] * 3


def test_a_tie_counts_its_share() -> None:
    assert played(DebateTask(), (7, 8)).metrics["return_percent"] == 50.0
    assert played(DebateTask(Debate(agents=THREE)), (7, 8, 9)).metrics["return_percent"] == pytest.approx(100 / 3)


@pytest.mark.parametrize(
    ("before", "after", "changes"),
    [
        # the second agent changes; the others are right, wrong, or split
        ("787", "777", {"wrong_to_right": 100 / 3, "delta1": 100 / 3}),
        ("888", "878", {"wrong_to_right": 100 / 3, "delta0": 100 / 3}),
        ("777", "787", {"right_to_wrong": 100 / 3, "delta0": -100 / 3}),
        ("878", "888", {"right_to_wrong": 100 / 3, "delta1": -100 / 3}),
        ("788", "778", {"wrong_to_right": 100 / 3, "delta0": 100 / 3}),
    ],
)
def test_transitions_by_the_majority_of_the_others(before: str, after: str, changes: dict[str, float]) -> None:
    got = played(DebateTask(Debate(agents=THREE, rounds=2)), before, after).metrics
    names = ("wrong_to_right", "right_to_wrong", "delta0", "delta1")
    assert {name: got[name] for name in names} == pytest.approx(dict.fromkeys(names, 0.0) | changes)


def test_changes_add_up_to_the_change_of_accuracy() -> None:
    for rounds in (("788", "878", "777"), ("7878", "8787", "7777"), ("77", "88", "78")):
        results = [list(row) for row in rounds]
        got = discussion_metrics(results, "7", len(rounds))
        change = got[f"accuracy_{len(rounds)}"] - got["accuracy_1"]
        assert got["wrong_to_right"] - got["right_to_wrong"] == pytest.approx(change)
        assert got["delta0"] + got["delta1"] == pytest.approx(change)


@pytest.mark.parametrize(
    ("text", "flaw"),
    [
        ("The answer is 7.", ""),
        ("It is 7.", "short"),
        ("so we see so we see so we see so we see 7", "repetitive"),
        ("so we see so we see so we see 7", ""),  # three times is allowed
        ("7 7 7 7 7 7 7 7", ""),  # numbers are
        ("I really do not know.", "no result"),
    ],
)
def test_flaws_of_form(text: str, flaw: str) -> None:
    from madrigal.tasks.discussion.answers import extract_answer

    assert flaw_of(text, extract_answer(text), least_words=4) == flaw


def test_long_phrases_go_in_circles_too() -> None:
    phrase = " ".join(f"w{n}" for n in range(20))
    assert is_repetitive((f"{phrase} " * 4).split())
    assert not is_repetitive((f"{phrase} " * 3).split())
    assert not is_repetitive((f"{phrase} w20 " * 4).split())  # 21 words are not looked for
    assert not is_repetitive(f"{phrase} x {phrase} y {phrase} z {phrase}".split())  # not one after the other


def test_flaws_are_counted_and_named() -> None:
    task = DebateTask()
    step = task.step(task.reset(EXAMPLE), {"first": said(7), "second": "7"})
    assert step.details["flaws"] == {"first": "", "second": "short"}
    assert step.metrics["flawed"] == 50.0
    assert step.rewards["second"] == 1.0  # what a flaw costs is credit's to say


CHOICES = ("entailment", "neutral", "contradiction")
NLI = Debate(choices=CHOICES, question="hypothesis", context="premise", answer="label")


def test_questions_with_choices() -> None:
    example = Example("x", {"question": "A dog sleeps.", "context": "A cat sleeps.", "answer": "1"})
    task = DebateTask(replace(NLI, agents=("first", "second")))
    (message,) = task.observe(task.reset(example), "first", ())
    assert message.content == (
        "A cat sleeps.\n\nA dog sleeps.\n\nThink step by step. End with: The answer is X. X is one of: entailment, "
        "neutral, contradiction."
    )
    answers = {"first": "So the answer is Neutral.", "second": "Not neutral. The answer is contradiction."}
    step = task.step(task.reset(example), answers)
    assert step.rewards == {"first": 1.0, "second": 0.0}
    assert step.details["answers"] == ["neutral", "contradiction"] and step.details["reference"] == "neutral"


def test_a_reference_without_a_result_is_an_error() -> None:
    with pytest.raises(TaskError, match="example odd: expected a reference answer with a number"):
        played(DebateTask(), (7, 7), example=Example("odd", {"question": "Why?", "answer": "Because."}))
    with pytest.raises(TaskError, match="with one of entailment, neutral, contradiction, got '3'"):
        played(DebateTask(NLI), (7, 7), example=Example("odd", {"question": "Why?", "answer": "3"}))


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"agents": ("a", "a")}, "task.agents: expected one or more agents with different names"),
        ({"agents": ()}, "task.agents"),
        ({"rounds": 0}, "task.rounds: expected at least 1 round, got 0"),
        ({"consensus": 1.0}, "task.consensus: expected None, or a share below 1"),
        ({"recall": -1}, "task.recall and task.least_words: expected 0 or more"),
        ({"domain": "groups", "source": Source("x.jsonl")}, "choose among the embedded questions; .* for x.jsonl"),
        ({"calculations": 2, "source": Source("x.jsonl")}, "task.domain and task.calculations choose among"),
        ({"calculations": 4}, "task.calculations: expected 2 or 3, or 0 for both, got 4"),
    ],
)
def test_impossible_settings_are_refused(settings: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        Debate(**settings)


@pytest.mark.parametrize("agents", [("only",), ("a", "b"), THREE, EIGHT[:5], EIGHT])
def test_teams_of_any_size_keep_the_contract(agents: tuple[str, ...]) -> None:
    with open_task(Debate(agents=agents, rounds=2, score_feedback=True)) as task:
        check_task(task)


def test_domains_share_no_question_and_no_kind() -> None:
    groups, amounts = ([e for s in ("train", "test") for e in domains.examples(d, 0, s)] for d in ("groups", "amounts"))  # type: ignore[arg-type]
    assert len(groups) == len(amounts) == 1000
    for field in ("question", "kind"):
        assert not {e.data[field] for e in groups} & {e.data[field] for e in amounts}
    for domain in ("groups", "amounts"):
        split = [{e.data["kind"] for e in domains.examples(domain, 0, s)} for s in ("train", "test")]  # type: ignore[arg-type]
        assert not split[0] & split[1]
    assert DebateTask(Debate(domain="groups")).examples("test") == domains.examples("groups", 0, "test")


@pytest.mark.parametrize("count", [2, 3])
def test_questions_of_so_many_calculations(count: int) -> None:
    examples = DebateTask(Debate(calculations=count)).examples("train")
    assert {e.data["answer"].partition("####")[0].count("=") for e in examples} == {count}
    assert {domains.domain_of(e.data["kind"]) for e in examples} == {"groups", "amounts"}


def test_settings_are_read_back_as_they_were() -> None:
    run = Experiment("debate", replace(NLI, consensus=0.5, agents=THREE))
    assert from_json(to_json(run)) == run
    assert json.loads(to_json(run))["task"]["verifier"]["kind"] == "exact"


def test_what_a_debate_is_compared_with() -> None:
    config = Debate(agents=THREE, rounds=3)
    assert alone(config) == replace(config, agents=("first",))
    assert one_round(config) == replace(config, rounds=1)


@pytest.mark.skipif(not (DATA / "gsm8k_train.jsonl").exists(), reason="the GSM8K files are not here")
def test_reference_answers_earn_everything() -> None:
    task = DebateTask(Debate(Source(str(DATA / "gsm8k_{split}.jsonl")), rounds=1))
    for example in task.examples("test"):
        step = task.step(task.reset(example), dict.fromkeys(task.agents, example.data["answer"]))
        assert step.rewards == {"first": 1.0, "second": 1.0} and step.metrics["return_percent"] == 100.0
