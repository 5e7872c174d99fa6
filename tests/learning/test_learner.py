"""The learner against a reference written as a loop: same log-probs, same gradients, and updates it must refuse."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, GPT2Config, OPTConfig

from fakes import tiny
from fakes.borders import assert_same_answers
from fakes.tiny import CPU, answers, same, samples_of, weights
from madrigal.algorithms.group import MAGRPO, GroupRelative
from madrigal.learning.learner import Learner
from madrigal.maths.batch import Batch, PolicyOutput, make_batch
from madrigal.maths.logprobs import OutputLogprobs, TokenLogprobs
from madrigal.maths.losses import entropy
from madrigal.maths.sampling import filtered_logits
from madrigal.policies import forward
from madrigal.policies.local import LocalPolicy
from madrigal.settings import Lora, OptimizerConfig, Sampling
from madrigal.types import ConfigError, EngineError, Sample, TrainingError

PLAIN = Sampling(max_new_tokens=12)
WARPED = Sampling(temperature=0.7, top_p=0.9, top_k=20, max_new_tokens=12)
BOTH = pytest.mark.parametrize("sampling", [PLAIN, WARPED], ids=["plain", "warped"])
FREE = OptimizerConfig(lr=1e-4, clip_norm=1e9)  # gradients as they are


def whole_batch(policy: LocalPolicy, samples: Sequence[Sample]) -> Batch:
    return make_batch(samples, policy.tokenizer.pad_token_id, CPU)


def reference_gradients(policy: LocalPolicy, samples: Sequence[Sample], sampling: Sampling) -> dict[str, Tensor]:
    """-1/n sum_n A_n sum_t log pi(token_t | prompt, tokens before t): no batch, no padding, no cache."""
    policy.model.zero_grad()
    for sample in samples:
        said = sample.turn.completion
        for t, token in enumerate(said.token_ids):
            ids = torch.tensor([said.prompt_ids + said.token_ids[:t]])
            logits = filtered_logits(policy.model(input_ids=ids).logits[0, -1], sampling)
            (-sample.advantage * logits.log_softmax(-1)[token] / len(samples)).backward()
    found = {name: p.grad.clone() for name, p in policy.model.named_parameters() if p.grad is not None}
    policy.model.zero_grad()
    return found


def again(learner: Learner, samples: Sequence[Sample], loss: Any, scale: float = 1.0) -> dict[str, float]:
    """An update from answers of weights that have hardly moved since, as if they had not."""
    learner.policy.version = samples[0].turn.completion.version
    return learner.update([samples], loss, scale=scale)


def gradients(learner: Learner, samples: Sequence[Sample]) -> dict[str, Tensor]:
    """What the optimizer is given in one update."""
    seen: dict[str, Tensor] = {}

    def look(*_: object) -> None:
        seen.update({name: p.grad.clone() for name, p in learner.optimizer.masters.items() if p.grad is not None})

    handle = learner.optimizer.adamw.register_step_pre_hook(look)
    again(learner, samples, MAGRPO.loss)
    handle.remove()
    return seen


def distance(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    """Relative, over all parameters together."""
    assert one.keys() == other.keys()
    apart = sum(float((one[k] - other[k]).square().sum()) for k in one)
    return math.sqrt(apart / sum(float(other[k].square().sum()) for k in other))


@BOTH
def test_logprobs_at_training_are_those_at_sampling(policy: LocalPolicy, sampling: Sampling) -> None:
    samples = samples_of(answers(policy, sampling, each=4))
    batch = whole_batch(policy, samples)
    output = Learner(policy, FREE, sampling).score(batch)
    assert float((output.logprobs.detach() - batch.old_logprobs)[batch.mask].abs().max()) < 1e-4


def test_a_sampled_token_that_rounding_would_cut_is_still_possible(policy: LocalPolicy) -> None:
    """Answers of the whole distribution, scored as if only the likeliest token could have been drawn."""
    batch = whole_batch(policy, samples_of(answers(policy, PLAIN)))
    output = Learner(policy, FREE, Sampling(top_k=1)).score(batch)
    assert bool(output.logprobs.isfinite().all()) and float(output.logprobs.detach()[batch.mask].min()) < -0.1


@BOTH
def test_gradients_equal_a_loop_over_samples_and_tokens(policy: LocalPolicy, sampling: Sampling) -> None:
    samples = samples_of(answers(policy, replace(sampling, max_new_tokens=6)))
    expected = reference_gradients(policy, samples, sampling)
    learner = Learner(policy, FREE, sampling)
    assert distance(gradients(learner, samples), expected) < 1e-5


@pytest.mark.parametrize("size", [7, 2048, 200_000])
@pytest.mark.parametrize("cut", [False, True])
def test_chosen_logprobs_and_entropies_are_those_of_a_log_softmax(size: int, cut: bool) -> None:
    """And so is the slope; in one piece, in several, and with outcomes of probability 0."""
    torch.manual_seed(0)
    logits, chosen = 5 * torch.randn(150 if size < 5000 else 3, size), torch.arange(150 if size < 5000 else 3) % 6
    if cut:
        logits[:, 6:] = logits[:, 6:].masked_fill(logits[:, 6:] < 0, -math.inf)
    logits[0] *= 30
    ours, plain = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    (logprobs, entropies), table = TokenLogprobs.apply(ours, chosen), plain.log_softmax(-1)
    expected, slopes = table.gather(1, chosen[:, None])[:, 0], torch.randn(len(logits))
    torch.testing.assert_close(logprobs, expected, atol=1e-4, rtol=1e-6)
    torch.testing.assert_close(entropies, entropy(logits.double()).float(), atol=1e-4, rtol=0)
    (logprobs * slopes).sum().backward()
    (expected * slopes).sum().backward()
    torch.testing.assert_close(ours.grad, plain.grad, atol=1e-6, rtol=1e-5)
    assert not entropies.requires_grad


@pytest.mark.parametrize("rows", [1, 40, 150])
@pytest.mark.parametrize("sampling", [PLAIN, replace(PLAIN, temperature=0.7), replace(PLAIN, top_k=20, top_p=0.9)])
def test_logprobs_from_hidden_states_are_those_of_their_logits(rows: int, sampling: Sampling) -> None:
    """And so are the slopes of states and weights, whatever number of rows is worked on at a time."""
    torch.manual_seed(0)
    hidden, weight = torch.randn(90, 12), torch.randn(3000, 12)
    chosen, slopes = torch.randint(3000, (90,)), torch.randn(90)

    def slope(of: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]) -> list[Tensor]:
        inputs = [part.clone().requires_grad_() for part in (hidden, weight)]
        logprobs, entropies = of(*inputs)
        (logprobs * slopes).sum().backward()
        return [logprobs.detach(), entropies.detach(), *(part.grad for part in inputs)]

    found = slope(lambda h, w: OutputLogprobs.apply(h, w, chosen, sampling, rows))
    expected = slope(lambda h, w: TokenLogprobs.apply(filtered_logits(h @ w.t(), sampling, keep=chosen), chosen))
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("budget", [1, 60, 150])
def test_memory_budgets_do_not_change_the_gradient(model_folder: Path, budget: int) -> None:
    found = []
    for tokens in (100_000, budget):
        learner = Learner(tiny.load(model_folder), replace(FREE, token_budget=tokens), PLAIN)
        found.append(gradients(learner, samples_of(answers(learner.policy, PLAIN))))
    assert distance(found[1], found[0]) < 1e-5


@pytest.mark.parametrize("lora", [Lora(), Lora(rank=4)], ids=["whole", "lora"])
def test_gradient_checkpointing_recomputes_and_does_not_change_the_gradient(model_folder: Path, lora: Lora) -> None:
    found, kept = [], []
    for checkpointing in (False, True):
        policy = tiny.load(model_folder, lora=lora)
        learner = Learner(policy, replace(FREE, gradient_checkpointing=checkpointing), PLAIN)
        samples = samples_of(answers(policy, PLAIN))
        sizes: list[int] = []
        with torch.autograd.graph.saved_tensors_hooks(
            lambda x, sizes=sizes: sizes.append(0 if isinstance(x, nn.Parameter) else x.numel()) or x, lambda x: x
        ):
            learner.score(whole_batch(policy, samples))
        found.append(gradients(learner, samples))
        kept.append(sum(sizes))
        assert answers(learner.policy, PLAIN)  # it still speaks
    assert distance(found[1], found[0]) < 1e-5
    assert kept[1] < kept[0] / 2, "of each layer only what goes in"


@pytest.mark.parametrize("lora", [Lora(), Lora(rank=4)], ids=["whole", "lora"])
def test_logits_in_pieces_change_no_number(model_folder: Path, lora: Lora, monkeypatch: pytest.MonkeyPatch) -> None:
    policy = tiny.load(model_folder, lora=lora)
    samples = samples_of(answers(policy, PLAIN))
    for sampling in (PLAIN, replace(PLAIN, temperature=0.7, top_k=20, top_p=0.9)):
        found = []
        for size in (forward.TABLE, 3 * len(policy.tokenizer)):
            monkeypatch.setattr(forward, "TABLE", size)
            learner = Learner(policy, replace(FREE, lr=1e-12, mismatch_tolerance=1e9), sampling)
            output = learner.score(whole_batch(policy, samples))
            found.append((output.logprobs.detach(), output.entropy.detach(), gradients(learner, samples)))
        torch.testing.assert_close(found[1][:2], found[0][:2], atol=1e-6, rtol=1e-6)
        assert distance(found[1][2], found[0][2]) < 1e-5


def other_model(policy: LocalPolicy, config: Any) -> LocalPolicy:
    config.vocab_size = len(policy.tokenizer)
    torch.manual_seed(0)
    policy.model = AutoModelForCausalLM.from_config(config).eval()
    return policy


@pytest.mark.parametrize(
    "config",
    [
        GPT2Config(n_embd=32, n_layer=2, n_head=2, n_positions=128, initializer_range=0.3),
        OPTConfig(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, ffn_dim=32, word_embed_proj_dim=32),
    ],
    ids=["modules", "functions"],
)
def test_gradient_checkpointing_leaves_dropout_off(policy: LocalPolicy, config: Any) -> None:
    """Both have a dropout of 0.1, in modules of their own or as a function that layers call."""
    policy = other_model(policy, config)
    samples, found = samples_of(answers(policy, PLAIN)), []
    for checkpointing in (False, True):
        learner = Learner(policy, replace(FREE, lr=1e-12, gradient_checkpointing=checkpointing), PLAIN)
        found.append(gradients(learner, samples))
    assert distance(found[1], found[0]) < 1e-4


def test_a_model_that_cannot_recompute_is_refused_before_training(policy: LocalPolicy) -> None:
    policy.model = torch.nn.Sequential(torch.nn.Linear(1, 1))
    policy.model.config = GPT2Config()
    with pytest.raises(ConfigError, match=r"policy ann: optimizer.gradient_checkpointing is set, but .* gpt2 model"):
        Learner(policy, replace(FREE, gradient_checkpointing=True), PLAIN)


def test_output_that_is_not_finite_blames_the_model(policy: LocalPolicy) -> None:
    samples = samples_of(answers(policy, PLAIN))
    with torch.no_grad():
        policy.model.model.norm.weight[3] = math.nan
    with pytest.raises(EngineError, match="policy ann: the model's output is not finite"):
        Learner(policy, FREE, PLAIN).update([samples], MAGRPO.loss)


def test_the_last_token_is_trained(policy: LocalPolicy) -> None:
    """An answer of nothing but the end token."""
    said = answers(policy, PLAIN, each=1)[0]
    end = policy.tokenizer.eos_token_id
    only = replace(said, token_ids=(end,), logprobs=(0.0,), text="")
    learner = Learner(policy, replace(FREE, mismatch_tolerance=1e9), PLAIN)
    with torch.no_grad():
        before = float(learner.score(whole_batch(policy, samples_of([only]))).logprobs)
    slopes = gradients(learner, samples_of([only]))
    assert max(float(slope.abs().max()) for slope in slopes.values()) > 1e-3
    with torch.no_grad():
        assert float(learner.score(whole_batch(policy, samples_of([only]))).logprobs) > before


def test_a_positive_advantage_makes_an_answer_likelier_and_a_negative_one_unlikelier(policy: LocalPolicy) -> None:
    samples = samples_of(answers(policy, PLAIN, each=1)[:2])
    learner = Learner(policy, OptimizerConfig(lr=1e-3), PLAIN)
    batch = whole_batch(policy, samples)
    before = (learner.score(batch).logprobs * batch.mask).sum(-1).detach()
    learner.update([samples], MAGRPO.loss)
    moved = (learner.score(batch).logprobs * batch.mask).sum(-1) - before
    assert [sample.advantage > 0 for sample in samples] == (moved > 0).tolist() == [True, False]


def test_stale_samples_are_refused_and_nothing_moves(policy: LocalPolicy) -> None:
    samples = samples_of(answers(policy, PLAIN))
    with torch.no_grad():
        policy.model.model.norm.weight.mul_(1.05)
    before = weights(policy)
    learner = Learner(policy, FREE, PLAIN)
    with pytest.raises(TrainingError, match="the sampler does not hold the trained weights"):
        learner.update([samples], MAGRPO.loss)
    assert same(weights(policy), before) and policy.version == 0 and not learner.optimizer.adamw.state


def broken_loss(output: PolicyOutput, batch: Batch) -> Tensor:
    return output.logprobs.sum() * math.nan


def infinite_slope(output: PolicyOutput, batch: Batch) -> Tensor:
    return (output.logprobs - output.logprobs.detach()).abs().sqrt().sum()


@pytest.mark.parametrize("loss", [broken_loss, infinite_slope])
def test_a_loss_or_gradient_that_is_not_finite_is_refused_and_nothing_moves(policy: LocalPolicy, loss: Any) -> None:
    before = weights(policy)
    learner = Learner(policy, FREE, PLAIN)
    with pytest.raises(TrainingError, match="expected finite numbers; the optimizer step was not made"):
        learner.update([samples_of(answers(policy, PLAIN))], loss)
    assert same(weights(policy), before) and not learner.optimizer.adamw.state


def test_an_advantage_that_is_not_a_number_is_refused(policy: LocalPolicy) -> None:
    before = weights(policy)
    samples = [replace(s, advantage=math.nan) for s in samples_of(answers(policy, PLAIN))]
    with pytest.raises(TrainingError):
        Learner(policy, FREE, PLAIN).update([samples], MAGRPO.loss)
    assert same(weights(policy), before)


def test_samples_without_tokens_are_no_step(policy: LocalPolicy) -> None:
    mute = [replace(one, token_ids=(), logprobs=()) for one in answers(policy, PLAIN)]
    assert Learner(policy, FREE, PLAIN).update([samples_of(mute), []], MAGRPO.loss) == {}
    assert policy.version == 0


def test_every_stage_is_one_step_and_the_version_counts_them(policy: LocalPolicy) -> None:
    learner = Learner(policy, FREE, PLAIN)
    stages = [samples_of(answers(policy, PLAIN, each=1))] * 2
    assert learner.update(stages, MAGRPO.loss)["sequences"] == 3
    assert policy.version == 2
    assert answers(policy, PLAIN)[0].version == 2


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (OptimizerConfig(), [1, 1, 1, 1, 1]),
        (OptimizerConfig(warmup=3), [0.25, 0.5, 0.75, 1, 1]),
        (OptimizerConfig(lr_schedule="linear"), [1, 0.75, 0.5, 0.25, 0]),
        (OptimizerConfig(lr_schedule="linear", min_lr_ratio=0.2), [1, 0.8, 0.6, 0.4, 0.2]),
        (OptimizerConfig(lr_schedule="cosine"), [1, (1 + math.sqrt(0.5)) / 2, 0.5, (1 - math.sqrt(0.5)) / 2, 0]),
        (OptimizerConfig(lr_schedule="linear", warmup=1), [0.5, 1, 2 / 3, 1 / 3, 0]),
    ],
)
def test_the_learning_rate_of_every_step(config: OptimizerConfig, expected: list[float]) -> None:
    assert [config.scale(step, 5) for step in range(5)] == pytest.approx(expected)


def test_the_rate_of_the_schedule_is_the_one_used(policy: LocalPolicy) -> None:
    learner = Learner(policy, OptimizerConfig(lr=1e-6, warmup=1, lr_schedule="linear"), PLAIN)
    samples = samples_of(answers(policy, PLAIN))
    scales = [learner.config.scale(step, 3) for step in range(3)]
    rates = [again(learner, samples, MAGRPO.loss, scale)["lr"] for scale in scales]
    assert rates == pytest.approx([0.5e-6, 1e-6, 0.0])


def test_large_gradients_are_cut_to_the_norm(policy: LocalPolicy) -> None:
    learner = Learner(policy, replace(FREE, clip_norm=0.25), PLAIN)
    slopes = gradients(learner, samples_of(answers(policy, PLAIN)))
    assert math.sqrt(sum(float(slope.square().sum()) for slope in slopes.values())) == pytest.approx(0.25, rel=1e-4)


def test_the_reference_costs_nothing_at_the_start_and_pulls_back_later(policy: LocalPolicy) -> None:
    learner = Learner(policy, replace(FREE, mismatch_tolerance=1e9), PLAIN, reference="loss")
    samples = [replace(s, advantage=0.0) for s in samples_of(answers(policy, PLAIN, each=4))]
    loss = GroupRelative(kl=1.0).loss
    assert abs(learner.update([samples], loss)["loss"]) < 1e-6
    with torch.no_grad():
        policy.model.model.norm.weight.mul_(1.3)
    away = [again(learner, samples, loss)["loss"] for _ in range(5)]
    assert away[0] > 0.01 and away[-1] < away[0]


def test_the_reference_of_an_adapter_is_the_base_below_it(model_folder: Path) -> None:
    policy = tiny.load(model_folder, lora=Lora(rank=4))
    learner = Learner(policy, FREE, PLAIN, reference="loss")
    batch = whole_batch(policy, samples_of(answers(policy, PLAIN)))
    with torch.no_grad():
        for name, parameter in policy.parameters().items():
            parameter.add_(0.1 if "lora_B" in name else 0.0)
    base = Learner(tiny.load(model_folder), FREE, PLAIN).score(batch).logprobs
    held = learner._reference(batch)
    torch.testing.assert_close(held, base.detach(), atol=1e-5, rtol=0)
    assert float((learner.score(batch).logprobs.detach() - held).abs().max()) > 0.01


def test_an_update_moves_this_seats_adapter_only(model_folder: Path) -> None:
    ann = tiny.load(model_folder, "ann", lora=Lora(rank=4))
    bob = tiny.load(model_folder, "bob", lora=Lora(rank=4), base=ann.model)
    learner = Learner(ann, OptimizerConfig(lr=1e-2, weight_decay=0.1), PLAIN)
    Learner(bob, OptimizerConfig(lr=1e-2, weight_decay=0.1), PLAIN)
    before = weights(ann)
    for _ in range(2):
        learner.update([samples_of(answers(ann, PLAIN))], GroupRelative(kl=0.1).loss)
        answers(bob, PLAIN)
    moved = {name for name, weight in weights(ann).items() if not torch.equal(weight, before[name])}
    assert moved == set(ann.parameters()) and all(".@ann@." in name for name in moved)


def test_adapters_of_one_base_speak_for_themselves(model_folder: Path) -> None:
    ann = tiny.load(model_folder, "ann", lora=Lora(rank=4))
    bob = tiny.load(model_folder, "bob", lora=Lora(rank=4), base=ann.model)
    base = tiny.load(model_folder)
    plain = answers(base, PLAIN)
    with torch.no_grad():
        for name, parameter in ann.parameters().items():
            parameter.add_(0.3 if "lora_B" in name else 0.0)
    assert [one.token_ids for one in answers(ann, PLAIN)] != [one.token_ids for one in plain]
    assert_same_answers(base, answers(bob, PLAIN), plain, PLAIN, range(len(plain)))


def test_a_restored_learner_goes_on_with_the_same_numbers(model_folder: Path) -> None:
    config = OptimizerConfig(lr=1e-3, warmup=2, lr_schedule="cosine")
    one, other = (Learner(tiny.load(model_folder), config, PLAIN) for _ in range(2))
    for _ in range(2):
        one.update([samples_of(answers(one.policy, PLAIN))], MAGRPO.loss)
    other.restore(copy.deepcopy(one.state()))  # as a file would be
    for learner in (one, other):
        for _ in range(2):
            learner.update([samples_of(answers(learner.policy, PLAIN))], MAGRPO.loss)
    assert same(weights(one.policy), weights(other.policy)) and other.policy.version == 4


def test_steps_too_small_for_bfloat16_are_kept_in_float32(model_folder: Path) -> None:
    """The first step of Adam is lr in every direction: 1e-5 where bfloat16 holds steps of 2e-3 around 0.3."""
    learner = Learner(tiny.load(model_folder, dtype="bfloat16"), OptimizerConfig(lr=1e-5, weight_decay=0.0), PLAIN)
    before = {name: master.clone() for name, master in learner.optimizer.masters.items()}
    learner.update([samples_of(answers(learner.policy, PLAIN))], MAGRPO.loss)
    moved = {name: (learner.optimizer.masters[name] - start).abs().max().item() for name, start in before.items()}
    assert max(moved.values()) == pytest.approx(1e-5, rel=0.02)
    for name, parameter in learner.optimizer.parameters.items():
        assert parameter.dtype == torch.bfloat16 and torch.equal(parameter, learner.optimizer.masters[name].bfloat16())
    assert all(saved.dtype == torch.float32 for saved in learner.state()["parameters"].values())


def test_a_state_of_another_model_is_refused(model_folder: Path) -> None:
    whole = Learner(tiny.load(model_folder), FREE, PLAIN)
    adapter = Learner(tiny.load(model_folder, lora=Lora(rank=4)), FREE, PLAIN)
    with pytest.raises(ConfigError, match="other parameters than this model"):
        adapter.restore(whole.state())


@pytest.mark.parametrize(
    "settings",
    [
        {"lr": -1.0},
        {"lr": 0.0},
        {"lr": math.inf},
        {"lr": math.nan},
        {"clip_norm": 0.0},
        {"weight_decay": -0.1},
        {"weight_decay": math.inf},
        {"betas": (0.9, 1.0)},
        {"betas": (-0.1, 0.9)},
        {"warmup": -1},
        {"min_lr_ratio": -0.1},
        {"token_budget": 0},
    ],
)
def test_a_setting_that_cannot_work_is_refused_by_name(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"optimizer.{next(iter(settings))}"):
        OptimizerConfig(**settings)


def test_clip_fraction_and_approx_kl_are_those_of_the_ratios(policy: LocalPolicy) -> None:
    """Log-probs at sampling were too high by 0.5 and 0.1: ratios e^-0.5 and e^-0.1, half of them clipped at 0.2."""
    samples = samples_of(answers(policy, PLAIN))
    shifts = [0.5 if n % 2 else 0.1 for n in range(len(samples))]
    moved = [
        replace(
            s,
            turn=replace(
                s.turn,
                completion=replace(s.turn.completion, logprobs=tuple(p + by for p in s.turn.completion.logprobs)),
            ),
        )
        for s, by in zip(samples, shifts, strict=True)
    ]
    report = Learner(policy, replace(FREE, mismatch_tolerance=9.0), PLAIN, clip=0.2).update([moved], MAGRPO.loss)
    lengths = [len(s.turn.completion.token_ids) for s in moved]
    share = sum(n for n, by in zip(lengths, shifts, strict=True) if by > 0.2) / sum(lengths)
    kl = sum(n * (math.exp(-by) - 1 + by) for n, by in zip(lengths, shifts, strict=True)) / sum(lengths)
    assert report["clip_fraction"] == pytest.approx(share)
    assert report["approx_kl"] == pytest.approx(kl, abs=1e-5)


def far(samples: Sequence[Sample], nats: float) -> list[Sample]:
    """The same as if their sampler had given every token a log-prob so much higher."""
    return [
        replace(s, turn=replace(s.turn, completion=replace(said, logprobs=tuple(x + nats for x in said.logprobs))))
        for s in samples
        for said in [s.turn.completion]
    ]


def test_importance_weights_scale_the_gradient_and_a_cap_bounds_them(policy: LocalPolicy) -> None:
    samples = samples_of(answers(policy, PLAIN))
    plain = gradients(Learner(policy, replace(FREE, lr=1e-12), PLAIN), samples)
    config = replace(FREE, lr=1e-12, mismatch_tolerance=1e9)
    for nats, cap, weight in ((math.log(2), 9.0, 0.5), (-math.log(2), 9.0, 2.0), (-5.0, 2.0, 2.0), (0.0, 2.0, 1.0)):
        learner = Learner(policy, replace(config, importance_cap=cap), PLAIN)
        found = gradients(learner, far(samples, nats))
        assert distance(found, {name: weight * slope for name, slope in plain.items()}) < 1e-5
        report = again(learner, far(samples, nats), MAGRPO.loss)
        assert report["importance_weight"] == pytest.approx(weight, rel=1e-4)
        assert report["importance_capped"] == (1.0 if weight == cap else 0.0)
        assert report["logprob_mismatch"] == pytest.approx(abs(nats), abs=1e-4)


def test_with_importance_weights_the_ratio_of_a_clipped_loss_begins_at_one(policy: LocalPolicy) -> None:
    """Without them all tokens of an off sampler lie out of the clip range from the start."""
    samples, loss = far(samples_of(answers(policy, PLAIN)), 0.5), GroupRelative(clip=0.2).loss
    config = replace(FREE, lr=1e-12, mismatch_tolerance=1e9)
    for cap, clipped in ((None, 1.0), (3.0, 0.0)):
        learner = Learner(policy, replace(config, importance_cap=cap), PLAIN, clip=0.2)
        assert again(learner, samples, loss)["clip_fraction"] == clipped


def test_a_sampler_too_far_away_is_refused_with_importance_weights_too(policy: LocalPolicy) -> None:
    before = weights(policy)
    learner = Learner(policy, replace(FREE, importance_cap=2.0), PLAIN)
    with pytest.raises(
        TrainingError, match=r"differ by 0.5000 nats .* answer of ann by the local engine; .* version 0"
    ):
        learner.update([far(samples_of(answers(policy, PLAIN)), 0.5)], MAGRPO.loss)
    assert same(weights(policy), before)


def test_a_single_token_that_is_far_off_is_refused(policy: LocalPolicy) -> None:
    """The mean over many tokens would hide it."""
    samples = samples_of(answers(policy, PLAIN, each=30))
    first = samples[0].turn.completion
    off = replace(first, logprobs=(first.logprobs[0] - 0.6, *first.logprobs[1:]))
    samples[0] = replace(samples[0], turn=replace(samples[0].turn, completion=off))
    assert 0.6 / sum(len(s.turn.completion.token_ids) for s in samples) < 0.001
    with pytest.raises(TrainingError, match=r"by 0.6000 at most \(0.5 expected\)"):
        Learner(policy, FREE, PLAIN).update([samples], MAGRPO.loss)


def test_an_answer_of_another_version_is_refused_whatever_its_log_probs(policy: LocalPolicy) -> None:
    samples = samples_of(answers(policy, PLAIN))
    policy.version = 3
    with pytest.raises(
        TrainingError, match=r"answer of ann was sampled by the local engine with version 0 .* version 3"
    ):
        Learner(policy, FREE, PLAIN).update([samples], MAGRPO.loss)


def test_going_back_to_older_weights_gives_them_a_new_version(policy: LocalPolicy) -> None:
    learner = Learner(policy, FREE, PLAIN)
    states = [copy.deepcopy(learner.state())]
    for _ in range(2):
        learner.update([samples_of(answers(policy, PLAIN))], MAGRPO.loss)
        states.append(copy.deepcopy(learner.state()))
    assert [state["version"] for state in states] == [0, 1, 2]
    learner.restore(states[2])
    assert policy.version == 2
    learner.restore(states[1])
    assert policy.version == 3
