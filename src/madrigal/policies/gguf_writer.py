"""GGUF files (llama.cpp, Ollama) made of folders that transformers loads: Llama, Qwen2 and Qwen3, with tokenizers.

The format's rotary layout interleaves the two halves of each head, so that rows of Llama's queries and keys change
places.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import safe_open
from tokenizers import Tokenizer
from torch import Tensor
from transformers import AutoConfig, AutoTokenizer

from madrigal.policies.check_model import loading
from madrigal.policies.gguf import ARCHITECTURES, SPLITS, splitting
from madrigal.types import EngineError

Dtype = Literal["float16", "float32"]
NORMAL, CONTROL, USER_DEFINED, UNUSED = 1, 3, 4, 5  # what llama.cpp calls kinds of tokens
OTHERWISE = "write merged safetensors (--merged) and convert them with llama.cpp's own script"
PROBE = (
    "I've been told that it's 1234567 km, 'or so', isn't it?! WE'RE sure;\tI'll go (now) -- \"yes\".\n\n"
    "def add(x, y=3.14):\n    return x+y  # [a-z]\r\n\n\n  Straße, naïve café, 東京、Привет, مرحبا 🙂👍 ½ ²  \n \n"
    "a_b c-d e/f  <b>bold</b> $100,000.00 100% #tag @you \\n {k: 'v'} user@example.com  "
)


def write_gguf(folder: Path, file: Path, dtype: Dtype = "float16", name: str = "") -> None:
    """Writes the model and the tokenizer in a folder of `save_pretrained` as one GGUF file.

    Args:
        dtype: of matrices; vectors are float32.
        name: by which llama.cpp calls the model.

    Raises:
        EngineError: if it is of another architecture or has a tokenizer or rotary angles that are not written here.
    """
    from gguf import MODEL_ARCH, GGUFWriter, LlamaFileType, get_tensor_name_map

    what = f"model {folder}:"
    with loading(what, "expected a folder that save_pretrained wrote, with safetensors"):
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    _check(config, what)
    described = _tokenizer_fields(tokenizer, config.vocab_size, what)
    names = get_tensor_name_map(MODEL_ARCH[config.model_type.upper()], config.num_hidden_layers)
    writer = GGUFWriter(file, config.model_type)
    writer.add_name(name or folder.name)
    writer.add_file_type(LlamaFileType.MOSTLY_F16 if dtype == "float16" else LlamaFileType.ALL_F32)
    _write_shape(writer, config)
    _write_tokenizer(writer, described, tokenizer)
    for path, weight in _weights(folder, what):
        if path == "lm_head.weight" and config.tie_word_embeddings:
            continue
        place = names.get_name(path, try_suffixes=(".weight", ".bias"))
        if place is None:
            raise EngineError(f"{what} the format has no name for {path} of {config.model_type}")
        if config.model_type == "llama":
            weight = _interleaved(path, weight, config)
        wanted = torch.float16 if dtype == "float16" and weight.ndim > 1 else torch.float32
        made = weight.to(wanted)
        if not bool(made.isfinite().all()):
            raise EngineError(f"{what} {path} holds numbers beyond {dtype}; write float32")
        writer.add_tensor(place, made.contiguous().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _check(config: Any, what: str) -> None:
    """Refuses what the format, or its readers, would read as something else."""
    if config.model_type not in ARCHITECTURES:
        raise EngineError(
            f"{what} expected the architecture {', '.join(ARCHITECTURES[:-1])} or {ARCHITECTURES[-1]}, found "
            f"{config.model_type}; {OTHERWISE}"
        )
    rotary = getattr(config, "rope_parameters", None) or {}
    odd = {
        f"rotary angles of the kind {rotary.get('rope_type')}": rotary.get("rope_type", "default") != "default",
        f"the activation {config.hidden_act}": config.hidden_act != "silu",
        "biases": config.model_type != "qwen2"
        and (getattr(config, "attention_bias", False) or getattr(config, "mlp_bias", False)),
        "a sliding window": bool(getattr(config, "use_sliding_window", False)),
    }
    if found := [kind for kind, there in odd.items() if there]:
        raise EngineError(f"{what} {found[0]} of {config.model_type} are not written here; {OTHERWISE}")


def _write_shape(writer: Any, config: Any) -> None:
    heads = config.num_attention_heads
    head = getattr(config, "head_dim", None) or config.hidden_size // heads
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(heads)
    writer.add_head_count_kv(getattr(config, "num_key_value_heads", None) or heads)
    writer.add_key_length(head)
    writer.add_value_length(head)
    writer.add_rope_dimension_count(head)
    writer.add_rope_freq_base(float(config.rope_parameters["rope_theta"]))
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)


def _weights(folder: Path, what: str) -> Iterator[tuple[str, Tensor]]:
    """Every tensor by its path, one at a time."""
    files = sorted(folder.glob("model*.safetensors"))
    if not files:
        raise EngineError(f"{what} expected weights in model.safetensors, found none; save them with save_pretrained")
    for file in files:
        with loading(f"{what} {file.name}", "save it again"), safe_open(file, framework="pt") as tensors:
            for path in tensors.keys():  # noqa: SIM118 - it is no dictionary
                yield path, tensors.get_tensor(path)


def _interleaved(path: str, weight: Tensor, config: Any) -> Tensor:
    """Llama's rows of queries and keys as the format has them: those that turn together stand side by side."""
    kinds = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
    heads = next((count for kind, count in kinds.items() if f".{kind}." in path), None)
    if heads is None:
        return weight
    return weight.reshape(heads, 2, -1, *weight.shape[1:]).swapaxes(1, 2).reshape(weight.shape)


