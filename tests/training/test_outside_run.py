"""Whole runs in which a seat is not trained here: who learns learns the same, runs go on, and nothing is lost."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from fakes.runs import StopsBefore, assert_equal, numbers, tiny_run
from fakes.token_server import Talker, serving
from madrigal import cli
from madrigal.algorithms.actor_critic import COLLM_CC, MAPPO
from madrigal.algorithms.counterfactual import Counterfactual
from madrigal.algorithms.group import GroupRelative
from madrigal.config import Experiment, read_experiment, to_json
from madrigal.policies.outside import scripted
from madrigal.policies.team import Team
from madrigal.rollouts.play import Generate, GenerationRequest
from madrigal.rollouts.topology import Sequential
from madrigal.runs.log import read_lines
from madrigal.settings import (
    EvaluationConfig,
    Lora,
    OptimizerConfig,
    PolicyConfig,
    RemoteConfig,
    TeamConfig,
    WarmConfig,
)
from madrigal.tasks import endpoint
from madrigal.training.held_out import NullCallback, evaluate_run
from madrigal.training.train import train_experiment
from madrigal.training.trained_team import load_team
from madrigal.types import Completion, ConfigError, EngineError

TASK = "fakes.odd:joint"
ALGORITHMS = {
    "magrpo": GroupRelative(width=4, kl=0.01),
    "mappo": replace(MAPPO, width=2, kl=0.01),
    "collm_cc": replace(COLLM_CC, width=2),
    "counterfactual": Counterfactual(fanout=(2, 2)),
}
# What nobody counts of words that come without tokens.
UNCOUNTED = ("tokens", "truncated_fraction", "agent/bob/tokens", "agent/bob/cost", "agent/bob/cached_fraction")


def beside(model: Path, **bob: Any) -> TeamConfig:
    """ann learns beside bob."""
    ann = PolicyConfig(model=str(model))
    return TeamConfig(policy=ann, seats={"bob": replace(ann, **bob)}, device="cpu")


def trained(run: Experiment, folder: Path, **how: Any) -> Path:
    folder.mkdir(exist_ok=True)
    assert train_experiment(run, folder, **how)
    return folder


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "team" / "ann" / "model.safetensors")


def measured(folder: Path) -> list[dict[str, Any]]:
    return [{k: v for k, v in row.items() if not k.endswith(UNCOUNTED)} for row in numbers(folder)]


@pytest.mark.parametrize("name", ALGORITHMS)
def test_who_learns_learns_as_beside_a_frozen_model_that_says_the_same(
    model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Every number but counts of tokens, and every weight, are equal; and the weights have moved."""
    words, speaker = dict[tuple[Any, int], str](), Team.speaker

    def listening(team: Team, *how: Any) -> Generate:
        speak = speaker(team, *how)

        def answer(wanted: Sequence[GenerationRequest]) -> Sequence[Completion]:
            said = speak(wanted)
            words.update({(one.prompt, one.seed): each.text for one, each in zip(wanted, said, strict=True)})
            return said

        return answer

    frozen = beside(model_folder, trainable=False)
    run = tiny_run(model_folder, TASK, ALGORITHMS[name], team=frozen, topology=Sequential())
    run = replace(run, optimizer=OptimizerConfig(lr=3e-3))
    with monkeypatch.context() as patched:
        patched.setattr(Team, "speaker", listening)
        model = trained(run, tmp_path / "model")
    said_again = scripted(lambda messages, seed: words[messages, seed])
    script = trained(replace(run, team=beside(model_folder, script=said_again)), tmp_path / "script")
    assert measured(script) == measured(model) and len(measured(model)) == 2
    assert_equal(weights(script), weights(model))
    start = load_file(model_folder / "model.safetensors")
    assert any(not torch.equal(value, start[key]) for key, value in weights(script).items())
    turns = [turn for row in read_lines(script / "episodes.jsonl") for turn in row["turns"] if turn["agent"] == "bob"]
    assert turns and all(turn["tokens"] == 0 and "logprobs" not in turn for turn in turns)
    assert (script / "team" / "bob" / "outside.json").is_file() and not list((script / "team" / "bob").glob("*.safe*"))


