"""Whole comparisons of tiny teams: what is made, on which budget, and that a cut one goes on as if it had not been."""

from __future__ import annotations

import json
import shutil
import signal
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from fakes.synthetic import write_lines
from madrigal.compare.load import load_result, rows_of_comparison
from madrigal.compare.rows import SPEED, TIME
from madrigal.compare.run import Comparison, open_comparison, play_all, replacing, slug
from madrigal.config import Experiment, read_experiment
from madrigal.evaluation.statistics import Interval
from madrigal.runs.log import read_lines
from madrigal.settings import Lora, OptimizerConfig, WarmConfig
from madrigal.training.held_out import NullCallback, evaluate_run
from madrigal.types import ConfigError, EngineError

SUPERVISED = "supervised-on-the-best-of-n"
PLAYED = ["untrained-team", "sequential", "discussion", "single-model"]
NAMES = [*PLAYED, "tuned-single-model", "single-model-revising", "team", SUPERVISED, "team-no-baseline"]
NAMES += ["first-swapped", "second-swapped", "untrained-team-reworded"]
CLOCKS = ("seconds", "tokens_per_second")


def opened(sums: Experiment, folder: Path, seeds: Sequence[int] = (0,), **about: Any) -> Comparison:
    about = {"also": () if about.get("only") else (SUPERVISED,), **about}
    return open_comparison(sums, folder, seeds, samples=2, single=sums.team.policy.model, **about)


