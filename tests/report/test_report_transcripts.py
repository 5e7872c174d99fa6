"""Transcripts on their way into a page: nothing changes, nothing is lost silently, nothing is too heavy."""

from __future__ import annotations

import base64
import gzip
import json
import re
import string
from pathlib import Path
from typing import Any

import pytest

from fakes.synthetic import write_run
from madrigal.report.transcripts import LONGEST, evenly, pack, schemes
from madrigal.runs.read import Line, Run, read_run


def unpacked(block: str) -> dict[str, Any]:
    return dict(json.loads(gzip.decompress(base64.b64decode(block))))


def run_of(*records: dict[str, Any]) -> Run:
    episodes = tuple(Line(number, record) for number, record in enumerate(records, start=1))
    return Run("run", Path("run"), {}, (), episodes, {}, {}, ())


def episode(**changes: Any) -> dict[str, Any]:
    turn = {"agent": "ann", "prompt": [{"role": "user", "content": "Say hi."}], "text": "hi", "reward": 1.0}
    return {"step": 3, "reward": 1.0, "example": "e", "turns": [turn | changes]}


def test_every_transcript_goes_in_as_it_is(whole: Path) -> None:
    run = read_run(whole)
    packed = pack([run])
    found = unpacked(packed.block)
    assert packed.notices == () and len(found["episodes"]) == len(run.episodes)
    by_line = {shown["line"]: shown for shown in found["episodes"]}
    for line in run.episodes:
        shown = by_line[line.number]
        assert (shown["step"], shown["example"]) == (line.record["step"], line.record["example"])
        assert shown["reward"] == pytest.approx(line.record["reward"], rel=1e-5)
        for turn, given in zip(shown["turns"], line.record["turns"], strict=True):
            assert (turn["agent"], turn["text"], turn["pieces"]) == (given["agent"], given["text"], given["pieces"])
            assert [found["messages"][number][1] for number in turn["prompt"]] == [
                m["content"] for m in given["prompt"]
            ]
            assert turn["surprise"] == pytest.approx([-100 * logprob for logprob in given["logprobs"]], abs=0.5)


def test_the_block_holds_no_letter_that_could_end_it(tmp_path: Path) -> None:
    packed = pack([run_of(episode(text="</script><!--<script>"))])
    assert set(packed.block) <= set(string.ascii_letters + string.digits + "+/=")
    assert unpacked(packed.block)["episodes"][0]["turns"][0]["text"] == "</script><!--<script>"


def test_the_same_run_packs_to_the_same_letters(whole: Path) -> None:
    assert pack([read_run(whole)]).block == pack([read_run(whole)]).block


@pytest.mark.parametrize("limit", [60_000, 45_000, 30_000])
def test_what_does_not_fit_is_left_out_evenly_and_said(whole: Path, limit: int) -> None:
    packed = pack([read_run(whole)], limit)
    found = unpacked(packed.block)["episodes"]
    assert len(packed.block) <= limit
    played = [shown for shown in found if not shown["evaluation"]]
    assert len(found) - len(played) == 24
    (notice,) = packed.notices
    assert notice.startswith(f"To stay small, this page holds {len(played)} of 120 training transcripts, spread evenly")
    assert 10 < len(played) < 120 and (played[0]["step"], played[-1]["step"]) == (0, 59)


def test_held_out_examples_stay_pairs_when_even_they_do_not_fit(whole: Path) -> None:
    packed = pack([read_run(whole)], 6_000)
    found = unpacked(packed.block)["episodes"]
    assert [re.findall(r"holds ([\d,]+) of ([\d,]+) (.*),", notice)[0][1:] for notice in packed.notices] == [
        ("12", "held-out examples"),
        ("120", "training transcripts"),
    ]
    before, after = ([s["example"] for s in found if s["evaluation"] == when] for when in ("before", "after"))
    assert sorted(before) == sorted(after) and len(before) > 0


@pytest.mark.parametrize(
    ("count", "places"), [(0, []), (1, [0]), (2, [0, 9]), (4, [0, 3, 6, 9]), (10, list(range(10)))]
)
def test_an_even_selection_has_both_ends(count: int, places: list[int]) -> None:
    items = [[(place, Line(1, {}))] for place in range(10)]
    assert [item[0][0] for item in evenly(items, count)] == places


@pytest.mark.parametrize(
    "tokens",
    [
        {},
        {"pieces": [1, 1]},
        {"pieces": [2], "logprobs": [-1.0, -1.0]},
        {"pieces": [3], "logprobs": [-1.0]},
        {"pieces": [3, -1], "logprobs": [-1.0, -1.0]},
        {"pieces": [1, True], "logprobs": [-1.0, -1.0]},
        {"pieces": [1, 1], "logprobs": [float("-inf"), -1.0]},
        {"pieces": [1, 1], "logprobs": ["a", -1.0]},
        {"pieces": "ab", "logprobs": "ab"},
    ],
)
def test_tokens_that_do_not_fit_their_text_are_no_tokens(tokens: dict[str, Any]) -> None:
    (turn,) = unpacked(pack([run_of(episode(**tokens))]).block)["episodes"][0]["turns"]
    assert turn["text"] == "hi" and "pieces" not in turn


def test_fields_of_the_wrong_kind_do_no_harm() -> None:
    odd = {"metrics": [], "details": {"a": float("nan")}, "evaluation": 3, "ending": None, "example": ["x"]}
    (shown,) = unpacked(pack([run_of(episode(prompt="text", advantage="high", round="first") | odd)]).block)["episodes"]
    assert (shown["metrics"], shown["details"], shown["evaluation"]) == ({}, '{"a": NaN}', "3")
    assert (shown["turns"][0]["prompt"], shown["turns"][0]["advantage"]) == ([], None)


def test_half_of_a_pair_of_letters_goes_through() -> None:
    assert unpacked(pack([run_of(episode(text="\ud83d!"))]).block)["episodes"][0]["turns"][0]["text"] == "\ud83d!"


def test_one_endless_text_is_cut_and_says_so() -> None:
    text = unpacked(pack([run_of(episode(text="a" * 3_000_000))]).block)["episodes"][0]["turns"][0]["text"]
    assert len(text) < LONGEST + 100 and text.endswith("2,980,000 more characters are in episodes.jsonl")


def test_several_schemes_may_hold() -> None:
    assert schemes({"metrics": {"scheme/fallback": 1, "scheme/none": 0.0, "scheme/decorator": 0.5}}) == [
        "fallback",
        "decorator",
    ]
    assert schemes({}) == schemes({"metrics": None}) == []


@pytest.mark.slow
def test_ten_thousand_episodes_fit(tmp_path: Path) -> None:
    run = read_run(write_run(tmp_path / "run", steps=500, transcripts=20, examples=2, words=6))
    packed = pack([run])
    assert len(unpacked(packed.block)["episodes"]) == 10_004 and packed.notices == ()
