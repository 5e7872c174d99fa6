"""Trains the same models on the same work with another library and with Madrigal, and compares tokens per second.

    pip install --no-deps comlrl==1.4.3 trl==1.16 && pip install wandb
    python benchmarks/versus.py comlrl --parameters 1M --turns 1 --repeats 3
    python benchmarks/versus.py trl --parameters 135M --dtype bfloat16

Rivals are CoMLRL's MAGRPO with two agents, and TRL's GRPO with one, in one turn. A cell is one size of model, group and
answer, and a number of turns. In each cell both sides run once to warm up, then in alternation (A B A B ...); a ratio
compares two neighboring runs. Measured is the wall time of generation, reward and update together, without
construction, evaluation, logging and saving. One JSON row per cell goes to stdout, a table follows.
benchmarks/README.md says what is equal on both sides and what is not.
"""

from __future__ import annotations

import argparse
import gc
import importlib.util
import itertools
import json
import random
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol

import torch
import transformers
from datasets import Dataset
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, Qwen3Config, Qwen3ForCausalLM

from flops import Work, products, rate
from madrigal.algorithms.group_relative import GroupRelative
from madrigal.evaluation.ablations import by_agent
from madrigal.learning.learner import Learner
from madrigal.policies.llama import pack
from madrigal.policies.local import LocalPolicy
from madrigal.policies.team import Team
from madrigal.rollouts.play import judge_in_threads
from madrigal.rollouts.task import joint
from madrigal.rollouts.topology import Parallel
from madrigal.rollouts.tree import rollout_groups
from madrigal.settings import OptimizerConfig, Sampling
from madrigal.tasks.embedded import papers, posts
from madrigal.types import Example, Message, Messages, Point, Sample, Step, Turn
from pretraining.tokenizer import PAD, train_tokenizer

INSTALL = "pip install --no-deps comlrl==1.4.3 trl==1.16 && pip install wandb"
AGENTS = ("short", "long")
NAMES = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
NAMES += ("num_key_value_heads", "head_dim")
SHAPES = {
    "1M": (Qwen3ForCausalLM, Qwen3Config, (2048, 128, 384, 4, 4, 2, 32)),
    "10M": (Qwen3ForCausalLM, Qwen3Config, (2048, 320, 768, 8, 10, 5, 32)),
    "135M": (LlamaForCausalLM, LlamaConfig, (49152, 576, 1536, 30, 9, 3, 64)),  # SmolLM2-135M's
}
PROMPTS = {("1M", 1): 8, ("10M", 1): 8, ("1M", 2): 4, ("10M", 2): 2}  # in a step; of other cells 2
LEARNING_RATE = 5e-6  # CoMLRL's default, and Madrigal's
NEVER = "<|never|>"  # an end token beyond the model's vocabulary: both sides look for it, neither can sample it


@dataclass(frozen=True, slots=True)
class Cell:
    """One comparison."""

    parameters: str
    dtype: str
    agents: tuple[str, ...]
    group: int
    new_tokens: int
    turns: int
    prompts: int
    posts: int

    @property
    def tokens(self) -> int:
        """Tokens that one run generates; in a tree, a group of answers hangs below every answer of the turn before."""
        answers = sum(self.group ** (turn + 1) for turn in range(self.turns))
        return self.prompts * len(self.agents) * answers * self.new_tokens


def first_prompt(agent: str, post: str) -> str:
    return f"{post}\n\nWrite a {agent} summary of this post.\n"


def next_prompt(before: str, agent: str, answers: Mapping[str, str]) -> str:
    """The second turn shows an agent the answers of all in the first."""
    others = "".join(f"\n\nThe other summary was:\n{answers[other]}" for other in answers if other != agent)
    return f"{before}{answers[agent]}{others}\n\nWrite yours again, and better.\n"


def reward(*answers: str) -> float:
    """The share of vowels: cheap, and different for every answer."""
    text = "".join(answers)
    return sum(map(text.count, "aeiou")) / max(1, len(text))


def make_tokenizer(vocabulary: int) -> Any:
    """The starter's kind of tokenizer with so many tokens, without chat template: CoMLRL has none."""
    texts = [example.data["post"] for example in posts.examples("train")[:300]]
    texts += [example.data["abstract"] for example in papers.examples("train")[:300]]
    tokenizer = train_tokenizer(texts)
    tokenizer.add_tokens([f"<|unused{n}|>" for n in range(vocabulary - len(tokenizer))])
    tokenizer.add_special_tokens({"eos_token": NEVER})
    tokenizer.chat_template = None
    if tokenizer.eos_token_id != vocabulary:
        raise RuntimeError(f"the end token must lie beyond the model's {vocabulary}, it is {tokenizer.eos_token_id}")
    return tokenizer


