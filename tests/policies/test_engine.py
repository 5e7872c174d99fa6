"""The sampling engine against plain transformers, token by token."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from fakes import tiny
from fakes.borders import assert_same_answers, assert_same_tokens, plain_logits
from fakes.tiny import answers, chat
from madrigal.maths.sampling import filtered_logits
from madrigal.policies import generate as engine
from madrigal.policies.engines.engine import Answer, Request
from madrigal.policies.generate import generate, sample
from madrigal.policies.internals import RoomyLayer
from madrigal.policies.local import LocalPolicy
from madrigal.settings import Sampling
from madrigal.types import Completion, EngineError

TEXTS = ("a", "the cat sat on the mat", "zebra " * 20, "1 + 1 =", "mice")
GREEDY = Sampling(greedy=True, max_new_tokens=24)
WARPED = Sampling(temperature=0.7, top_p=0.9, top_k=20, max_new_tokens=24)


@pytest.fixture
def talker(policy: LocalPolicy) -> LocalPolicy:
    """A policy with forty end tokens, so that answers end early and at different lengths."""
    policy.model.generation_config.eos_token_id = [policy.tokenizer.eos_token_id, *range(60, 100)]
    return policy


def logprob_error(policy: LocalPolicy, said: Completion, sampling: Sampling) -> float:
    logprobs = filtered_logits(plain_logits(policy, said.prompt_ids, said.token_ids)[:-1], sampling).log_softmax(-1)
    chosen = logprobs.gather(-1, torch.tensor(said.token_ids)[:, None])[:, 0]
    return float((chosen - torch.tensor(said.logprobs)).abs().max())


def test_greedy_answers_are_those_of_transformers(talker: LocalPolicy) -> None:
    said = generate(talker, [chat(t) for t in TEXTS], range(len(TEXTS)), GREEDY)
    for text, ours in zip(TEXTS, said, strict=True):
        prompt = torch.tensor([talker.encode(chat(text))])
        with torch.no_grad():
            theirs = talker.model.generate(
                prompt, attention_mask=torch.ones_like(prompt), do_sample=False, max_new_tokens=24
            )
        assert_same_tokens(talker, ours.prompt_ids, ours.token_ids, theirs[0, prompt.shape[1] :].tolist(), GREEDY)


@pytest.mark.parametrize("sampling", [Sampling(max_new_tokens=24), WARPED, GREEDY], ids=["plain", "warped", "greedy"])
def test_logprobs_are_those_of_a_plain_pass_under_the_sampled_distribution(
    talker: LocalPolicy, sampling: Sampling
) -> None:
    said = answers(talker, sampling, TEXTS)
    assert len({len(one.token_ids) for one in said}) > 2
    assert max(logprob_error(talker, one, sampling) for one in said) < 1e-4


def test_warped_logprobs_are_not_the_models_own(talker: LocalPolicy) -> None:
    said = answers(talker, WARPED, TEXTS)
    assert max(logprob_error(talker, one, Sampling()) for one in said) > 0.1


@pytest.mark.parametrize("sampling", [Sampling(max_new_tokens=24), WARPED], ids=["plain", "warped"])
def test_an_answer_does_not_depend_on_the_rows_beside_it(talker: LocalPolicy, sampling: Sampling) -> None:
    prompts, seeds = [chat(t) for t in TEXTS * 3], list(range(15))
    together = generate(talker, prompts, seeds, sampling)
    alone = [generate(talker, [prompt], [seed], sampling)[0] for prompt, seed in zip(prompts, seeds, strict=True)]
    assert_same_answers(talker, alone, together, sampling, seeds)


def listened(policy: LocalPolicy, most: int) -> tuple[list[list[int]], list[Answer], list[Answer]]:
    """What listeners were told of six answers, of which those with odd numbers end after `most` tokens; and both."""
    told: list[list[int]] = [[] for _ in range(6)]

    def listener(row: int) -> Callable[[Sequence[int]], bool]:
        return lambda tokens: told[row].extend(tokens) or row % 2 == 0 or len(told[row]) < most

    requests = [Request("ann", policy.encode(chat(TEXTS[n % 3])), n, WARPED) for n in range(6)]
    heard = sample(policy, [replace(one, listener=listener(n)) for n, one in enumerate(requests)])
    return told, heard, sample(policy, requests)


def test_listeners_are_told_every_token_and_end_an_answer_where_they_like(talker: LocalPolicy) -> None:
    for row, (told, own, whole) in enumerate(zip(*listened(talker, 3), strict=True)):
        tokens = whole.token_ids[: 3 if row % 2 else None]
        assert own.token_ids == tokens and len(own.logprobs) == len(tokens)
        assert tuple(told) in (tokens, tokens[:-1])  # an end, and what comes at the limit, is in the answer alone


def test_of_many_listeners_each_is_told_of_every_few_tokens(
    talker: LocalPolicy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "TOLD", 2)
    for told, own, whole in zip(*listened(talker, 99), strict=True):
        assert own.token_ids == whole.token_ids and tuple(told) == own.token_ids[: len(told)]
        assert len(own.token_ids) - len(told) <= 5


def test_answers_do_not_depend_on_the_token_budget(talker: LocalPolicy) -> None:
    prompts, seeds = [chat(t) for t in TEXTS], list(range(5))
    wide, narrow = (generate(talker, prompts, seeds, WARPED, token_budget=b) for b in (65536, 100))
    assert_same_answers(talker, wide, narrow, WARPED, seeds)


def test_equal_seeds_give_equal_answers_and_others_differ(policy: LocalPolicy) -> None:
    sampling = Sampling(max_new_tokens=16)
    one, again, other = generate(policy, [chat("a")] * 3, [5, 5, 6], sampling)
    assert_same_answers(policy, [one], [again], sampling, [5])
    assert one.token_ids != other.token_ids


def test_the_end_token_is_scored_and_nothing_after_it(talker: LocalPolicy) -> None:
    said = answers(talker, Sampling(max_new_tokens=24), TEXTS, each=6)
    assert {one.finish for one in said} == {"stop", "length"}
    for one in said:
        assert len(one.token_ids) == len(one.logprobs) <= 24
        assert not talker.ends & set(one.token_ids[:-1])
        assert (one.finish == "stop") == (one.token_ids[-1] in talker.ends)
        assert one.finish == "stop" or len(one.token_ids) == 24


def test_an_end_at_the_very_limit_is_a_stop(talker: LocalPolicy) -> None:
    said = answers(talker, Sampling(max_new_tokens=24), TEXTS, each=6)
    n, ended = next((n, one) for n, one in enumerate(said) if one.finish == "stop")
    limited = answers(talker, Sampling(max_new_tokens=len(ended.token_ids)), TEXTS, each=6)[n]
    assert (limited.finish, limited.token_ids) == ("stop", ended.token_ids)


def test_an_answer_of_a_single_token_is_whole(talker: LocalPolicy) -> None:
    said = answers(talker, Sampling(max_new_tokens=1), TEXTS, each=6)
    assert {one.token_ids[-1] in talker.ends for one in said} == {True, False}
    assert {one.finish for one in said} == {"stop"}


def test_the_end_token_is_not_part_of_the_text(policy: LocalPolicy) -> None:
    end = policy.tokenizer.eos_token_id
    assert policy.decode([*policy.tokenizer("a dog")["input_ids"], end]) == "a dog"


def test_all_ends_are_known(talker: LocalPolicy) -> None:
    assert talker.ends == {talker.tokenizer.eos_token_id, *range(60, 100)}
    talker.model.generation_config.eos_token_id = None
    assert talker.ends == {talker.tokenizer.eos_token_id}


def test_a_prompt_that_does_not_fit_is_an_error(policy: LocalPolicy) -> None:
    prompt = chat("z" * 600)
    length = len(policy.encode(prompt))
    with pytest.raises(EngineError, match=f"prompt of {length} tokens and an answer of up to 16 .* context of 512"):
        generate(policy, [chat("a"), prompt], [0, 1], Sampling(max_new_tokens=16))


def test_a_prompt_that_just_fits_is_answered(policy: LocalPolicy) -> None:
    room = policy.context - len(policy.encode(chat("a")))
    assert len(generate(policy, [chat("a")], [0], Sampling(max_new_tokens=room, greedy=True))) == 1


def test_padding_that_is_the_end_token_is_no_end_of_a_prompt(tmp_path: Path) -> None:
    """Prompts hold the end token (a chat closes every message with it) and are padded with it."""
    policy = tiny.load(tiny.build_model(tmp_path, pad_is_end=True))
    assert policy.tokenizer.pad_token_id == policy.tokenizer.eos_token_id
    said = answers(policy, WARPED, TEXTS)
    assert all(policy.tokenizer.eos_token_id in one.prompt_ids for one in said)
    assert max(logprob_error(policy, one, WARPED) for one in said) < 1e-4
    (alone,) = generate(policy, [chat(TEXTS[0])], [0], WARPED)
    assert_same_answers(policy, [alone], said[:1], WARPED, [0])


def test_the_cache_keeps_what_was_written_beyond_its_room() -> None:
    """Written in pieces, and cut to some rows on the way, it holds what a plain concatenation holds."""
    layer, pieces = RoomyLayer(), [torch.randn(3, 2, n, 4) for n in (5, 1, 70, 1)]  # type: ignore[no-untyped-call]
    for piece in pieces:
        layer.update(piece, -piece)
    whole, keep = torch.cat(pieces, dim=2), torch.tensor([2, 0])
    assert torch.equal(layer.keys, whole) and torch.equal(layer.values, -whole)
    layer.batch_select_indices(keep)
    keys, values = layer.update(pieces[1][keep], pieces[1][keep])
    assert torch.equal(keys, torch.cat([whole, pieces[1]], dim=2)[keep])
    assert values.shape == keys.shape and layer.get_seq_length() == 78


def test_the_plain_text_prompt_is_the_content_alone(policy: LocalPolicy) -> None:
    policy.chat_template = False
    assert policy.decode(list(policy.encode(chat("a dog")))) == "a dog"
    policy.chat_template = True
    assert policy.tokenizer.decode(policy.encode(chat("a dog"))).endswith("<|im_start|>assistant\n")


def test_a_model_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(EngineError) as refusal:
        tiny.load(tmp_path / "empty")
    assert "\n" not in str(refusal.value)


def test_a_tokenizer_without_padding_needs_a_pad_token(tmp_path: Path) -> None:
    folder = tiny.build_model(tmp_path)
    tokenizer = tiny.load(folder).tokenizer
    tokenizer.pad_token = None
    tokenizer.save_pretrained(folder)
    with pytest.raises(EngineError, match="no padding token; name one of its tokens as pad_token"):
        tiny.load(folder)
    with pytest.raises(EngineError, match="no padding token, and '<pda>' is none of its tokens; name one"):
        tiny.load(folder, pad_token="<pda>")
    assert tiny.load(folder, pad_token="<|endoftext|>").tokenizer.pad_token == "<|endoftext|>"
