"""Whole runs of a tiny team: what is written down, and that a run that was cut goes on as if it had not been."""

from __future__ import annotations

import itertools
import json
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from fakes.runs import StopsBefore, assert_equal, command, numbers, tiny_run, trained, weights
from madrigal import cli
from madrigal.algorithms.group import INDEPENDENT_GRPO, LEAVE_ONE_OUT_TEAM, GroupRelative
from madrigal.config import Experiment, from_json, to_json
from madrigal.policies.team import Team
from madrigal.rollouts.task import SingleRound
from madrigal.runs.log import read_lines
from madrigal.settings import EvaluationConfig, PartnerConfig, PolicyConfig, RecordsConfig, RewardWeights, Sampling
from madrigal.tasks.own import CustomTask
from madrigal.training.checks import check_prompts, open_checked_task
from madrigal.training.held_out import evaluate_run
from madrigal.training.saving import save_team
from madrigal.training.train import examples_of, train_experiment, trained_examples
from madrigal.types import ConfigError, EngineError, Example, Messages, TrainingError

TASK = '''
import os, time
from madrigal.rollouts.task import SingleRound
from madrigal.types import Example

rewards_until_signal = 12

def reward(example, said):
    """Twice the share of vowels-like bytes; slow, or with a signal to this process, where a test interrupts."""
    global rewards_until_signal
    time.sleep(float(os.environ.get("REWARD_SECONDS", 0)))
    rewards_until_signal -= 1
    if rewards_until_signal == 0 and "REWARD_SIGNAL" in os.environ:
        os.kill(os.getpid(), int(os.environ["REWARD_SIGNAL"]))
    text = said["ann"] + said["bob"]
    return 2 * sum(ord(c) % 2 for c in text) / max(1, len(text))

def examples(split, count):
    return tuple(Example(f"{split}-{n}", {"word": chr(97 + n) * (n + 1)}) for n in range(count))

task = SingleRound("odd", ("ann", "bob"), examples("train", 5), examples("test", 3),
                   lambda example, agent: f"{agent}, {example.data['word']}!", reward, best_return=2.0)
'''
STEP_KEYS = {
    "step",
    "seconds",
    "tokens",
    "tokens_per_second",
    "episodes",
    "reward",
    "group/return_std",
    "group/zero_advantage_fraction",
}
STEP_KEYS |= {
    "component/reward",
    "agent/ann/truncated_fraction",
    "agent/bob/seconds",
    "update/ann/loss",
    "update/bob/entropy",
}


