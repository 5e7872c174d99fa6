"""The learned verifier: what it reads, what it learns from every token, and that what is saved judges as before."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.nn.functional import binary_cross_entropy

from madrigal.tasks.discussion.prompts import question_prompt
from madrigal.tasks.discussion.verifier import Question, verified
from madrigal.types import ConfigError, EngineError, Message, RewardError
from madrigal.verifier.data import Row
from madrigal.verifier.model import LearnedVerifier, load_verifier, new_verifier
from madrigal.verifier.settings import Body, Training
from madrigal.verifier.training import last_tokens, token_loss, train_verifier

CPU = torch.device("cpu")
ASKED = Question("How many cats?")
ROWS = [Row(f"q{n}", "How many cats?", f"the cat sat {n}", n % 2 == 0) for n in range(8)]


@pytest.fixture
def body(model_folder: Path) -> Body:
    return Body(str(model_folder), rank=4, max_length=200)


@pytest.fixture
def verifier(body: Body) -> LearnedVerifier:
    return new_verifier(body, CPU)


def learned(body: Body, rows: Sequence[Row] = ROWS, **settings: float) -> LearnedVerifier:
    made = new_verifier(body, CPU)
    train_verifier(made, rows, replace(Training(lr=0.02, epochs=3, warmup=0), **settings))  # type: ignore[arg-type]
    return made


def test_one_that_knows_nothing_says_a_half(verifier: LearnedVerifier) -> None:
    assert verifier(ASKED, ["a dog", "the cat"]) == [0.5, 0.5]
    assert verifier(ASKED, []) == []


def test_the_defaults_are_the_paper_s() -> None:
    assert (Body().rank, Body().alpha, Body().max_length) == (16, 32, 550)
    training = Training()
    assert (training.lr, training.epochs, training.batch, training.accumulate, training.warmup) == (2e-4, 1, 4, 2, 5)
    assert training.tokens == "all"


def test_the_answer_is_read_after_the_question_with_its_end(verifier: LearnedVerifier) -> None:
    asked, said = verifier.encode(ASKED, " a dog ")
    speaker = verifier.critic.body
    assert asked == speaker.encode((Message("user", question_prompt("How many cats?")),))
    assert speaker.tokenizer.decode(said[:-1]) == "a dog" and said[-1] == speaker.tokenizer.eos_token_id


def test_long_answers_are_cut_and_long_questions_refused(verifier: LearnedVerifier) -> None:
    asked, said = verifier.encode(ASKED, "a dog " * 200)
    assert len(asked) + len(said) == 200
    with pytest.raises(RewardError, match="leaves no room for an answer in 200; train it with a larger --body"):
        verifier(Question("a dog " * 200), ["x"])


def test_a_score_is_the_sigmoid_at_the_last_token(body: Body) -> None:
    made = learned(body)
    answers = ["the cat sat", "a dog, three blind mice"]
    logits, mask = made.logits([made.encode(ASKED, answer) for answer in answers])
    lengths = mask.sum(dim=1)
    assert lengths[0] < lengths[1]
    expected = [logits[n, length - 1].sigmoid().item() for n, length in enumerate(lengths)]
    assert made(ASKED, answers) == pytest.approx(expected)
    assert verified(made, ASKED, answers) == pytest.approx(expected)


def test_the_logit_of_a_token_has_read_that_token(body: Body) -> None:
    """The same numbers as one plain reading of question and answer, from the answer's first token to its end token."""
    made = learned(body)
    asked, said = made.encode(ASKED, "the cat sat")
    body = made.critic.body.activate().get_base_model().base_model
    with torch.no_grad():
        whole = body(input_ids=torch.tensor([asked + said])).last_hidden_state[0] @ made.critic.head.weight[0]
    logits, _ = made.logits([(asked, said)])
    torch.testing.assert_close(logits[0], whole[len(asked) :])
    assert len(set(logits[0].tolist())) == len(said)


def test_a_score_does_not_depend_on_the_answers_beside_it(body: Body) -> None:
    made = learned(body)
    answers = ["the cat", "see how they run, three blind mice", "a dog"]
    together = made(ASKED, answers)
    assert together == pytest.approx([made(ASKED, [answer])[0] for answer in answers], abs=1e-5)
    assert len(set(together)) == 3


def test_cross_entropy_of_every_token_by_hand() -> None:
    """Two answers of 2 and 1 tokens; the label of each stands at all of its tokens."""
    logits = torch.tensor([[0.0, 2.0], [-1.0, 9.0]])
    mask = torch.tensor([[True, True], [True, False]])
    found = token_loss(logits, mask, torch.tensor([1.0, 0.0]), tokens=3)
    expected = (math.log(2) - math.log(1 / (1 + math.exp(-2))) - math.log(1 - 1 / (1 + math.exp(1)))) / 3
    assert float(found) == pytest.approx(expected)
    probs, labels = logits.sigmoid()[mask], torch.tensor([1.0, 1.0, 0.0])
    assert float(found) == pytest.approx(float(binary_cross_entropy(probs, labels)))


