"""Fluency: the mean log-prob of a text's tokens under a model that does not learn."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from fakes import tiny
from madrigal.learning.fluency import FluencyReader, load_fluency
from madrigal.settings import Lora, OptimizerConfig, PolicyConfig

TEXTS = ("the cat sat on the mat", "a dog", "zq zq zq")


@pytest.fixture(scope="module")
def reader(model_folder: Path) -> FluencyReader:
    return load_fluency(PolicyConfig(model=str(model_folder), trainable=False), tiny.CPU, OptimizerConfig())


def by_hand(reader: FluencyReader, text: str) -> float:
    """Token by token, by the model's own code, after the end token."""
    policy = reader.policy
    ids = [policy.tokenizer.eos_token_id, *policy.encode_text(text)]
    with torch.no_grad():
        table = policy.model(torch.tensor([ids])).logits[0].log_softmax(-1)
    return sum(float(table[place, token]) for place, token in enumerate(ids[1:])) / (len(ids) - 1)


def test_fluency_is_the_mean_of_the_logprobs_of_all_tokens(reader: FluencyReader) -> None:
    assert reader(TEXTS) == pytest.approx([by_hand(reader, text) for text in TEXTS], abs=1e-4)


def test_the_model_that_reads_has_no_adapter_and_does_not_learn(reader: FluencyReader) -> None:
    assert not reader.policy.adapter
    assert not any(parameter.requires_grad for parameter in reader.policy.model.parameters())


def test_the_model_below_an_adapter_reads_as_the_model_alone(reader: FluencyReader, model_folder: Path) -> None:
    seat = tiny.load(model_folder, lora=Lora(rank=2))
    with torch.no_grad():
        for parameter in seat.parameters().values():
            parameter.add_(1.0)
    assert FluencyReader(seat, OptimizerConfig())(TEXTS) == reader(TEXTS)


def test_what_is_read_beside_a_text_changes_nothing(reader: FluencyReader) -> None:
    one_by_one = FluencyReader(reader.policy, OptimizerConfig(token_budget=1))
    assert reader(TEXTS) == pytest.approx([reader([text])[0] for text in TEXTS], abs=1e-5)
    assert reader(TEXTS) == pytest.approx(one_by_one(TEXTS), abs=1e-5)


def test_blanks_around_a_text_are_not_read(reader: FluencyReader) -> None:
    assert reader(["\n a dog \n"]) == pytest.approx(reader(["a dog"]), abs=1e-6)


def test_silence_is_as_likely_as_random_tokens(reader: FluencyReader) -> None:
    floor = -math.log(reader.policy.model.config.vocab_size)
    assert reader(["", " "]) == [floor, floor]
    assert reader([]) == []


def test_a_text_longer_than_the_context_is_cut(reader: FluencyReader) -> None:
    cat = reader.policy.encode_text("the cat ")
    copies = 2 * reader.policy.context // len(cat)
    assert reader(["the cat " * copies]) == pytest.approx(reader(["the cat " * 2 * copies]), abs=1e-5)
