"""Mutual information by hand, and listeners whose influence is known."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from fakes.play import judge_of
from madrigal.evaluation.cooperation import EvalSetup
from madrigal.evaluation.influence import influence, mutual_information, symbol
from madrigal.rollouts.play import GenerationRequest
from madrigal.rollouts.task import SingleRound
from madrigal.rollouts.topology import Parallel, Sequential, Topology
from madrigal.tasks.discussion.gsm8k import Gsm8k, Gsm8kTask
from madrigal.types import Completion, ConfigError, Example, Step

EXAMPLES = tuple(Example(f"x{n}", {"question": f"What is {n} + 1?", "answer": str(n + 1)}) for n in range(3))
AGENTS = ("ann", "bob", "cat")


def test_one_reply_each_by_hand() -> None:
    """Counts plus 1 are ((2, 1), (1, 2)), of 6 in all; every margin is 1/2."""
    assert mutual_information([["a"], ["b"]]) == pytest.approx(
        2 / 3 * math.log(4 / 3) + 1 / 3 * math.log(2 / 3), abs=1e-12
    )
    assert mutual_information([["a"], ["b"]], alpha=0) == pytest.approx(math.log(2), abs=1e-12)


def test_unequal_rows_by_hand() -> None:
    """Counts ((2, 0), (1, 1)): rows 1/2, columns 3/4 and 1/4."""
    by_hand = 1 / 2 * math.log(4 / 3) + 1 / 4 * math.log(2 / 3) + 1 / 4 * math.log(2)
    assert mutual_information([["a", "a"], ["a", "b"]], alpha=0) == pytest.approx(by_hand, abs=1e-12)


def test_copies_reach_the_logarithm_of_k_but_for_smoothing() -> None:
    for k in (2, 8):
        copied = [[str(j)] for j in range(k)]
        assert mutual_information(copied, alpha=0) == pytest.approx(math.log(k), abs=1e-12)
    one = mutual_information([[str(j)] for j in range(8)])
    assert one == pytest.approx(8 * 2 / 72 * math.log(2 / 72 * 64) + 56 / 72 * math.log(64 / 72), abs=1e-12)
    assert one == pytest.approx(0.036, abs=5e-4)  # the number in the module's docstring
    many = mutual_information([[str(j)] * 1000 for j in range(8)])
    assert 0.95 * math.log(8) < many < math.log(8)


def test_rare_actions_are_pooled() -> None:
    """One symbol kept: a stays, b and c become one. Counts ((2, 0), (0, 1), (0, 1)): ln 2."""
    replies = [["a", "a"], ["b"], ["c"]]
    assert mutual_information(replies, symbols=1, alpha=0) == pytest.approx(math.log(2), abs=1e-12)
    assert mutual_information(replies, symbols=2, alpha=0) == pytest.approx(1.5 * math.log(2), abs=1e-12)
    distinct = [[str(j)] for j in range(100)]
    # 64 are kept, 36 are one: 0.64 ln 100 + 0.36 ln (100 / 36)
    pooled = 0.64 * math.log(100) + 0.36 * math.log(100 / 36)
    assert mutual_information(distinct, alpha=0) == pytest.approx(pooled, abs=1e-9)


def test_actions_are_compared_in_canonical_form() -> None:
    assert symbol(" Yes,\n  SIR ") == symbol("yes, sir") != symbol("yes sir")
    assert symbol("\uff39es") == symbol("yes")  # a full-width Y
    assert mutual_information([["Yes"], ["yes "], ["YES"]], alpha=0) == 0.0


@pytest.mark.parametrize("call", [lambda: mutual_information([]), lambda: mutual_information([["a"], []])])
def test_every_candidate_needs_a_reply(call: Callable[[], float]) -> None:
    with pytest.raises(ConfigError, match="a reply to every candidate"):
        call()


def never(requests: Sequence[Any]) -> list[Step[Any]]:
    raise AssertionError("the listener speaks in the same round: there is nothing to judge")


def chat(answer: Callable[[GenerationRequest], str], topology: Topology, judge: Any = never) -> EvalSetup:
    task = SingleRound("chat", AGENTS, EXAMPLES, EXAMPLES, lambda example, agent: example.id, lambda example, said: 0.0)
    return EvalSetup(task, topology, EXAMPLES, lambda wanted: [Completion(answer(u)) for u in wanted], judge)


def message(utterance: GenerationRequest) -> str:
    """What the last speaker before said, as the prompt quotes it."""
    return utterance.prompt[-1].content.rpartition("said: ")[2]


def told(copies: bool) -> Callable[[GenerationRequest], str]:
    """Ann and cat say their seeds; bob says what he heard last, or something of his own."""

    def answer(utterance: GenerationRequest) -> str:
        return message(utterance) if copies and utterance.agent == "bob" else f"seed {utterance.seed}"

    return answer


def test_a_copied_message_has_all_influence() -> None:
    result = influence(chat(told(True), Sequential()), "ann", "bob", candidates=5, alpha=0)
    assert result.contexts == pytest.approx([math.log(5)] * 3, abs=1e-12) and result.ceiling == math.log(5)
    assert (result.nats.mean, result.nats.low) == pytest.approx((math.log(5), math.log(5)))
    assert result.copied == pytest.approx(math.log(5), abs=1e-12)
    smoothed = influence(chat(told(True), Sequential()), "ann", "bob", candidates=5)
    # Of 5 counts and 25 of the smoothing 2 lie where message and reply meet, 1 elsewhere; every margin is 1/5.
    by_hand = 5 * 2 / 30 * math.log(2 / 30 * 25) + 20 / 30 * math.log(25 / 30)
    assert smoothed.contexts == pytest.approx([by_hand] * 3, abs=1e-12)
    assert smoothed.copied == pytest.approx(by_hand, abs=1e-12) and smoothed.ceiling == math.log(5)
    often = influence(chat(told(True), Sequential()), "ann", "bob", candidates=2, replies=400)
    assert 0.95 * math.log(2) < often.nats.mean < math.log(2)


def test_an_ignored_agent_has_none_even_where_replies_vary() -> None:
    said: list[str] = []

    def noted(utterance: GenerationRequest) -> str:
        if utterance.agent == "bob":
            said.append(told(False)(utterance))
        return told(False)(utterance)

    result = influence(chat(noted, Sequential()), "ann", "bob", candidates=5, replies=3, alpha=0)
    assert result.contexts == (0.0, 0.0, 0.0)
    assert len(said) == 3 * 5 * 3 and len(set(said)) == 3 * 3  # every context has three replies of its own


def test_a_coarse_listener_has_what_its_answers_tell() -> None:
    def last_bit(utterance: GenerationRequest) -> str:
        return str(int(message(utterance)) % 2) if utterance.agent == "bob" else str(utterance.seed)

    drawn: list[int] = []

    def noted(utterance: GenerationRequest) -> str:
        if utterance.agent == "ann":
            drawn.append(utterance.seed % 2)
        return last_bit(utterance)

    result = influence(chat(noted, Sequential()), "ann", "bob", candidates=6, alpha=0)
    for n, value in enumerate(result.contexts):
        bits = drawn[6 * n : 6 * n + 6]
        assert value == pytest.approx(mutual_information([[str(bit)] for bit in bits], alpha=0)) and value <= math.log(
            2
        )


def test_what_was_said_before_is_drawn_once() -> None:
    """Cat speaks first; bob answers ann's candidates, all in the context of one message of cat's."""
    contexts: list[str] = []

    def noted(utterance: GenerationRequest) -> str:
        if utterance.agent == "bob":
            contexts.append(utterance.prompt[-1].content.split("cat said: ")[1].split("\n")[0])
        return told(True)(utterance)

    influence(chat(noted, Sequential(("cat", "ann", "bob"))), "ann", "bob", candidates=4)
    assert len(contexts) == 12 and len(set(contexts)) == 3


def test_a_listener_may_come_later_in_the_round() -> None:
    def answer(utterance: GenerationRequest) -> str:
        """Cat speaks in between; bob repeats what ann said."""
        if utterance.agent == "bob":
            return utterance.prompt[-1].content.split("ann said: ")[1].split("\n")[0]
        return f"seed {utterance.seed}"

    result = influence(chat(answer, Sequential(("ann", "cat", "bob"))), "ann", "bob", candidates=4, alpha=0)
    assert result.contexts == pytest.approx([math.log(4)] * 3)


def test_the_same_trial_measures_the_same() -> None:
    one = chat(told(True), Sequential())
    assert influence(one, "ann", "bob", replies=2) == influence(one, "ann", "bob", replies=2)


def debating(rounds: int, asked: list[GenerationRequest] | None = None) -> EvalSetup:
    task = Gsm8kTask(Gsm8k(rounds=rounds))

    def answer(utterance: GenerationRequest) -> str:
        if asked is not None:
            asked.append(utterance)
        texts = [m.content for m in utterance.prompt if "The first agent answered: " in m.content]
        if utterance.agent == "second" and texts:
            return texts[-1].split("The first agent answered: ")[1].split("\n")[0]
        return f"seed {utterance.seed}"

    return EvalSetup(
        task,
        Parallel(),
        EXAMPLES,
        lambda wanted: [Completion(answer(u)) for u in wanted],
        judge_of(task),
    )


def test_a_message_may_be_heard_in_the_next_round() -> None:
    asked: list[GenerationRequest] = []
    result = influence(debating(3, asked), "first", "second", candidates=3, alpha=0)
    assert result.contexts == pytest.approx([math.log(3)] * 3)
    # one message of the second agent at the start of each context, then its reply to each candidate
    assert [u.agent for u in asked].count("second") == 3 + 9
    assert influence(debating(2), "second", "first", candidates=3, alpha=0).nats.mean == 0.0


def over(requests: Sequence[Any]) -> list[Step[Any]]:
    return [Step(request.state, dict.fromkeys(AGENTS, 0.0), "horizon") for request in requests]


def ending(of: int, at: Callable[[str], bool]) -> EvalSetup:
    """Two rounds; the first agent's message k of each context is "k". The second always says the same."""
    told = debating(2)

    def speak(wanted: Sequence[GenerationRequest]) -> list[Completion]:
        numbers = iter(range(len(wanted)))
        return [Completion(str(next(numbers) % of) if u.agent == "first" else "yes") for u in wanted]

    def judge(requests: Sequence[Any]) -> list[Step[Any]]:
        steps = told.judge(requests)
        ended = [at(request.actions["first"]) for request in requests]
        return [replace(s, ending="solved") if end else s for s, end in zip(steps, ended, strict=True)]

    return replace(told, speak=speak, judge=judge)