@pytest.fixture(scope="module")
def whole(sums: Experiment, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "whole"
    assert play_all(opened(sums, folder))
    return folder


@pytest.fixture
def cut(whole: Path, tmp_path: Path) -> Callable[..., Path]:
    """A copy of the whole comparison that lacks some contenders."""

    def without(*names: str) -> Path:
        folder = tmp_path / "cut"
        shutil.copytree(whole, folder)
        for name in names:
            shutil.rmtree(folder / "seed-0" / name)
        return folder

    return without


class Presses(NullCallback):
    """Presses Ctrl-C at a stage, or after a step; remembers what it was asked to watch."""

    def __init__(self, at: str = "", step: int = -1) -> None:
        self.at, self.last = at, step
        self.titles: list[str] = []
        self.steps: list[int] = []

    def __call__(self, title: str, run: Experiment) -> Presses:
        self.titles.append(title)
        return self

    def stage(self, name: str) -> None:
        if name == self.at:
            signal.raise_signal(signal.SIGINT)

    def step(self, record: dict[str, Any]) -> None:
        self.steps.append(record["step"])
        if record["step"] == self.last:
            signal.raise_signal(signal.SIGINT)


def numbers(place: Path) -> list[dict[str, Any]]:
    """steps.jsonl without its clocks."""
    return [
        {key: value for key, value in record.items() if not key.endswith(CLOCKS)}
        for record in read_lines(place / "steps.jsonl")
    ]


def weights(place: Path) -> dict[str, torch.Tensor]:
    files = sorted(place.glob("team/*/*.safetensors"))
    return {f"{file.parent.name}/{key}": value for file in files for key, value in load_file(file).items()}


def assert_same(one: Path, other: Path) -> None:
    assert sorted(p.name for p in one.glob("*/*")) == sorted(p.name for p in other.glob("*/*"))
    for place in sorted(one.glob("*/*")):
        again = other / place.relative_to(one)
        assert numbers(place) == numbers(again)
        assert read_lines(place / "episodes.jsonl") == read_lines(again / "episodes.jsonl")
        assert (place / "contender.json").read_text() == (again / "contender.json").read_text()
        mine, theirs = weights(place), weights(again)
        assert mine.keys() == theirs.keys() and all(torch.equal(mine[key], theirs[key]) for key in mine)


def figures(folder: Path) -> list[Any]:
    """All of a table that no clock measures."""
    rows, _ = rows_of_comparison(folder, (0,))
    return [
        (
            {name: interval for name, interval in row.columns.items() if name not in (SPEED, TIME)},
            (row.name, row.versus, row.p, row.tokens, row.times, row.trained_tokens, row.updates, row.what),
        )
        for row in rows
    ]


def test_every_contender_is_a_run_folder(whole: Path, sums: Experiment) -> None:
    places = {place.name: place for place in (whole / "seed-0").iterdir()}
    assert sorted(places) == sorted(NAMES)
    for place in places.values():
        run = read_experiment(place)
        assert (run.recipe, run.seed, run.evaluation.samples) == ("sums", 0, 2)
        assert len([r for r in read_lines(place / "episodes.jsonl") if r.get("evaluation") == "after"]) == 3 * 2
    assert [name for name in NAMES if (places[name] / "team").is_dir()] == [
        "tuned-single-model",
        "team",
        "supervised-on-the-best-of-n",
        "team-no-baseline",
    ]


def test_the_table_has_a_row_for_each_and_for_what_is_picked_of_several_samples(whole: Path) -> None:
    rows, notices = rows_of_comparison(whole, (0,))
    assert [row.name for row in rows] == [
        "team",
        "untrained team",
        "sequential",
        "discussion",
        "single model",
        "tuned single model",
        "single model, revising",
        "supervised on the best of n",
        "team, no baseline",
        "first swapped",
        "second swapped",
        "untrained team, reworded",
        "untrained team, best of 2 by the reward",
        "untrained team, vote of 2",
        "single model, best of 2 by the reward",
        "single model, vote of 2",
    ]
    assert not notices and all(row.versus for row in rows[1:])
    assert all("tokens/s" in row.columns for row in rows[:10])


def test_a_swapped_team_has_had_the_training_of_the_whole_team(whole: Path) -> None:
    rows = {row.name: row for row in rows_of_comparison(whole, (0,))[0]}
    team, swapped, untrained = rows["team"], rows["first swapped"], rows["untrained team"]
    assert swapped.trained_tokens == team.trained_tokens > 0 == untrained.trained_tokens
    assert swapped.budgets["training tokens"].times == swapped.budgets["training seconds"].times == 1.0
    assert swapped.versus is not None and swapped.versus.difference == swapped.budgets["training tokens"].difference
    # At equal training, none, the untrained team is the team itself.
    assert untrained.budgets["training tokens"].difference == Interval(0.0, 0.0, 0.0)


def test_a_reworded_team_is_shown_other_words(whole: Path) -> None:
    plain, other = (
        read_lines(whole / "seed-0" / name / "episodes.jsonl")[0]["turns"][0]["prompt"][0]["content"]
        for name in ("untrained-team", "untrained-team-reworded")
    )
    assert plain.endswith("Solve it step by step. End with: The answer is N.")
    assert other == plain.replace("Solve it step by step.", "Work it out one step at a time.")


def test_a_revising_model_reads_its_own_answer(whole: Path) -> None:
    first, second = read_lines(whole / "seed-0" / "single-model-revising" / "episodes.jsonl")[0]["turns"]
    assert second["prompt"][-1]["content"].endswith(f"You answered: {first['text']}")


def test_the_untrained_team_is_the_team_before_training(whole: Path) -> None:
    def answers(name: str, when: str) -> list[list[str]]:
        records = read_lines(whole / "seed-0" / name / "episodes.jsonl")
        return [[turn["text"] for turn in r["turns"]] for r in records if r.get("evaluation") == when]

    assert answers("untrained-team", "after") == answers("team", "before") != answers("team", "after")


def test_a_discussion_speaks_twice_and_the_second_answers_count(whole: Path) -> None:
    for record in read_lines(whole / "seed-0" / "discussion" / "episodes.jsonl"):
        assert [turn["agent"] for turn in record["turns"]] == ["first", "second"] * 2
        heard = record["turns"][2]["prompt"][-1]["content"]
        assert f"The second agent answered: {record['turns'][1]['text']}" in heard


def test_training_has_the_teams_updates_and_as_many_tokens_as_measured_before(whole: Path, sums: Experiment) -> None:
    def tokens(name: str) -> float:
        records = read_lines(whole / "seed-0" / name / "episodes.jsonl")
        return sum(turn["tokens"] for record in records for turn in record["turns"]) / len(records)

    expected = round(sums.prompts * tokens("untrained-team") / tokens("single-model"))
    tuned = read_experiment(whole / "seed-0" / "tuned-single-model")
    assert tuned.prompts == expected > 0
    assert tuned.sampling.max_new_tokens == 2 * sums.sampling.max_new_tokens
    rows = {row.name: row for row in rows_of_comparison(whole, (0,))[0]}
    assert rows["tuned single model"].updates == rows["team"].updates == 2
    assert rows["single model"].updates == rows["first swapped"].updates == rows["sequential"].trained_tokens == 0
    supervised = rows["supervised on the best of n"]
    assert 0.8 < supervised.trained_tokens / rows["team"].trained_tokens < 1.25 and supervised.updates > 0


def test_something_was_learned(whole: Path) -> None:
    """Or the tests of this file would compare nothing with nothing."""
    steps = read_lines(whole / "seed-0" / "team" / "steps.jsonl")
    assert min(step["group/zero_advantage_fraction"] for step in steps) < 1


def test_in_a_swapped_team_one_seat_says_what_the_untrained_one_said(whole: Path) -> None:
    def said(name: str, agent: str) -> list[str]:
        records = [r for r in read_lines(whole / "seed-0" / name / "episodes.jsonl") if r.get("evaluation") == "after"]
        return [turn["text"] for record in records for turn in record["turns"] if turn["agent"] == agent]

    for agent, other in (("first", "second"), ("second", "first")):
        assert said(f"{agent}-swapped", agent) == said("untrained-team", agent) != said("team", agent)
        assert said(f"{agent}-swapped", other) == said("team", other) != said("untrained-team", other)


def alike(texts: list[str], those: list[str], others: list[str]) -> bool:
    """Whether texts are those, save one, and not the others.

    Batched or alone, with an adapter or without, sums are rounded in other ways: a draw on a border may fall on
    either side.
    """
    same, foreign = (sum(map(str.__eq__, texts, group)) for group in (those, others))
    return len(texts) == len(those) == len(others) > 2 and same >= len(texts) - 1 > foreign


@pytest.mark.parametrize("kind", ["lora", "shared"])
def test_a_seat_is_swapped_of_adapters_and_of_a_shared_policy_too(sums: Experiment, tmp_path: Path, kind: str) -> None:
    policy = replace(sums.team.policy, lora=Lora(rank=2)) if kind == "lora" else sums.team.policy
    team = replace(sums.team, policy=policy, shared=kind == "shared")
    run = replace(sums, team=team, optimizer=OptimizerConfig(lr=0.1))
    only = ("untrained-team", "first-swapped")
    assert play_all(open_comparison(run, tmp_path / "c", (0,), only=only))

    def said(name: str, agent: str) -> list[str]:
        records = read_lines(tmp_path / "c" / "seed-0" / name / "episodes.jsonl")
        turns = [turn for r in records if r.get("evaluation") == "after" for turn in r["turns"]]
        return [turn["text"] for turn in turns if turn["agent"] == agent]

    assert alike(said("first-swapped", "first"), said("untrained-team", "first"), said("team", "first"))
    assert alike(said("first-swapped", "second"), said("team", "second"), said("untrained-team", "second"))


def test_a_contender_is_evaluated_again_to_the_same_numbers(whole: Path) -> None:
    for name in ("sequential", "first-swapped", "team"):
        result, _ = evaluate_run(whole / "seed-0" / name)
        held = json.loads((whole / "seed-0" / name / "evaluation.json").read_text())["after"]
        assert (result.return_percent, result.components) == (held["return_percent"], held["components"])


def test_what_is_finished_is_not_made_again(whole: Path, sums: Experiment, cut: Callable[..., Path]) -> None:
    folder = cut()
    watch = Presses()
    assert play_all(opened(sums, folder), watch) and watch.titles == []
    assert_same(folder, whole)


def test_ctrl_c_while_one_is_played_stops_before_the_next(
    whole: Path, sums: Experiment, cut: Callable[..., Path]
) -> None:
    folder = cut("sequential", "discussion")
    watch = Presses(at="evaluating after")
    assert not play_all(opened(sums, folder), watch) and watch.titles == ["seed 0, sequential"]
    assert not (folder / "seed-0" / "discussion").exists()
    watch = Presses()
    assert play_all(opened(sums, folder), watch) and watch.titles == ["seed 0, sequential", "seed 0, discussion"]
    assert_same(folder, whole)


def test_ctrl_c_inside_a_training_goes_on_at_the_step(whole: Path, sums: Experiment, cut: Callable[..., Path]) -> None:
    folder = cut("team", "first-swapped", "second-swapped")
    assert not play_all(opened(sums, folder), Presses(step=0))
    assert [record["step"] for record in read_lines(folder / "seed-0" / "team" / "steps.jsonl")] == [0]
    assert [place.name for place in (folder / "seed-0" / "team" / "checkpoints").iterdir()] == ["step-1"]
    watch = Presses()
    assert play_all(opened(sums, folder), watch) and watch.steps == [1]
    assert_same(folder, whole)
    assert figures(folder) == figures(whole)


@pytest.mark.parametrize("name", ["untrained-team", "team", "first-swapped"])
def test_a_half_written_evaluation_is_made_again(
    whole: Path, sums: Experiment, cut: Callable[..., Path], name: str
) -> None:
    """As a kill leaves it: filed, but with half of its transcripts, and nothing after them."""
    folder = cut()
    place = folder / "seed-0" / name
    text = (place / "episodes.jsonl").read_text()
    (place / "episodes.jsonl").write_text(text[: len(text) - 300])
    shutil.rmtree(place / "team", ignore_errors=True)
    watch = Presses()
    assert play_all(opened(sums, folder), watch) and watch.titles == [f"seed 0, {name.replace('-', ' ')}"]
    assert_same(folder, whole)


def test_seeds_differ_and_are_added_to_what_is_there(whole: Path, sums: Experiment, cut: Callable[..., Path]) -> None:
    folder = cut()
    contest = opened(sums, folder, (0, 1, 1), only=("sequential",))
    watch = Presses()
    assert play_all(contest, watch) and watch.titles == ["seed 1, sequential", "seed 1, team"]
    one, two = (load_result(folder / f"seed-{seed}" / "team")[0].transcripts for seed in (0, 1))
    assert [r["turns"] for r in one] != [r["turns"] for r in two]
    rows = {row.name: row for row in rows_of_comparison(folder, contest.seeds)[0]}
    assert (rows["team"].seeds, rows["sequential"].seeds, rows["discussion"].seeds) == (2, 2, 1)


def test_only_takes_the_team_and_what_budgets_are_measured_by(sums: Experiment, tmp_path: Path) -> None:
    def names(*only: str) -> list[str]:
        return [slug(one.name) for one in opened(sums, tmp_path, only=only).contenders(0)]

    assert names() == NAMES
    assert names("discussion") == ["discussion", "team"]
    assert names("untrained-team-reworded") == ["untrained-team", "team", "untrained-team-reworded"]
    also = [slug(one.name) for one in opened(sums, tmp_path, also=("team-reworded",)).contenders(0)]
    assert also == [*(name for name in NAMES if name != SUPERVISED), "team-reworded"]
    assert names("tuned-single-model") == ["untrained-team", "single-model", "tuned-single-model", "team"]
    with pytest.raises(ConfigError, match="there is no contender tuned; there are untrained-team, sequential"):
        names("tuned")


def test_a_single_model_that_says_half_as_much_gets_twice_the_examples(
    sums: Experiment, cut: Callable[..., Path]
) -> None:
    """And keeps what it got, whatever is measured later."""
    folder = cut("tuned-single-model")
    file = folder / "seed-0" / "single-model" / "episodes.jsonl"
    for share in (2, 10):
        records = read_lines(file)
        for turn in (turn for record in records for turn in record["turns"]):
            turn["tokens"] /= share
        write_lines(file, records)
        assert play_all(opened(sums, folder, only=("tuned-single-model",)))
        assert read_experiment(folder / "seed-0" / "tuned-single-model").prompts == 2 * sums.prompts


def test_other_settings_are_refused_with_their_names_before_anything_is_made(
    sums: Experiment, cut: Callable[..., Path]
) -> None:
    folder = cut("untrained-team")
    problem = r"seed-0/sequential holds a run with other settings \(prompts is 2 there, 3 here\); name another folder "
    with pytest.raises(ConfigError, match=problem + "with --name, or replace what is there with --overwrite"):
        opened(replace(sums, prompts=3), folder)
    assert not (folder / "seed-0" / "untrained-team").exists()


def test_a_folder_that_cannot_be_made_is_one_line(sums: Experiment, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"the run folder .*untrained-team cannot be made: Not a directory"):
        play_all(opened(sums, tmp_path / "file"))


def test_what_is_replaced_is_gone_only_when_a_new_run_has_begun(tmp_path: Path) -> None:
    folder = tmp_path / "compare-tldr"
    (folder / "seed-0").mkdir(parents=True)
    (folder / "seed-0" / "notes.txt").write_text("old")
    with pytest.raises(EngineError), replacing(folder):
        raise EngineError("no such model")
    assert (folder / "seed-0" / "notes.txt").read_text() == "old"
    with replacing(folder):
        (folder / "seed-0" / "team").mkdir(parents=True)
        (folder / "seed-0" / "team" / "experiment.json").write_text("{}")
    assert not (folder / "seed-0" / "notes.txt").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["compare-tldr"]
    (folder / "letters.txt").write_text("mine")
    with pytest.raises(ConfigError, match=r"letters\.txt"), replacing(folder):
        pass


def test_a_corrupt_line_stops_with_its_place_and_loses_nothing(sums: Experiment, cut: Callable[..., Path]) -> None:
    folder = cut()
    file = folder / "seed-0" / "sequential" / "episodes.jsonl"
    lines = file.read_text().splitlines(keepends=True)
    broken = "".join([lines[0], "{broken\n", *lines[2:]])
    file.write_text(broken)
    with pytest.raises(ConfigError, match=r"sequential/episodes.jsonl: line 2 is not JSON"):
        play_all(opened(sums, folder))
    assert file.read_text() == broken


@pytest.mark.usefixtures("no_model")
def test_what_a_later_contender_would_refuse_is_refused_before_the_first(sums: Experiment, tmp_path: Path) -> None:
    words = tmp_path / "words.json"
    words.write_text(json.dumps({"Greet the guest.": "Say hello."}))
    with pytest.raises(ConfigError, match=r"reworded: no phrase of .*words.json stands in the prompt of"):
        opened(sums, tmp_path / "runs", words=str(words))
    given = tmp_path / "given.jsonl"
    given.write_text(json.dumps({"id": "nobody", "answers": {}}) + "\n")
    with pytest.raises(ConfigError, match=r"given.jsonl, row 1: 'nobody' is no training example"):
        opened(replace(sums, warm=WarmConfig(demonstrations=str(given))), tmp_path / "runs")
    assert not (tmp_path / "runs").exists()
