"""Runs of a tiny team with critics: what is written down, and that one that was cut goes on as if it had not been."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from fakes import tiny
from fakes.runs import StopsBefore, numbers, tiny_run, trained
from fakes.tiny import answers, same, weights
from madrigal.algorithms import CriticNeed
from madrigal.algorithms.actor_critic import COLLM_CC, COLLM_DC, IPPO, MAPPO, ActorCritic
from madrigal.algorithms.group import MAGRPO
from madrigal.api import train
from madrigal.config import Experiment, to_json
from madrigal.learning.critics import Critics
from madrigal.learning.learner import Learner
from madrigal.learning.learners import Learners
from madrigal.policies.team import Team
from madrigal.rollouts.tree import walk
from madrigal.runs.checkpoint import load_checkpoint, newest_checkpoint
from madrigal.settings import CriticConfig, Lora, OptimizerConfig, Sampling
from madrigal.training.teams import load_saved_team
from madrigal.training.train import train_experiment
from madrigal.types import ConfigError, Episode, Group, Point, Turn

Whole = Callable[[Experiment], Path]
PASSES = replace(MAPPO, width=2, epochs=2, minibatches=2, kl=0.01, discount=0.9)


@pytest.fixture(scope="module")
def run(model_folder: Path) -> Experiment:
    return tiny_run(model_folder, "fakes.odd:own", PASSES)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Whole:
    """The folder of a run, which is made once."""
    folders = dict[str, Path]()

    def made(run: Experiment) -> Path:
        if (name := to_json(run)) not in folders:
            folders[name] = trained(run, tmp_path_factory.mktemp("runs") / "run")
        return folders[name]

    return made


def parameters(folder: Path) -> dict[str, dict[str, torch.Tensor]]:
    newest = newest_checkpoint(folder / "checkpoints")
    assert newest is not None
    return {name: state["parameters"] for name, state in load_checkpoint(newest)[0].items()}


def with_adapters(run: Experiment) -> Experiment:
    """Policies and critic are adapters on one model."""
    policy = replace(run.team.policy, lora=Lora(rank=4))
    return replace(run, team=replace(run.team, policy=policy), critic=CriticConfig(lora=Lora(rank=2)))


def with_collm(run: Experiment) -> Experiment:
    return replace(run, algorithm=replace(COLLM_DC, width=2))


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda run: run, id="mappo"),
        pytest.param(with_collm, id="collm_dc"),
        pytest.param(with_adapters, id="lora", marks=pytest.mark.slow),
    ],
)
def test_a_resumed_run_equals_one_that_was_not_cut(
    run: Experiment, whole: Whole, tmp_path: Path, change: Callable[[Experiment], Experiment]
) -> None:
    run, folder = change(run), tmp_path / "cut"
    folder.mkdir()
    with pytest.raises(RuntimeError, match="pulled the plug"):
        train(run, folder, watch=StopsBefore(1))
    assert train(run, folder, resume=True)
    assert numbers(folder) == numbers(whole(run))
    one, other = parameters(whole(run)), parameters(folder)
    assert one.keys() == other.keys() and any(name.startswith("critic-") for name in one)
    for name in one:
        assert same(one[name], other[name])


@pytest.mark.parametrize(
    ("algorithm", "critics"),
    [
        (MAPPO, ["critic-joint"]),
        (COLLM_CC, ["critic-joint"]),
        (IPPO, ["critic-ann", "critic-bob"]),
        (COLLM_DC, ["critic-ann", "critic-bob"]),
    ],
    ids=["mappo", "collm_cc", "ippo", "collm_dc"],
)
def test_every_method_trains_policies_and_critics_and_saves_a_team_without_critics(
    run: Experiment, whole: Whole, model_folder: Path, algorithm: ActorCritic, critics: list[str]
) -> None:
    run = replace(run, algorithm=replace(algorithm, width=2))
    folder = whole(run)
    records = numbers(folder)
    for name in critics:
        keys = {key.removeprefix(f"update/{name}/") for key in records[0] if key.startswith(f"update/{name}/")}
        assert keys == {"loss", "value", "explained_variance", "gradient_norm", "lr", "sequences", "tokens"}
        assert records[0][f"update/{name}/value"] == 0.0 != records[1][f"update/{name}/value"]
        assert records[0][f"update/{name}/lr"] == records[0]["update/ann/lr"] == pytest.approx(5e-4)
    assert {p.name for p in (folder / "team").iterdir()} == {"ann", "bob", "team.json"}
    held = parameters(folder)
    assert sorted(held) == sorted(["ann", "bob", *critics])
    start = tiny.load(model_folder).model.state_dict()
    for name in critics:
        assert not torch.equal(held[name]["head"], torch.zeros_like(held[name]["head"]))
        assert not torch.equal(held[name]["embed_tokens.weight"], start["model.embed_tokens.weight"])
    assert load_saved_team(folder / "team", run.team, ("ann", "bob")).trainable == ()  # and speaks without them


def test_a_central_critic_has_a_row_per_joint_action_and_an_own_one_per_answer(run: Experiment, whole: Whole) -> None:
    joint, own = (numbers(whole(replace(run, algorithm=replace(one, width=2))))[0] for one in (COLLM_CC, COLLM_DC))
    answered = joint["update/ann/sequences"]
    assert joint["update/critic-joint/sequences"] == joint["update/critic-joint/tokens"] == answered
    assert own["update/critic-ann/sequences"] == own["update/ann/sequences"] == own["update/critic-bob/sequences"]


def test_epochs_and_mini_batches_are_steps_on_answers_sampled_once(run: Experiment, tmp_path: Path) -> None:
    """Four updates a step; only the first one proves that the sampler was fresh."""
    once, often = (
        numbers(trained(replace(run, algorithm=algorithm, steps=1), tmp_path / name))[0]
        for name, algorithm in (("once", replace(PASSES, epochs=1, minibatches=1)), ("often", PASSES))
    )
    assert (once["tokens"], once["episodes"]) == (often["tokens"], often["episodes"])
    assert often["update/ann/logprob_mismatch"] < 1e-4
    assert often["update/critic-joint/tokens"] == once["update/critic-joint/tokens"] / 2
    state = load_checkpoint(tmp_path / "often" / "checkpoints" / "step-1")[0]
    assert {float(one["optimizer"]["state"][0]["step"]) for one in state.values()} == {4.0}


def test_a_checkpoint_without_the_critics_is_refused(run: Experiment, tmp_path: Path) -> None:
    folder = trained(replace(run, steps=1), tmp_path / "run")
    file = newest_checkpoint(folder / "checkpoints")
    assert file is not None
    sums = json.loads((file / "manifest.json").read_text())
    (file / "manifest.json").write_text(json.dumps({k: v for k, v in sums.items() if "critic" not in k}))
    (file / "critic-joint.pt").unlink()
    with pytest.raises(ConfigError, match="the checkpoint holds ann, bob, this run trains ann, bob, critic-joint"):
        train_experiment(replace(run, steps=1), folder, resume=True)


def test_a_critic_that_is_not_there_is_refused_before_anything_is_written(run: Experiment, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    with pytest.raises(ConfigError, match="expected a folder with a saved model at /nowhere"):
        train_experiment(replace(run, critic=CriticConfig(model="/nowhere")), tmp_path / "run")
    assert not list((tmp_path / "run").iterdir())


@pytest.mark.parametrize("lora", [Lora(), Lora(rank=4)], ids=["whole", "lora"])
def test_credit_reads_what_the_policy_would_have_said_at_the_start(model_folder: Path, lora: Lora) -> None:
    policy, sampling = tiny.load(model_folder, lora=lora), Sampling(temperature=0.8, max_new_tokens=5)
    turns = tuple(Turn("ann", (), said) for said in answers(policy, sampling))
    groups = [Group(Point("x", ""), (Episode(Point("x", ""), turns, ()),), ("ann",))]
    team = Team({"ann": policy})
    nobody = Critics(CriticNeed("own", "turn"), {}, team, {})
    learner = Learner(policy, OptimizerConfig(), sampling, reference="credit")
    learning = Learners(team, {"ann": learner}, nobody, MAGRPO.loss, reads_reference=True)
    before = weights(policy)
    with torch.no_grad():
        for name, parameter in policy.parameters().items():
            parameter.add_(0.1 if "lora_A" not in name else 0.0)
    assert not same(weights(policy), before)
    for _, _, turn in walk(learning.read(groups)):
        assert turn.scores.ref_logprobs == pytest.approx(turn.completion.logprobs, abs=1e-4)
        assert turn.scores.values is None
    blind = replace(learning, reads_reference=False).read(groups)
    assert {turn.scores.ref_logprobs for _, _, turn in walk(blind)} == {None}
