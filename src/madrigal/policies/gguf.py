"""GGUF files (llama.cpp) made into folders that transformers loads: Llama, Qwen2 and Qwen3, with their tokenizers."""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path
from typing import Any

from madrigal.policies.catalog import cache_folder, filling, source_of
from madrigal.policies.check_model import check_weights, loading
from madrigal.types import ConfigError, EngineError

ARCHITECTURES = ("llama", "qwen2", "qwen3")
ADVICE = "expected a whole GGUF file of a Llama, Qwen2 or Qwen3 model; download it again"


def sha256_of(file: Path) -> str:
    """The SHA-256 of a file, in hexadecimal digits."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


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
    _check_header(file, what)
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    with loading(f"{what} the tokenizer", ADVICE):
        tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    with loading(what, ADVICE):
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            file.parent, gguf_file=file.name, dtype="float32", output_loading_info=True
        )
        model, report = loaded
        check_weights(dict(model.named_parameters()), what[:-1], report["missing_keys"], report["unexpected_keys"])
        # A model that was read from GGUF counts as quantized and refuses to be saved; a plain one of the same weights
        # does not.
        model.config.__dict__.pop("quantization_config", None)
        with torch.device("meta"):
            plain = AutoModelForCausalLM.from_config(model.config)  # type: ignore[no-untyped-call]
        plain.load_state_dict(model.state_dict(), assign=True)
        plain.tie_weights()
        plain.generation_config = model.generation_config
    plain.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _check_header(file: Path, what: str) -> None:
    """Refuses what is no GGUF file, is cut off, has no tokenizer, or is of an architecture that is not supported."""
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
