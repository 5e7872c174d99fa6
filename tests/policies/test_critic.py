"""A critic against a loop over prefixes: same values, same gradients; and whose weights it holds, moves and leaves."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from fakes import tiny
from fakes.kin import build
from fakes.tiny import CPU, answers, samples_of, weights
from madrigal.algorithms import CriticNeed
from madrigal.learning.critic_learner import CriticLearner, Lesson, explained
from madrigal.maths.batch import Tokens, make_batch
from madrigal.policies.adapters import adapter_name
from madrigal.policies.critic import Critic, load_critic
from madrigal.policies.forward import forward_fn
from madrigal.policies.local import LocalPolicy
from madrigal.settings import CriticConfig, Lora, OptimizerConfig, PolicyConfig, Sampling
from madrigal.types import Completion, ConfigError, EngineError, TrainingError, ValueRow

PLAIN = Sampling(max_new_tokens=6)
FREE = OptimizerConfig(lr=1e-3, clip_norm=1e9)
NEED = CriticNeed("own", "token", weight=0.5)
KINDS = pytest.mark.parametrize("rank", [0, 4], ids=["whole", "lora"])


def critic_of(folder: Path, rank: int = 0, base: Any = None, head: float = 0.3) -> Critic:
    """A critic whose head has something to say."""
    config = PolicyConfig(model=str(folder), lora=Lora(rank=rank))
    critic = load_critic("critic-ann", config, CPU, base=base)
    torch.manual_seed(3)
    with torch.no_grad():
        critic.head.weight.copy_(head * torch.randn_like(critic.head.weight))
        for name, parameter in critic.parameters().items():
            if "lora_B" in name:
                parameter.add_(0.05)
    return critic


def by_loop(critic: Critic, rows: Sequence[Tokens]) -> list[Tensor]:
    """w . h after each prefix: no batch, no padding, no cache."""
    model, found = critic.body.activate(), []
    backbone = model.get_base_model().base_model if critic.body.adapter else model.base_model
    for row in rows:
        prefixes = [row.prompt_ids + row.token_ids[:t] for t in range(len(row.token_ids))]
        hidden = [backbone(input_ids=torch.tensor([ids])).last_hidden_state[0, -1] for ids in prefixes]
        found.append(torch.stack(hidden) @ critic.head.weight[0])
    return found


@KINDS
def test_values_are_those_of_a_loop_over_prefixes(model_folder: Path, rank: int) -> None:
    critic = critic_of(model_folder, rank)
    samples = samples_of(answers(tiny.load(model_folder), PLAIN))
    values = CriticLearner(critic, FREE, NEED).read(samples)
    for found, expected in zip(values, by_loop(critic, samples), strict=True):
        assert found == pytest.approx(expected.tolist(), abs=1e-4)


@pytest.mark.parametrize("name", ["qwen2", "llama"])
def test_other_architectures_are_read_as_their_own_code_reads_them(model_folder: Path, name: str) -> None:
    """One of these has an output layer of its own."""
    policy, critic = tiny.load(model_folder), critic_of(model_folder)
    critic.body.model = build(policy, name)
    critic.head.weight = torch.nn.Parameter(torch.randn(1, 48))
    samples = samples_of(answers(policy, PLAIN))
    values = CriticLearner(critic, FREE, NEED).read(samples)
    for found, expected in zip(values, by_loop(critic, samples), strict=True):
        assert found == pytest.approx(expected.tolist(), abs=1e-3)


def test_a_value_has_read_nothing_of_what_comes_after_it(model_folder: Path) -> None:
    learner = CriticLearner(critic_of(model_folder), FREE, NEED)
    (said, *_) = answers(tiny.load(model_folder), PLAIN, each=1)
    changed = replace(said, token_ids=(*said.token_ids[:2], 9, *said.token_ids[3:]))
    assert changed != said and len(said.token_ids) > 3
    one, other = learner.read([said, changed])
    assert one[:3] == pytest.approx(other[:3], abs=1e-6)
    assert min(abs(a - b) for a, b in zip(one[3:], other[3:], strict=True)) > 1e-3


def test_a_new_critic_expects_nothing(model_folder: Path) -> None:
    critic = load_critic("critic-ann", PolicyConfig(model=str(model_folder)), CPU)
    rows = answers(tiny.load(model_folder), PLAIN)
    assert {v for row in CriticLearner(critic, FREE, NEED).read(rows) for v in row} == {0.0}


def lesson(said: Completion, returns: tuple[float, ...], old: tuple[float, ...]) -> Lesson:
    return Lesson(ValueRow("critic-ann", 0, said.prompt_ids, said.token_ids), old, returns)


def lessons(critic: Critic, policy: LocalPolicy) -> list[Lesson]:
    """Returns 1, 2, 3, ... along each answer, and what the critic says now as what it said before."""
    said = answers(policy, PLAIN)
    old = CriticLearner(critic, FREE, NEED).read(said)
    returns = [tuple(float(t + 1) for t in range(len(one.token_ids))) for one in said]
    return [lesson(*each) for each in zip(said, returns, old, strict=True)]


def gradients(learner: CriticLearner, samples: list[Lesson]) -> dict[str, Tensor]:
    seen: dict[str, Tensor] = {}

    def look(*_: object) -> None:
        masters = learner.optimizer.masters
        seen.update({name: p.grad.clone() for name, p in masters.items() if p.grad is not None})

    handle = learner.optimizer.adamw.register_step_pre_hook(look)
    learner.update([samples])
    handle.remove()
    return seen


@KINDS
@pytest.mark.parametrize("budget", [4096, 40])
def test_gradients_are_those_of_the_mean_squared_error(model_folder: Path, rank: int, budget: int) -> None:
    """0.5 (the weight) times 0.5 (V - R)^2, mean over all tokens of the update, however it is cut up."""
    critic = critic_of(model_folder, rank)
    samples = lessons(critic, tiny.load(model_folder))
    loops = zip(by_loop(critic, [each.row for each in samples]), samples, strict=True)
    errors = [values - torch.tensor(sample.returns) for values, sample in loops]
    (0.25 * torch.cat(errors).square().mean()).backward()
    expected = {name: p.grad.clone() for name, p in critic.parameters().items() if p.grad is not None}
    found = gradients(CriticLearner(critic, replace(FREE, token_budget=budget), NEED), samples)
    assert found.keys() == expected.keys() and "head" in found
    for name, slope in expected.items():
        torch.testing.assert_close(found[name], slope, atol=2e-5, rtol=1e-3)


def test_what_a_report_says(model_folder: Path) -> None:
    critic = critic_of(model_folder, head=0.0)
    samples = lessons(critic, tiny.load(model_folder))
    returns = torch.tensor([value for sample in samples for value in sample.returns])
    report = CriticLearner(critic, FREE, NEED).update([samples])
    assert report["loss"] == pytest.approx(0.25 * float(returns.square().mean()), rel=1e-5)
    assert (report["value"], report["explained_variance"]) == (0.0, 0.0)
    assert (report["sequences"], report["tokens"]) == (len(samples), len(returns))
    assert report["lr"] == 1e-3 and report["gradient_norm"] > 0


def test_a_critic_learns_what_it_is_told(model_folder: Path) -> None:
    """Returns that depend on prompt and place: the loss falls to a hundredth, and their variance is explained."""
    critic = critic_of(model_folder)
    samples = lessons(critic, tiny.load(model_folder))
    learner = CriticLearner(critic, replace(FREE, lr=3e-3), NEED)
    reports = [learner.update([samples]) for _ in range(40)]
    assert reports[-1]["loss"] < 0.01 * reports[0]["loss"]
    assert reports[-1]["explained_variance"] > 0.98 > reports[0]["explained_variance"]


def test_a_clip_stops_the_push_where_values_have_moved_enough(model_folder: Path) -> None:
    """Said before: 0. Wanted: 10. Now: around 3, beyond a range of 0.1 and within one of 100."""
    critic = critic_of(model_folder)
    said = answers(tiny.load(model_folder), PLAIN)
    ten = [lesson(one, (10.0,) * len(one.token_ids), (0.0,) * len(one.token_ids)) for one in said]
    learner = CriticLearner(critic, replace(FREE, lr=3e-3), NEED)
    while learner.update([ten])["value"] < 3:
        pass
    norms = []
    for clip in (0.1, 100.0, None):
        trial = CriticLearner(critic, replace(FREE, lr=1e-12, weight_decay=0.0), replace(NEED, clip=clip))
        norms.append(trial.update([ten])["gradient_norm"])
    assert norms[0] == 0.0 and norms[1] == pytest.approx(norms[2]) and norms[2] > 0.1


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_return_that_is_no_number_is_refused_and_nothing_moves(model_folder: Path, bad: float) -> None:
    critic = critic_of(model_folder)
    samples = [replace(one, returns=(bad,) * len(one.returns)) for one in lessons(critic, critic.body)]
    before = {name: p.detach().clone() for name, p in critic.parameters().items()}
    with pytest.raises(TrainingError, match=r"critic critic-ann: the loss is .* the optimizer step was not made"):
        CriticLearner(critic, FREE, NEED).update([samples])
    assert all(torch.equal(p, before[name]) for name, p in critic.parameters().items())


def test_a_critic_beside_a_policy_is_an_adapter_on_its_model_and_leaves_it_as_it_is(model_folder: Path) -> None:
    policy = tiny.load(model_folder, "ann", lora=Lora(rank=4))
    said = [one.token_ids for one in answers(policy, PLAIN)]
    critic = critic_of(model_folder, rank=2, base=policy.model)
    assert critic.body.model is policy.model
    samples, before = lessons(critic, policy), weights(policy)
    CriticLearner(critic, FREE, NEED).update([samples])
    moved = {name for name, weight in weights(policy).items() if not torch.equal(weight, before[name])}
    assert moved and all(adapter_name("critic-ann") in name for name in moved)
    assert [one.token_ids for one in answers(policy, PLAIN)] == said


@KINDS
def test_the_output_layer_of_the_model_is_neither_changed_nor_asked(model_folder: Path, rank: int) -> None:
    critic = critic_of(model_folder, rank)
    rows = answers(tiny.load(model_folder), PLAIN)
    words, learner = critic.body.model.get_output_embeddings(), CriticLearner(critic, FREE, NEED)
    expected = learner.read(rows)
    words.register_forward_pre_hook(lambda *_: pytest.fail("the output layer was asked"))
    assert learner.read(rows) == expected
    assert critic.body.model.get_output_embeddings() is words


def test_output_that_is_not_finite_names_the_critic(model_folder: Path) -> None:
    critic = critic_of(model_folder)
    with torch.no_grad():
        critic.head.weight[0, 3] = float("inf")
    rows = answers(tiny.load(model_folder), PLAIN)
    with pytest.raises(EngineError, match="critic critic-ann: the model's output is not finite"):
        CriticLearner(critic, FREE, NEED).read(rows)


@KINDS
def test_a_restored_critic_goes_on_with_the_same_numbers(model_folder: Path, rank: int) -> None:
    config = OptimizerConfig(lr=1e-3, warmup=2, lr_schedule="cosine")
    one, other = (CriticLearner(critic_of(model_folder, rank), config, NEED) for _ in range(2))
    samples = lessons(one.critic, tiny.load(model_folder))
    one.update([samples, samples])
    other.restore(copy.deepcopy(one.state()))  # as a file would be
    reports = [learner.update([samples, samples]) for learner in (one, other)]
    assert reports[0] == reports[1]
    for name, parameter in one.critic.parameters().items():
        assert torch.equal(parameter, other.critic.parameters()[name])


def test_a_state_of_another_critic_is_refused(model_folder: Path) -> None:
    whole, adapter = (CriticLearner(critic_of(model_folder, rank), FREE, NEED) for rank in (0, 4))
    with pytest.raises(ConfigError, match="critic critic-ann: the checkpoint holds other parameters"):
        adapter.restore(whole.state())


def test_recomputed_activations_do_not_change_the_gradient(model_folder: Path) -> None:
    found = []
    for checkpointing in (False, True):
        critic = critic_of(model_folder)
        samples = lessons(critic, tiny.load(model_folder))
        learner = CriticLearner(critic, replace(FREE, gradient_checkpointing=checkpointing), NEED)
        found.append(gradients(learner, samples))
    for name, slope in found[0].items():
        torch.testing.assert_close(found[1][name], slope, atol=2e-5, rtol=1e-3)


def test_steps_too_small_for_bfloat16_are_kept_in_float32(model_folder: Path) -> None:
    """The head is in float32 anyway: its first step of Adam is the rate in every direction."""
    critic = load_critic("critic-ann", PolicyConfig(model=str(model_folder), dtype="bfloat16"), CPU)
    samples = lessons(critic, tiny.load(model_folder))
    CriticLearner(critic, replace(FREE, lr=1e-5, weight_decay=0.0), NEED).update([samples])
    assert critic.head.weight.dtype == torch.float32
    assert critic.head.weight.abs().tolist()[0] == pytest.approx([1e-5] * 32, rel=1e-3)


def test_explained_variance_by_hand() -> None:
    returns = torch.tensor([0.0, 2.0, 4.0])
    assert explained(torch.tensor([0.0, 1.0, 2.0]), returns) == pytest.approx(0.75)
    assert explained(torch.tensor([5.0, 7.0, 9.0]), returns) == pytest.approx(1.0)
    assert explained(-returns, returns) == pytest.approx(-3.0)
    assert explained(returns, torch.ones(3)) == 0.0


@pytest.mark.parametrize("lr", [0.0, -1.0, float("inf"), float("nan")])
def test_a_rate_that_cannot_work_is_refused(lr: float) -> None:
    with pytest.raises(ConfigError, match=r"critic.lr: expected a positive number"):
        CriticConfig(lr=lr)


def test_a_batch_of_values_has_zeros_in_padding(model_folder: Path) -> None:
    critic, policy = critic_of(model_folder), tiny.load(model_folder)
    batch = make_batch(samples_of(answers(policy, PLAIN)), policy.tokenizer.pad_token_id, CPU)
    assert not bool(batch.mask.all())
    values = critic.values(batch, forward_fn(FREE))
    assert bool((values[~batch.mask] == 0).all()) and bool((values[batch.mask] != 0).all())
