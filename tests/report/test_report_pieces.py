"""Tokens of a transcript: their pieces join to the text, whatever the tokenizer and the alphabet."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from madrigal.measure import transcript
from madrigal.policies.spelling import Speller
from madrigal.starter import model_path
from madrigal.types import Completion, Episode, Message, Point, Step, Turn

TEXTS = (
    "",
    "My classmate covered my couch.",
    " a space first",
    "naïve ’quotes’ and 日本語 and 🎉👩‍👩‍👧!",
    "def f(x):\n    return x  # done\n\n",
)


@pytest.fixture(scope="module")
def speller() -> Speller:
    return Speller(AutoTokenizer.from_pretrained(model_path("small")))


@pytest.mark.parametrize("text", TEXTS)
def test_pieces_are_one_for_each_token_and_join_to_the_text(speller: Speller, text: str) -> None:
    ids = [*speller.tokenizer(text, add_special_tokens=False)["input_ids"], speller.tokenizer.eos_token_id]
    pieces = speller(ids, text)
    assert len(pieces) == len(ids) and "".join(pieces) == text and pieces[-1] == ""


def test_an_answer_cut_within_a_letter_still_joins(speller: Speller) -> None:
    ids = speller.tokenizer("so 🎉", add_special_tokens=False)["input_ids"][:-1]
    text = speller.tokenizer.decode(ids, skip_special_tokens=True)
    assert text.endswith("\ufffd") and "".join(speller(ids, text)) == text


def test_a_text_that_is_not_of_these_tokens_has_no_pieces(speller: Speller) -> None:
    assert speller(speller.tokenizer("one two", add_special_tokens=False)["input_ids"], "another") == ()


class DropsFirstSpace:
    """A tokenizer of words that, like SentencePiece's, drops the space before the first word."""

    words = ("a", "one", "two")

    def __call__(self, text: str, add_special_tokens: bool) -> dict[str, list[int]]:
        return {"input_ids": [self.words.index(word) for word in text.split()]}

    def decode(self, ids: list[int], skip_special_tokens: bool) -> str:
        return "".join(f" {self.words[token]}" for token in ids).removeprefix(" ")


def test_a_tokenizer_that_drops_the_first_space_is_understood() -> None:
    assert Speller(DropsFirstSpace())([1, 2, 1], "one two one") == ("one", " two", " one")


def episode(completion: Completion) -> Episode[None]:
    turn = Turn("ann", (Message("user", "Say it."),), completion)
    return Episode(Point("e", None), (turn,), (Step(None, {"ann": 1.0}),))


def test_a_transcript_carries_lengths_and_rounded_log_probs() -> None:
    said = Completion("hi 🎉", token_ids=(5, 6, 7, 0), logprobs=(-0.12345, -2.0, -1e-9, -0.5))
    (turn,) = transcript(episode(replace(said, pieces=("hi", "", " 🎉", ""))))["turns"]
    assert (turn["pieces"], turn["logprobs"]) == ([2, 0, 2, 0], [-0.123, -2.0, 0.0, -0.5])
    assert "-0.0," not in json.dumps(turn)


def test_a_transcript_without_pieces_is_as_it_was() -> None:
    (turn,) = transcript(episode(Completion("hi", token_ids=(5,), logprobs=(-0.1,))))["turns"]
    assert {"pieces", "logprobs"}.isdisjoint(turn)


def test_reports_import_no_torch() -> None:
    """The contract of pyproject.toml, at run time: a page is made where torch is not installed."""
    import subprocess
    import sys

    code = "import sys, madrigal.report.command; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parent).returncode == 0
