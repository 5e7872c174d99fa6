"""What the benchmarks of calls, messages and trust do before any model speaks."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import pytest

from madrigal.rollouts.play import GenerationRequest
from madrigal.tasks.consulting.knowledge import examples
from madrigal.types import Completion, Episode, Message, Point, Step, Turn

sys.path.insert(0, next(str(place) for top in Path(__file__).parents if (place := top / "benchmarks").is_dir()))
import coordinator
import messages
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

    episodes = [each for name, reply in (("x", "red"), ("y", "blue")) for each in [played(name, reply)] * 2]
    told = messages.retellings(episodes)
    assert told["removed"]("x", 1, "holder") is None
    assert told["swapped"]("x", 1, "holder") == "blue" and told["swapped"]("y", 1, "holder") == "red"
    assert told["delayed"]("x", 1, "seeker") == "hat" and told["delayed"]("x", 1, "holder") is None
    assert sorted(told["scrambled"]("y", 1, "holder") or "") == sorted("blue")


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
