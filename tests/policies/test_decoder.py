"""The decoder written out by hand against the library's own code: same log-probs, same tokens, every architecture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model

from fakes import tiny
from fakes.borders import assert_same_answers
from fakes.kin import MODELS, build
from fakes.tiny import CPU, chat
from madrigal.maths.batch import prompt_levels
from madrigal.policies import decoders, llama
from madrigal.policies.generate import generate
from madrigal.policies.llama import supports
from madrigal.policies.local import LocalPolicy
from madrigal.settings import Lora, Sampling
from madrigal.types import Completion

TEXTS = ("a", "the cat sat on the mat", "zebra " * 20, "1 + 1 =", "mice")
UNEVEN = ("a", "mice", "a", "zebra " * 20, "a", "a", "nice", "mice")  # siblings apart, and not equally many
SAMPLINGS = {
    "plain": Sampling(max_new_tokens=24),
    "warped": Sampling(temperature=0.7, top_p=0.9, top_k=20, max_new_tokens=24),
    "greedy": Sampling(greedy=True, max_new_tokens=24),
}


@pytest.fixture(params=list(MODELS))
def talker(request: pytest.FixtureRequest, policy: LocalPolicy) -> LocalPolicy:
    """A policy with twenty end tokens, so that answers end early and at different lengths."""
    policy.model = build(policy, request.param)
    policy.model.generation_config.eos_token_id = [policy.tokenizer.eos_token_id, *range(60, 80)]
    return policy


def both(
    policy: LocalPolicy, texts: tuple[str, ...], sampling: Sampling, monkeypatch: pytest.MonkeyPatch
) -> tuple[list[Completion], list[Completion]]:
    prompts, seeds = [chat(text) for text in texts], range(len(texts))
    assert supports(policy.model)
    ours = generate(policy, prompts, seeds, sampling)
    monkeypatch.setattr(llama, "supports", lambda model: False)
    return ours, generate(policy, prompts, seeds, sampling)


@pytest.mark.parametrize("sampling", SAMPLINGS.values(), ids=list(SAMPLINGS))
@pytest.mark.parametrize("texts", [TEXTS, TEXTS[:2] * 4, UNEVEN, ("a",)], ids=["alone", "even", "uneven", "one"])
def test_answers_are_those_of_the_librarys_code(
    talker: LocalPolicy, texts: tuple[str, ...], sampling: Sampling, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, theirs = both(talker, texts, sampling, monkeypatch)
    assert_same_answers(talker, ours, theirs, sampling, range(len(texts)))
    if len(texts) > 1 and not sampling.greedy:
        assert len({len(one.token_ids) for one in ours}) > 2


def test_logits_are_those_of_one_pass_over_the_whole_text(talker: LocalPolicy) -> None:
    """Written one by one, with rows dropped on the way until a whole prompt has gone and the groups are uneven."""
    torch.manual_seed(0)
    texts, kept = torch.randint(5, 50, (7, 30)), torch.arange(7)
    prompt_of = torch.tensor([0, 0, 1, 1, 2, 2, 2])
    encoded = [tuple(texts[n, :10].tolist()) for n in (0, 2, 4)]
    texts[:, :10] = torch.tensor(encoded)[prompt_of]
    rows = decoders.decoder(talker.model, prompt_levels(encoded, 0, CPU), prompt_of, 20)
    whole = talker.model(input_ids=texts).logits
    for t in range(10, 30):
        torch.testing.assert_close(rows.logits, whole[kept, t - 1], atol=1e-4, rtol=1e-4)
        if t in (13, 19, 25):
            keep = {13: torch.tensor([0, 1, 3, 4, 6]), 19: torch.tensor([0, 2, 3, 4]), 25: torch.tensor([2, 3])}[t]
            rows.select(keep)
            kept = kept[keep]
        rows.advance(texts[kept, t])


def test_a_new_call_sees_new_weights(talker: LocalPolicy, monkeypatch: pytest.MonkeyPatch) -> None:
    prompts, greedy = [chat("a")] * 2, SAMPLINGS["greedy"]
    before = generate(talker, prompts, [0, 1], greedy)
    with torch.no_grad():
        for parameter in talker.model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    after, expected = both(talker, ("a", "a"), greedy, monkeypatch)
    assert_same_answers(talker, after, expected, greedy, range(2))
    assert before[0].token_ids != after[0].token_ids


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("qwen3", {"attention_bias": True}),
        ("llama", {"mlp_bias": True}),
        ("qwen3", {"hidden_act": "gelu"}),
        ("qwen2", {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 1}),
        ("llama", {"rope_parameters": {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}}),
    ],
)
def test_what_is_not_written_out_is_left_to_the_library(
    policy: LocalPolicy, name: str, settings: dict[str, Any]
) -> None:
    assert supports(build(policy, name))
    policy.model = build(policy, name, **settings)
    assert not supports(policy.model)
    assert generate(policy, [chat("a")], [0], SAMPLINGS["plain"])


@pytest.fixture
def adapted(model_folder: Path) -> LocalPolicy:
    """Two adapters on one model, both far from zero; the second one is switched on."""
    first = tiny.load(model_folder, lora=Lora(rank=4))
    policy = tiny.load(
        model_folder, "bob", lora=Lora(rank=2, targets=("q_proj", "v_proj", "up_proj")), base=first.model
    )
    torch.manual_seed(0)
    with torch.no_grad():
        for one in (first, policy):
            for weight in one.parameters().values():
                weight.copy_(0.2 * torch.randn_like(weight))
    return policy


def test_adapters_answer_as_in_the_librarys_code(adapted: LocalPolicy, monkeypatch: pytest.MonkeyPatch) -> None:
    sampling = SAMPLINGS["plain"]
    ours, theirs = both(adapted, TEXTS, sampling, monkeypatch)
    assert_same_answers(adapted, ours, theirs, sampling, range(len(TEXTS)))
    monkeypatch.undo()
    with adapted.model.disable_adapter():
        plain = generate(adapted, [chat(text) for text in TEXTS], range(len(TEXTS)), sampling)
    assert [one.token_ids for one in plain] != [one.token_ids for one in ours]


def test_bfloat16_is_nearer_to_float32_than_the_librarys_own_code(
    model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wide, narrow = (tiny.load(model_folder, dtype=dtype).model for dtype in ("float32", "bfloat16"))
    with torch.no_grad():
        for weight, rounded in zip(wide.parameters(), narrow.parameters(), strict=True):
            weight.copy_(rounded.float())
    prompts = prompt_levels([tuple(range(5, 45)), tuple(range(7, 30))], 0, CPU)
    errors = []
    exact = decoders.decoder(wide, prompts, torch.tensor([0, 1]), 1).logits.detach()
    for written_out in (True, False):
        monkeypatch.setattr(llama, "supports", lambda model, answer=written_out: answer)
        errors.append(
            float((decoders.decoder(narrow, prompts, torch.tensor([0, 1]), 1).logits.detach() - exact).norm())
        )
    assert errors[0] < min(errors[1], 0.02 * float(exact.norm()))


@pytest.mark.filterwarnings("ignore:.lora_bias=True.", "ignore:Model has .tie_word_embeddings")
@pytest.mark.parametrize("odd", ["dora", "bias", "dropout", "head"])
def test_what_is_no_plain_adapter_is_left_to_the_library(model_folder: Path, odd: str) -> None:
    settings: dict[str, Any] = {
        "dora": {"use_dora": True},
        "bias": {"lora_bias": True},
        "dropout": {"lora_dropout": 0.1},
        "head": {"target_modules": ["q_proj", "lm_head"]},
    }[odd]
    config = LoraConfig(**{"r": 4, "target_modules": "all-linear", **settings})
    model = get_peft_model(tiny.load(model_folder).model, config).eval()
    assert not supports(model)


def test_kernels_find_the_keys_of_a_single_prompt_without_gaps(policy: LocalPolicy) -> None:
    """They know of no strides; a view of one prompt's keys between its queries has some."""
    prompts = prompt_levels([(5, 6, 7, 8)], 0, CPU)
    with torch.inference_mode():
        rows = decoders.GraphDecoder(policy.model, prompts, torch.zeros(3, dtype=torch.long), 4)
        plain = decoders.Decoder(policy.model, prompts, torch.zeros(3, dtype=torch.long), 4)
    for cache, other in zip(rows.caches, plain.caches, strict=True):
        assert all(t.is_contiguous() for t in (cache.prompt_keys, cache.prompt_values, cache.keys, cache.values))
        assert torch.equal(cache.prompt_keys, other.prompt_keys)