@pytest.fixture
def talker(monkeypatch: pytest.MonkeyPatch) -> Talker:
    """An endpoint that says something else every time, however often it is asked the same."""
    monkeypatch.setattr(endpoint, "PAUSE", 0.0)
    counter = itertools.count()
    return Talker(lambda messages, seed: f"{next(counter) * 7919 % 1000}")


def remote_run(model: Path, url: str, **remote: Any) -> Experiment:
    config = RemoteConfig(f"{url}/v1", "m", prompt_price=1.0, answer_price=2.0, **remote)
    team = beside(model, remote=config)
    return replace(
        tiny_run(model, TASK, GroupRelative(width=4), team=team), evaluation=EvaluationConfig(1, timed_examples=1)
    )


def test_a_resumed_run_with_kept_answers_is_the_run_that_was_not_stopped(
    model_folder: Path, tmp_path: Path, talker: Talker
) -> None:
    """The endpoint itself repeats nothing. What it took stands in the records and is told in the end."""
    told = list[str]()

    class Hears(NullCallback):
        def stage(self, name: str) -> None:
            told.append(name)

    with serving(talker) as url:
        run = remote_run(model_folder, url, cache=str(tmp_path / "kept"))
        whole = trained(run, tmp_path / "whole", watch=Hears())
        asked = len(talker.seen)
        (tmp_path / "halves").mkdir()
        with pytest.raises(RuntimeError, match="pulled the plug"):
            train_experiment(run, tmp_path / "halves", watch=StopsBefore(1))
        halves = trained(run, tmp_path / "halves", resume=True)
    assert len(talker.seen) == asked, "nothing was asked for twice"
    assert measured(halves) == measured(whole)
    assert_equal(weights(halves), weights(whole))
    first, again = numbers(whole)[0], numbers(halves)[0]
    assert first["agent/bob/cost"] > 0 == again["agent/bob/cost"] and again["agent/bob/cached_fraction"] == 1.0
    assert first["agent/bob/tokens"] == 1.0 and first["agent/bob/prompt_tokens"] >= 2.0
    (bill,) = (line for line in told if line.startswith("note: bob:"))
    counts = re.search(r"(\d+) answers of an endpoint \((\d+) kept from before, 0 asked for again\)", bill)
    assert counts and int(counts[1]) - int(counts[2]) == asked, "the same before and after training is kept, too"


def test_an_endpoint_that_dies_ends_the_run_in_one_line_and_no_step_is_lost(
    model_folder: Path, tmp_path: Path, talker: Talker
) -> None:
    with serving(talker) as url:
        run = replace(remote_run(model_folder, url), evaluation=EvaluationConfig(1, timed_examples=0), steps=3)
        run = replace(run, records=replace(run.records, checkpoint_every=25))
        talker.fault = lambda: "500" if len(talker.seen) > 40 else ""
        (tmp_path / "run").mkdir()
        with pytest.raises(EngineError, match=r"^m at http.*: refused with status 500: busy \(8 tries\)$"):
            train_experiment(run, tmp_path / "run")
        made = len(read_lines(tmp_path / "run" / "steps.jsonl"))
        assert 0 < made < 3 and (tmp_path / "run" / "checkpoints" / f"step-{made}").is_dir()
        talker.fault = lambda: ""
        trained(run, tmp_path / "run", resume=True)
    assert len(read_lines(tmp_path / "run" / "steps.jsonl")) == 3


SCRIPT = "def answer(messages, seed): return f'{messages[-1].content[:5]} {seed % 10}'"