def _tokenizer_fields(tokenizer: Any, rows: int, what: str) -> dict[str, Any]:
    """Tokens with their kinds, merges, and how texts are split."""
    backend = json.loads(tokenizer.backend_tokenizer.to_str())
    model = backend["model"]
    if model["type"] != "BPE" or "ByteLevel" not in json.dumps(backend["pre_tokenizer"]):
        raise EngineError(
            f"{what} expected a tokenizer that merges bytes, as Qwen's, found {model['type']}; {OTHERWISE}"
        )
    added = tokenizer.added_tokens_decoder
    vocabulary = {index: token for token, index in tokenizer.get_vocab().items()}
    kinds = {index: CONTROL if token.special else USER_DEFINED for index, token in added.items()}
    merges = [pair.split(" ") if isinstance(pair, str) else pair for pair in model["merges"]]
    return {
        "tokens": [vocabulary.get(index, f"[PAD{index}]") for index in range(rows)],
        "kinds": [kinds.get(index, NORMAL if index in vocabulary else UNUSED) for index in range(rows)],
        "merges": [" ".join(part.replace(" ", "Ġ") for part in pair) for pair in merges],
        "split": split_of(tokenizer, what),
    }


def _write_tokenizer(writer: Any, described: Mapping[str, Any], tokenizer: Any) -> None:
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(described["split"])
    writer.add_token_list(described["tokens"])
    writer.add_token_types(described["kinds"])
    writer.add_token_merges(described["merges"])
    first = tokenizer("a")["input_ids"][0]
    writer.add_add_bos_token(first == tokenizer.bos_token_id and first is not None)
    named = {
        writer.add_bos_token_id: tokenizer.bos_token_id,
        writer.add_eos_token_id: tokenizer.eos_token_id,
        writer.add_unk_token_id: tokenizer.unk_token_id,
        writer.add_pad_token_id: tokenizer.pad_token_id,
    }
    for add, index in named.items():
        if index is not None:
            add(index)
    if isinstance(tokenizer.chat_template, str):
        writer.add_chat_template(tokenizer.chat_template)


def split_of(tokenizer: Any, what: str) -> str:
    """The name of the split of llama.cpp under which a tokenizer gives the tokens that it gives by itself.

    It is found by what it does to a text of all sorts, as llama.cpp's own converter finds it.

    Raises:
        EngineError: if llama.cpp would split texts otherwise.
    """
    backend = json.loads(tokenizer.backend_tokenizer.to_str())
    backend |= {"post_processor": None, "truncation": None, "padding": None}
    own = Tokenizer.from_str(json.dumps(backend)).encode(PROBE).ids
    for name in SPLITS:
        other = Tokenizer.from_str(json.dumps(backend))
        other.pre_tokenizer = splitting(name)
        if other.encode(PROBE).ids == own:
            return name
    raise EngineError(f"{what} its tokenizer splits texts as none of {', '.join(SPLITS)} does; {OTHERWISE}")
