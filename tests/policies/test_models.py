"""The tokenizer and the models as shipped: they load plainly, speak ChatML, and are as large as they claim."""

from __future__ import annotations

import json
import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, AutoTokenizer

from madrigal.policies.starter import SIZES, model_path
from madrigal.types import ConfigError, Message
from pretraining.mixture import Row
from pretraining.recipe import config_of, learning_rate
from pretraining.rows import encode

MEGABYTE = 1_000_000
TOKENIZER = AutoTokenizer.from_pretrained(model_path("small"))


def test_an_unknown_size_is_named_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="small, large, got 'huge'"):
        model_path("huge")


@given(st.text())
def test_every_text_comes_back_from_its_tokens(text: str) -> None:
    ids = TOKENIZER.encode(text, add_special_tokens=False)
    assert TOKENIZER.decode(ids, skip_special_tokens=False) == text


@given(st.integers(min_value=0))
def test_digits_stand_alone(number: int) -> None:
    assert len(TOKENIZER.encode(str(number))) == len(str(number))


def test_padding_is_on_the_left_and_is_no_end() -> None:
    assert TOKENIZER.pad_token_id != TOKENIZER.eos_token_id
    assert TOKENIZER.eos_token == "<|im_end|>"
    assert TOKENIZER.padding_side == "left"
    assert len(TOKENIZER) == 2048


@given(st.text(max_size=40), st.text(max_size=40), st.text(max_size=40))
def test_a_chat_that_goes_on_keeps_its_beginning(asked: str, said: str, told: str) -> None:
    first = [{"role": "user", "content": asked}]
    longer = [*first, {"role": "assistant", "content": said}, {"role": "user", "content": told}]
    start = TOKENIZER.apply_chat_template(first, add_generation_prompt=True, tokenize=False)
    whole = TOKENIZER.apply_chat_template(longer, add_generation_prompt=True, tokenize=False)
    assert whole.startswith(start)
    ids = TOKENIZER.encode(start, add_special_tokens=False)
    assert TOKENIZER.encode(whole, add_special_tokens=False)[: len(ids)] == ids


def test_pre_training_reads_what_the_chat_template_writes() -> None:
    messages = (Message("user", "Hi 12"), Message("assistant", "def f():"), Message("user", "Revise."))
    row = encode([Row("coding", messages, "done")], TOKENIZER)[0]
    chat = [{"role": m.role, "content": m.content} for m in messages]
    prompt = TOKENIZER.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
    assert row.ids == TOKENIZER.encode(f"{prompt}done<|im_end|>", add_special_tokens=False)
    learned = [token for token, mine in zip(row.ids, row.learned, strict=True) if mine]
    assert TOKENIZER.decode(learned) == "def f():<|im_end|>done<|im_end|>"


@pytest.mark.parametrize("size", SIZES)
def test_models_load_plainly_and_answer(size: str) -> None:
    model = AutoModelForCausalLM.from_pretrained(model_path(size), dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(model_path(size))
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": "Hello"}], add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    answer = model.generate(**prompt, max_new_tokens=4, do_sample=False)
    assert answer.shape[1] > prompt["input_ids"].shape[1]
    assert model.config.model_type == "qwen3"
    assert model.generation_config.pad_token_id == tokenizer.pad_token_id
    assert model.generation_config.eos_token_id == tokenizer.eos_token_id


def num_parameters(size: str) -> int:
    model = AutoModelForCausalLM.from_config(config_of(size))
    return sum(parameter.numel() for parameter in model.parameters())


def test_one_large_model_has_the_parameters_of_a_team_of_two() -> None:
    assert 1.0e6 < num_parameters("small") < 1.3e6
    assert abs(num_parameters("large") / (2 * num_parameters("small")) - 1) < 0.05


def test_the_shipped_models_have_the_shapes_of_the_recipe() -> None:
    for size in SIZES:
        shipped = json.loads((model_path(size) / "config.json").read_text())
        wanted = config_of(size)
        assert shipped["hidden_size"] == wanted.hidden_size
        assert shipped["intermediate_size"] == wanted.intermediate_size
        assert shipped["num_hidden_layers"] == wanted.num_hidden_layers


def test_the_package_data_stays_small() -> None:
    files = [file for file in model_path("small").parent.rglob("*") if file.is_file()]
    assert sum(file.stat().st_size for file in files) < 9 * MEGABYTE


def test_the_learning_rate_rises_stays_and_falls() -> None:
    assert learning_rate(0.0, 1.0) < 0.2
    assert learning_rate(0.2, 1.0) == 1.0
    assert learning_rate(1.0, 1.0) == pytest.approx(0.03)
