"""Trains the same teams on the same work with CoMLRL 1.4.3 and with Madrigal, and compares tokens per second.

    pip install --no-deps comlrl==1.4.3 && pip install wandb
    python benchmarks/versus_comlrl.py --parameters 1M --turns 1 --repeats 3

A cell is one size of model, group and answer, and a number of turns. In each cell both sides run once to warm up, then
in alternation (A B A B ...); a ratio compares two neighboring runs. Measured is the wall time of generation, reward
and update together, without construction, evaluation, logging and saving. One JSON row per cell goes to stdout, a
table follows. benchmarks/README.md says what is equal on both sides and what is not.
"""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import json
import random
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
import transformers
from datasets import Dataset
from transformers import GenerationConfig, Qwen3Config, Qwen3ForCausalLM

from flops import Work, products, rate
from madrigal.algorithms.group_relative import GroupRelative
from madrigal.evaluation.ablations import by_agent
from madrigal.learning.learner import Learner
from madrigal.policies.local import LocalPolicy
from madrigal.policies.team import Team
from madrigal.rollouts.play import judge_in_threads
from madrigal.rollouts.task import joint
from madrigal.rollouts.topology import Parallel
from madrigal.rollouts.tree import rollout_groups
from madrigal.settings import OptimizerConfig, Sampling
from madrigal.tasks.embedded import papers, posts
from madrigal.types import Example, Message, Messages, Point, Sample, Step, Turn
from pretraining.tokenizer import PAD, VOCABULARY, train_tokenizer

INSTALL = "pip install --no-deps comlrl==1.4.3 && pip install wandb"
AGENTS = ("short", "long")
SHAPES = {  # hidden size, MLP size, layers, heads, key-value heads; heads are 32 wide
    "1M": (128, 384, 4, 4, 2),
    "10M": (320, 768, 8, 10, 5),
}
LEARNING_RATE = 5e-6  # CoMLRL's default, and Madrigal's
NEVER = "<|never|>"  # an end token beyond the model's vocabulary: both sides look for it, neither can sample it


@dataclass(frozen=True, slots=True)
class Cell:
    """One comparison."""

    parameters: str
    group: int
    new_tokens: int
    turns: int
    prompts: int

    @property
    def tokens(self) -> int:
        """Tokens that one run generates; in a tree, a group of answers hangs below every answer of the turn before."""
        answers = sum(self.group ** (turn + 1) for turn in range(self.turns))
        return self.prompts * len(AGENTS) * answers * self.new_tokens


def first_prompt(agent: str, post: str) -> str:
    return f"{post}\n\nWrite a {agent} summary of this post.\n"


def next_prompt(before: str, mine: str, theirs: str) -> str:
    """The second turn shows an agent both answers of the first."""
    return f"{before}{mine}\n\nThe other summary was:\n{theirs}\n\nWrite yours again, and better.\n"


def reward(short: str, long: str) -> float:
    """Half for a long answer that is twice the short one, half for common words."""
    length = min(1.0, len(long) / max(1, 2 * len(short)))
    words, others = set(short.split()), set(long.split())
    return 0.5 * length + 0.5 * len(words & others) / max(1, len(words | others))


def make_tokenizer() -> Any:
    """The starter's kind of tokenizer, without chat template: CoMLRL has none."""
    texts = [example.data["post"] for example in posts.examples("train")[:300]]
    texts += [example.data["abstract"] for example in papers.examples("train")[:300]]
    tokenizer = train_tokenizer(texts)
    missing = VOCABULARY - len(tokenizer)
    tokenizer.add_tokens([f"<|unused{n}|>" for n in range(missing)])
    tokenizer.add_special_tokens({"eos_token": NEVER})
    tokenizer.chat_template = None
    if tokenizer.eos_token_id != VOCABULARY:
        raise RuntimeError(f"the end token must lie beyond the model's {VOCABULARY}, it is {tokenizer.eos_token_id}")
    return tokenizer


