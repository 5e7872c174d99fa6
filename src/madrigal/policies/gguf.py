"""GGUF files (llama.cpp) made into folders that transformers loads: Llama, Qwen2 and Qwen3, with their tokenizers."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from madrigal.policies.catalog import cache_folder, filling, sha256_of, source_of
from madrigal.policies.check_model import check_weights, loading
from madrigal.types import ConfigError, EngineError

ARCHITECTURES = ("llama", "qwen2", "qwen3")
GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
CASELESS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
SIGNS = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
# How llama.cpp splits a text before it merges bytes, by the name that a file has for it.
SPLITS: Mapping[str, tuple[str, ...]] = {
    "gpt-2": (GPT2,),
    "smollm": (r"\p{N}", GPT2),
    "qwen2": (CASELESS + r"\p{N}" + SIGNS,),
    "llama-bpe": (CASELESS + r"\p{N}{1,3}" + SIGNS,),
}
ADVICE = "expected a whole GGUF file of a Llama, Qwen2 or Qwen3 model; download it again"


def converted(file: Path) -> Path:
    """The folder with a GGUF file's model as float32 safetensors; it is converted once, and kept by its checksum.

    Raises:
        ConfigError: if there is no such file.
        EngineError: if it is damaged, of another architecture, or holds no tokenizer.
    """
    if not file.is_file():
        raise ConfigError(f"model: expected a GGUF file at {file}, found none; check the path")
    state = file.stat()
    return _converted(file, state.st_size, state.st_mtime_ns)


@functools.cache  # a run asks for a model's folder several times, and files of gigabytes take seconds to read
def _converted(file: Path, size: int, changed: int) -> Path:
    digest = sha256_of(file)
    folder = cache_folder() / f"gguf-{digest[:16]}"
    if source_of(folder) is None:
        with filling(folder, f"{file.name}, sha256 {digest}") as draft:
            convert(file, draft)
    return folder


def convert(file: Path, folder: Path) -> None:
    """Writes the model and the tokenizer of a GGUF file as `save_pretrained` does, its weights as float32.

    Raises:
        EngineError: as `converted` says.
    """
    what = f"model {file}:"
    header = _check_header(file, what)
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    with loading(f"{what} the tokenizer", ADVICE):
        tokenizer = _tokenizer(file, header.split)
    with loading(what, ADVICE):
        config = AutoConfig.from_pretrained(file.parent, gguf_file=file.name)
        config.head_dim = header.head or config.head_dim  # of Qwen3 transformers reads none, and takes 128
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            file.parent, gguf_file=file.name, config=config, dtype="float32", output_loading_info=True
        )
        model, report = loaded
        check_weights(dict(model.named_parameters()), what[:-1], report["missing_keys"], report["unexpected_keys"])
        # A model that was read from GGUF counts as quantized and refuses to be saved; a plain one of the same weights
        # does not.
        model.config.__dict__.pop("quantization_config", None)
        with torch.device("meta"):
            plain = AutoModelForCausalLM.from_config(model.config)
        plain.load_state_dict(model.state_dict(), assign=True)
        plain.tie_weights()
        plain.generation_config = model.generation_config
    plain.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


@dataclass(frozen=True, slots=True)
class _Header:
    """What a GGUF file says and transformers does not read: the size of a head, and how texts are split."""

    head: int
    split: str


def splitting(name: str) -> Any:
    """The splitting of llama.cpp of that name, to be a tokenizer's, before it spells texts in bytes."""
    from tokenizers import Regex, pre_tokenizers

    splits = [pre_tokenizers.Split(Regex(pattern), behavior="isolated") for pattern in SPLITS[name]]
    return pre_tokenizers.Sequence([*splits, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def _tokenizer(file: Path, split: str) -> Any:
    """The tokenizer of a GGUF file; its class is one that keeps the splitting when it is saved and loaded again."""
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    read = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    if split not in SPLITS:
        return read
    backend = read.backend_tokenizer
    backend.pre_tokenizer = splitting(split)
    kept = {name: getattr(read, name) for name in ("bos_token", "eos_token", "unk_token", "pad_token")}
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        **{name: token for name, token in kept.items() if token is not None},
        chat_template=read.chat_template,
        clean_up_tokenization_spaces=False,
    )


def _check_header(file: Path, what: str) -> _Header:
    """What transformers does not read.

    What is no such file, is cut off, has no tokenizer, or is of an architecture that is not supported is refused.
    """
    from gguf import GGUFReader

    with loading(what, ADVICE):
        reader = GGUFReader(file)
        field = reader.get_field("general.architecture")
        architecture = str(field.contents()) if field is not None else "none"
        end = max((int(tensor.data_offset) + int(tensor.n_bytes) for tensor in reader.tensors), default=0)
    if architecture not in ARCHITECTURES:
        raise EngineError(
            f"{what} expected the architecture {', '.join(ARCHITECTURES[:-1])} or {ARCHITECTURES[-1]}, found "
            f"{architecture}; take the model's own safetensors instead"
        )
    if not reader.tensors or file.stat().st_size < end:
        raise EngineError(f"{what} the file ends before its weights do; {ADVICE}")
    if reader.get_field("tokenizer.ggml.tokens") is None:
        raise EngineError(f"{what} it holds no tokenizer; take a GGUF file that does, or a folder with both")
    size, split = map(reader.get_field, (f"{architecture}.attention.key_length", "tokenizer.ggml.pre"))
    return _Header(0 if size is None else int(size.contents()), "" if split is None else str(split.contents()))
