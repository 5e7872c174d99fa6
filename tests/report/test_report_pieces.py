"""Tokens of a transcript: their pieces join to the text, whatever the tokenizer and the alphabet."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from tokenizers import decoders
from transformers import AutoTokenizer

from madrigal.policies.chat import ChatFormat
from madrigal.policies.starter import model_path
from madrigal.policies.token_pieces import GrowingText, TokenPieces
from madrigal.runs.records import transcript
from madrigal.types import Completion, Episode, Message, Point, Step, Turn

TEXTS = (
    "",
    "My classmate covered my couch.",
    " a space first",
    "naïve ’quotes’ and 日本語 and 🎉👩‍👩‍👧!",
    "def f(x):\n    return x  # done\n\n",
)


FORMAT = ChatFormat(AutoTokenizer.from_pretrained(model_path("small")), ())


def decode(ids: list[int]) -> str:
    return FORMAT.decode(ids, frozenset())


@pytest.fixture(scope="module")
def speller() -> TokenPieces:
    return TokenPieces(decode, FORMAT.encode_text("a"))


@pytest.mark.parametrize("text", TEXTS)
def test_pieces_are_one_for_each_token_and_join_to_the_text(speller: TokenPieces, text: str) -> None:
    ids = [*FORMAT.encode_text(text), FORMAT.tokenizer.eos_token_id]
    pieces = speller(ids, text)
    assert len(pieces) == len(ids) and "".join(pieces) == text and pieces[-1] == ""


def test_an_answer_cut_within_a_letter_still_joins(speller: TokenPieces) -> None:
    ids = FORMAT.encode_text("so 🎉")[:-1]
    text = decode(ids)
    assert text.endswith("\ufffd") and "".join(speller(ids, text)) == text


def test_a_text_that_is_not_of_these_tokens_has_no_pieces(speller: TokenPieces) -> None:
    assert speller(FORMAT.encode_text("one two"), "another") == ()


def test_a_tokenizer_that_drops_the_first_space_is_understood() -> None:
    words = ("a", "one", "two")
    speller = TokenPieces(lambda ids: " ".join(words[token] for token in ids), [0])
    assert speller([1, 2, 1], "one two one") == ("one", " two", " one")


def told_of(ids: list[int], reads: Callable[[list[int]], str]) -> list[str]:
    """What a reader is told after each token."""
    growing = GrowingText(reads)
    return [growing.add([token]) for token in ids]


@pytest.mark.parametrize("text", [*TEXTS[1:], "".join(TEXTS) * 8])
def test_a_text_grows_by_whole_letters_to_what_all_tokens_spell(text: str) -> None:
    ids = FORMAT.encode_text(text)
    told = told_of(ids, decode)
    assert told[-1] == text and all(text.startswith(one) for one in told)
    assert told_of(ids[:-1], decode)[-1] == decode(ids[:-1]).rstrip("\ufffd")


def test_bytes_are_waited_for_and_the_first_blank_is_dropped_once() -> None:
    pieces = ["\u2581my", "\u2581dog", "<0xF0>", "<0x9F>", "<0x90>", "<0xB6>", "\u2581ran"] * 9
    parts = [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    llama = decoders.Sequence(parts)
    told = told_of(list(range(len(pieces))), lambda ids: llama.decode([pieces[n] for n in ids]))
    assert told[:7] == ["my", "my dog", "my dog", "my dog", "my dog", "my dog🐶", "my dog🐶 ran"]
    assert told[-1] == " ".join(["my dog🐶 ran"] * 9)


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

    code = "import sys, madrigal.commands.report; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parent).returncode == 0
