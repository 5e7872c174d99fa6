"""Run folders that are not whole: what is read, what is said of the rest, and what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from fakes.synthetic import write_run
from madrigal.report.document import document
from madrigal.runs.read import read_run, read_runs, readable_lines, task_of
from madrigal.runs.variants import variants
from madrigal.types import ConfigError


@pytest.fixture
def run(whole: Path, tmp_path: Path) -> Path:
    """A copy that a test may break."""
    return shutil.copytree(whole, tmp_path / "run")


def read(path: Path, content: bytes) -> tuple[list[int], list[str]]:
    path.write_bytes(content)
    found, notices = readable_lines(path, lambda record: "" if "step" in record else "names no step")
    return [line.number for line in found], notices


def test_a_whole_run_has_nothing_to_say(whole: Path) -> None:
    run = read_run(whole)
    assert (run.made, run.planned, run.ended, run.notices) == (60, 60, True, ())
    assert len(run.episodes) == 60 * 2 + 2 * 12


def test_a_cut_last_line_is_left_out_with_a_notice(tmp_path: Path) -> None:
    """One that lacks its newline only is whole."""
    assert read(tmp_path / "steps.jsonl", b'{"step": 0}\n{"step": 1}') == ([1, 2], [])
    numbers, notices = read(tmp_path / "steps.jsonl", b'{"step": 0}\n{"step": 1, "rew')
    assert numbers == [1]
    assert notices == ["steps.jsonl: line 2 was cut off while it was written and is left out."]


@pytest.mark.parametrize(
    ("broken", "why"),
    [
        (b"{'step': 1}", "is not JSON (Expecting property name enclosed in double quotes)"),
        (b"[1, 2]", "is not a JSON object"),
        (b'{"reward": 1}', "names no step"),
        (b'{"step": "\xff"}', "is not UTF-8"),
        (b"[" * 100_000, "is not JSON (too large to read)"),
        (b'{"step": ' + b"1" * 5000 + b"}", "is not JSON (too large to read)"),
    ],
)
def test_a_broken_line_in_the_middle_is_skipped_by_name(tmp_path: Path, broken: bytes, why: str) -> None:
    numbers, notices = read(tmp_path / "steps.jsonl", b'{"step": 0}\n' + broken + b'\n\n{"step": 2}\n')
    assert numbers == [1, 4]
    assert notices == [f"steps.jsonl: line 2 {why} and is left out."]


def test_many_broken_lines_are_all_numbered_in_few_sentences(tmp_path: Path) -> None:
    numbers, notices = read(tmp_path / "steps.jsonl", b"x\n" * 8 + b'{"step": 2}\n')
    assert numbers == [9] and len(notices) == 6
    assert notices[-1] == "steps.jsonl: 3 more lines could not be read and are left out: 6, 7, 8."


@pytest.mark.parametrize(
    "record",
    [
        {"step": 0, "reward": None, "turns": []},
        {"reward": 1.0, "turns": []},
        {"step": 0, "reward": 1.0},
        {"step": 0, "reward": 1.0, "turns": [{"agent": "ann"}]},
        {"step": 0, "reward": 1.0, "turns": ["text"]},
    ],
)
def test_transcripts_that_are_none_are_left_out_with_a_notice(run: Path, record: dict[str, Any]) -> None:
    with (run / "episodes.jsonl").open("a") as stream:
        stream.write(json.dumps(record) + "\n")
    found = read_run(run)
    assert len(found.episodes) == 144 and len(found.notices) == 1 and "line 145" in found.notices[0]


def test_steps_that_are_missing_are_told(run: Path) -> None:
    lines = (run / "steps.jsonl").read_text().splitlines(keepends=True)
    (run / "steps.jsonl").write_text("".join(lines[:7] + lines[9:]))
    assert read_run(run).notices == ("steps.jsonl: 2 of 60 steps are missing.",)


@pytest.mark.parametrize(
    ("steps", "planned", "words"),
    [(5, 80, ["has not ended: 5 of 80 steps"]), (0, 80, ["has not ended: 0 of 80", "there are no curves"]), (0, 0, [])],
)
def test_a_run_that_goes_on_says_how_far_it_is(tmp_path: Path, steps: int, planned: int, words: list[str]) -> None:
    """One of no steps was only to be played."""
    notices = read_run(write_run(tmp_path / "run", steps=steps, planned=planned)).notices
    assert len(notices) == len(words) and all(map(str.__contains__, notices, words))


@pytest.mark.parametrize("name", ["steps.jsonl", "episodes.jsonl", "evaluation.json"])
def test_a_file_that_is_missing_is_a_notice(run: Path, name: str) -> None:
    (run / name).unlink()
    assert any(("no evaluation" if "evaluation" in name else name) in notice for notice in read_run(run).notices)


@pytest.mark.parametrize("content", ["{", "[]", '{"before": {"return_percent": "high"}}'])
def test_an_evaluation_file_that_is_broken_is_a_notice(run: Path, content: str) -> None:
    (run / "evaluation.json").write_text(content)
    broken = read_run(run)
    assert broken.evaluations == {} and any("evaluation.json" in notice for notice in broken.notices)


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"expected a run folder with an experiment.json, found none in .*nowhere"):
        read_runs([tmp_path / "nowhere"])


def test_settings_that_cannot_be_read_are_refused(run: Path) -> None:
    (run / "experiment.json").write_text("{")
    with pytest.raises(ConfigError, match=r"experiment.json is not JSON"):
        read_runs([run])


def test_runs_of_different_tasks_are_refused_by_name(whole: Path, tmp_path: Path) -> None:
    other = write_run(tmp_path / "other", steps=1, task={"kind": "Gsm8k"})
    with pytest.raises(ConfigError, match=r"whole is a run of the task Coding, .*other of Gsm8k; one page shows runs"):
        read_runs([whole, other])


def test_the_same_run_twice_is_refused(whole: Path) -> None:
    with pytest.raises(ConfigError, match="once, got one of them twice"):
        read_runs([whole, whole / ".." / "whole"])


def test_runs_of_one_name_are_told_apart_by_their_parents(tmp_path: Path) -> None:
    folders = [write_run(tmp_path / parent / "run", steps=1) for parent in ("one", "two")]
    assert [run.name for run in read_runs(folders)] == ["one/run", "two/run"]


@pytest.mark.parametrize(
    ("task", "said"),
    [
        ({"kind": "Tldr"}, "Tldr"),
        ({"kind": "Coding", "name": "coding"}, "Coding"),
        ({"kind": "Coding", "name": "humaneval"}, "Coding humaneval"),
        ({"kind": "CustomTask", "path": "odd.py:task"}, "CustomTask odd.py:task"),
        (None, "unknown"),
    ],
)
def test_tasks_are_told_by_kind_and_name(tmp_path: Path, task: object, said: str) -> None:
    assert task_of(read_run(write_run(tmp_path / "run", steps=0, task=task))) == said


def test_a_comparison_lies_in_the_folder_or_above_it(run: Path) -> None:
    (run.parent / "comparison.json").write_text('{"rows": [], "budget": "above"}')
    assert read_run(run).comparison["budget"] == "above"
    (run / "comparison.json").write_text('{"rows": [], "budget": "within"}')
    assert read_run(run).comparison["budget"] == "within"


def contest(folder: Path) -> Path:
    """Two contenders under two seeds; the single model's task has another name."""
    for seed in (0, 1):
        for name, task in (("team", {"kind": "Tldr"}), ("single model", {"kind": "Writer"})):
            run = write_run(folder / f"seed-{seed}" / name.replace(" ", "-"), steps=3, seed=seed, task=task)
            (run / "contender.json").write_text(json.dumps({"name": name, "what": "one of two"}))
    (folder / "comparison.json").write_text('{"rows": [], "budget": "the same"}')
    return folder


def test_the_folder_of_a_comparison_stands_for_its_runs(tmp_path: Path) -> None:
    runs = read_runs([contest(tmp_path / "compare")])
    assert [(run.name, run.contender) for run in runs] == [
        ("seed-0/single-model", "single model"),
        ("seed-0/team", "team"),
        ("seed-1/single-model", "single model"),
        ("seed-1/team", "team"),
    ]
    assert {run.comparison["budget"] for run in runs} == {"the same"}
    assert [(kind.name, len(kind.runs)) for kind in variants(runs)] == [("single model", 2), ("team", 2)]


def test_validation_is_read_and_shown_apart_from_the_test_split(run: Path) -> None:
    results = json.loads((run / "evaluation.json").read_text())
    chosen = {f"step-{step}": results["before"] | {"return_percent": float(step)} for step in (40, 5)}
    (run / "validation.json").write_text(json.dumps(chosen))
    read = read_run(run)
    assert list(read.validations) == ["step-5", "step-40"] and list(read.evaluations) == list(results)
    page = document([read])
    assert 'id="validation"' in page and page.index("step 5<") < page.index("step 40<")
    (run / "validation.json").unlink()
    assert 'id="validation"' not in document([read_run(run)])