def make_models(parameters: str, tokenizer: Any) -> list[Any]:
    """One random model per agent, the same weights on every call."""
    width, mlp, layers, heads, pairs = SHAPES[parameters]
    config = Qwen3Config(
        vocab_size=VOCABULARY,
        hidden_size=width,
        intermediate_size=mlp,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=pairs,
        head_dim=32,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.convert_tokens_to_ids(PAD),
        eos_token_id=tokenizer.eos_token_id,
        attn_implementation="sdpa",
        dtype=torch.float32,
    )
    models = []
    for seed in range(len(AGENTS)):
        torch.manual_seed(seed)
        model = Qwen3ForCausalLM(config)
        model.generation_config = GenerationConfig(
            do_sample=True, pad_token_id=config.pad_token_id, eos_token_id=config.eos_token_id
        )
        models.append(model.eval())
    return models


@dataclass(frozen=True, slots=True)
class Rewrite:
    """Two agents summarize a post in one or two turns; a task of Madrigal's protocol.

    A state is what each agent is shown, and how many turns there were.
    """

    texts: tuple[str, ...]
    horizon: int
    name: str = "rewrite"
    agents: tuple[str, ...] = AGENTS
    best_return: float = 1.0

    def examples(self, split: str) -> Sequence[Example]:
        return [Example(str(n), {"post": text}) for n, text in enumerate(self.texts)]

    def reset(self, example: Example) -> tuple[dict[str, str], int]:
        return {agent: first_prompt(agent, example.data["post"]) for agent in AGENTS}, 0

    def acting(self, state: tuple[dict[str, str], int]) -> tuple[str, ...]:
        return AGENTS

    def observe(self, state: tuple[dict[str, str], int], agent: str, heard: Sequence[Turn]) -> Messages:
        return (Message("user", state[0][agent]),)

    def step(self, state: tuple[dict[str, str], int], actions: Mapping[str, str]) -> Step[Any]:
        before, turns = state
        short, long = (actions[agent] for agent in AGENTS)
        after = {
            "short": next_prompt(before["short"], short, long),
            "long": next_prompt(before["long"], long, short),
        }
        value = reward(short, long)
        return Step((after, turns + 1), joint(AGENTS, value), ending="horizon" if turns + 1 == self.horizon else "")


class Ours:
    """Madrigal: play, credit, update, as in its own training loop.

    `beside` lets the agents act and learn side by side, a core for each, as that loop does; else one after the other.
    """

    def __init__(self, cell: Cell, texts: Sequence[str], tokenizer: Any, *, beside: bool) -> None:
        self.beside = beside
        self.task = Rewrite(tuple(texts), cell.turns)
        self.algorithm = GroupRelative(width=cell.group, tree=cell.turns > 1, updates="turn")
        self.sampling = Sampling(max_new_tokens=cell.new_tokens)
        models = make_models(cell.parameters, tokenizer)
        self.policies = [
            LocalPolicy(agent, model, tokenizer, chat_template=False)
            for agent, model in zip(AGENTS, models, strict=True)
        ]
        self.team = Team({policy.name: policy for policy in self.policies})
        settings = OptimizerConfig(lr=LEARNING_RATE)
        self.learners = [Learner(policy, settings, self.sampling) for policy in self.policies]
        self.origins = [Point(e.id, self.task.reset(e)) for e in self.task.examples("train")]
        self.generation, self.update, self.runs = Work(), Work(), 0

    def run(self) -> int:
        """One step on all prompts; returns the tokens that were generated."""
        began = time.perf_counter()
        with ThreadPoolExecutor(1) as judges, ThreadPoolExecutor(len(self.policies) if self.beside else 1) as pool:
            speak, judge = self.team.speaker(self.sampling), judge_in_threads(self.task, judges)
            if not self.beside:
                speak = by_agent({agent: partial(speak) for agent in AGENTS})  # a call for each agent
            groups = rollout_groups(
                self.task, Parallel(), self.origins, self.algorithm.branching, speak, judge, (0, self.runs)
            )
            played = time.perf_counter()
            stages, _ = self.algorithm.credit(groups, self.algorithm.begin())
            shares = [[_of(stage, policy.name) for stage in stages] for policy in self.policies]
            list(pool.map(lambda n: self.learners[n].update(shares[n], self.algorithm.loss), range(len(shares))))
        self._count(stages, played - began, time.perf_counter() - played)
        return sum(len(sample.turn.completion.token_ids) for stage in stages for sample in stage)

    def _count(self, stages: Sequence[Sequence[Sample]], generation: float, update: float) -> None:
        """Each distinct prompt is read once, for its last logits; each answer's last token is never read."""
        said = [(s.turn.agent, s.turn.round, s.turn.completion) for stage in stages for s in stage]
        prompts = {(agent, turn, one.prompt_ids) for agent, turn, one in said}
        sampled = sum(len(one.token_ids) for _, _, one in said)
        read = sampled - len(said) + sum(len(ids) for _, _, ids in prompts)
        scored = sampled - len(said) + len(prompts)
        self.generation += Work(read, scored, generation)
        self.update += Work(read, scored, update)
        self.runs += 1


