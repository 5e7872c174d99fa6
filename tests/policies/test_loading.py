"""What comes in is looked at when it is loaded: weights, adapters, tokenizers, attention, foreign code."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import AutoPeftModelForCausalLM, PeftModel
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModelForCausalLM, GPT2Config, GPTJConfig, LlamaConfig

from fakes import tiny
from fakes.borders import assert_speaks_as_one_plain_pass
from fakes.tiny import CPU, answers, chat
from madrigal.policies import local
from madrigal.policies.adapters import adapter_name, new_adapter
from madrigal.policies.critic import load_critic
from madrigal.policies.generate import generate
from madrigal.policies.local import LocalPolicy, load_model, load_policy, load_saved_adapter
from madrigal.settings import Lora, PolicyConfig, Sampling
from madrigal.types import ConfigError, EngineError

Weights = dict[str, Tensor]
SHAPE: dict[str, Any] = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}


@pytest.fixture
def folder(model_folder: Path, tmp_path: Path) -> Path:
    """A copy of the tiny model, to be changed."""
    return Path(shutil.copytree(model_folder, tmp_path / "copy"))


def rewrite(file: Path, change: Callable[[Weights], Weights]) -> None:
    save_file(change(load_file(file)), file, metadata={"format": "pt"})


def edit(file: Path, **changes: Any) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def save_with(tokenizer: Any, config: Any, folder: Path, scale: float = 1.0) -> Path:
    """A random model of another architecture with the tiny tokenizer."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(scale if parameter.ndim > 1 else 1.0)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def refusal(folder: Path, **settings: Any) -> str:
    with pytest.raises(EngineError) as caught:
        tiny.load(folder, **settings)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("change", "count", "first"),
    [
        (lambda held: {f"_orig_mod.{name}": w for name, w in held.items()}, 25, "lm_head.weight"),
        (lambda held: {name: w for name, w in held.items() if "layers.1." not in name}, 11, "model.layers.1."),
        (lambda held: {n: w for n, w in held.items() if n != "model.norm.weight"}, 1, "model.norm.weight"),
    ],
    ids=["renamed by a compiler", "a layer", "one"],
)
def test_weights_that_would_be_random_are_refused_by_name(folder: Path, change: Any, count: int, first: str) -> None:
    rewrite(folder / "model.safetensors", change)
    assert f"{count} weights are missing" in refusal(folder) and first in refusal(folder)
    assert "weights are missing" in refusal(folder, lora=Lora(2)) and "are missing" in refusal(folder, trainable=False)
    with pytest.raises(EngineError, match="weights are missing"):
        load_critic("critic-ann", PolicyConfig(str(folder)), CPU)


def test_an_output_layer_may_be_tied_and_files_may_hold_more(folder: Path, policy: LocalPolicy, tmp_path: Path) -> None:
    rewrite(folder / "model.safetensors", lambda held: {**held, "value_head.weight": torch.ones(1, 32)})
    assert "lm_head.weight" not in load_file(folder / "model.safetensors") and tiny.load(folder)
    untied = save_with(policy.tokenizer, LlamaConfig(**SHAPE, vocab_size=len(policy.tokenizer)), tmp_path / "untied")
    assert tiny.load(untied)
    rewrite(untied / "model.safetensors", lambda held: {n: w for n, w in held.items() if "lm_head" not in n})
    assert "1 weights are missing in its files and would be random, lm_head.weight" in refusal(untied)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused_by_name(folder: Path, value: float) -> None:
    rewrite(folder / "model.safetensors", lambda held: {**held, "model.norm.weight": held["model.norm.weight"] * value})
    assert "model.norm.weight holds numbers that are not finite" in refusal(folder)


def test_output_that_is_not_finite_ends_at_the_first_token(policy: LocalPolicy) -> None:
    with torch.no_grad():
        policy.model.model.norm.weight[3] = float("nan")
    for sampling in (Sampling(max_new_tokens=2), Sampling(max_new_tokens=2, greedy=True), Sampling(top_k=5)):
        with pytest.raises(EngineError, match="policy ann: the model's output is not finite"):
            answers(policy, sampling)


