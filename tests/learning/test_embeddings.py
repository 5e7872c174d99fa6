"""Embeddings of turns: mean hidden states, an encoder that stays as it was, and which texts are read how often."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from fakes import tiny
from madrigal.learning.embeddings import Embedder, embedder_of, mean_hidden, policy_encoder, projected, shown_text
from madrigal.policies.local import LocalPolicy
from madrigal.policies.team import Team
from madrigal.rollouts.tree import walk
from madrigal.settings import Lora
from madrigal.types import Completion, Episode, Group, Message, Point, Step, Turn

ROWS = [(5, 6, 7, 8, 9), (10,), (11, 12), (5, 6)]


def test_a_row_is_the_mean_of_its_last_hidden_states(policy: LocalPolicy) -> None:
    found = mean_hidden(policy.model, ROWS, policy.tokenizer.pad_token_id, budget=1000)
    assert found.shape == (4, 32)
    for row, vector in zip(ROWS, found, strict=True):
        with torch.no_grad():
            alone = policy.model.base_model(torch.tensor([row])).last_hidden_state[0]
        assert torch.allclose(vector, alone.mean(0), atol=1e-5)


def test_the_budget_changes_no_vector(policy: LocalPolicy) -> None:
    pad = policy.tokenizer.pad_token_id
    whole = mean_hidden(policy.model, ROWS, pad, budget=1000)
    for budget in (1, 4, 7):
        assert torch.allclose(mean_hidden(policy.model, ROWS, pad, budget), whole, atol=1e-5)


@pytest.mark.parametrize("lora", [tiny.WHOLE, Lora(rank=2)])
def test_an_encoder_stays_as_it_was_while_its_policy_learns(model_folder: Path, lora: Lora) -> None:
    policy = tiny.load(model_folder, lora=lora)
    encode = policy_encoder(policy, 1000)
    before = encode(tiny.TEXTS)
    assert torch.equal(encode(tiny.TEXTS), before)
    with torch.no_grad():
        for parameter in policy.parameters().values():
            parameter.add_(0.1)
    assert torch.equal(encode(tiny.TEXTS), before)
    ids = [tuple(policy.tokenizer(text)["input_ids"]) for text in tiny.TEXTS]
    now = mean_hidden(policy.activate(), ids, policy.tokenizer.pad_token_id, 1000)
    assert not torch.allclose(now, before, atol=1e-3)


def test_a_policy_that_does_not_learn_is_not_copied(model_folder: Path) -> None:
    policy = tiny.load(model_folder, trainable=False)
    encode = policy_encoder(policy, 1000)
    assert policy._reference is None
    copied = policy_encoder(tiny.load(model_folder), 1000)
    torch.testing.assert_close(encode(tiny.TEXTS), copied(tiny.TEXTS), atol=1e-5, rtol=1e-5)


def test_silence_is_read_as_the_end_token(policy: LocalPolicy) -> None:
    vector = policy_encoder(policy, 1000)([""])
    end = mean_hidden(policy.model, [(policy.tokenizer.eos_token_id,)], policy.tokenizer.pad_token_id, 10)
    assert torch.equal(vector, end)


class Counting:
    """An encoder of two numbers: length, and the first letter's; it counts what it reads."""

    def __init__(self) -> None:
        self.read: list[str] = []

    def __call__(self, texts: Sequence[str]) -> Tensor:
        self.read += texts
        return torch.tensor([[float(len(text)), float(ord(text[0]))] for text in texts])


def turn(agent: str, prompt: str, said: str, round: int = 0) -> Turn:
    return Turn(agent, (Message("system", "s"), Message("user", prompt)), Completion(said), round)


def test_turns_are_read_by_the_policy_that_took_them_each_text_once(model_folder: Path) -> None:
    ann, bob = tiny.load(model_folder), tiny.load(model_folder, "bob")
    one = (turn("ann", "ask", "yes"), turn("bob", "ask", "no"))
    other = (turn("ann", "ask", "yes"), turn("bob", "ask", "never"))
    later = (turn("ann", "again", "ask", 1),)
    child = Group(
        Point("x", 1, round=1), (Episode(Point("x", 1, round=1), later, (Step(2, {"ann": 0.0}),)),), ("ann", "bob")
    )
    episodes = [Episode(Point("x", 0), turns, (Step(1, {"ann": 0.0}),)) for turns in (one, other)]
    group = Group(Point("x", 0), (episodes[0], replace(episodes[1], then=child)), ("ann", "bob"))
    encoders = {"ann": Counting(), "bob": Counting()}
    turns = [turn for _, _, turn in walk([group])]
    found = Embedder(Team({"ann": ann, "bob": bob}), encoders, dimensions=3).read(turns)
    assert encoders["ann"].read == ["s\n\nask", "yes", "s\n\nagain", "ask"]
    assert encoders["bob"].read == ["s\n\nask", "no", "never"]
    assert turns == [*one, *other, *later]
    expected = projected(torch.tensor([[6.0, 115.0], [5.0, 110.0]]), 3).tolist()
    assert found[3] == tuple(map(tuple, expected))  # bob's second
    assert found[0] == found[2]


def test_a_team_without_encoders_reads_nothing(policy: LocalPolicy) -> None:
    assert Embedder(Team({"ann": policy}), {}).read([turn("ann", "a", "b")]) == [(None, None)]


def test_a_team_embeds_its_turns_the_same_each_time(policy: LocalPolicy) -> None:
    turns = (turn("ann", "a", "the cat"), turn("ann", "b", ""))
    embedder = embedder_of(Team({"ann": policy}), budget=100)
    found = embedder.read(turns)
    assert {len(vector or ()) for pair in found for vector in pair} == {32}
    assert embedder.read(turns) == found
    assert len({vector for pair in found for vector in pair}) == 4


def test_a_projection_keeps_lengths_about_what_they_were() -> None:
    torch.manual_seed(0)
    vectors = torch.randn(200, 300, dtype=torch.float64)
    short = projected(vectors, 64)
    ratio = short.norm(dim=1) / vectors.norm(dim=1)
    # Each ratio's variance is 1 / (2 * 64).
    assert float(ratio.mean()) == pytest.approx(1, abs=0.05) and 0.6 < float(ratio.min()) < float(ratio.max()) < 1.4
    assert torch.equal(projected(vectors, 64), short) and short.dtype == torch.float64
    assert torch.allclose(
        projected(2 * vectors + 1, 64), 2 * short + projected(torch.ones(1, 300, dtype=torch.float64), 64)
    )


def test_a_prompt_is_its_messages() -> None:
    assert shown_text((Message("system", "be brief"), Message("user", "hi"))) == "be brief\n\nhi"