def _of(stage: Sequence[Sample], agent: str) -> list[Sample]:
    return [sample for sample in stage if sample.turn.agent == agent]


class Theirs:
    """CoMLRL: its public trainer, one epoch over a data set with one item per prompt."""

    def __init__(self, cell: Cell, texts: Sequence[str], tokenizer: Any) -> None:
        from comlrl.trainers.reinforce import MAGRPOConfig, MAGRPOTrainer

        self.tokens = 0
        models = make_models(cell.parameters, tokenizer)
        for model in models:
            model.generate = self._counted(model.generate)
        # Every node of every prompt's tree: one optimizer step per agent and turn, from all prompts, as on our side.
        nodes = cell.prompts * sum(cell.group**turn for turn in range(cell.turns))
        settings = MAGRPOConfig(
            num_train_epochs=1,
            agent_learning_rate=LEARNING_RATE,
            num_agents=len(AGENTS),
            num_generations=cell.group,
            max_new_tokens=cell.new_tokens,
            temperature=1.0,
            top_p=1.0,
            top_k=0,
            num_turns=cell.turns,
            early_termination_threshold=None,
            external_prompt_passthrough=True,
            eval_interval=0,
            rollout_buffer_size=nodes,
            advantage_normalization=False,
        )
        self.trainer = MAGRPOTrainer(
            agents=models,
            tokenizer=tokenizer,
            num_agents=len(AGENTS),
            train_dataset=Dataset.from_list([{"prompt": text} for text in texts]),
            reward_func=lambda short, long: [reward(a, b) for a, b in zip(short, long, strict=True)],
            formatters=[_formatter(agent) for agent in AGENTS],
            external_transition=_transition,
            args=settings,
        )
        self.trainer.verbose = False

    def _counted(self, generate: Callable[..., Any]) -> Callable[..., Any]:
        def counted(**settings: Any) -> Any:
            output = generate(**settings)
            self.tokens += output.sequences[:, settings["input_ids"].shape[1] :].numel()
            return output

        return counted

    def run(self) -> int:
        """One epoch; returns the tokens that were generated."""
        before = self.tokens
        self.trainer.train()
        return self.tokens - before


def _formatter(agent: str) -> Callable[[Mapping[str, str]], str]:
    return lambda item: first_prompt(agent, item["prompt"])


def _transition(
    agent_completions: Sequence[str], prompt_history_per_agent: Sequence[Sequence[str]], **_: Any
) -> list[str]:
    short, long = agent_completions
    return [
        next_prompt(prompt_history_per_agent[0][-1], short, long),
        next_prompt(prompt_history_per_agent[1][-1], long, short),
    ]


def timed(side: Ours | Theirs, tokens: int) -> tuple[float, float]:
    """Tokens per second of one run, by the wall and by the processor: the latter is steadier on a shared machine."""
    wall, busy = time.perf_counter(), time.process_time()
    generated = side.run()
    wall, busy = time.perf_counter() - wall, time.process_time() - busy
    if generated != tokens:
        raise RuntimeError(f"{type(side).__name__}: expected {tokens} generated tokens, got {generated}")
    return tokens / wall, tokens / busy