def saved_adapter(folder: Path, to: Path, name: str = "ann", **settings: Any) -> LocalPolicy:
    """An adapter that says something, saved."""
    policy = tiny.load(folder, name, lora=Lora(4, **settings))
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in policy.parameters().values():
            parameter.add_(0.1 * torch.randn_like(parameter))
    policy.save(to)
    return policy


def heard(model: Any) -> Tensor:
    with torch.no_grad():
        logits: Tensor = model(input_ids=torch.arange(40, 60)[None]).logits
    return logits


def test_a_saved_adapter_that_lacks_weights_or_numbers_is_refused(model_folder: Path, tmp_path: Path) -> None:
    saved_adapter(model_folder, tmp_path)
    config, file = PolicyConfig(str(model_folder), lora=Lora(4)), tmp_path / "adapter_model.safetensors"
    held = load_file(file)
    name = next(name for name in held if "lora_B" in name)
    for change, reason in (({}, "1 weights are missing"), ({name: held[name] * float("nan")}, "not finite")):
        save_file({n: w for n, w in held.items() if n != name} | change, file)
        with pytest.raises(EngineError, match=rf"adapter .*{reason}"):
            load_saved_adapter("ann", tmp_path, config, CPU)


@pytest.mark.filterwarnings("ignore:Setting `save_embedding_layers`:UserWarning")
@pytest.mark.filterwarnings("ignore:.*tie_word_embeddings.*:UserWarning")
@pytest.mark.parametrize("targets", [("q_proj",), ("embed_tokens",), ("lm_head",)])
def test_the_folder_of_an_adapter_in_a_seat_that_does_not_learn_speaks_as_it_did(
    policy: LocalPolicy, tmp_path: Path, targets: tuple[str, ...]
) -> None:
    config = LlamaConfig(**SHAPE, vocab_size=len(policy.tokenizer), initializer_range=0.3)
    base = save_with(policy.tokenizer, config, tmp_path / "base")
    adapted = saved_adapter(base, tmp_path / "ann", targets=targets)
    frozen = tiny.load(tmp_path / "ann", trainable=False)
    said = [answers(held, Sampling(max_new_tokens=8)) for held in (frozen, adapted, tiny.load(base))]
    for one, other, bare in zip(*said, strict=True):
        assert one.token_ids == other.token_ids and one.logprobs == pytest.approx(other.logprobs, abs=1e-4)
        assert one.logprobs != pytest.approx(bare.logprobs, abs=1e-3)


def test_the_folder_of_an_adapter_is_no_start_of_training(model_folder: Path, tmp_path: Path) -> None:
    policy = saved_adapter(model_folder, tmp_path / "ann")
    assert "this is an adapter" in refusal(tmp_path / "ann")
    assert "this is an adapter" in refusal(tmp_path / "ann", lora=Lora(2))
    merged = AutoPeftModelForCausalLM.from_pretrained(tmp_path / "ann").merge_and_unload()
    merged.save_pretrained(tmp_path / "merged")
    policy.tokenizer.save_pretrained(tmp_path / "merged")
    torch.testing.assert_close(heard(tiny.load(tmp_path / "merged").model), heard(policy.activate()))


@pytest.mark.filterwarnings("ignore:Setting `save_embedding_layers`:UserWarning")
@pytest.mark.filterwarnings("ignore:.*tie_word_embeddings.*:UserWarning")
@pytest.mark.parametrize("tied", [True, False])
def test_an_adapter_on_an_embedding_is_trained_and_comes_back(policy: LocalPolicy, tmp_path: Path, tied: bool) -> None:
    config = LlamaConfig(**SHAPE, vocab_size=len(policy.tokenizer), tie_word_embeddings=tied)
    base = save_with(policy.tokenizer, config, tmp_path / "base")
    adapted = saved_adapter(base, tmp_path / "ann", targets=("embed_tokens", "q_proj"))
    assert len(adapted.parameters()) == 2 * (1 + 2), "two matrices for the embedding and for each layer's queries"
    config_of = PolicyConfig(str(base), lora=Lora(4))
    loaded = load_saved_adapter("ann", tmp_path / "ann", config_of, CPU)
    torch.testing.assert_close(heard(loaded.activate()), heard(adapted.activate()))