def make_models(cell: Cell, tokenizer: Any) -> list[Any]:
    """One random model per agent, the same weights on every call."""
    kind, config_of, numbers = SHAPES[cell.parameters]
    config = config_of(
        **dict(zip(NAMES, numbers, strict=True)),
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.convert_tokens_to_ids(PAD),
        eos_token_id=tokenizer.eos_token_id,
        attn_implementation="sdpa",
    )
    models = []
    for seed in range(len(cell.agents)):
        torch.manual_seed(seed)
        model = kind(config).to(getattr(torch, cell.dtype))
        model.generation_config = GenerationConfig(
            do_sample=True, pad_token_id=config.pad_token_id, eos_token_id=config.eos_token_id
        )
        models.append(model.eval())
    return models


@dataclass(frozen=True, slots=True)
class Rewrite:
    """Agents summarize a post in one or two turns; a task of Madrigal's protocol.

    A state is what each agent is shown, and how many turns there were.
    """

    texts: tuple[str, ...]
    horizon: int
    agents: tuple[str, ...]
    name: str = "rewrite"
    best_return: float = 1.0

    def examples(self, split: str) -> Sequence[Example]:
        return [Example(str(n), {"post": text}) for n, text in enumerate(self.texts)]

    def reset(self, example: Example) -> tuple[dict[str, str], int]:
        return {agent: first_prompt(agent, example.data["post"]) for agent in self.agents}, 0

    def acting(self, state: tuple[dict[str, str], int]) -> tuple[str, ...]:
        return self.agents

    def observe(self, state: tuple[dict[str, str], int], agent: str, heard: Sequence[Turn]) -> Messages:
        return (Message("user", state[0][agent]),)

    def step(self, state: tuple[dict[str, str], int], actions: Mapping[str, str]) -> Step[Any]:
        before, turns = state
        after = {agent: next_prompt(before[agent], agent, actions) for agent in self.agents}
        value = reward(*(actions[agent] for agent in self.agents))
        ending = "horizon" if turns + 1 == self.horizon else ""
        return Step((after, turns + 1), joint(self.agents, value), ending=ending)


class Side(Protocol):
    """One of the two that are compared."""

    def run(self) -> int:
        """One step on all prompts; returns the tokens that were generated."""
        ...


class Madrigal:
    """Play, credit, update, as in the training loop.

    `beside` lets the agents act and learn side by side, a core for each, as that loop does; else one after the other.
    """

    def __init__(self, cell: Cell, texts: Sequence[str], tokenizer: Any, *, beside: bool) -> None:
        self.beside = beside
        self.task = Rewrite(tuple(texts), cell.turns, cell.agents)
        self.algorithm = GroupRelative(width=cell.group, tree=cell.turns > 1, updates="turn")
        self.sampling = Sampling(max_new_tokens=cell.new_tokens)
        models = make_models(cell, tokenizer)
        for model in models:
            pack(model)  # as `load_model` does
        self.policies = [
            LocalPolicy(agent, model, tokenizer, chat_template=False)
            for agent, model in zip(cell.agents, models, strict=True)
        ]
        self.team = Team({policy.name: policy for policy in self.policies})
        settings = OptimizerConfig(lr=LEARNING_RATE)
        self.learners = [Learner(policy, settings, self.sampling) for policy in self.policies]
        self.origins = [Point(e.id, self.task.reset(e)) for e in self.task.examples("train")]
        self.generation, self.update, self.runs = Work(), Work(), 0

    def run(self) -> int:
        began = time.perf_counter()
        with ThreadPoolExecutor(1) as judges, ThreadPoolExecutor(len(self.policies) if self.beside else 1) as pool:
            speak, judge = self.team.speaker(self.sampling), judge_in_threads(self.task, judges)
            if not self.beside:
                speak = by_agent({agent: partial(speak) for agent in self.task.agents})  # a call for each agent
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


