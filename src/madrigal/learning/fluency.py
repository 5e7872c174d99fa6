"""Fluency: how likely a text is to a model that was not trained on the reward, without the prompt it answers.

    F(x) = 1/T sum_t log p(x_t | x_<t)          T tokens of x, nats; x_0 is the model's first or end token

A reward that looks at form alone can be earned with word salad: its fluency falls while the return rises. It says
nothing of truth, and a text that repeats itself is likely too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from statistics import fmean

import torch
from torch import Tensor

from madrigal.learning.learner import read_each
from madrigal.maths.batch import Batch, scattered
from madrigal.policies.forward import hidden_before_actions, sampled_logprobs
from madrigal.policies.local import SWITCHING, LocalPolicy, load_policy
from madrigal.settings import OptimizerConfig, PolicyConfig, Sampling
from madrigal.types import Completion


@dataclass(frozen=True, slots=True)
class FluencyReader:
    """A frozen model that reads texts.

    Attributes:
        policy: its weights and tokenizer; of an adapter, the model below it is read by.
        config: how many padded tokens are read at once.
    """

    policy: LocalPolicy
    config: OptimizerConfig

    def __call__(self, texts: Sequence[str]) -> list[float]:
        """The mean log-prob per token of each text, in nats.

        A text without tokens counts as one of random tokens, -log V: silence is no way to be fluent. What is longer
        than the model's context is cut there.
        """
        policy, tokenizer = self.policy, self.policy.tokenizer
        first = tokenizer.eos_token_id if tokenizer.bos_token_id is None else tokenizer.bos_token_id
        rows = [
            Completion(text, (first,), tuple(policy.encode_text(text.strip())[: policy.context - 1])) for text in texts
        ]
        silence = -math.log(policy.model.config.vocab_size)
        with SWITCHING:
            read = read_each(rows, policy, self.config, self._read)
        return [fmean(row) if row else silence for row in read]

    @torch.no_grad()
    def _read(self, batch: Batch) -> Tensor:
        """[B T] log-probs of the model's own distribution."""
        actions = batch.actions[batch.mask]
        with self.policy.reference() if self.policy.adapter else nullcontext(self.policy.model) as model:
            hidden = hidden_before_actions(model, batch)
            logprobs, _ = sampled_logprobs(model, hidden, actions, Sampling())
        return scattered(batch.mask, logprobs)


def load_fluency(config: PolicyConfig, device: torch.device, optimizer: OptimizerConfig) -> FluencyReader:
    """Loads a model to read by.

    Raises:
        ConfigError, EngineError: if there is no such model, or it cannot be read.
    """
    return FluencyReader(load_policy("fluency", config, device), optimizer)
