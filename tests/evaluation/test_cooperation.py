"""Scripted teams whose cooperation is known: what is lost without an agent, its messages, or its own partners."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import pytest

from fakes.play import judge_of
from madrigal.evaluation.ablations import AblatedState, MessageAblation, ablated_judge, by_agent
from madrigal.evaluation.cooperation import EvalSetup, cross_play, leave_messages_out, leave_one_agent_out
from madrigal.evaluation.evaluate import play_examples
from madrigal.evaluation.statistics import Interval
from madrigal.rollouts.play import Generate, GenerationRequest
from madrigal.rollouts.task import SingleRound, check_task
from madrigal.rollouts.topology import Parallel, Sequential, Topology
from madrigal.tasks.discussion.gsm8k import Gsm8k, Gsm8kTask
from madrigal.types import Completion, ConfigError, Example, Turn

WORDS = ("sun", "moon", "star", "comet")
EXAMPLES = tuple(Example(word, {"word": word}) for word in WORDS)
ALL = Interval(100.0, 100.0, 100.0)
NONE = Interval(0.0, 0.0, 0.0)


def relay(agents: Sequence[str] = ("ann", "bob", "cat")) -> SingleRound:
    """Ann alone sees the word, bob has to say it; cat is there as well."""
    return SingleRound(
        "relay",
        tuple(agents),
        EXAMPLES,
        (Example("sky", {"word": "sky"}),),
        prompt=lambda example, agent: f"word: {example.data['word']}" if agent == "ann" else "What was the word?",
        reward=lambda example, said: float(said["bob"] == example.data["word"]),
    )


def answer(utterance: GenerationRequest) -> str:
    """Ann says what she sees, bob what he heard of ann, cat whatever comes."""
    shown = utterance.prompt[-1].content
    if utterance.agent == "ann":
        return shown.removeprefix("word: ").split("\n")[0]
    heard = re.search(r"ann said: (\w+)", shown)
    return heard[1] if utterance.agent == "bob" and heard else f"hm {utterance.seed}"


def speak(wanted: Sequence[GenerationRequest]) -> list[Completion]:
    return [Completion(answer(utterance)) for utterance in wanted]


def trial(topology: Topology = Sequential(), speaker: Generate = speak) -> EvalSetup:  # noqa: B008
    task = relay()
    return EvalSetup(task, topology, EXAMPLES, speaker, judge_of(task))


@pytest.mark.parametrize("borrowed", [False, True])
def test_an_agent_that_is_needed_costs_everything_and_one_that_is_not_exactly_nothing(borrowed: bool) -> None:
    drops = leave_one_agent_out(trial(), borrowed=borrowed)
    assert {agent: drop.difference for agent, drop in drops.items()} == {"ann": ALL, "bob": ALL, "cat": NONE}
    assert (drops["ann"].p, drops["cat"].p, drops["ann"].count) == (2 / 2**4, 1.0, 4)


def test_a_team_that_does_better_without_an_agent_has_a_negative_drop() -> None:
    def talker(wanted: Sequence[GenerationRequest]) -> list[Completion]:
        """Bob repeats the last thing he heard, and cat talks in between."""
        heard = [re.findall(r"said: (\w+)", utterance.prompt[-1].content) for utterance in wanted]
        own = zip(wanted, heard, strict=True)
        return [Completion(words[-1] if u.agent == "bob" and words else answer(u)) for u, words in own]

    drops = leave_one_agent_out(trial(Sequential(("ann", "cat", "bob")), talker))
    assert drops["cat"].difference.mean == -100 and drops["bob"].difference.mean == 0


def test_borrowed_messages_are_those_of_the_next_example() -> None:
    heard: list[str] = []

    def listen(wanted: Sequence[GenerationRequest]) -> list[Completion]:
        heard.extend(u.prompt[-1].content.split("ann said: ")[1] for u in wanted if u.agent == "bob")
        return speak(wanted)

    only = trial(Sequential(("ann", "bob", "cat")), listen)
    leave_one_agent_out(only, borrowed=True)
    assert heard[:4] == list(WORDS) and heard[4:8] == ["moon", "star", "comet", "sun"]


@pytest.mark.parametrize("borrowed", [False, True])
def test_hearing_matters_to_whoever_uses_it(borrowed: bool) -> None:
    drops = leave_messages_out(trial(), borrowed=borrowed)
    assert {agent: drop.difference for agent, drop in drops.items()} == {"ann": NONE, "bob": ALL, "cat": NONE}


def test_where_nothing_is_heard_nothing_is_lost() -> None:
    drops = leave_messages_out(trial(Parallel()))
    assert all(drop.difference == NONE and drop.p == 1 for drop in drops.values())


NUMBERS = tuple(Example(f"q{n}", {"question": f"What is {n} + {n}?", "answer": str(2 * n)}) for n in (3, 5, 8))


def debate(wanted: Sequence[GenerationRequest]) -> list[Completion]:
    """The first agent can add; the second can only repeat what it saw of the first in an earlier round."""
    said = []
    for utterance in wanted:
        texts = "\n".join(message.content for message in utterance.prompt if message.role == "user")
        number = int(re.findall(r"What is (\d+)", texts)[0])
        seen = re.findall(r"The first agent answered: The answer is (\d+)", texts)
        right = str(2 * number) if utterance.agent == "first" else (seen or ["0"])[-1]
        said.append(Completion(f"The answer is {right}."))
    return said


def debating(rounds: int) -> EvalSetup:
    task = Gsm8kTask(Gsm8k(rounds=rounds))
    return EvalSetup(task, Parallel(), NUMBERS, debate, judge_of(task))


def test_earlier_rounds_can_be_kept_from_an_agent() -> None:
    """With two rounds both are right in the end; the second agent is wrong where it never saw the first one's."""
    for rounds, borrowed in ((2, False), (2, True), (3, False), (3, True)):
        drops = leave_messages_out(debating(rounds), borrowed=borrowed)
        assert drops["second"].difference == Interval(50.0, 50.0, 50.0) and drops["first"].difference == NONE
    assert leave_messages_out(debating(1))["second"].difference == NONE


