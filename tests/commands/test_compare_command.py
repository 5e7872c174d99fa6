"""madrigal compare on the command line: what it prints and writes, and every mistake in one line."""

from __future__ import annotations

import csv
import io
import json
import shutil
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from fakes.command_line import refused
from fakes.made import write_run
from fakes.pairs import PAIR
from madrigal import cli
from madrigal.config import Experiment, to_json
from madrigal.recipes import recipe
from madrigal.recipes.embedded import own
from madrigal.tasks.coding.config import Coding
from madrigal.training.held_out import NullCallback

TLDR = replace(recipe("tldr"), steps=2, prompts=8)


pytestmark = pytest.mark.usefixtures("empty_folder")


@pytest.mark.usefixtures("no_model")
@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        ("compare", "the following arguments are required: RECIPE|RUN"),
        ("compare tldrr", "unknown recipe 'tldrr': did you mean tldr"),
        (
            "compare tldr --stepz 3",
            "unknown setting --stepz: did you mean --steps? all are in: madrigal train tldr --h",
        ),
        ("compare tldr --seed 3", "--seed is set for every contender; use --seeds"),
        ("compare tldr --evaluation.samples=3", "--evaluation.samples is set for every contender; use --samples"),
        ("compare tldr --seeds one", "argument --seeds: invalid int value: 'one'"),
        ("compare tldr --samples 0", "evaluation.samples: expected at least 1, got 0"),
        ("compare tldr --steps 0", "steps is 0, so that no team is trained"),
        (
            "compare tldr --only parrot",
            "there is no contender parrot; there are untrained-team, sequential, discussion",
        ),
        ("compare tldr --only parallel", "there is no contender parallel"),
        ("compare tldr --also parrot", "there is no contender parrot; there are untrained-team"),
        ("compare tldr --words none.json", "none.json could not be read (No such file or directory); name a JSON file"),
        ("compare tldr --reworded none.json", "none.json could not be read (No such file or directory)"),
        ("compare tldr --k 1", "--k counts answers that pass every unit test; it needs a coding task"),
        ("compare coding --task.unconfined --k 5", "k between 1 and --samples, which is 4, got 5"),
        ("compare coding --task.unconfined --k 0 2", "k between 1 and --samples, which is 4, got 0, 2"),
        ("compare tldr --topology circle", "argument --topology: invalid choice: 'circle'"),
        ("compare tldr --json --csv", "not allowed with argument --json"),
        ("compare tldr arxiv", "expected an experiment at tldr, found none; give a run folder"),
        ("compare tldr 5", "expected an experiment at tldr"),
        ("compare runs/none", "there is no file or folder runs/none"),
    ],
)
def test_a_mistake_is_one_line(capsys: pytest.CaptureFixture[str], arguments: str, hint: str) -> None:
    assert hint in refused(capsys, *arguments.split())


@pytest.mark.usefixtures("no_model")
@pytest.mark.parametrize(
    ("single", "hint"),
    [
        ("single = 3", "a task needs name, agents"),
        ("single = task", "expected one agent in `single`, got ann, bob"),
        (
            "single = SingleRound('one', ('ann',), seen('train'), seen('other'), prompt, reward)",
            "own task one: expected `single` to have the test examples and best_return of pair, got others",
        ),
        (
            "single = SingleRound('one', ('ann',), seen('train'), seen('test'), prompt, reward, best_return=2)",
            "expected `single` to have the test examples and best_return of pair",
        ),
    ],
)
def test_a_single_of_ones_own_that_is_no_match_is_one_line(
    capsys: pytest.CaptureFixture[str], single: str, hint: str
) -> None:
    Path("pair.py").write_text(f"{PAIR}\n{single}\n")
    assert hint in refused(capsys, "compare", "pair.py:task", "--single", "starter:small")


@pytest.mark.usefixtures("no_model")
def test_a_file_may_not_import_code_or_open_the_sandbox_in_silence(capsys: pytest.CaptureFixture[str]) -> None:
    Path("mine.json").write_text(to_json(own("talk.py:task")))
    line = refused(capsys, "compare", "mine.json")
    assert "mine.json asks to import and run the code of talk.py:task; look at it first, and allow it with" in line
    assert "there is no file talk.py" in refused(capsys, "compare", "mine.json", "--trust")
    assert "there is no file talk.py" in refused(capsys, "compare", "talk.py:task")
    Path("open.json").write_text(to_json(replace(recipe("coding"), task=Coding(unconfined=True))))
    assert "switch off the sandbox" in refused(capsys, "compare", "open.json")
    assert "steps is 0" in refused(capsys, "compare", "open.json", "--task.unconfined", "--steps", "0")


def test_finished_runs_are_compared_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    write_run(Path("runs/a"), TLDR, 50.0, 70.0)
    write_run(Path("runs/b"), replace(TLDR, steps=9, prompts=4), 40.0, 66.0, when=("before",))
    assert cli.run(["compare", "runs/a", "runs/b"]) == 0
    out = capsys.readouterr().out
    assert "runs/b is still going or was stopped, at step 2 of 9: compared by its evaluation before." in out
    assert "tldr (prompts=8, steps=2)" in out and "60.0 [50.0, 70.0]" in out and "-7.0 [-10.0, -4.0]" in out
    assert not list(Path("runs").glob("*.md"))