class Comlrl:
    """Its public trainer, one epoch over a data set with one item per prompt."""

    def __init__(self, cell: Cell, texts: Sequence[str], tokenizer: Any) -> None:
        from comlrl.trainers.reinforce import MAGRPOConfig, MAGRPOTrainer

        models = make_models(cell, tokenizer)
        self.count = Count(models)
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
            reward_func=lambda short, long: list(map(reward, short, long)),
            formatters=[_formatter(agent) for agent in AGENTS],
            external_transition=_transition,
            args=settings,
        )
        self.trainer.verbose = False

    def run(self) -> int:
        return self.count.during(self.trainer.train)


def _formatter(agent: str) -> Callable[[Mapping[str, str]], str]:
    return lambda item: first_prompt(agent, item["prompt"])


def _transition(
    agent_completions: Sequence[str], prompt_history_per_agent: Sequence[Sequence[str]], **_: Any
) -> list[str]:
    answers = dict(zip(AGENTS, agent_completions, strict=True))
    before = zip(AGENTS, prompt_history_per_agent, strict=True)
    return [next_prompt(history[-1], agent, answers) for agent, history in before]


class Trl:
    """GRPO by its public trainer, one epoch over a data set with one item per prompt, a group in a micro-batch."""

    def __init__(self, cell: Cell, texts: Sequence[str], tokenizer: Any) -> None:
        from trl import GRPOConfig, GRPOTrainer

        (agent,) = cell.agents
        models = make_models(cell, tokenizer)
        self.count = Count(models)
        self.folder = TemporaryDirectory()
        settings = GRPOConfig(
            output_dir=self.folder.name,
            num_train_epochs=1,
            per_device_train_batch_size=cell.group,
            gradient_accumulation_steps=cell.prompts,
            num_generations=cell.group,
            max_completion_length=cell.new_tokens,
            learning_rate=LEARNING_RATE,
            lr_scheduler_type="constant",
            temperature=1.0,
            top_p=1.0,
            top_k=0,
            beta=0.0,
            scale_rewards="none",
            gradient_checkpointing=False,
            use_cpu=True,
            bf16=False,  # autocast of float32 weights; here weights are of the type themselves
            save_strategy="no",
            logging_strategy="no",
            report_to="none",
            disable_tqdm=True,
        )
        self.trainer = GRPOTrainer(
            model=models[0],
            processing_class=tokenizer,
            train_dataset=Dataset.from_list([{"prompt": first_prompt(agent, text)} for text in texts]),
            reward_funcs=lambda completions, **_: list(map(reward, completions)),
            args=settings,
        )
        self.trainer.remove_callback(transformers.PrinterCallback)  # standard output is for rows

    def run(self) -> int:
        return self.count.during(self.trainer.train)


class Count:
    """Counts the tokens that models draw in `generate`."""

    def __init__(self, models: Sequence[Any]) -> None:
        self.tokens = 0
        for model in models:
            model.generate = self._counted(model.generate)

    def _counted(self, generate: Callable[..., Any]) -> Callable[..., Any]:
        def counted(**settings: Any) -> Any:
            output = generate(**settings)
            self.tokens += getattr(output, "sequences", output)[:, settings["input_ids"].shape[1] :].numel()
            return output

        return counted

    def during(self, work: Callable[[], object]) -> int:
        """The tokens that are drawn within some work."""
        before = self.tokens
        work()
        return self.tokens - before


# What trains, which agents, and the most turns.
RIVALS: dict[str, tuple[type[Comlrl | Trl], tuple[str, ...], int]] = {
    "comlrl": (Comlrl, AGENTS, 2),
    "trl": (Trl, AGENTS[:1], 1),
}


def timed(side: Side, tokens: int) -> tuple[float, float]:
    """Tokens per second of one run, by the wall and by the processor: the latter is steadier on a shared machine."""
    wall, busy = time.perf_counter(), time.process_time()
    generated = side.run()
    wall, busy = time.perf_counter() - wall, time.process_time() - busy
    if generated != tokens:
        raise RuntimeError(f"{type(side).__name__}: expected {tokens} generated tokens, got {generated}")
    return tokens / wall, tokens / busy