def test_silence_reaches_the_task_over_all_rounds() -> None:
    drops = leave_one_agent_out(debating(3))
    assert drops["first"].difference == Interval(100.0, 100.0, 100.0)
    assert drops["second"].difference == Interval(50.0, 50.0, 50.0)


def test_true_rumours_change_nothing() -> None:
    told = debating(3)
    episodes = {episode.start.example: episode for episode in play_examples(told)}

    def truth(example: str, turn: int, agent: str) -> str:
        own = [t for t in episodes[example].turns if (t.agent, t.round) == (agent, turn)]
        return own[0].completion.text

    task = MessageAblation(told.task, "second", truth)
    again = play_examples(replace(told, task=task, judge=ablated_judge(task, told.judge)))
    for episode in again:
        assert [(t.prompt, t.completion) for t in episode.turns] == [
            (t.prompt, t.completion) for t in episodes[episode.start.example].turns
        ]
        last = episode.steps[-1].state
        assert isinstance(last, AblatedState) and last.state == last.believed and last.round == 3


def test_a_muffled_agent_still_knows_what_it_said_itself() -> None:
    shown: list[str] = []

    def listen(wanted: Sequence[GenerationRequest]) -> list[Completion]:
        shown.extend(m.content for u in wanted if u.agent == "second" for m in u.prompt if m.role == "assistant")
        return debate(wanted)

    leave_messages_out(replace(debating(2), speak=listen))
    assert len(shown) == 9 and all(text.startswith("The answer is ") for text in shown)
    task = MessageAblation(relay(), "bob", lambda example, turn, agent: None)
    own, other = Turn("bob", (), Completion("mine")), Turn("ann", (), Completion("hers"))
    (message,) = task.observe(task.reset(EXAMPLES[0]), "bob", [own, other])
    assert "bob said: mine" in message.content and "ann" not in message.content


def test_messages_are_borrowed_round_by_round() -> None:
    heard: list[tuple[str, str]] = []

    def say(wanted: Sequence[GenerationRequest]) -> list[Completion]:
        """Everybody says which question and round it is."""
        said = []
        for utterance in wanted:
            texts = "\n".join(message.content for message in utterance.prompt)
            own = f"{re.findall(r'What is .', texts)[0][-1]} in round {len(utterance.prompt) // 2}"
            if utterance.agent == "second":
                heard.append((own, " ".join(re.findall(r"The first agent answered: (. in round .)", texts))))
            said.append(Completion(own))
        return said

    leave_one_agent_out(replace(debating(3), speak=say), borrowed=True)
    assert heard[6:9] == [(f"{n} in round 2", f"{n} in round 0 {n} in round 1") for n in (3, 5, 8)]
    others = zip((3, 5, 8), (5, 8, 3), strict=True)
    assert heard[15:18] == [(f"{n} in round 2", f"{m} in round 0 {m} in round 1") for n, m in others]