def test_a_saved_team_with_a_function_in_it_speaks_again(
    model_folder: Path, empty_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is evaluated, asked and played from its folder, by whoever trusts it; a warm start learns beside it, too."""
    Path("mate.py").write_text(SCRIPT)
    run = tiny_run(model_folder, TASK, GroupRelative(width=4), team=beside(model_folder, script="mate.py:answer"))
    run = replace(run, steps=1, warm=WarmConfig(examples=2, samples=4, epochs=1))
    folder = trained(run, Path("run"))
    evaluation = json.loads((folder / "evaluation.json").read_text())["after"]
    assert evaluate_run(folder, trust=True)[0].return_percent == pytest.approx(evaluation["return_percent"])
    game = load_team(folder, trust=True).play(seed=1)
    assert [turn["text"][:4] for turn in game["turns"] if turn["agent"] == "bob"] == ["bob,", "bob,"]
    for command in ("evaluate run", "play run", "analyze run", "ask run hello", "export run", "train run --resume"):
        assert cli.run(command.split()) == 2
        err = capsys.readouterr().err
        assert "import and run the code of" in err and "mate.py:answer" in err and err.count("\n") == 1
    assert cli.run(["play", "run", "--trust"]) == 0
    assert "bob by" in (shown := capsys.readouterr().out) and "mate.py:answer" in shown
    Path("mate.py").write_text(SCRIPT.replace("10", "9"))
    notes = list[str]()

    class Hears(NullCallback):
        def stage(self, name: str) -> None:
            notes.append(name)

    trained(replace(read_experiment(folder), steps=2), folder, resume=True, watch=Hears())
    assert "the code of team.seats.bob is not what this run was started with; going on with the new one" in notes


def test_a_file_that_names_an_endpoint_needs_trust_and_who_types_it_does_not(
    model_folder: Path, empty_folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("madrigal.commands.train._train", lambda *_, **__: 0)
    remote = RemoteConfig("http://127.0.0.1:9/v1", "m", key_variable="MY_KEY")
    run = tiny_run(model_folder, TASK, GroupRelative(), team=beside(model_folder, remote=remote))
    Path("run.json").write_text(to_json(run))
    assert cli.run(["train", "run.json", "--task.path", TASK]) == 2
    err = capsys.readouterr().err
    assert "run.json asks to send prompts and the key in MY_KEY to http://127.0.0.1:9/v1; look at it" in err
    typed = ["--team.seats.bob.remote.url", "http://127.0.0.1:8/v1"]
    assert cli.run(["train", "run.json", "--task.path", TASK, *typed]) == 0
    assert cli.run(["train", "run.json", "--trust"]) == 0
    Path("run.json").write_text(to_json(replace(run, team=beside(model_folder))))
    more = ["--team.seats.bob.remote.model", "m", "--team.seats.bob.lora.rank", "4"]
    assert cli.run(["train", "run.json", "--task.path", TASK, *typed, *more, "--name", "typed"]) == 0
    bob = read_experiment(Path("run.json")).team.seats["bob"]
    assert bob.lora == Lora() and not bob.outside


def test_another_model_of_an_endpoint_is_another_run(model_folder: Path, tmp_path: Path, talker: Talker) -> None:
    """The next endpoint has another port; another model is another teammate."""
    from madrigal.training.resume import find_saved

    before = remote_run(model_folder, "http://127.0.0.1:9")
    (tmp_path / "experiment.json").write_text(to_json(before))

    def resumed(**remote: Any) -> Any:
        bob = before.team.seats["bob"]
        seats = {"bob": replace(bob, remote=replace(bob.remote, **remote))}
        return find_saved(tmp_path, replace(before, team=replace(before.team, seats=seats)), {}, lambda _: None)

    assert resumed(url="http://127.0.0.1:8/v1", per_minute=9, cache="kept", answer_price=3.0) is not None
    with pytest.raises(ConfigError, match=r"team\.seats\.bob\.remote\.model was 'm', not 'n'"):
        resumed(model="n")