def compare(rival: str, cell: Cell, repeats: int, *, beside: bool) -> dict[str, Any]:
    """The row of one cell."""
    random.seed(0)
    tokenizer = make_tokenizer(SHAPES[cell.parameters][2][0])
    found = iter([example.data["post"] for example in posts.examples("test")])
    texts = ["\n\n".join(itertools.islice(found, cell.posts)) for _ in range(cell.prompts)]
    theirs = RIVALS[rival][0](cell, texts, tokenizer)
    before = timed(theirs, cell.tokens)
    if not repeats:
        del theirs
        gc.collect()
    ours = Madrigal(cell, texts, tokenizer, beside=beside)
    rates = [(before, timed(ours, cell.tokens))]
    if repeats:  # that was the warm-up
        rates, ours.generation, ours.update = [], Work(), Work()
    for n in range(repeats):
        rates.append((timed(theirs, cell.tokens), timed(ours, cell.tokens)))
        print(f"# {cell} {n + 1}/{repeats}: {rates[-1][0][0]:.0f} and {rates[-1][1][0]:.0f} tokens/s", file=sys.stderr)
    ratios, busy = ([mine[n] / other[n] for other, mine in rates] for n in range(2))
    model = ours.policies[0].model
    return {
        "rival": rival,
        **asdict(cell),
        "ratio": round(statistics.median(ratios), 2),
        "low": round(min(ratios), 2),
        "high": round(max(ratios), 2),
        "cpu_ratio": round(statistics.median(busy), 2),
        "rival_tokens_per_second": round(statistics.median(other[0] for other, _ in rates), 1),
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
    """A tree of two turns is G times as large, and a larger model many times as slow: they get fewer prompts."""
    _, agents, most = RIVALS[options.rival]
    turns = options.turns or range(1, most + 1)
    grid = itertools.product(options.parameters, options.dtype, turns, options.group, options.new_tokens)
    for parameters, dtype, turns, group, new_tokens in grid:
        prompts = options.prompts or PROMPTS.get((parameters, turns), 2)
        yield Cell(parameters, dtype, agents, group, new_tokens, turns, prompts, options.posts)


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    lines = [
        f"{'model':>6}{'type':>10}{'turns':>6}{'G':>4}{'new':>5}{'prompts':>8}{'rival':>9}{'Madrigal':>10}{'ratio':>8}"
        f"{'by CPU':>8}  spread"
    ]
    for row in rows:
        lines.append(
            f"{row['parameters']:>6}{row['dtype']:>10}{row['turns']:>6}{row['group']:>4}{row['new_tokens']:>5}{row['prompts']:>8}"
            f"{row['rival_tokens_per_second']:>9.0f}{row['madrigal_tokens_per_second']:>10.0f}{row['ratio']:>8.1f}"
            f"{row['cpu_ratio']:>8.1f}  {row['low']:.1f}-{row['high']:.1f}"
        )
    return "\n".join([*lines, "tokens/s from end to end: generation, reward and update; median of the repeats"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rival", choices=list(RIVALS))
    parser.add_argument("--parameters", nargs="+", choices=list(SHAPES), default=list(SHAPES))
    parser.add_argument("--dtype", nargs="+", choices=["float32", "bfloat16"], default=["float32"])
    parser.add_argument("--group", nargs="+", type=int, default=[4, 8], help="answers per prompt and agent")
    parser.add_argument("--new-tokens", nargs="+", type=int, default=[64, 128])
    parser.add_argument("--turns", nargs="+", type=int, choices=[1, 2], help="1 and 2, of trl 1")
    parser.add_argument(
        "--prompts", type=int, default=0, help="prompts per step; 0 is 8 in one turn and 4 (1M) or 2 in two; 135M 2"
    )
    parser.add_argument("--posts", type=int, default=1, help="posts in a prompt, of about 75 tokens each")
    parser.add_argument(
        "--repeats",
        type=int,
        default=3,
        help="pairs of runs after the warm-up; 0 measures that one, with one side in memory",
    )
    parser.add_argument("--threads", type=int, default=1, help="torch's threads, for both")
    parser.add_argument("--one-core", action="store_true", help="Madrigal's agents one after the other")
    parser.add_argument("--output", type=Path, help="write the rows to this file too")
    options = parser.parse_args()
    if importlib.util.find_spec(options.rival) is None:
        parser.exit(2, f"{options.rival} is not installed; install it with: {INSTALL}\n")
    if max(options.turns or [1]) > RIVALS[options.rival][2]:
        parser.exit(2, f"{options.rival}: --turns: expected 1, it plays no more\n")
    transformers.logging.set_verbosity_error()
    torch.set_num_threads(options.threads)
    rows = []
    for cell in cells(options):
        rows.append(compare(options.rival, cell, options.repeats, beside=not options.one_core))
        print(json.dumps(rows[-1]), flush=True)
        if options.output:
            options.output.write_text("".join(json.dumps(row) + "\n" for row in rows))
    print(table(rows))


if __name__ == "__main__":
    main()
