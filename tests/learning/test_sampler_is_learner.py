"""Sampler and learner say the same of every token: by every kind of prompt, of weights and of sampling."""

from __future__ import annotations

from functools import cache
from itertools import product

import pytest
import torch

from fakes import letters
from fakes.tiny import CPU, samples_of
from madrigal.learning.learner import Learner
from madrigal.maths.batch import make_batch
from madrigal.policies.generate import generate
from madrigal.policies.local import LocalPolicy, load_policy
from madrigal.settings import Lora, OptimizerConfig, PolicyConfig, Sampling
from madrigal.types import Message

PROMPTS = {
    "roles": (Message("system", "you are ann"), Message("user", "a"), Message("assistant", "b"), Message("user", "c")),
    "begun": (Message("user", "spell a long word and then another one"), Message("assistant", "of cou")),
    "short": (Message("user", "a"),),
}
SAMPLINGS = {
    "all": Sampling(max_new_tokens=32),
    "top-k": Sampling(temperature=0.7, top_k=5, max_new_tokens=32),
    "top-p": Sampling(temperature=1.3, top_p=0.8, max_new_tokens=32),
    "greedy": Sampling(greedy=True, max_new_tokens=32),
}


@cache
def policy(rank: int) -> LocalPolicy:
    """Whole weights, or an adapter that has learned something."""
    made = load_policy("ann", PolicyConfig(str(letters.model_folder()), lora=Lora(rank)), CPU)
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in made.parameters().values():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return made


@pytest.mark.parametrize("recomputing", [False, True], ids=["", "recomputing"])
@pytest.mark.parametrize("sampling", SAMPLINGS.values(), ids=list(SAMPLINGS))
@pytest.mark.parametrize("rank", [0, 4], ids=["whole", "adapter"])
@pytest.mark.parametrize("chat", [True, False], ids=["chat", "plain"])
def test_sampler_and_learner_agree(chat: bool, rank: int, sampling: Sampling, recomputing: bool) -> None:
    """Siblings of prompts of several lengths in one batch, answers that end early among them."""
    speaker = policy(rank)
    speaker.chat_template = chat
    prompts = [prompt for prompt, _ in product(PROMPTS.values(), range(4))]
    said = generate(speaker, prompts, range(len(prompts)), sampling)
    assert len({len(one.token_ids) for one in said}) > 1 or sampling.greedy
    learner = Learner(speaker, OptimizerConfig(gradient_checkpointing=recomputing), sampling)
    batch = make_batch(samples_of(said), speaker.tokenizer.pad_token_id, CPU)
    with torch.no_grad():
        logprobs = learner.score(batch).logprobs
    torch.testing.assert_close(logprobs[batch.mask], batch.old_logprobs[batch.mask], atol=1e-5, rtol=0)
    begun = said[4].prompt_ids
    assert speaker.decode(begun).endswith("of cou") and begun[-1] not in speaker.ends  # nothing comes between