@pytest.mark.parametrize("name", ["update", "type", "train", "values", "a", "lora", "layers", "model", "lora_A"])
def test_any_name_of_an_agent_names_an_adapter(model_folder: Path, tmp_path: Path, name: str) -> None:
    """Of torch's containers' methods, of modules, of parts of PEFT's own names; with a sibling whose name holds it."""
    one = tiny.load(model_folder, name, lora=Lora(2))
    other = tiny.load(model_folder, f"x{name}", lora=Lora(2), base=one.model)
    assert len(one.parameters()) == len(other.parameters()) == 2 * 2 * 7
    assert not one.parameters().keys() & other.parameters().keys()
    with torch.no_grad():
        for parameter in one.parameters().values():
            parameter.add_(0.05)
    for policy in (one, other):
        policy.save(tmp_path / policy.name)
        assert len(load_file(tmp_path / policy.name / "adapter_model.safetensors")) == 28
        base = AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32)
        plain = PeftModel.from_pretrained(base, str(tmp_path / policy.name))
        torch.testing.assert_close(heard(plain), heard(policy.activate()))


@pytest.mark.parametrize("targets", [("c_attn",), ("q_proj", "querry_proj")])
def test_a_target_that_is_not_there_is_refused_with_those_that_are(
    model_folder: Path, targets: tuple[str, ...]
) -> None:
    there = "expected some of down_proj, embed_tokens, gate_proj, k_proj, lm_head, o_proj, q_proj, up_proj, v_proj"
    adapted = tiny.load(model_folder, lora=Lora(2)).model
    for base in (None, adapted):
        with pytest.raises(ConfigError, match=rf"lora.targets: there is no module {targets[-1]} in .*{there}"):
            tiny.load(model_folder, "bob", lora=Lora(2, targets=targets), base=base)


def test_what_cannot_be_adapted_is_one_line(policy: LocalPolicy) -> None:
    with pytest.raises(EngineError, match=r"lora: .*Qwen3MLP.*lora.targets") as caught:
        new_adapter(policy.model, adapter_name("ann"), Lora(2, targets=("mlp",)), 0)
    assert "\n" not in str(caught.value)


def test_a_row_of_longrope_never_depends_on_its_neighbors(policy: LocalPolicy, tmp_path: Path) -> None:
    """Beyond the first length all rows of a batch would be read with other angles: no row may get there."""
    rotary = {
        "rope_type": "longrope",
        "short_factor": [1.0] * 8,
        "long_factor": [4.0] * 8,
        "factor": 8.0,
        "rope_theta": 10000.0,
        "original_max_position_embeddings": 64,
    }
    config = LlamaConfig(**SHAPE, vocab_size=len(policy.tokenizer), max_position_embeddings=512, rope_parameters=rotary)
    held = tiny.load(save_with(policy.tokenizer, config, tmp_path, scale=9.0))
    assert held.context == 64
    short, long = chat("a dog"), chat("the cat " * 8)
    sampling = Sampling(max_new_tokens=64 - len(held.encode(long)))
    (alone,), (beside, _) = (generate(held, p, [5, 6][: len(p)], sampling) for p in ([short], [short, long]))
    assert beside.token_ids == alone.token_ids and beside.logprobs == pytest.approx(alone.logprobs, abs=1e-4)
    with pytest.raises(EngineError, match="do not fit the model's context of 64"):
        generate(held, [short, chat("the cat " * 60)], [5, 6], sampling)


