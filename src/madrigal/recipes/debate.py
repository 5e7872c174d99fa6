"""Recipes of MAPoRL (arXiv:2502.18439): agents who debate, every answer scored.

Those on real models have the numbers of the public code's configuration for 2 agents and 3 turns on GSM8K ("code"), or
of notes on the paper ("notes"). What they do not have: 4-bit base models, dropout in adapters, TinyGSM's questions
(their answers come from running code), a critic that is shown the question without the debate.
"""

from __future__ import annotations

from dataclasses import replace

from madrigal.algorithms.maporl import Maporl
from madrigal.config import Experiment, TeamConfig
from madrigal.evaluation.evaluate import EvaluationConfig
from madrigal.learning.optimizer import Optimiser
from madrigal.maths.sampling import Sampling
from madrigal.policies.critic import CriticConfig
from madrigal.policies.local import Lora, PolicyConfig
from madrigal.recipes.embedded import CAREFUL, STARTER
from madrigal.tasks.data import Source
from madrigal.tasks.discussion.debate import Debate
from madrigal.tasks.discussion.verifier.config import VerifierConfig

PHI3 = PolicyConfig(model="microsoft/Phi-3-mini-128k-instruct", lora=Lora(rank=8, alpha=16))  # code
PER_TURN = TeamConfig(policy=PHI3, shared=True, rounds=3)  # code: one adapter per turn, for all agents


def debate() -> Experiment:
    """Two agents debate arithmetic for two rounds, a policy for each round."""
    return Experiment(
        recipe="debate",
        task=Debate(rounds=2),
        team=replace(STARTER, shared=True, rounds=2),
        algorithm=Maporl(width=2, epochs=2, minibatches=2, kl=0.02),  # ours: small models drift
        sampling=Sampling(max_new_tokens=64),
        optimiser=replace(CAREFUL, lr=1e-4),
        evaluation=EvaluationConfig(examples=100),
        steps=100,
        prompts=16,
        threads=1,
    )


def debate_no_verifier() -> Experiment:
    """The same without scores between answers and pay: a right result earns 1, and only the second round is trained."""
    one = debate()
    assert isinstance(one.algorithm, Maporl)
    return replace(one, recipe="debate-no-verifier", algorithm=replace(one.algorithm, first_round=1))


def gsm8k() -> Experiment:
    """2 x Phi-3-mini on GSM8K, 3 rounds, scored by a learned verifier in the folder `verifier`."""
    return Experiment(
        recipe="maporl-gsm8k-phi3-mini",
        task=Debate(
            source=Source("openai/gsm8k:main"),
            rounds=3,  # code
            shows="others",  # code
            score_feedback=True,  # code
            verifier=VerifierConfig("learned", model="verifier"),
            least_words=30,  # the code counts 50 tokens
        ),
        team=PER_TURN,
        algorithm=Maporl(),  # code; see there
        sampling=Sampling(temperature=0.7, max_new_tokens=300),  # code
        optimiser=Optimiser(lr=1e-5, warmup=10, schedule="linear", floor=0.1),  # code
        critic=CriticConfig(lora=Lora(rank=8, alpha=16)),  # code: a value adapter and head per turn
        evaluation=EvaluationConfig(examples=1319),  # notes: the whole test set
        steps=1067,  # 12,800 questions (notes), 12 at a time
        prompts=12,  # code: rollout batch
    )


def anli() -> Experiment:
    """The same on round 3 of ANLI: does a premise entail, contradict or leave open a hypothesis?"""
    one = gsm8k()
    assert isinstance(one.task, Debate)
    return replace(
        one,
        recipe="maporl-anli-phi3-mini",
        task=replace(
            one.task,
            source=Source("facebook/anli", train="train_r3", test="test_r3"),  # notes: round 3
            choices=("entailment", "neutral", "contradiction"),  # the labels 0, 1, 2
            context="premise",
            question="hypothesis",
            answer="label",
        ),
        evaluation=EvaluationConfig(examples=1200),  # notes
    )