def test_luck_is_the_same_with_and_without_an_agent() -> None:
    """Bob is right by chance: without the others he is right on the very same examples."""

    def gamble(wanted: Sequence[GenerationRequest]) -> list[Completion]:
        words = [WORDS[u.seed % 2] for u in wanted]
        return [Completion(word if u.agent == "bob" else "hm") for u, word in zip(wanted, words, strict=True)]

    many = tuple(Example(f"e{n}", {"word": WORDS[n % 2]}) for n in range(40))
    lucky = replace(trial(speaker=gamble), examples=many)
    assert 0 < sum(step.rewards["bob"] for episode in play_examples(lucky) for step in episode.steps) < 40
    assert leave_one_agent_out(lucky)["ann"].difference == NONE
    assert leave_messages_out(lucky)["bob"].difference == NONE


def test_a_muffled_task_keeps_the_contract() -> None:
    check_task(MessageAblation(relay(("ann", "bob")), "bob", lambda example, turn, agent: None))
    check_task(MessageAblation(Gsm8kTask(Gsm8k(rounds=3)), "second", lambda example, turn, agent: "7"))


def convention(spell: Callable[[str], str]) -> Generate:
    """A team that hands words on in its own spelling."""

    def say(wanted: Sequence[GenerationRequest]) -> list[Completion]:
        return [Completion(spell(answer(u)) if u.agent in ("ann", "bob") else "hm") for u in wanted]

    return say


def test_teams_with_conventions_of_their_own_fail_with_strangers() -> None:
    teams = {"plain": convention(str), "mirror": convention(lambda word: word[::-1])}
    result = cross_play(trial(), teams)
    assert result.teams == ("plain", "mirror") and result.returns == ((100.0, 0.0), (0.0, 100.0))
    assert (result.own, result.crossed, result.gap) == (100.0, 0.0, ALL)


def test_rows_give_the_seat_and_columns_the_others() -> None:
    """The deaf team's bob says nothing right; its ann is as good as any."""
    deaf = by_agent({"ann": speak, "bob": lambda wanted: [Completion("?") for _ in wanted], "cat": speak})
    result = cross_play(trial(), {"good": speak, "deaf": deaf})
    assert result.returns == ((100.0, 0.0), (100.0, 0.0))  # ann's rows: bob comes from the column
    other = cross_play(trial(), {"good": speak, "deaf": deaf}, seat="bob")
    assert other.returns == ((100.0, 100.0), (0.0, 0.0))
    assert (result.own, result.crossed, result.gap.mean) == (50.0, 50.0, 0.0)


def test_equal_teams_have_no_gap() -> None:
    result = cross_play(trial(), {"a": speak, "b": convention(str), "c": speak})
    assert result.gap == NONE and result.own == result.crossed == 100.0


def test_every_speaker_gets_its_own_requests_in_one_call() -> None:
    calls: dict[str, list[list[str]]] = {"x": [], "y": []}

    def named(name: str) -> Generate:
        def say(wanted: Sequence[GenerationRequest]) -> list[Completion]:
            calls[name].append([utterance.agent for utterance in wanted])
            return [Completion(f"{name} {utterance.agent}") for utterance in wanted]

        return say

    x, y = named("x"), named("y")
    wanted = [GenerationRequest(agent, (), 0) for agent in ("bob", "ann", "cat", "bob")]
    said = by_agent({"ann": x, "bob": y, "cat": x})(wanted)
    assert [completion.text for completion in said] == ["y bob", "x ann", "x cat", "y bob"]
    assert calls == {"x": [["ann", "cat"]], "y": [["bob", "bob"]]}


ERRORS: Mapping[str, Callable[[], object]] = {
    "at least one example": lambda: leave_one_agent_out(replace(trial(), examples=())),
    "at least two examples to borrow": lambda: leave_one_agent_out(
        replace(trial(), examples=EXAMPLES[:1]), borrowed=True
    ),
    "got 1 teams": lambda: cross_play(trial(), {"a": speak}),
    "the seat dan": lambda: cross_play(trial(), {"a": speak, "b": speak}, seat="dan"),
}


@pytest.mark.parametrize("message", ERRORS)
def test_what_cannot_be_compared_is_said_in_one_line(message: str) -> None:
    with pytest.raises(ConfigError, match=message) as error:
        ERRORS[message]()
    assert "\n" not in str(error.value)
