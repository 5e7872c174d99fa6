"""Two agents who say letters: a task for every kind of reward, and a model of 40 tokens that knows no other words."""

from __future__ import annotations

import atexit
import shutil
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from fakes.tiny import save_random_qwen3
from madrigal.rollouts.task import Rewards
from madrigal.types import AgentId, Example, Message, Messages, Split, Step, Turn
from pretraining.tokenizer import CHAT_TEMPLATE, END, PAD, START

LETTERS = string.ascii_lowercase + string.digits + " \n"
State = tuple[str, int, str]  # example, round, what was said in the last one


@dataclass(frozen=True)
class Letters:
    """Each is paid for its own letters and for those that both say; where ann begins with a late one the game ends."""

    rewards: Rewards
    horizon: int
    name: str = "letters"
    agents: tuple[AgentId, ...] = ("ann", "bob")
    best_return: float = 3.0

    def examples(self, split: Split) -> Sequence[Example]:
        return [Example(f"{split} {n}", {}) for n in range(2)]

    def reset(self, example: Example) -> State:
        return example.id, 0, ""

    def acting(self, state: State) -> tuple[AgentId, ...]:
        return self.agents

    def observe(self, state: State, agent: AgentId, heard: Sequence[Turn]) -> Messages:
        example, number, before = state
        said = " ".join(turn.completion.text for turn in heard)
        return (Message("user", f"{agent} {example} {number} {before} {said}"),)

    def step(self, state: State, actions: Mapping[AgentId, str]) -> Step[State]:
        example, number, _ = state
        ann, bob = (actions.get(agent, "") for agent in self.agents)
        both = len(set(ann) & set(bob)) / 10
        paid = [both + sum(map(ord, text)) % 97 / 97 for text in (ann, bob)]
        mean = sum(paid) / 2
        earned = {"joint": [mean, mean], "own": paid, "zero-sum": [one - mean for one in paid]}[self.rewards]
        over = ann[:1] > "h" or number + 1 == self.horizon
        after = (example, number + 1, f"{ann} {bob}")
        return Step(after, dict(zip(self.agents, earned, strict=True)), "solved" if over else "")


# Names that `CustomTask("fakes.letters:own_3")` finds.
joint_1, own_1, zero_sum_1 = Letters("joint", 1), Letters("own", 1), Letters("zero-sum", 1)
joint_3, own_3, zero_sum_3 = Letters("joint", 3), Letters("own", 3), Letters("zero-sum", 3)


def spelling() -> PreTrainedTokenizerFast:
    """A tokenizer with a token for each letter, and no others but those that steer."""
    vocabulary = {token: n for n, token in enumerate([PAD, START, END, "<|unknown|>", *LETTERS])}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="<|unknown|>"))
    words.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    words.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=words,
        pad_token=PAD,
        eos_token=END,
        unk_token="<|unknown|>",
        additional_special_tokens=[START, END],
        chat_template=CHAT_TEMPLATE,
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )


@cache
def model_folder() -> Path:
    """Where the model is saved: random, one layer of 16, made once in a process."""
    folder = Path(mkdtemp("letters"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    shape: dict[str, Any] = {"hidden_size": 16, "num_hidden_layers": 1, "head_dim": 8, "intermediate_size": 32}
    return save_random_qwen3(folder, spelling(), **shape, max_position_embeddings=256, initializer_range=0.2)