@pytest.fixture(scope="module")
def run(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Experiment:
    """Four steps of two prompts, two answers each; a checkpoint after every step."""
    file = tmp_path_factory.mktemp("task") / "odd_bytes.py"
    file.write_text(TASK)
    return tiny_run(
        model_folder,
        f"{file}:task",
        GroupRelative(width=3, kl=0.01),
        sampling=Sampling(temperature=0.9, top_p=0.95, max_new_tokens=6),
        evaluation=EvaluationConfig(examples=2, every=2, timed_examples=1),
        steps=4,
    )


@pytest.fixture(scope="module")
def whole(run: Experiment, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(run, tmp_path_factory.mktemp("runs") / "whole")


def assert_same_run(one: Path, other: Path) -> None:
    assert_equal(weights(one), weights(other))
    assert numbers(one) == numbers(other)
    assert read_lines(one / "episodes.jsonl") == read_lines(other / "episodes.jsonl")
    for when, result in json.loads((one / "evaluation.json").read_text()).items():
        again = json.loads((other / "evaluation.json").read_text())[when]
        assert (result["return_percent"], result["components"]) == (again["return_percent"], again["components"])


def test_a_run_folder_holds_all_that_is_promised(whole: Path, run: Experiment) -> None:
    names = {"experiment.json", "run.json", "steps.jsonl", "episodes.jsonl", "evaluation.json", "checkpoints", "team"}
    assert {p.name for p in whole.iterdir()} == names
    assert {p.name for p in (whole / "team").iterdir()} == {"ann", "bob", "team.json"}
    assert from_json((whole / "experiment.json").read_text()) == run


def test_every_step_is_one_line_with_its_keys(whole: Path) -> None:
    records = read_lines(whole / "steps.jsonl")
    assert [record["step"] for record in records] == [0, 1, 2, 3]
    assert all(record.keys() >= STEP_KEYS for record in records)
    assert all(record["episodes"] == 6 and 0 <= record["reward"] <= 2 for record in records)
    assert [record["update/ann/lr"] for record in records] == pytest.approx([5e-4, 1e-3, 5e-4, 0.0])
    assert max(record["update/ann/logprob_mismatch"] for record in records) < 1e-4
    drifts = [record["update/ann/kl"] for record in records]
    assert drifts[0] == pytest.approx(0, abs=1e-6) and min(drifts[1:]) > 1e-6


def test_evaluations_before_during_and_after_have_their_keys(whole: Path) -> None:
    evaluations = json.loads((whole / "evaluation.json").read_text())
    assert set(evaluations) == {"before", "step-2", "after"}
    for result in evaluations.values():
        assert result["examples"] == 2 and {"tokens_per_second", "response_seconds"} <= result.keys()
        assert result["low"] <= result["return_percent"] <= result["high"]
        assert result["return_percent"] == pytest.approx(50 * result["components"]["reward"])


def test_transcripts_say_who_said_what_and_what_it_earned(whole: Path) -> None:
    records = read_lines(whole / "episodes.jsonl")
    played = [record for record in records if "evaluation" not in record]
    assert [record["step"] for record in played] == [0, 0, 1, 1, 2, 2, 3, 3]
    assert [record["evaluation"] for record in records if "evaluation" in record] == (
        ["before"] * 2 + ["step-2"] * 2 + ["after"] * 2
    )
    for record in played:
        assert [turn["agent"] for turn in record["turns"]] == ["ann", "bob"]
        assert {turn["reward"] for turn in record["turns"]} == {record["reward"]}
        assert len({turn["advantage"] for turn in record["turns"]}) == 1


def test_training_moved_both_agents_apart(whole: Path, model_folder: Path) -> None:
    trained_weights = weights(whole)
    for name, before in load_file(model_folder / "model.safetensors").items():
        ann, bob = trained_weights[f"ann/{name}"], trained_weights[f"bob/{name}"]
        assert not torch.equal(ann, before) and not torch.equal(ann, bob)


def test_the_same_run_twice_gives_the_same_numbers(run: Experiment, whole: Path, tmp_path: Path) -> None:
    assert_same_run(trained(run, tmp_path / "again"), whole)


def test_the_number_of_threads_that_judge_does_not_matter(
    run: Experiment, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("madrigal.training.teams.os.cpu_count", lambda: 8)
    assert_same_run(trained(run, tmp_path / "again"), whole)


@pytest.mark.parametrize("cut", [1, 2])
def test_a_resumed_run_equals_one_that_was_not_cut(run: Experiment, whole: Path, tmp_path: Path, cut: int) -> None:
    folder = tmp_path / "cut"
    folder.mkdir()
    with pytest.raises(RuntimeError, match="pulled the plug"):
        train_experiment(run, folder, watch=StopsBefore(cut))
    assert train_experiment(run, folder, resume=True)
    assert_same_run(folder, whole)


def test_a_run_cut_before_its_first_checkpoint_begins_anew(run: Experiment, whole: Path, tmp_path: Path) -> None:
    folder = tmp_path / "cut"
    folder.mkdir()
    with pytest.raises(RuntimeError, match="pulled the plug"):
        train_experiment(run, folder, watch=StopsBefore(0))
    assert train_experiment(run, folder, resume=True)
    assert_same_run(folder, whole)


def test_resuming_a_finished_run_changes_nothing(run: Experiment, whole: Path, tmp_path: Path) -> None:
    folder = trained(run, tmp_path / "done")
    assert train_experiment(run, folder, resume=True)
    assert_same_run(folder, whole)


@pytest.mark.parametrize("patience", [0, 2, 6, 8, 11])
def test_a_run_that_is_stopped_at_any_moment_saves_its_last_step_and_resumes(
    run: Experiment, whole: Path, tmp_path: Path, patience: int
) -> None:
    """Before the first evaluation, within one, between two steps: a signal that is seen at the n-th look."""
    looks = itertools.count()
    rarely = replace(run, records=RecordsConfig(checkpoint_every=0))
    folder = tmp_path / "run"
    assert not train_experiment(rarely, folder, stop=lambda: int(next(looks) >= patience))
    made = len(read_lines(folder / "steps.jsonl"))
    assert [path.name for path in (folder / "checkpoints").iterdir()] == [f"step-{made}"]
    assert (folder / "team").is_dir() == (made > 0)
    assert train_experiment(rarely, folder, resume=True)
    assert_same_run(folder, whole)


def test_a_saved_team_is_evaluated_to_the_same_numbers(whole: Path) -> None:
    result, episodes = evaluate_run(whole, trust=True)
    after = json.loads((whole / "evaluation.json").read_text())["after"]
    assert (result.return_percent, result.components) == (after["return_percent"], after["components"])
    assert len(episodes) == 2


def test_a_run_that_has_not_ended_has_no_team_to_evaluate(run: Experiment, tmp_path: Path) -> None:
    (tmp_path / "experiment.json").write_text(to_json(run))
    with pytest.raises(ConfigError, match=r"no saved team yet; finish it with: madrigal train .* --resume --trust"):
        evaluate_run(tmp_path, trust=True)


def test_a_seat_that_is_not_trainable_stays(run: Experiment, tmp_path: Path, model_folder: Path) -> None:
    frozen = replace(run.team, seats={"bob": PolicyConfig(model=str(model_folder), trainable=False)})
    after = weights(trained(replace(run, team=frozen, steps=1), tmp_path / "run"))
    for name, before in load_file(model_folder / "model.safetensors").items():
        assert torch.equal(after[f"bob/{name}"], before) and not torch.equal(after[f"ann/{name}"], before)


def test_one_shared_policy_sits_in_both_seats(run: Experiment, tmp_path: Path) -> None:
    folder = trained(replace(run, team=replace(run.team, shared=True), steps=1), tmp_path / "run")
    saved = weights(folder)
    assert all(torch.equal(w, saved["bob" + k[3:]]) for k, w in saved.items() if k.startswith("ann"))
    assert read_lines(folder / "steps.jsonl")[0]["update/team/sequences"] == 12


def test_older_selves_take_seats_and_are_saved(run: Experiment, whole: Path, tmp_path: Path) -> None:
    """With a share of 1 every group has an older self in one seat, who shows no tokens; cut and resumed alike."""
    met = replace(run, team=replace(run.team, partners=PartnerConfig(share=1.0, every=1, keep=2)), steps=3)
    one = trained(met, tmp_path / "one")
    silent = [
        [turn["tokens"] for turn in record["turns"]].count(0)
        for record in read_lines(one / "episodes.jsonl")
        if "evaluation" not in record
    ]
    assert silent == [1] * 6
    cut = tmp_path / "cut"
    cut.mkdir()
    with pytest.raises(RuntimeError, match="pulled the plug"):
        train_experiment(met, cut, watch=StopsBefore(1))
    assert (cut / "checkpoints/step-1/partner-pool.pt").is_file()
    assert train_experiment(met, cut, resume=True)
    assert_same_run(cut, one)


def test_own_rewards_for_a_task_that_has_one_for_all(run: Experiment, tmp_path: Path) -> None:
    independent = replace(run, algorithm=replace(INDEPENDENT_GRPO, width=3), steps=1)
    with pytest.raises(ConfigError, match=r"the rewards of odd are joint; take .* --reward.share difference"):
        train_experiment(independent, tmp_path)
    folder = trained(replace(independent, reward=RewardWeights(share="difference")), tmp_path / "run")
    paid = [
        {turn["agent"]: turn["reward"] for turn in record["turns"]}
        for record in read_lines(folder / "episodes.jsonl")
        if "evaluation" not in record
    ]
    assert any(own["ann"] != own["bob"] for own in paid)
    with pytest.raises(ConfigError, match="leave_one_out_team takes the differences itself"):
        train_experiment(replace(run, algorithm=LEAVE_ONE_OUT_TEAM, reward=RewardWeights(share="difference")), tmp_path)


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), SafetensorError("No space left on device")])
def test_a_disk_that_fills_up_while_the_team_is_saved_stops_with_one_line(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(team: Team, folder: Path) -> None:
        (folder / "half").touch()
        raise error

    monkeypatch.setattr(Team, "save", full)
    (tmp_path / "team").mkdir()
    with pytest.raises(TrainingError, match=r"No space left on device.*; free some space and resume"):
        save_team(Team({}), tmp_path / "team")
    assert [entry.name for entry in tmp_path.iterdir()] == ["team"]


def test_every_example_is_played_once_per_pass() -> None:
    examples = [Example(str(n), {}) for n in range(5)]
    played = [e.id for step in range(5) for e in examples_of(step, examples, 2, seed=0)]
    assert sorted(played[:5]) == sorted(played[5:]) == ["0", "1", "2", "3", "4"]
    assert played[:5] != played[5:]
    assert examples_of(3, examples, 2, seed=0) == examples_of(3, examples, 2, seed=0)


@pytest.mark.parametrize(("steps", "prompts"), [(0, 3), (1, 2), (2, 2), (2, 3), (7, 2)])
def test_the_examples_that_are_checked_are_those_that_are_played(run: Experiment, steps: int, prompts: int) -> None:
    run = replace(run, steps=steps, prompts=prompts)
    with open_checked_task(run) as task:
        played = [e.id for step in range(steps) for e in examples_of(step, task.examples("train"), prompts, run.seed)]
        checked = [e.id for e in trained_examples(run, task)]
    assert len(checked) == len(set(checked)) and set(checked) == set(played)


@pytest.mark.parametrize(("split", "last"), [("train", 4), ("test", 1)])
def test_a_prompt_that_leaves_no_room_is_found_before_anything_is_played(
    run: Experiment, tmp_path: Path, split: str, last: int
) -> None:
    file = tmp_path / "odd_bytes.py"
    file.write_text(TASK.replace('"word": ', f'"word": "z" * 600 if (split, n) == ("{split}", {last}) else '))
    problem = rf"example {split}-{last}, agent ann: its prompt of 6\d\d tokens and an answer of up to 6 do not fit"
    with pytest.raises(EngineError, match=problem):
        train_experiment(replace(run, task=CustomTask(f"{file}:task"), steps=3), tmp_path)
    assert not list(tmp_path.glob("*.json*"))  # no run is left behind


def test_a_long_example_that_is_never_played_is_no_obstacle(run: Experiment, tmp_path: Path) -> None:
    file = tmp_path / "odd_bytes.py"
    file.write_text(TASK.replace('"word": ', '"word": "z" * 600 if (split, n) == ("test", 2) else '))
    assert train_experiment(replace(run, task=CustomTask(f"{file}:task"), steps=0), tmp_path)


def test_each_distinct_prompt_is_encoded_once(run: Experiment) -> None:
    class Counts:
        name, context = "team", 6 + len("abc")

        def __init__(self) -> None:
            self.seen: list[str] = []

        def encode(self, prompt: Messages) -> str:
            self.seen.append(prompt[0].content)
            return prompt[0].content

    policy = Counts()
    task = SingleRound(
        "same", ("ann", "bob"), (), (), lambda example, agent: str(example.data["word"]), lambda example, said: 0.0
    )
    examples = [Example(str(n), {"word": word}) for n, word in enumerate(("a", "abc", "a", "abcd"))]
    team: Any = SimpleNamespace(seats={"ann": policy, "bob": policy})
    check_prompts(run, task, team, examples[:3])
    assert policy.seen == ["a", "abc"]
    with pytest.raises(EngineError, match=r"example 3, agent ann: its prompt of 4 .* up to 6 do not fit .* of 9;"):
        check_prompts(run, task, team, examples)


def start(folder: Path, seconds: float) -> BaseProcess:
    """`madrigal train` in a process of its own, with slow rewards."""
    arguments = ["train", str(folder / "given.json"), "--runs", str(folder), "--name", "run", "--trust"]
    return command(arguments, folder, REWARD_SECONDS=str(seconds))


def wait_for(child: BaseProcess, folder: Path, there: Callable[[], bool]) -> None:
    end = time.monotonic() + 180
    while not there():
        assert child.is_alive(), (folder / "err").read_text()
        assert time.monotonic() < end, "the run did not get there in time"
        time.sleep(0.01)


@pytest.mark.slow
def test_a_killed_run_resumes_to_the_weights_of_an_unbroken_one(run: Experiment, whole: Path, tmp_path: Path) -> None:
    (tmp_path / "given.json").write_text(to_json(run))
    child, folder = start(tmp_path, seconds=0.2), tmp_path / "run"
    wait_for(child, tmp_path, lambda: (folder / "checkpoints" / "step-2").is_dir())
    child.kill()
    child.join(180)
    assert child.exitcode == -signal.SIGKILL and not (folder / "team").exists()
    assert train_experiment(run, folder, resume=True)
    assert_same_run(folder, whole)


def assert_saved_and_goes_on(folder: Path, out: str, err: str, run: Experiment, whole: Path) -> None:
    assert f"Go on with: madrigal train {folder} --resume --trust\n" in out
    assert "Traceback" not in err and list((folder / "checkpoints").glob("step-*"))
    assert evaluate_run(folder, trust=True)[0].examples == 2
    assert train_experiment(run, folder, resume=True)
    assert_same_run(folder, whole)


@pytest.mark.slow
def test_a_signal_saves_says_how_to_go_on_and_exits_with_its_code(run: Experiment, whole: Path, tmp_path: Path) -> None:
    (tmp_path / "given.json").write_text(to_json(run))
    child, folder = start(tmp_path, seconds=0.2), tmp_path / "run"
    wait_for(child, tmp_path, lambda: len(read_lines(folder / "steps.jsonl")) > 0)
    child.terminate()
    child.join(180)
    out, err = ((tmp_path / name).read_text() for name in ("out", "err"))
    assert child.exitcode == 128 + signal.SIGTERM, err
    assert_saved_and_goes_on(folder, out, err, run, whole)


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGHUP])
def test_other_signals_do_as_much(
    run: Experiment,
    whole: Path,
    tmp_path: Path,
    signum: signal.Signals,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """In this process, which the task itself signals in the second step."""
    (tmp_path / "odd_bytes.py").write_text(TASK)
    given = replace(run, task=CustomTask(f"{tmp_path}/odd_bytes.py:task"))
    (tmp_path / "given.json").write_text(to_json(given))
    monkeypatch.setenv("REWARD_SIGNAL", str(int(signum)))
    arguments = ["train", str(tmp_path / "given.json"), "--runs", str(tmp_path), "--name", "run", "--trust"]
    assert cli.run(arguments) == 128 + signum
    monkeypatch.delenv("REWARD_SIGNAL")
    assert_saved_and_goes_on(tmp_path / "run", *capsys.readouterr(), given, whole)


@pytest.mark.slow
def test_a_signal_before_there_is_anything_to_save_leaves_no_team(run: Experiment, tmp_path: Path) -> None:
    (tmp_path / "given.json").write_text(to_json(run))
    child = start(tmp_path, seconds=0)
    wait_for(child, tmp_path, lambda: (tmp_path / "run" / ".lock").is_file())
    child.terminate()
    child.join(180)
    assert child.exitcode == 143 and "Traceback" not in (tmp_path / "err").read_text()
    assert not (tmp_path / "run" / "team").exists() and not (tmp_path / "run" / ".lock").exists()
