"""Whole runs on a GPU that is none: nothing stays behind on the processor, and it seldom waits for the GPU."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from fakes.borders import assert_same_answers
from fakes.pretended_gpu import GPU, MixedDevicesError, OnGpu
from fakes.pretended_gpu import gpu as gpu
from fakes.runs import tiny_run
from fakes.tiny import TEXTS, chat, load
from madrigal.algorithms.actor_critic import MAPPO
from madrigal.algorithms.group import GroupRelative
from madrigal.algorithms.self_play import SelfPlay
from madrigal.config import Experiment
from madrigal.policies.generate import GPU_LOOK, generate
from madrigal.policies.local import load_policy
from madrigal.settings import CriticConfig, Lora, OptimizerConfig, PartnerConfig, PolicyConfig, Sampling, TeamConfig
from madrigal.tasks.games.kuhn import Kuhn
from madrigal.training.teams import make_team
from madrigal.training.train import train_experiment
from madrigal.types import Completion


@pytest.fixture
def run(model_folder: Path) -> Experiment:
    """In bfloat16; the second round goes on from the first one's long prompt."""
    return tiny_run(
        model_folder,
        "fakes.odd:long",
        GroupRelative(width=2, kl=0.01),
        team=TeamConfig(policy=PolicyConfig(model=str(model_folder))),
        sampling=Sampling(max_new_tokens=4),
        optimizer=OptimizerConfig(lr=1e-4, token_budget=200),
    )


def with_policy(run: Experiment, policy: PolicyConfig) -> Experiment:
    return replace(run, team=replace(run.team, policy=replace(policy, model=run.team.policy.model)))


def with_cut_sampling(run: Experiment) -> Experiment:
    return replace(run, sampling=Sampling(temperature=0.7, top_p=0.9, top_k=70, max_new_tokens=4))


def with_adapters(run: Experiment) -> Experiment:
    return with_policy(run, PolicyConfig(lora=Lora(rank=2)))


def in_float32(run: Experiment) -> Experiment:
    return with_policy(run, replace(run.team.policy, dtype="float32"))


def with_critics(run: Experiment) -> Experiment:
    return replace(in_float32(run), algorithm=replace(MAPPO, width=2, kl=0.01), prompts=1)


def with_critics_on_a_shared_base(run: Experiment) -> Experiment:
    return replace(with_critics(with_adapters(run)), critic=CriticConfig(lora=Lora(rank=2)))


def with_partners(run: Experiment) -> Experiment:
    team = replace(in_float32(run).team, shared=True, partners=PartnerConfig(share=0.9, every=1))
    return replace(run, task=Kuhn(), team=team, algorithm=SelfPlay(kl=0.1), prompts=4)


def with_checkpointing(run: Experiment) -> Experiment:
    return replace(run, optimizer=replace(run.optimizer, gradient_checkpointing=True))


RUNS = (
    with_cut_sampling,
    with_adapters,
    with_critics,
    with_critics_on_a_shared_base,
    with_partners,
    with_checkpointing,
)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("changed", RUNS)
def test_whole_runs_on_a_real_gpu(run: Experiment, tmp_path: Path, changed: Callable[[Experiment], Experiment]) -> None:
    """And on from a checkpoint."""
    steps = tmp_path / "steps.jsonl"
    run = replace(run, team=replace(run.team, device="cuda"))
    assert not train_experiment(changed(run), tmp_path, stop=lambda: steps.exists() and steps.stat().st_size > 0)
    assert train_experiment(changed(run), tmp_path, resume=True)


@pytest.mark.parametrize("changed", RUNS)
def test_whole_runs_leave_nothing_on_the_processor(
    run: Experiment, gpu: Counter[str], tmp_path: Path, changed: Callable[[Experiment], Experiment]
) -> None:
    """And go on from a checkpoint."""
    steps = tmp_path / "steps.jsonl"
    assert not train_experiment(changed(run), tmp_path, stop=lambda: steps.exists() and steps.stat().st_size > 0)
    assert train_experiment(changed(run), tmp_path, resume=True)
    assert gpu.total()


def test_what_a_gpu_refuses_is_refused(gpu: Counter[str]) -> None:
    there, here = torch.ones(3, device=GPU), torch.ones(3)
    assert there.device == GPU and (there + there).device == GPU and there.sum().item() == 3
    assert there.to("cpu").device.type == "cpu" and there[torch.tensor([0, 2])].device == GPU
    for mix in (
        lambda: there + here,
        lambda: here + there,
        lambda: torch.cat([here, there]),
        lambda: here[there.long()],
        lambda: torch.rand(2, device=GPU, generator=torch.Generator()),
    ):
        with pytest.raises(MixedDevicesError):
            mix()
    assert gpu == {"aten._local_scalar_dense.default": 1, "cpu": 1}


def test_models_and_adapters_go_there_whole(run: Experiment, gpu: Counter[str]) -> None:
    team = make_team(with_adapters(run).team, ("ann", "bob"), 0)
    model = team.seats["ann"].model
    assert all(isinstance(one, OnGpu) for one in (*model.parameters(), *model.buffers()))
    assert len({id(one) for one in team.seats["ann"].parameters().values()}) > 10


def answers(folder: Path, limit: int, device: torch.device) -> list[Completion]:
    """Six answers of different lengths, one of them to a longer prompt."""
    policy = load_policy("ann", PolicyConfig(model=str(folder), dtype="float32"), device)
    policy.model.generation_config.eos_token_id = [policy.tokenizer.eos_token_id, *range(60, 70)]
    prompts = [chat(text) for text in (*TEXTS, *TEXTS)]
    return generate(policy, prompts, range(len(prompts)), Sampling(max_new_tokens=limit))


def test_sixteen_tokens_cost_at_most_one_wait(model_folder: Path, gpu: Counter[str]) -> None:
    answers(model_folder, 1, GPU)
    start = gpu.total()
    answers(model_folder, 6 * GPU_LOOK + 1, GPU)
    assert GPU_LOOK >= 16 and gpu.total() - 2 * start <= 6 + 4  # four where rows are dropped


def test_looking_seldom_for_ended_rows_changes_no_answer(
    model_folder: Path, gpu: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    seldom = answers(model_folder, 40, GPU)
    monkeypatch.setattr("madrigal.policies.generate.GPU_LOOK", 1)
    often = answers(model_folder, 40, GPU)
    assert {one.finish for one in seldom} == {"stop", "length"} and len({len(one.token_ids) for one in seldom}) > 3
    assert_same_answers(load(model_folder), seldom, often, Sampling(max_new_tokens=40), range(6))
