"""Peak memory of the processes that hold one learner, beside what `madrigal plan` says of them.

    PYTHONPATH=tools python benchmarks/ranks.py [--parameters 10M 135M] [--dtypes float32 bfloat16] [--ranks 0 1 2]

A learner with random weights makes two updates in two micro-batches, of 4 prompts with 4 answers (10 M parameters: of
100 and 32 tokens) or with 2 (135 M: of 32 and 8 tokens): alone in a process (0 ranks), and sharded over ranks that talk
by gloo; with all of its weights, and with an adapter of rank 16. Each rank is a process of its own. Rank 0 also holds
the whole policy, as one that speaks. Measured is the most that a process ever held (VmHWM).
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

from madrigal.algorithms.group import MAGRPO
from madrigal.learning.learner import Learner
from madrigal.learning.ranks import joined, serve_rank
from madrigal.learning.sharded import ShardedLearner
from madrigal.policies.local import load_policy
from madrigal.policies.sizes import model_size
from madrigal.settings import ClusterConfig, Lora, OptimizerConfig, PolicyConfig, Sampling
from madrigal.training.memory import GB, Batches, Body, Texts, parts_of
from madrigal.training.plan import processes_of
from madrigal.types import Completion, Message, Sample, Turn

CPU = torch.device("cpu")
TEXTS = {"10M": Texts(4, 4, 100, 32), "135M": Texts(4, 2, 32, 8)}
RANK = 16  # of adapters


def learn(config: PolicyConfig, texts: Texts, rank: int, count: int, address: str) -> None:
    """Two updates by one of the processes; in the second one moments are there from the beginning."""
    torch.set_num_threads(1)
    settings = OptimizerConfig(lr=1e-4, token_budget=texts.tokens // 2)
    if rank:
        serve_rank(rank, count, address)
    elif count:
        with joined(0, count, address) as ranks:
            ranks.place(CPU)
            update_twice(ShardedLearner(load_policy("ann", config, CPU), config, settings, Sampling(), ranks), texts)
    else:
        update_twice(Learner(load_policy("ann", config, CPU), settings, Sampling()), texts)


def update_twice(learner: Any, texts: Texts) -> None:
    for _ in range(2):
        learner.update([samples(texts)], MAGRPO.loss, sampled=False)


def peak() -> float:
    """GB of memory that this process has held at most."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status["VmHWM"].split()[0]) * 1024 / 1e9


def samples(texts: Texts) -> list[Sample]:
    """Tokens drawn by lot."""
    draw, found = random.Random(0), list[Sample]()
    for prompt in range(texts.prompts):
        read = tuple(draw.randrange(1, 2000) for _ in range(texts.prompt))
        for _ in range(texts.answers):
            said = tuple(draw.randrange(1, 2000) for _ in range(texts.answer))
            turn = Turn("ann", (Message("user", str(prompt)),), Completion("", read, said, (-7.0,) * texts.answer))
            found.append(Sample(turn, draw.choice((1.0, -1.0)), 0.1))
    return found


def save_model(parameters: str, folder: Path) -> None:
    """Writes random weights of a shape, and a tokenizer of some of their tokens."""
    from pretraining.tokenizer import train_tokenizer
    from versus import Cell, make_models  # imports much that a rank does not

    tokenizer = train_tokenizer(["a few words"])
    (model,) = make_models(Cell(parameters, "float32", ("ann",), 1, 1, 1, 1, 1), tokenizer)
    for one in (tokenizer, model):
        one.save_pretrained(folder)


def measured(config: PolicyConfig, parameters: str, count: int, folder: Path) -> list[float]:
    """GB that each of the processes held at most."""
    settings = [
        "--parameters",
        parameters,
        "--model",
        config.model,
        "--dtypes",
        config.dtype,
        "--lora",
        str(config.lora.rank),
    ]
    address = f"file://{tempfile.mktemp(dir=folder)}"
    command = [sys.executable, __file__, *settings, "--cell", str(count), address]
    started = [
        subprocess.Popen([*command, str(rank)], stdout=subprocess.PIPE, text=True) for rank in range(max(1, count))
    ]
    return [json.loads(one.communicate()[0].splitlines()[-1]) for one in started]


def planned(config: PolicyConfig, texts: Texts, count: int) -> dict[str, float]:
    """GB of each of them by the plan of memory, by part."""
    size = model_size(config.model)
    body = Body(
        name="ann",
        size=size,
        itemsize=4 if config.dtype == "float32" else 2,
        trained=size.adapter(config.lora) if config.lora.rank else size.parameters,
        adapter=config.lora.rank > 0,
        owns=True,
        reference=False,
        older=0,
        critic=False,
        sampled=texts,
        held_out=texts,
        learned=texts,
        written_out=size.written_out,
    )
    _, learner = processes_of([body], ClusterConfig("local", ranks_per_learner=max(1, count)))
    parts = parts_of(learner, Batches(texts.tokens // 2), side_by_side=False)
    return {name: number / GB for name, number in (parts.lasting | parts.update).items() if number}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parameters", nargs="+", choices=TEXTS, default=["10M"])
    parser.add_argument("--dtypes", nargs="+", choices=("float32", "bfloat16"), default=["float32"])
    parser.add_argument("--ranks", nargs="+", type=int, default=[0, 1, 2])
    for name in ("--model", "--lora"):
        parser.add_argument(name, help=argparse.SUPPRESS)
    parser.add_argument("--cell", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.cell:
        count, address, rank = options.cell
        config = PolicyConfig(model=options.model, dtype=options.dtypes[0], lora=Lora(rank=int(options.lora)))
        learn(config, TEXTS[options.parameters[0]], int(rank), int(count), address)
        print(json.dumps(peak()))
        return
    print("| parameters | type | what learns | ranks | rank 0, GB | the others, GB | in all, GB | plan, each, GB |")
    print("|---|---|---|--:|--:|--:|--:|--:|")
    for parameters in options.parameters:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            save_model(parameters, folder)
            for dtype in options.dtypes:
                for lora in (0, RANK):
                    config = PolicyConfig(model=name, dtype=dtype, lora=Lora(rank=lora))
                    for count in options.ranks:
                        first, *others = found = measured(config, parameters, count, folder)
                        parts = planned(config, TEXTS[parameters], count)
                        told = [parameters, dtype, "an adapter" if lora else "all weights", count, f"{first:.2f}"]
                        told += [" ".join(f"{one:.2f}" for one in others), f"{sum(found):.2f}"]
                        print(f"| {' | '.join(map(str, told))} | {sum(parts.values()):.2f} |", flush=True)
                        print("#", {name: round(number, 3) for name, number in parts.items()}, file=sys.stderr)


if __name__ == "__main__":
    main()
