"""Run folders as they come: whole, still growing, cut off, broken, of other tasks; nothing is lost and all is said."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fakes.made import write_run
from fakes.synthetic import write_lines
from madrigal.algorithms.group import GroupRelative
from madrigal.compare.load import difference, is_finished, load_result, rows_of_comparison, rows_of_runs
from madrigal.compare.rows import RETURN, SPEED, TIME
from madrigal.config import Experiment, to_json
from madrigal.recipes import recipe
from madrigal.recipes.embedded import own
from madrigal.rollouts.topology import Discussion
from madrigal.runs.log import read_lines
from madrigal.settings import EvaluationConfig
from madrigal.tasks.writing.task import Arxiv, ContentWeights, Tldr
from madrigal.types import ConfigError

TLDR = replace(recipe("tldr"), steps=2, prompts=8, algorithm=GroupRelative(width=8, kl=0.02))


def write(place: Path, run: Experiment = TLDR, *values: float, **about: Any) -> Path:
    return write_run(place, run, *(values or (50.0, 70.0)), **about)


def test_a_finished_run_says_what_it_earned_and_cost(tmp_path: Path) -> None:
    place = write(tmp_path / "run", replace(TLDR, seed=4))
    one, notices = load_result(place)
    assert [record["return_percent"] for record in one.transcripts] == [50.0, 70.0] and not notices
    assert (one.seed, one.updates, one.trained_tokens, one.seconds, one.tokens_per_second) == (4, 2, 200, 0.5, 40.0)
    assert is_finished(place)


def test_only_the_last_evaluation_counts(tmp_path: Path) -> None:
    place = write(tmp_path / "run")
    records = read_lines(place / "episodes.jsonl")
    for record in records:
        record["return_percent"] += 5 * (record["evaluation"] == "after")
    write_lines(place / "episodes.jsonl", [*records, {"step": 0, "reward": 1.0, "turns": []}])
    assert [record["return_percent"] for record in load_result(place)[0].transcripts] == [55.0, 75.0]


def test_what_was_not_timed_has_no_speed(tmp_path: Path) -> None:
    place = write(tmp_path / "run")
    held = json.loads((place / "evaluation.json").read_text())
    held["after"] |= {"tokens_per_second": 0.0, "response_seconds": 0.0}
    (place / "evaluation.json").write_text(json.dumps(held))
    (row,), _ = rows_of_runs([place])
    assert SPEED not in row.columns and TIME not in row.columns


def test_a_run_that_is_still_going_is_compared_by_its_last_evaluation_and_says_so(tmp_path: Path) -> None:
    going = write(tmp_path / "going", replace(TLDR, steps=9), when=("before", "step-2"))
    rows, notices = rows_of_runs([write(tmp_path / "run"), going])
    assert [row.columns[RETURN].mean for row in rows] == [60.0, 60.0]
    assert notices == [f"{going} is still going or was stopped, at step 2 of 9: compared by its evaluation step-2."]
    assert not is_finished(going)


def test_an_evaluation_that_is_being_written_is_not_compared_yet(tmp_path: Path) -> None:
    """It is filed before its transcripts: of step-2 there is only half."""
    going = write(tmp_path / "going", replace(TLDR, steps=9), when=("before", "step-2"))
    lines = (going / "episodes.jsonl").read_text().splitlines(keepends=True)
    (going / "episodes.jsonl").write_text("".join(lines[:-1]) + lines[-1][:20])
    one, notices = load_result(going)
    assert len(one.transcripts) == 2 and "compared by its evaluation before" in notices[-1]
    assert notices[0] == f"{going}: episodes.jsonl: line 4 was cut off while it was written and is left out."


def test_a_run_without_an_evaluation_is_one_line_that_says_how_to_get_one(tmp_path: Path) -> None:
    place = write(tmp_path / "run", when=())
    with pytest.raises(
        ConfigError, match=f"{place} cannot be compared, it has no evaluation; make it with: madrigal t"
    ):
        load_result(place)
    mine = write(tmp_path / "mine", own("talk.py:task"), when=())
    with pytest.raises(ConfigError, match=f"madrigal train {mine} --resume --trust"):
        load_result(mine)


def test_a_broken_line_of_the_last_evaluation_is_an_error_that_names_it(tmp_path: Path) -> None:
    place = write(tmp_path / "run")
    lines = (place / "episodes.jsonl").read_text().splitlines(keepends=True)
    (place / "episodes.jsonl").write_text("".join([*lines[:2], "{broken\n", lines[3]]))
    with pytest.raises(ConfigError, match=r"its evaluation after is not whole \(.*episodes.jsonl: line 3 is not JSON"):
        load_result(place)
    assert not is_finished(place)


@pytest.mark.parametrize("broken", [b"{broken\n", b"\xff\xfe\n", b"[" * 5000 + b"\n", b"7\n"])
def test_a_broken_line_elsewhere_is_told_and_costs_nothing(tmp_path: Path, broken: bytes) -> None:
    place = write(tmp_path / "run")
    for name in ("episodes.jsonl", "steps.jsonl"):
        (place / name).write_bytes(broken + (place / name).read_bytes())
    one, notices = load_result(place)
    assert (len(one.transcripts), one.trained_tokens, one.updates) == (2, 200, 2)
    assert len(notices) == 2 and all("line 1 is not" in notice and "left out" in notice for notice in notices)
    assert is_finished(place)


def test_a_broken_evaluation_is_one_line(tmp_path: Path) -> None:
    place = write(tmp_path / "run")
    (place / "evaluation.json").write_text("{")
    with pytest.raises(ConfigError, match=r"it has no evaluation \(.*evaluation.json is not JSON"):
        load_result(place)


@pytest.mark.parametrize(
    "change", [{"metrics": None}, {"metrics": {"a": "b"}}, {"example": 3}, {"details": None}, {"return_percent": "x"}]
)
def test_a_transcript_that_says_no_return_is_one_line(tmp_path: Path, change: dict[str, Any]) -> None:
    place = write(tmp_path / "run")
    records = [record | change for record in read_lines(place / "episodes.jsonl")]
    write_lines(place / "episodes.jsonl", records)
    with pytest.raises(
        ConfigError, match="has a transcript without example, metrics, details, tokens or normalized return"
    ):
        load_result(place)


def test_an_evaluation_is_whole_with_every_sample(tmp_path: Path) -> None:
    place = write(tmp_path / "run")
    twice = replace(TLDR, evaluation=EvaluationConfig(samples=2))
    (place / "experiment.json").write_text(to_json(twice))
    assert not is_finished(place)
    write_lines(place / "episodes.jsonl", read_lines(place / "episodes.jsonl") * 2)
    assert is_finished(place)


def test_a_trained_run_is_finished_with_its_team_a_played_one_without(tmp_path: Path) -> None:
    place, played = write(tmp_path / "run"), write(tmp_path / "played", replace(TLDR, steps=0))
    for folder in (place, played):
        (folder / "team").rmdir()
    assert not is_finished(place) and is_finished(played) and not is_finished(tmp_path)


def test_seeds_of_one_experiment_are_one_row(tmp_path: Path) -> None:
    places = [write(tmp_path / str(n), replace(TLDR, seed=n), 10.0 * n, 20.0) for n in range(3)]
    (row,), _ = rows_of_runs(places)
    assert (row.name, row.seeds, row.columns[RETURN].mean) == ("tldr", 3, pytest.approx((10 + 15 + 20) / 3))


def test_settings_that_differ_are_in_the_name(tmp_path: Path) -> None:
    kinds = [
        TLDR,
        replace(TLDR, algorithm=GroupRelative(width=8, kl=0.0)),
        replace(TLDR, algorithm=GroupRelative(width=4, kl=0.02)),
    ]
    places = [write(tmp_path / str(n), run) for n, run in enumerate(kinds)]
    rows, _ = rows_of_runs(places)
    assert [row.name for row in rows] == [
        "tldr (algorithm.kl=0.02, algorithm.width=8)",
        "tldr (algorithm.kl=0.0, algorithm.width=8)",
        "tldr (algorithm.kl=0.02, algorithm.width=4)",
    ]
    assert [row.name for row in rows_of_runs(places[:2])[0]] == ["tldr (algorithm.kl=0.02)", "tldr (algorithm.kl=0.0)"]


def test_what_does_not_change_the_training_makes_no_other_row(tmp_path: Path) -> None:
    other = replace(TLDR, seed=1, threads=2, evaluation=EvaluationConfig(every=1))
    (row,), _ = rows_of_runs([write(tmp_path / "a"), write(tmp_path / "b", other)])
    assert (row.name, row.seeds) == ("tldr", 2)


def test_coherence_by_other_transitions_is_another_measure(tmp_path: Path) -> None:
    other = replace(TLDR, task=Tldr(transitions="lists/authors.json"))
    places = [write(tmp_path / "a"), write(tmp_path / "b", other)]
    with pytest.raises(ConfigError, match=r"of the task tldr and .* of tldr by the transitions of authors\.json"):
        rows_of_runs(places)
    paid = replace(TLDR, task=Tldr(weights=ContentWeights(faithfulness=1.0)))  # the return is the paper's all the same
    assert len(rows_of_runs([places[0], write(tmp_path / "c", paid)])[0]) == 2


def test_where_too_much_differs_the_folder_is_the_name(tmp_path: Path) -> None:
    other = replace(TLDR, prompts=1, steps=3, algorithm=GroupRelative(width=2, kl=0.5))
    places = [write(tmp_path / "a"), write(tmp_path / "b", other)]
    assert [row.name for row in rows_of_runs(places)[0]] == [f"tldr ({place})" for place in places]


def test_the_same_experiment_with_the_same_seed_twice_is_no_second_seed(tmp_path: Path) -> None:
    places = [write(tmp_path / "a"), write(tmp_path / "b")]
    rows, _ = rows_of_runs(places)
    assert [(row.name, row.seeds) for row in rows] == [(f"tldr ({place})", 1) for place in places]
    with pytest.raises(ConfigError, match="expected every run once, got one of them twice"):
        rows_of_runs([places[0], places[0] / "." / ""])


def test_other_recipes_of_one_task_go_by_their_names_the_first_is_the_reference(tmp_path: Path) -> None:
    long = replace(TLDR, recipe="tldr-long", steps=4)
    rows, _ = rows_of_runs([write(tmp_path / "a", long, 10.0, 30.0), write(tmp_path / "b", TLDR, 40.0, 50.0)])
    assert [row.name for row in rows] == ["tldr-long", "tldr"]
    assert rows[0].versus is None and rows[1].versus is not None and rows[1].versus.difference.mean == 25.0


@pytest.mark.parametrize(
    ("other", "named"),
    [
        (recipe("arxiv"), "arxiv with early thresholds"),
        (recipe("coding"), "coding"),
        (recipe("gsm8k"), "gsm8k"),
        (own("dir/talk.py:task"), "talk.py:task"),
    ],
)
def test_runs_of_different_tasks_are_not_compared(tmp_path: Path, other: Experiment, named: str) -> None:
    places = [write(tmp_path / "a"), write(tmp_path / "b", other)]
    problem = f"{places[0]} is of the task tldr and {places[1]} of {named}; compare runs of one task"
    with pytest.raises(ConfigError, match=problem):
        rows_of_runs(places)


def test_other_thresholds_and_other_problems_are_other_tasks(tmp_path: Path) -> None:
    later = replace(recipe("arxiv"), task=Arxiv(variant="later"))
    with pytest.raises(ConfigError, match=r"early thresholds and .* of arxiv with later"):
        rows_of_runs([write(tmp_path / "a", recipe("arxiv")), write(tmp_path / "b", later)])
    humaneval = recipe("humaneval-qwen2.5-coder-3b")
    with pytest.raises(ConfigError, match=r"of the task coding and .* of humaneval"):
        rows_of_runs([write(tmp_path / "c", recipe("coding")), write(tmp_path / "d", humaneval)])
    rows_of_runs([write(tmp_path / "e", recipe("coding")), write(tmp_path / "f", recipe("coding-two-turns"))])


def test_other_examples_are_not_compared(tmp_path: Path) -> None:
    places = [write(tmp_path / "a"), write(tmp_path / "b", TLDR, 1.0, 2.0, 3.0)]
    with pytest.raises(ConfigError, match="were not played on the same held-out examples"):
        rows_of_runs(places)


def test_differences_of_settings_are_told() -> None:
    assert difference(TLDR, TLDR) == ""
    assert difference(TLDR, replace(TLDR, prompts=3)) == "prompts is 3 there, 8 here"
    much = difference(TLDR, replace(TLDR, prompts=3, steps=1, seed=1, threads=3))
    assert much == "steps is 1 there, 2 here; prompts is 3 there, 8 here; seed is 1 there, 0 here; and 1 more"
    assert "topology.rounds is 2 there, not set here" in difference(TLDR, replace(TLDR, topology=Discussion()))


def contest(folder: Path) -> Path:
    """A team and an untrained one under two seeds; of the second seed a third contender is unfinished."""
    for seed in (0, 1):
        run = replace(TLDR, seed=seed)
        for order, (name, value) in enumerate({"untrained team": 20.0, "team": 80.0}.items()):
            steps = {"untrained team": 0}.get(name, 2)
            place = write(
                folder / f"seed-{seed}" / name.replace(" ", "-"), replace(run, steps=steps), value, value + seed
            )
            about = {"name": name, "what": f"the {name}", "order": order}
            (place / "contender.json").write_text(json.dumps(about))
    write(folder / "seed-1" / "tuned", replace(TLDR, seed=1), when=("before",))
    return folder


def test_the_table_of_a_contest_is_what_is_finished_in_it(tmp_path: Path) -> None:
    folder = contest(tmp_path / "contest")
    rows, notices = rows_of_comparison(folder, (0, 1))
    assert [(row.name, row.what, row.seeds) for row in rows] == [
        ("team", "the team", 2),
        ("untrained team", "the untrained team", 2),
    ]
    assert [row.columns[RETURN].mean for row in rows] == [80.25, 20.25]
    assert rows[1].versus is not None and rows[1].versus.difference.mean == -60.0
    assert notices == [f"{folder / 'seed-1' / 'tuned'} is not finished and is left out."]
    assert [row.seeds for row in rows_of_comparison(folder, (0, 5))[0]] == [1, 1]


def test_a_contest_without_a_team_or_without_names_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no finished team in"):
        rows_of_comparison(tmp_path, (0,))
    folder = contest(tmp_path / "contest")
    (folder / "seed-0" / "team" / "contender.json").write_text("{")
    with pytest.raises(ConfigError, match=r"contender.json does not say which contender it is"):
        rows_of_comparison(folder, (0, 1))


def test_evaluations_on_the_way_are_a_curve_over_tokens_and_seconds(tmp_path: Path) -> None:
    place = write(tmp_path / "run", replace(TLDR, steps=3), when=("before", "step-1", "step-2", "after"), steps=3)
    write_lines(place / "steps.jsonl", [{"step": n, "tokens": 100, "seconds": 2.5} for n in range(3)])
    one, _ = load_result(place)
    assert [(point.tokens, point.seconds) for point in one.curve] == [(0, 0.0), (100, 2.5), (200, 5.0)]
    assert (one.trained_tokens, one.trained_seconds, one.updates) == (300, 7.5, 3)
    assert one.curve[0].returns == {"x0": 50.0, "x1": 70.0}


def test_what_is_compared_by_an_evaluation_on_the_way_has_spent_what_it_had_then(tmp_path: Path) -> None:
    one, _ = load_result(write(tmp_path / "run", replace(TLDR, steps=9), when=("before", "step-1"), steps=2))
    assert (one.trained_tokens, one.updates, len(one.curve)) == (100, 1, 1)


def test_the_epochs_of_a_warm_start_take_their_time(tmp_path: Path) -> None:
    place = write(tmp_path / "run", replace(TLDR, steps=1), when=("before", "warm", "after"), steps=1)
    write_lines(place / "steps.jsonl", [{"step": 0, "tokens": 100, "seconds": 2.5}])
    epochs = [{"epoch": n, "optimizer_steps": 4, "seconds": 3.0} for n in range(2)]
    write_lines(place / "warm.jsonl", [{"kept": 3, "tokens": 50, "seconds": 1.0}, *epochs])
    one, _ = load_result(place)
    assert [(point.tokens, point.seconds) for point in one.curve] == [(0, 0.0), (50, 7.0)]
    assert (one.trained_tokens, one.trained_seconds, one.updates) == (150, 9.5, 9)