def test_every_token_moves_the_weights(verifier: LearnedVerifier) -> None:
    """The slope of a logit is sigmoid - label over the number of tokens: at the start half, for a wrong answer."""
    encoded = [verifier.encode(ASKED, "a dog")]
    logits, mask = verifier.logits(encoded)
    logits.retain_grad()
    token_loss(logits, mask, torch.tensor([0.0]), tokens=int(mask.sum())).backward()  # type: ignore[no-untyped-call]
    assert logits.grad is not None
    torch.testing.assert_close(logits.grad, torch.full_like(logits, 0.5) / mask.sum())


def test_the_last_token_alone() -> None:
    mask = torch.tensor([[True, True, False], [True, True, True], [True, False, False]])
    assert last_tokens(mask).sum(dim=1).tolist() == [1, 1, 1]
    assert last_tokens(mask).long().argmax(dim=1).tolist() == [1, 2, 0]


def test_it_learns_what_it_is_told(body: Body) -> None:
    made = new_verifier(body, CPU)
    rows = [replace(row, answer="the cat sat" if row.right else "dogs run") for row in ROWS]
    losses = train_verifier(made, rows, Training(lr=0.02, epochs=15, warmup=0, schedule="constant"))
    assert len(losses) == 15 and losses[0] == pytest.approx(math.log(2), abs=1e-6)
    scores = [made(row.asked, [row.answer])[0] for row in rows]
    assert all((score > 0.5) == row.right for score, row in zip(scores, rows, strict=True))


def test_batches_change_memory_and_not_the_result(body: Body) -> None:
    one, other = (learned(body, batch=b, accumulate=a) for b, a in ((8, 1), (2, 4)))
    for name, parameter in one.critic.parameters().items():
        torch.testing.assert_close(parameter, other.critic.parameters()[name], atol=2e-5, rtol=1e-4)


def test_the_same_seed_makes_the_same_verifier(body: Body) -> None:
    assert learned(body)(ASKED, ["the cat"]) == learned(body)(ASKED, ["the cat"])


def test_answers_of_one_kind_teach_nothing(verifier: LearnedVerifier) -> None:
    with pytest.raises(ConfigError, match="expected right and wrong answers, got 4 of at most one kind"):
        train_verifier(verifier, [row for row in ROWS if row.right], Training())


@pytest.mark.parametrize("rank", [4, 0])
def test_a_saved_verifier_judges_as_before(body: Body, rank: int, tmp_path: Path) -> None:
    made = learned(replace(body, rank=rank))
    made.save(tmp_path / "v")
    again = load_verifier(tmp_path / "v", CPU)
    answers = ["the cat sat", "a dog", "see how they run"]
    assert again(ASKED, answers) == pytest.approx(made(ASKED, answers), abs=1e-6)
    kinds = {file.suffix for file in (tmp_path / "v").iterdir()}
    assert ".safetensors" in kinds and not kinds & {".bin", ".pt", ".pkl"}


def test_what_is_missing_is_named(body: Body, tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"expected the verifier.json of a learned verifier.*make one with: madrigal ver"
    ):
        load_verifier(tmp_path, CPU)
    learned(body).save(tmp_path / "v")
    weights = tmp_path / "v" / "adapter_model.safetensors"
    torch.save({}, weights.with_suffix(".bin"))  # never read
    weights.rename(tmp_path / "kept")
    with pytest.raises(ConfigError, match=r"expected weights as safetensors beside verifier.json, found none"):
        load_verifier(tmp_path / "v", CPU)
    (tmp_path / "kept").rename(weights)
    weights.write_bytes(b"rubbish")
    with pytest.raises(EngineError, match="v could not be loaded"):
        load_verifier(tmp_path / "v", CPU)
    (tmp_path / "v" / "head.safetensors").unlink()
    with pytest.raises(ConfigError, match=r"expected head.safetensors"):
        load_verifier(tmp_path / "v", CPU)


def test_settings_that_are_none_are_refused(tmp_path: Path) -> None:
    (tmp_path / "verifier.json").write_text(json.dumps({"model": "x", "code": "evil"}))
    with pytest.raises(ConfigError, match=r"found none that can be read"):
        load_verifier(tmp_path, CPU)
    with pytest.raises(ConfigError, match="expected an adapter of rank 0 or more"):
        Body(rank=-1)
    with pytest.raises(ConfigError, match="expected at least 1 epoch"):
        Training(epochs=0)