def test_a_token_without_a_row_is_refused_with_both_sizes(policy: LocalPolicy, tmp_path: Path) -> None:
    tokens = len(policy.tokenizer)
    shape = {"n_embd": 32, "n_layer": 1, "n_head": 2, "n_positions": 128}
    assert tiny.load(save_with(policy.tokenizer, GPT2Config(**shape, vocab_size=tokens + 9), tmp_path / "more"))
    policy.tokenizer.add_special_tokens({"pad_token": "[PAD]"})
    folder = save_with(policy.tokenizer, GPT2Config(**shape, vocab_size=tokens), tmp_path / "less")
    for lora in (Lora(), Lora(2)):
        assert f"'[PAD]' has the id {tokens}, but the embedding has {tokens} rows" in refusal(folder, lora=lora)


def unknown_tokenizer(folder: Path) -> None:
    held = json.loads((folder / "tokenizer.json").read_text())
    edit(folder / "tokenizer.json", model=held["model"] | {"type": "Quux"})


def pickled_nonsense(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(b"nonsense")


BROKEN: dict[str, Callable[[Path], object]] = {
    "a tokenizer of an unknown kind": unknown_tokenizer,
    "a pickle of nonsense": pickled_nonsense,
    "an unknown activation": lambda folder: edit(folder / "config.json", hidden_act="quux"),
    "a number as text": lambda folder: edit(folder / "config.json", vocab_size="293"),
    "a width that heads cannot share": lambda folder: edit(folder / "config.json", num_attention_heads=0),
    "four bits": lambda folder: edit(folder / "config.json", quantization_config={"quant_method": "gptq", "bits": 4}),
    "settings that are a list": lambda folder: (folder / "config.json").write_text("[]"),
    "nested without end": lambda folder: (folder / "tokenizer_config.json").write_text("[" * 100_000),
}


@pytest.mark.parametrize("change", BROKEN.values(), ids=list(BROKEN))
def test_whatever_the_library_raises_is_one_line(folder: Path, change: Callable[[Path], object]) -> None:
    change(folder)
    assert f"model {folder}:" in refusal(folder) and "could not be loaded: " in refusal(folder)


def test_code_that_comes_with_a_model_never_runs(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The library would ask on the terminal, and take a line of the input for consent."""
    (folder / "evil.py").write_text(f"open({str(folder / 'ran')!r}, 'w')\nclass Model: pass\nclass Config: pass\n")
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    code = {"AutoConfig": "evil.Config", "AutoModelForCausalLM": "evil.Model", "AutoTokenizer": ["evil.Model", None]}
    edit(folder / "config.json", model_type="evil", auto_map=code)
    with pytest.raises(EngineError, match="Madrigal runs no code"):
        load_model(PolicyConfig(str(folder)), CPU)
    edit(folder / "tokenizer_config.json", auto_map=code, tokenizer_class="Evil")
    assert "Madrigal runs no code" in refusal(folder)
    assert not (folder / "ran").exists()


def test_a_hub_that_is_not_reached_names_the_model_and_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: object, **__: object) -> None:
        raise OSError("We couldn't connect to 'https://huggingface.co'.\nCheck your internet connection")

    monkeypatch.setattr(local.AutoTokenizer, "from_pretrained", offline)
    with pytest.raises(EngineError) as caught:
        load_policy("ann", PolicyConfig("some/model"), CPU)
    said = str(caught.value)
    assert said.startswith("model some/model: could not be loaded: We couldn't connect") and "\n" not in said
    assert "download the model once and name its folder" in said and "tokenizer" not in said


def test_a_model_without_fused_attention_is_driven_with_the_plain_one(policy: LocalPolicy, tmp_path: Path) -> None:
    shape = {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 128, "rotary_dim": 4}
    config = GPTJConfig(**shape, vocab_size=len(policy.tokenizer))
    held = tiny.load(save_with(policy.tokenizer, config, tmp_path, scale=9.0))
    assert_speaks_as_one_plain_pass(held)
