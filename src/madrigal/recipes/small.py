"""Recipes on SmolLM2-135M-Instruct: a real language model in each seat, without a GPU.

`madrigal models fetch smollm2-135m` brings the model. The abstracts come from the hub, or from a file with a column
"abstract": --task.source.data FILE. The numbers are ours, found by trials (docs/results.md); the method is the paper's.
"""

from __future__ import annotations

from dataclasses import replace

from madrigal.algorithms.group_relative import GroupRelative
from madrigal.config import Experiment
from madrigal.settings import (
    BASE,
    EvaluationConfig,
    OptimizerConfig,
    PolicyConfig,
    RecordsConfig,
    Sampling,
    TeamConfig,
    WarmConfig,
)
from madrigal.tasks.coding.config import Coding
from madrigal.tasks.coding.prompts import CodingPrompts
from madrigal.tasks.data import Source
from madrigal.tasks.writing.task import Arxiv, ContentWeights, Tldr

STEPS = OptimizerConfig(lr=4e-5, warmup=2, lr_schedule="linear", min_lr_ratio=0.1)
ABSTRACTS = Source("gfissore/arxiv-abstracts-2021", train="train[200:]", test="train[:200]")
# By the default wording a helper of this model writes the function that was asked for, and no aux, two times of three.
PLAIN_WORDS = CodingPrompts(
    helper=(
        "{prompt}\n\nWrite a Python function named aux, with the parameters ({parameters}), that does the first step "
        "of this. Answer with the code of aux only:\n\n```python\ndef aux({parameters}):\n    ...\n```"
    ),
    main=(
        "{prompt}\n\nA function aux({parameters}) does the first step of this. Write {entry_point} in Python; it calls "
        "aux and uses its result. Answer with code only:\n\n```python\ndef {entry_point}({parameters}):\n"
        "    result = aux(...)\n    ...\n```"
    ),
)


def tldr() -> Experiment:
    """Two summaries of an abstract, one in brief and one at length; paid for keeping to it, too."""
    return Experiment(
        recipe="tldr-smollm2",
        task=Tldr(source=ABSTRACTS, column="abstract", weights=ContentWeights(faithfulness=1.0)),
        team=TeamConfig(policy=PolicyConfig(model="smollm2-135m")),
        algorithm=GroupRelative(width=8, crossed=True, scale="group"),
        sampling=Sampling(temperature=0.8, max_new_tokens=128),
        optimizer=STEPS,
        evaluation=EvaluationConfig(examples=100, timed_examples=4, fluency=BASE),
        records=RecordsConfig(checkpoint_every=10),
        steps=30,
        prompts=4,
    )


def arxiv() -> Experiment:
    """Two halves of an introduction to an abstract."""
    return replace(
        tldr(),
        recipe="arxiv-smollm2",
        task=Arxiv(source=ABSTRACTS, column="abstract"),
        algorithm=GroupRelative(width=8),
        sampling=Sampling(temperature=0.8, max_new_tokens=320),
        optimizer=replace(STEPS, lr=2e-5),
    )


def coop() -> Experiment:
    """A helper and a main function, judged by unit tests, after a warm start; the model can hardly program."""
    return replace(
        tldr(),
        recipe="coop-smollm2",
        task=Coding(prompts=PLAIN_WORDS, test_seconds=1.0),
        algorithm=GroupRelative(width=8),
        optimizer=replace(STEPS, lr=2e-5),
        sampling=Sampling(temperature=0.6, max_new_tokens=128),
        warm=WarmConfig(examples=48),
        evaluation=EvaluationConfig(examples=48, timed_examples=4),
    )