def compare(cell: Cell, repeats: int, *, beside: bool) -> dict[str, Any]:
    """The row of one cell."""
    random.seed(0)
    tokenizer = make_tokenizer()
    texts = [example.data["post"] for example in posts.examples("test")[: cell.prompts]]
    theirs, ours = Theirs(cell, texts, tokenizer), Ours(cell, texts, tokenizer, beside=beside)
    for side in (theirs, ours):
        timed(side, cell.tokens)
    ours.generation, ours.update = Work(), Work()
    rates = []
    for n in range(repeats):
        rates.append((timed(theirs, cell.tokens), timed(ours, cell.tokens)))
        print(f"# {cell} {n + 1}/{repeats}: {rates[-1][0][0]:.0f} and {rates[-1][1][0]:.0f} tokens/s", file=sys.stderr)
    ratios, busy = ([mine[n] / other[n] for other, mine in rates] for n in range(2))
    model = ours.policies[0].model
    return {
        "parameters": cell.parameters,
        "group": cell.group,
        "new_tokens": cell.new_tokens,
        "turns": cell.turns,
        "prompts": cell.prompts,
        "ratio": round(statistics.median(ratios), 2),
        "low": round(min(ratios), 2),
        "high": round(max(ratios), 2),
        "cpu_ratio": round(statistics.median(busy), 2),
        "comlrl_tokens_per_second": round(statistics.median(other[0] for other, _ in rates), 1),
        "madrigal_tokens_per_second": round(statistics.median(mine[0] for _, mine in rates), 1),
        "generation_share": round(ours.generation.seconds / (ours.generation.seconds + ours.update.seconds), 2),
        "generation_gflops": round(rate(model, ours.generation), 1),
        "update_gflops": round(rate(model, ours.update, backward=True), 1),
        "product_gflops": {
            shape: round(value, 1) for shape, value in products(model, cell.prompts * cell.group).items()
        },
        "threads": torch.get_num_threads(),
        "beside": beside,
        "repeats": repeats,
    }


def cells(options: argparse.Namespace) -> Iterator[Cell]:
    for parameters, turns, group, new_tokens in itertools.product(
        options.parameters, options.turns, options.group, options.new_tokens
    ):
        # A tree of two turns is G times as large, and the larger model ten times as slow.
        prompts = options.prompts or {("1M", 1): 8, ("10M", 1): 8, ("1M", 2): 4, ("10M", 2): 2}[parameters, turns]
        yield Cell(parameters, group, new_tokens, turns, prompts)


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    lines = [
        f"{'model':>6}{'turns':>6}{'G':>4}{'new':>5}{'prompts':>8}{'CoMLRL':>9}{'Madrigal':>10}{'ratio':>8}"
        f"{'by CPU':>8}  spread"
    ]
    for row in rows:
        lines.append(
            f"{row['parameters']:>6}{row['turns']:>6}{row['group']:>4}{row['new_tokens']:>5}{row['prompts']:>8}"
            f"{row['comlrl_tokens_per_second']:>9.0f}{row['madrigal_tokens_per_second']:>10.0f}{row['ratio']:>8.1f}"
            f"{row['cpu_ratio']:>8.1f}  {row['low']:.1f}-{row['high']:.1f}"
        )
    return "\n".join([*lines, "tokens/s from end to end: generation, reward and update; median of the repeats"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parameters", nargs="+", choices=list(SHAPES), default=list(SHAPES))
    parser.add_argument("--group", nargs="+", type=int, default=[4, 8], help="answers per prompt and agent")
    parser.add_argument("--new-tokens", nargs="+", type=int, default=[64, 128])
    parser.add_argument("--turns", nargs="+", type=int, choices=[1, 2], default=[1, 2])
    parser.add_argument(
        "--prompts", type=int, default=0, help="prompts per step; 0 is 8 in one turn and 4 (1M) or 2 (10M) in two"
    )
    parser.add_argument("--repeats", type=int, default=3, help="pairs of runs after the warm-up")
    parser.add_argument("--threads", type=int, default=1, help="torch's threads, for both")
    parser.add_argument("--one-core", action="store_true", help="Madrigal's agents one after the other")
    parser.add_argument("--output", type=Path, help="write the rows to this file too")
    options = parser.parse_args()
    if importlib.util.find_spec("comlrl") is None:
        parser.exit(2, f"comlrl is not installed; install it with: {INSTALL}\n")
    transformers.logging.set_verbosity_error()
    torch.set_num_threads(options.threads)
    rows = []
    for cell in cells(options):
        rows.append(compare(cell, options.repeats, beside=not options.one_core))
        print(json.dumps(rows[-1]), flush=True)
        if options.output:
            options.output.write_text("".join(json.dumps(row) + "\n" for row in rows))
    print(table(rows))


if __name__ == "__main__":
    main()
