"""What the benchmarks of calls, messages and trust do before any model speaks."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import pytest
import torch

from madrigal.rollouts.play import GenerationRequest
from madrigal.tasks.consulting.knowledge import examples
from madrigal.tasks.messages.taboo import Riddle
from madrigal.types import Completion, Episode, Example, Message, Point, Step, Turn

sys.path.insert(0, next(str(place) for top in Path(__file__).parents if (place := top / "benchmarks").is_dir()))
import clues
import coordinator
import messages
import silence
import trust

TEST = examples("test")


def asked(agent: str, place: int, turn: int = 0) -> GenerationRequest:
    prompt = (Message("user", f"{TEST[place].data['question']}\nWho is asked next?"),)
    return GenerationRequest(agent, prompt, seed=0, round=turn)


@pytest.mark.parametrize(
    ("name", "calls"),
    [
        ("round-robin", ["ann", "ben", "cleo", "dan", "ann", "done"]),
        ("everyone", ["ann", "ann", "ann", "ann", "ann", "ben"]),
        ("oracle", [coordinator.EXPERTS[TEST[n].data["subject"]] for n in range(5)] + ["done"]),
    ],
)
def test_who_is_called(name: str, calls: list[str]) -> None:
    """The questions one to five, and the second round of the first; others speak for themselves, in their order."""
    speak = coordinator.calling(
        lambda wanted: [Completion(f"{one.agent} himself") for one in wanted], coordinator.CHOICES[name], TEST
    )
    wanted = [*(asked("coordinator", n) for n in range(5)), asked("ben", 0), asked("coordinator", 0, 1)]
    said = [one.text for one in speak(wanted)]
    assert said == [*calls[:5], "ben himself", calls[5]]


def test_bits_are_what_an_answer_tells() -> None:
    """Eight equal colors are 3 bits where the answer is always right; 0 where it is always the same."""
    colors = [n % 8 for n in range(400)]
    assert messages.bits([(color, color) for color in colors]) == pytest.approx(3, abs=0.15)
    assert messages.bits([(color, "red") for color in colors]) == 0
    rng = random.Random(1)
    assert abs(messages.bits([(color, rng.randrange(8)) for color in colors])) < 0.05, "chance tells nothing"


def test_what_a_listener_is_told_instead() -> None:
    def played(name: str, reply: str) -> Episode[None]:
        said = [("seeker", "hat"), ("holder", reply)]
        turns = tuple(Turn(who, (), Completion(text), n) for n, (who, text) in enumerate(said))
        return Episode(Point(name, None), turns=turns, steps=(Step(None, {}),))

    told = messages.retellings([played("x", "red"), played("y", "blue")])
    assert told["removed"]("x", 1, "holder") is None
    assert told["swapped"]("x", 1, "holder") == "blue" and told["swapped"]("y", 1, "holder") == "red"
    assert told["delayed"]("x", 1, "seeker") == "hat" and told["delayed"]("x", 1, "holder") is None
    assert sorted(told["scrambled"]("y", 1, "holder") or "") == sorted("blue")


def ended(private: bool, question: str, reply: str) -> Episode[None]:
    details = {"private": private, "question": question, "reply": reply}
    return Episode(Point("x", None), (), (Step(None, {}, details=details),))


def test_how_often_a_message_has_no_words() -> None:
    episodes = [ended(True, "hat", ""), ended(True, "hat", "red"), ended(False, "", ""), ended(False, "", "red")]
    assert messages.silences(episodes, "question", True) == [0, 0]
    assert messages.silences(episodes, "question", False) == [100, 100]
    assert messages.silences(episodes, "reply", True) == [100, 0]


def test_experts_are_silent_by_chance_and_then_know_what_they_are_shown() -> None:
    examples = {one.id: one.data for one in silence.TASK.examples("train")}
    plain, quiet, some = (trust.experts(share) for share in (0.0, 1.0, 0.3))
    said = [(row["answers"]["seeker"][0], row["answers"]["holder"][1]) for row in some]
    for private in (True, False):
        asked = [
            not question
            for row, (question, _) in zip(some, said, strict=True)
            if examples[row["id"]]["private"] == private
        ]
        assert 0.2 < sum(asked) / len(asked) < 0.4, "whatever the question"
    for row in plain:
        data = examples[row["id"]]
        right = data["facts"][data["asked"]]
        assert row["answers"] == {"seeker": [data["asked"], "-", right], "holder": ["-", right, "-"]}
    rights = {True: list[bool](), False: list[bool]()}
    for row in quiet:
        data = examples[row["id"]]
        assert (row["answers"]["seeker"][0], row["answers"]["holder"][1]) == ("", "")
        rights[data["private"]].append(row["answers"]["seeker"][2] == data["facts"][data["asked"]])
    assert all(rights[False]) and sum(rights[True]) / len(rights[True]) < 0.25, "by guessing, 1 in 8"


def test_what_small_networks_read_and_that_they_can_look_up() -> None:
    """Keys by hand: a holder that says the color of the object it hears the name of."""
    asked, heard, facts = silence.read(
        "The cup is red. The hat is blue.\nThe seeker says: hat\nReply in up to 1 words."
    )
    assert not asked.any() and heard.argmax() == silence.WORDS.index("hat") and facts.sum() == 2
    shown, _, _ = silence.read("What color is the hat?\nAsk the holder in up to 1 words.")
    assert shown.argmax() == silence.OBJECTS.index("hat")
    known, _, _ = silence.read("The hat is blue.\nWhat color is the hat?\nAsk the holder in up to 1 words.")
    assert known.argmax() == len(silence.OBJECTS) + silence.OBJECTS.index("hat"), "facts are shown"
    network = silence.Network(len(silence.WORDS), asks=False)
    with torch.no_grad():
        for weight in network.parameters():
            weight.zero_()
        for n, thing in enumerate(silence.OBJECTS):
            network.key.weight[n, 2 * len(silence.OBJECTS) + silence.WORDS.index(thing)] = 50.0
        for n, color in enumerate(silence.COLORS):
            network.say.weight[silence.WORDS.index(color), n - len(silence.COLORS)] = 50.0
        table = network(asked[None], heard[None], facts[None])[0]
    assert silence.WORDS[int(table.argmax())] == "blue" and table.max() > -1e-3


@pytest.mark.parametrize(
    ("clue", "broken", "kind"),
    [
        ("puppy", "", "own"),
        ("a Kennel", "", "own"),
        ("pet", "", "shared"),
        ("pet puppy", "", "own"),
        ("moo", "", "another's"),
        ("thing", "", "no clue"),
        ("", "", "no clue"),
        ("puppy", "puppy", "broken"),
    ],
)
def test_what_kind_a_clue_is(clue: str, broken: str, kind: str) -> None:
    riddle = Riddle(Example("x", {"word": "dog"}))
    game = Episode(Point("x", riddle), (), (Step(riddle, {}, details={"clue": clue, "broken": broken}),))
    assert clues.kind(game) == kind


def test_a_lie_names_another_color() -> None:
    assert trust.turned("The hat is Red, the cup gray.") == "The hat is blue, the cup red."


PLAYS = {"honest": [1.0] * 8, "lying": [0.0] * 8, "unheard": [0.5] * 8}


@pytest.mark.parametrize(
    ("share", "distrusted", "again", "kept"),
    [(0.0, None, 0, 1.0), (1.0, 7, 7, 0.465)],  # 0.9^7 is the first below a half; 7 lies are heard, 93 times none
)
def test_a_stream_of_lies(share: float, distrusted: int | None, again: int, kept: float) -> None:
    found = trust.stream(PLAYS, share, random.Random(0))
    assert not found["early"] and found["distrusted"] == distrusted and found["again"] == again
    assert found["kept"] == pytest.approx(kept) and found["never"] == 0.5 and found["always"] == 1 - share
