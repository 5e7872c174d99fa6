"""Recipes with the settings of arXiv:2508.04652: real models, real data, a GPU.

The paper's text gives models and horizons; the other numbers come from the authors' published configurations, "early"
(August to September 2025, the tag they name for reproduction) unless said otherwise. See docs/papers.md.
"""

from __future__ import annotations

from dataclasses import replace

from madrigal.algorithms.group import MAGRPO
from madrigal.config import Experiment
from madrigal.settings import BASE, EvaluationConfig, OptimizerConfig, PolicyConfig, Sampling, TeamConfig
from madrigal.tasks.coding.config import Coding
from madrigal.tasks.data import Source
from madrigal.tasks.writing.task import Arxiv, Tldr

GROUP = MAGRPO  # G = 4 in every published configuration
QWEN3 = TeamConfig(policy=PolicyConfig(model="Qwen/Qwen3-1.7B"), chat_template=False)  # section 3.1; plain prompts
CODER = TeamConfig(policy=PolicyConfig(model="Qwen/Qwen2.5-Coder-3B"), chat_template=False)  # section 3.3
WRITING = Sampling(temperature=0.7, top_p=0.9, top_k=50, max_new_tokens=256)  # early configs
WRITING_STEPS = OptimizerConfig(lr=5e-6, weight_decay=0.01)  # early configs; AdamW's default decay


def tldr() -> Experiment:
    """2 x Qwen3-1.7B on trl-lib/tldr."""
    return Experiment(
        recipe="tldr-qwen3-1.7b",
        task=Tldr(source=Source("trl-lib/tldr", train="train[:1000]", test="test[:1000]")),  # early split
        team=QWEN3,
        algorithm=GROUP,
        sampling=WRITING,
        optimizer=WRITING_STEPS,
        evaluation=EvaluationConfig(examples=100, fluency=BASE),  # samples of the offline baselines
        steps=1000,  # 1 epoch of 1000 posts
        prompts=1,  # batch size 1
    )


def arxiv() -> Experiment:
    """2 x Qwen3-1.7B on abstracts of arXiv papers."""
    return replace(
        tldr(),
        recipe="arxiv-qwen3-1.7b",
        task=Arxiv(source=Source("OpenMLRL/arXiv_abstract", train="train[:1000]", test="validation[:1000]")),
    )


def humaneval() -> Experiment:
    """2 x Qwen2.5-Coder-3B on HumanEval, one turn."""
    return Experiment(
        recipe="humaneval-qwen2.5-coder-3b",
        task=Coding(
            name="humaneval",
            source=Source("openai/openai_humaneval", train="test[33:133]", test="test[133:]"),  # early split
        ),
        team=CODER,
        algorithm=GROUP,
        sampling=Sampling(temperature=0.7, top_p=0.9, top_k=50, max_new_tokens=256),  # early HE config
        optimizer=OptimizerConfig(lr=2e-5),  # 1e-5 or 2e-5 in the early configs, 2e-5 in all later ones
        evaluation=EvaluationConfig(examples=31),  # test[133:] holds 31
        steps=1000,  # 10 epochs of 100 problems
        prompts=1,
    )


def humaneval_two_turns() -> Experiment:
    """The same with feedback from syntax check and execution between two turns."""
    return _two_turns(humaneval(), steps=700)  # 7 epochs of 100 problems


def coophumaneval() -> Experiment:
    """2 x Qwen2.5-Coder-3B on CoopHumanEval, one turn."""
    return replace(
        humaneval(),
        recipe="coophumaneval-qwen2.5-coder-3b",
        task=Coding(
            name="coophumaneval",
            source=Source("OpenMLRL/CoopHumanEval", train="test[:50]", test="test[66:]"),  # early split
        ),
        sampling=Sampling(temperature=0.8, top_p=0.95, top_k=50, max_new_tokens=256),  # early CHE config
        evaluation=EvaluationConfig(examples=16),  # test[66:] holds 16
        steps=1000,  # 20 epochs of 50 problems
    )


def coophumaneval_two_turns() -> Experiment:
    """The same with feedback from syntax check and execution between two turns."""
    return _two_turns(coophumaneval(), steps=500)  # 10 epochs of 50 problems


def _two_turns(one: Experiment, steps: int) -> Experiment:
    assert isinstance(one.task, Coding)
    return replace(
        one,
        recipe=f"{one.recipe}-two-turns",
        task=replace(one.task, turns=2, feedback="level_feedback", sandbox_slice=1),  # configs of Sep to Nov 2025
        algorithm=replace(GROUP, reward_shift=-4.0),  # later configs
        steps=steps,
    )