def test_a_message_that_ends_the_episode_has_an_effect() -> None:
    """One of four messages ends it, after the others the second says the same: the entropy of 1/4."""
    result = influence(ending(4, lambda said: said == "0"), "first", "second", candidates=4, alpha=0)
    by_hand = 1 / 4 * math.log(4) + 3 / 4 * math.log(4 / 3)
    assert result.contexts == pytest.approx([by_hand] * 3, abs=1e-12)
    # With the smoothing the 4 x 2 table holds 12: 2 and 1 in every row, 5 endings and 7 answers in all.
    smoothed = influence(ending(4, lambda said: said == "0"), "first", "second", candidates=4)
    first = 2 / 12 * math.log(2 * 4 / 5) + 1 / 12 * math.log(1 * 4 / 7)
    others = 3 / 12 * math.log(1 * 4 / 5) + 6 / 12 * math.log(2 * 4 / 7)
    assert smoothed.contexts == pytest.approx([first + others] * 3, abs=1e-12)


def test_a_context_that_every_message_ends_counts_with_nothing() -> None:
    """Messages are numbered over all three contexts: 0 to 3 end it, which are all of the first context."""
    result = influence(ending(12, lambda said: int(said) < 4), "first", "second", candidates=4, alpha=0)
    assert result.contexts == (0.0, 0.0, 0.0)


ERRORS: dict[str, Callable[[], object]] = {
    "bob never acts after ann; play one": lambda: influence(chat(told(True), Parallel(), over), "ann", "bob"),
    "expected two agents of ann, bob, cat": lambda: influence(chat(told(True), Sequential()), "ann", "ann"),
    "got dan and bob": lambda: influence(chat(told(True), Sequential()), "dan", "bob"),
    "at least 2 candidates": lambda: influence(chat(told(True), Sequential()), "ann", "bob", candidates=1),
}


@pytest.mark.parametrize("text", ERRORS)
def test_what_cannot_be_measured_is_said_in_one_line(text: str) -> None:
    with pytest.raises(ConfigError, match=text) as error:
        ERRORS[text]()
    assert "\n" not in str(error.value)