@pytest.mark.parametrize("form", ["--json", "--markdown", "--csv"])
def test_a_table_for_programs_is_all_that_stdout_holds(capsys: pytest.CaptureFixture[str], form: str) -> None:
    write_run(Path("a"), TLDR, 50.0, 70.0)
    write_run(Path("b"), replace(TLDR, prompts=4, steps=9), 40.0, 66.0, when=("before",))
    assert cli.run(["compare", "a", "b", form]) == 0
    out, err = capsys.readouterr()
    assert "still going" in err
    if form == "--json":
        assert [row["columns"]["return %"]["mean"] for row in json.loads(out)["rows"]] == [60.0, 53.0]
    elif form == "--csv":
        assert [row["return % mean"] for row in csv.DictReader(io.StringIO(out))] == ["60.0", "53.0"]
    else:
        assert out.startswith("On the same held-out examples") and "| 60.0 [50.0, 70.0] |" in out


@pytest.mark.usefixtures("no_model")
def test_finished_runs_that_cannot_be_compared_are_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    a, b = (str(write_run(Path(name), TLDR, 50.0, 70.0)) for name in "ab")
    other = str(write_run(Path("c"), recipe("gsm8k"), 50.0, 70.0))
    bare = str(write_run(Path("d"), TLDR, 1.0, when=()))
    assert "a is of the task tldr and c of gsm8k" in refused(capsys, "compare", a, other)
    assert "d cannot be compared, it has no evaluation" in refused(capsys, "compare", a, bare)
    assert "expected every run once" in refused(capsys, "compare", a, "./a")
    assert "pass@2: expected transcripts of a coding task" in refused(capsys, "compare", a, b, "--k", "2")
    assert "what is finished takes no settings, got --steps" in refused(capsys, "compare", a, b, "--steps", "3")


@pytest.fixture
def given(sums: Experiment) -> list[str]:
    """A comparison of two contenders, as it is typed."""
    Path("sums.json").write_text(to_json(sums))
    return ["compare", "sums.json", "--seeds", "0", "--samples", "2", "--only", "sequential"]


def test_a_comparison_is_made_printed_and_written(capsys: pytest.CaptureFixture[str], given: list[str]) -> None:
    assert cli.run([*given, "--records.transcripts", "0"]) == 0
    out = capsys.readouterr().out
    folder = Path("runs/compare-sums")
    assert f"Also as comparison.json, .md and .csv in {folder}" in out and "Trained: team 2 steps" in out
    assert "The single model is left out: none is known with as many parameters as 2 seats of" in out
    assert sorted(path.name for path in (folder / "seed-0").iterdir()) == ["sequential", "team"]
    record = json.loads((folder / "comparison.json").read_text())
    assert [row["name"] for row in record["rows"]] == ["team", "sequential"]
    assert record["rows"][1]["what"] == "untrained, one after the other, hearing what was said"
    assert (folder / "comparison.md").read_text().count("\n| ") == 2 * 4  # of results, and of budgets
    assert len((folder / "comparison.csv").read_text().splitlines()) == 3
    # It is there now: its table again, with nothing made; other settings are refused, unless all begins anew.
    assert cli.run(["compare", str(folder), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == record
    assert "is 2 there, 3 here" in refused(capsys, *given, "--prompts", "3", "--records.transcripts", "0")
    before = (folder / "seed-0" / "sequential" / "evaluation.json").stat().st_mtime_ns
    assert cli.run([*given, "--prompts", "3", "--overwrite"]) == 0
    assert (folder / "seed-0" / "sequential" / "evaluation.json").stat().st_mtime_ns > before


def test_the_table_of_an_unfinished_comparison_says_what_is_missing(
    capsys: pytest.CaptureFixture[str], given: list[str]
) -> None:
    assert cli.run(given) == 0
    shutil.rmtree("runs/compare-sums/seed-0/team/team")
    assert "there is no finished team in runs/compare-sums" in refused(capsys, "compare", "runs/compare-sums")


@pytest.mark.parametrize("times", [1, 2])
def test_ctrl_c_exits_with_130_and_the_same_command_goes_on(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, given: list[str], times: int
) -> None:
    """Once stops when it is safe to, twice at once."""

    class Presses(NullCallback):
        def stage(self, name: str) -> None:
            for _ in range(times if name == "evaluating before" else 0):
                signal.raise_signal(signal.SIGINT)

        def close(self) -> None: ...

    make: Callable[..., NullCallback] = lambda *_: Presses()  # noqa: E731
    with monkeypatch.context() as patch:
        patch.setattr("madrigal.commands.compare.Progress", make)
        assert cli.run(given) == 130
    out, err = capsys.readouterr()
    assert "Stopped; the same command goes on from what is saved in runs/compare-sums." in out and not err
    assert cli.run(given) == 0
    assert "Trained: team 2 steps" in capsys.readouterr().out
