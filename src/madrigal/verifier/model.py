"""A language model that says how probably an answer is right.

    s(q, y) = sigmoid(w . h_T)          h_T what the model makes of the answer's last token, w without bias

The answer is read after the question as a chat would show them, its end token included.

References:
    Park et al., 2025, "MAPoRL", section 4.1, arXiv:2502.18439, and its public code: LoRA, a bias-free linear head, a
    sigmoid, the score at the last token.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from jaxtyping import Bool, Float
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from madrigal.maths.batch import pad_rows
from madrigal.policies.check_model import check_weights
from madrigal.policies.critic import Critic, ScalarHead, load_critic
from madrigal.policies.local import LocalPolicy, load_policy, load_saved_adapter
from madrigal.tasks.discussion.prompts import question_prompt
from madrigal.tasks.discussion.verifier import Question
from madrigal.types import ConfigError, Message, RewardError
from madrigal.verifier.settings import Body

NAME = "verifier"
SETTINGS, HEAD, ADAPTER, WHOLE = "verifier.json", "head.safetensors", "adapter_model.safetensors", "model.safetensors"
ROWS = 16  # answers read at once
Encoded = tuple[tuple[int, ...], tuple[int, ...]]  # token ids of the prompt, and of the answer


@dataclass(slots=True, eq=False)
class LearnedVerifier:
    """A critic of answers: a verifier that a task can be given, in this process.

    Attributes:
        critic: the model, its adapter and its head.
        body: what it was made of.
    """

    critic: Critic
    body: Body

    def __call__(self, question: Question, answers: Sequence[str]) -> list[float]:
        """The scores at the last tokens of the answers.

        Raises:
            RewardError: if the question alone fills `max_length`.
        """
        rows, scores = [self.encode(question, answer) for answer in answers], list[float]()
        with torch.inference_mode():
            for start in range(0, len(rows), ROWS):
                logits, mask = self.logits(rows[start : start + ROWS])
                last = mask.sum(dim=1, keepdim=True) - 1
                scores += logits.gather(1, last)[:, 0].sigmoid().tolist()
        return scores

    def encode(self, question: Question, answer: str) -> Encoded:
        """Token ids of the question, as agents are asked it, and of the answer with its end token, cut to length.

        Raises:
            RewardError: if there is no room for an answer.
        """
        policy = self.critic.body
        prompt = policy.encode((Message("user", question_prompt(question.text, question.choices)),))
        room = self.body.max_length - len(prompt)
        if room < 1:
            raise RewardError(
                f"verifier: a question of {len(prompt)} tokens leaves no room for an answer in {self.body.max_length}; "
                "train it with a larger --body.max-length"
            )
        ids = policy.encode_text(answer.strip())
        return prompt, tuple([*ids, policy.tokenizer.eos_token_id][:room])

    def logits(self, rows: Sequence[Encoded]) -> tuple[Float[Tensor, "B T"], Bool[Tensor, "B T"]]:
        """The logit after each token of each answer, and which of them are real; 0 in padding."""
        device, pad = self.critic.body.device, self.critic.body.tokenizer.pad_token_id
        ids, seen = pad_rows([prompt + answer for prompt, answer in rows], pad)
        outputs = self.critic.outputs(ids.to(device), seen.to(device))
        answers, mask = pad_rows([answer for _, answer in rows], pad)
        logits = outputs.new_zeros(answers.shape)
        for n, (prompt, answer) in enumerate(rows):
            logits[n, : len(answer)] = outputs[n, len(prompt) : len(prompt) + len(answer)]
        return logits, mask.to(device)

    def save(self, folder: Path) -> None:
        """Writes adapter, head, tokenizer and settings; weights as safetensors alone."""
        folder.mkdir(parents=True, exist_ok=True)
        self.critic.body.save(folder)
        save_file({"weight": self.critic.head.weight.detach().cpu().contiguous()}, folder / HEAD)
        (folder / SETTINGS).write_text(json.dumps(asdict(self.body), indent=2) + "\n")


def new_verifier(body: Body, device: torch.device, seed: int = 0) -> LearnedVerifier:
    """One that knows nothing yet: it says 0.5 of everything."""
    return LearnedVerifier(load_critic(NAME, body.policy, device, seed=seed), body)


def load_verifier(folder: Path, device: torch.device) -> LearnedVerifier:
    """Loads what `LearnedVerifier.save` wrote, to judge and not to learn.

    Raises:
        ConfigError: if something is missing, or is none of its files.
        EngineError: if a model or an adapter cannot be loaded.
    """
    body = _read_body(folder)
    if not (folder / HEAD).is_file():
        raise ConfigError(f"verifier {folder}: expected {HEAD} beside {SETTINGS}, found none; train it again")
    policy = _load_body(folder, body, device)
    try:
        weight = load_file(folder / HEAD)["weight"]
    except (OSError, KeyError, SafetensorError) as error:
        reason = str(error).strip().split("\n")[0]
        raise ConfigError(f"verifier {folder}: the weights could not be loaded: {reason}; train it again") from error
    check_weights({HEAD: weight}, f"verifier {folder}")
    head = ScalarHead(weight.shape[1], policy.device)
    with torch.no_grad():
        head.weight.copy_(weight)
    return LearnedVerifier(Critic(policy, head), body)


def _load_body(folder: Path, body: Body, device: torch.device) -> LocalPolicy:
    """The model below the head: an adapter on the base model, or a model of its own. Only safetensors are read."""
    if not any(folder.glob("*.safetensors.index.json")) and not (folder / (ADAPTER if body.rank else WHOLE)).is_file():
        raise ConfigError(f"verifier {folder}: expected weights as safetensors beside {SETTINGS}, found none")
    if body.rank:
        return load_saved_adapter(NAME, folder, body.policy, device)
    return load_policy(NAME, replace(body.policy, model=str(folder), trainable=False), device)


def _read_body(folder: Path) -> Body:
    try:
        return Body(**json.loads((folder / SETTINGS).read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise ConfigError(
            f"verifier {folder}: expected the {SETTINGS} of a learned verifier, found none that can be read; make one "
            "with: madrigal verifier train"
        ) from error
