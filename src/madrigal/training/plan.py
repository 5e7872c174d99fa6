"""What a run will take of a machine, before any weight is loaded: memory and its parts, tokens, seconds, disk."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import torch

from madrigal.config import Experiment
from madrigal.learning.rates import learning_rate
from madrigal.policies.chat import ChatFormat
from madrigal.policies.local import load_tokenizer
from madrigal.policies.sizes import model_size
from madrigal.policies.team import folder_of
from madrigal.rollouts.task import Task
from madrigal.settings import ClusterConfig, Lora, PolicyConfig
from madrigal.training.memory import (
    GB,
    Batches,
    Body,
    Parts,
    Target,
    Texts,
    chosen,
    itemsize_of,
    parts_of,
    target_of,
)
from madrigal.training.seconds import Card, body_seconds
from madrigal.training.teams import fluency_model, holds_base, pick_device, reads_fluency
from madrigal.types import ConfigError, EngineError, Example, Messages

SAMPLES = 8  # of the longest prompts of an agent are measured in tokens
RANK = 16  # of the adapter that is named where the weights themselves do not fit


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run takes.

    Attributes:
        device: where it computes.
        models: of each body what it is, by its name.
        bodies: policies and critics.
        processes: which of them are together on one device: all, or those of each role of a cluster.
        side_by_side: whether they work at once.
        target: what it may have.
        asked, batches: how work is cut up by the settings, and so that it fits.
        tokens: answers of one step, at the most.
        keep: checkpoints that are kept.
        card: the GPU that is planned for, where it is named and not this machine's.
    """

    device: torch.device
    models: Mapping[str, str]
    bodies: tuple[Body, ...]
    processes: tuple[tuple[Body, ...], ...]
    side_by_side: bool
    target: Target
    asked: Batches
    batches: Batches
    tokens: int
    keep: int
    card: Card | None = None

    @property
    def parts(self) -> Parts:
        """Of the fullest process."""
        each = (parts_of(bodies, self.batches, side_by_side=self.side_by_side) for bodies in self.processes)
        return max(each, key=lambda parts: parts.total)

    @property
    def fits(self) -> bool:
        return self.target.memory is None or self.parts.total <= self.target.memory

    @property
    def close(self) -> bool:
        return self.target.memory is not None and self.parts.total > 0.9 * self.target.memory

    @property
    def checkpoint(self) -> float:
        """Bytes of one: weights that learn and two moments, all in float32, and older selves."""
        return float(sum(12 * body.trained + 4 * body.trained * body.older for body in self.bodies))

    def seconds(self) -> float | None:
        """Of one step of one process, at the most; measures this processor for a moment. None where nothing is known.

        Those of a cluster's roles: `training.roles`.
        """
        return _seconds(self) if self.timed and len(self.processes) == 1 else None

    @property
    def timed(self) -> bool:
        """Whether it is known how fast the device is."""
        return self.device.type == "cpu" or self.card is not None

    @property
    def summary(self) -> str:
        """What was chosen and why, in one line."""
        total, batches = self.parts.total / GB, self.batches
        there = "unknown" if self.target.memory is None else f"{self.target.memory / GB:.1f} GB"
        name = "--memory" if self.target.told else "free"
        why = "as set" if batches == self.asked else f"to fit ({self.asked.update} asked for)"
        ways = {
            "activations recomputed": batches.recompute,
            "policies learn in turn": batches.in_turn,
            "what is freed is given back at once": batches.give_back,
        }
        cut = ", ".join([f"{batches.update} tokens", *(way for way, taken in ways.items() if taken)])
        return (
            f"memory: about {total:.1f} GB at most, {name} {there}; micro-batches of {cut}, {why}; up to "
            f"{batches.sampling} tokens at a time while sampling"
        )


def make_plan(
    run: Experiment,
    task: Task[Any],
    trained: Sequence[Example],
    held_out: Sequence[Example],
    card: Card | None = None,
) -> Plan:
    """The plan of a run; tokenizers are loaded, configurations read, no weights.

    Args:
        trained, held_out: the examples of its steps and of its evaluations.
        card: a GPU to plan for instead of this machine.

    Raises:
        ConfigError, EngineError: if there is no such model, or its files cannot be read.
    """
    device = torch.device("cuda") if card else pick_device(run.team.device)
    seated = _seated(run, task)
    chat_of = cache(_chat_of)  # seats have models in common, and a tokenizer takes long to load
    lengths = {
        name: [_longest(chat_of, config, run, task, agents, examples) for examples in (trained, held_out)]
        for name, (config, agents) in seated.items()
    }
    bodies = _bodies(run, task, seated, lengths, device, len(trained), len(held_out))
    apart = all(body.owns for body in bodies) and len(bodies) > 1
    side_by_side = apart and device.type == "cpu"
    target = Target(card.memory, card.memory) if card and run.memory is None else target_of(run, device)
    asked = Batches(run.optimizer.token_budget, recompute=run.optimizer.gradient_checkpointing)
    workers = _workers(sum(body.trained > 0 for body in bodies)) if side_by_side else 1
    bodies += _fluency(run, seated, bodies, device)
    # Processes of a cluster without GPUs may share this machine, and cut their work up as one process does.
    spread = bool(run.cluster.address) and device.type == "cuda"
    processes = processes_of(bodies, run.cluster) if spread else (tuple(bodies),)
    cuts = [chosen(each, asked, target.memory, side_by_side=side_by_side, workers=workers) for each in processes]
    batches = replace(min(cuts, key=lambda cut: cut.update), sampling=cuts[0].sampling)
    speakers = [body for body in bodies if not (body.critic or body.reads)]
    tokens = sum(body.learned.prompts * body.learned.answers * body.learned.answer for body in speakers)
    return Plan(
        device=device,
        models={name: _described(config, bodies, name, run.optimizer.lr) for name, (config, _) in seated.items()}
        | {
            setting.rpartition(".")[2]: f"{policy.speaker}, takes no memory here, does not learn"
            for setting, policy in run.team.outside.items()
        },
        bodies=tuple(bodies),
        processes=processes,
        side_by_side=side_by_side,
        target=target,
        asked=asked,
        batches=batches,
        tokens=tokens,
        keep=run.records.keep,
        card=card,
    )


def processes_of(bodies: Sequence[Body], config: ClusterConfig) -> tuple[tuple[Body, ...], ...]:
    """Which bodies the roles of a cluster hold: a rollout worker, and a learner for each that learns."""
    speaking = [body for body in bodies if not body.critic]
    worker = tuple(replace(body, trained=0, reference=False, older=0) for body in speaking if not body.reads)
    ranks = config.ranks_per_learner
    learners = [
        # An adapter has a copy of its model for itself; ranks run the library's own code.
        (replace(body, owns=True, older=0, engine=0.0, ranks=ranks, written_out=body.written_out and ranks == 1),)
        for body in bodies
        if body.trained
    ]
    return worker, *learners


def check_plan(plan: Plan) -> str:
    """A warning where memory is close; "" where there is enough.

    Raises:
        ConfigError: if not even the smallest micro-batches fit what there is.
    """
    target, total = plan.target, plan.parts.total
    most = target.memory if target.told else target.limit
    if target.memory is None or most is None:
        return ""
    if total > most:
        largest = sorted(_named(plan.parts).items(), key=lambda part: -part[1])[:3]
        told = ", ".join(f"{name} {number / GB:.1f}" for name, number in largest)
        setting = "--memory allows" if target.told else "there are"
        raise ConfigError(
            f"memory: the smallest plan takes about {total / GB:.1f} GB ({told}), {setting} {most / GB:.1f} GB; train "
            f"an adapter (--team.policy.lora.rank {RANK}), take a smaller model, or see what helps: madrigal plan"
        )
    if target.limit is not None and total > target.limit:
        told = f"about {total / GB:.1f} GB, this machine has {target.limit / GB:.1f} GB free"
        return f"note: memory will not suffice: {told}; lower --memory, or see what helps: madrigal plan"
    if plan.close:
        return f"note: memory will be close: about {total / GB:.1f} of {most / GB:.1f} GB; see madrigal plan"
    return ""


def fitted(run: Experiment, plan: Plan) -> Experiment:
    """The run with the micro-batches of its plan."""
    batches = plan.batches
    optimizer = replace(run.optimizer, token_budget=batches.update, gradient_checkpointing=batches.recompute)
    return replace(run, optimizer=optimizer)


def ways_out(run: Experiment, task: Task[Any], trained: Sequence[Example], held_out: Sequence[Example]) -> list[str]:
    """What to change where a plan does not fit, and what each change comes to."""

    def total(changed: Experiment) -> str:
        plan = make_plan(changed, task, trained, held_out)
        return f"{plan.parts.total / GB:.1f} GB{'' if plan.fits else ', still too much'}"

    team, policy = run.team, run.team.policy
    ways = []
    if not policy.lora.rank:
        adapter = replace(team, policy=replace(policy, lora=Lora(rank=RANK)))
        ways.append(f"--team.policy.lora.rank {RANK}: {total(replace(run, team=adapter))}")
    if policy.dtype != "bfloat16":
        narrow = replace(team, policy=replace(policy, dtype="bfloat16"))
        ways.append(f"--team.policy.dtype bfloat16: {total(replace(run, team=narrow))}")
    if run.sampling.max_new_tokens > 64:
        short = replace(run.sampling, max_new_tokens=run.sampling.max_new_tokens // 2)
        ways.append(f"--sampling.max-new-tokens {short.max_new_tokens}: {total(replace(run, sampling=short))}")
    if not team.shared and len(task.agents) > 1 and not team.seats:
        ways.append(f"--team.shared (one policy for all): {total(replace(run, team=replace(team, shared=True)))}")
    return [*ways, "or a smaller model: madrigal models"]


def _seated(run: Experiment, task: Task[Any]) -> dict[str, tuple[PolicyConfig, tuple[str, ...]]]:
    """By the name of each policy its settings, and the agents that it speaks for."""
    team, agents = run.team, tuple(task.agents)
    seated: dict[str, tuple[PolicyConfig, tuple[str, ...]]] = {}
    for index in range(team.rounds):
        if team.shared:
            seated[folder_of("team", index)] = team.policy, agents
            continue
        for agent in agents:
            config = team.seats.get(agent, team.policy)
            if config.outside:
                continue
            if config.trainable or not index:
                seated[folder_of(agent, index)] = config, (agent,)
    return seated


def _chat_of(model: str, pad_token: str) -> ChatFormat:
    tokenizer = load_tokenizer(model, pad_token)
    return ChatFormat(tokenizer, (tokenizer.eos_token_id,))


def _longest(
    chat_of: Callable[[str, str], ChatFormat],
    config: PolicyConfig,
    run: Experiment,
    task: Task[Any],
    agents: Sequence[str],
    examples: Sequence[Example],
) -> tuple[int, int]:
    """Of first prompts of a policy how many there are for one example at most, and the tokens of the longest."""
    prompts = []
    for example in examples:
        state = task.reset(example)
        prompts += [task.observe(state, agent, ()) for agent in task.acting(state) if agent in agents]
    if not prompts:
        return 1, 1
    chat = chat_of(config.model, config.pad_token)
    longest = sorted(set(prompts), key=_letters)[-SAMPLES:]
    lengths = [_tokens(chat, prompt, chat_template=run.team.chat_template) for prompt in longest]
    return len(agents), max(lengths)


def _letters(prompt: Messages) -> int:
    return sum(len(message.content) for message in prompt)


def _tokens(chat: ChatFormat, prompt: Messages, *, chat_template: bool) -> int:
    try:
        return len(chat.encode(prompt, chat=chat_template))
    except EngineError:  # told when the run begins
        return _letters(prompt) // 4


def _bodies(
    run: Experiment,
    task: Task[Any],
    seated: Mapping[str, tuple[PolicyConfig, tuple[str, ...]]],
    lengths: Mapping[str, Sequence[tuple[int, int]]],
    device: torch.device,
    trained: int,
    held_out: int,
) -> list[Body]:
    """Policies, and the critics that judge those that learn."""
    needs, width = run.algorithm.needs, run.algorithm.branching.width
    keeps = bool(run.steps) and (bool(needs.reference) or needs.embeddings)
    said = run.sampling.max_new_tokens
    rounds = max(1, task.horizon // run.team.rounds)
    bases, bodies = set[tuple[str, str]](), list[Body]()
    for name, (config, agents) in seated.items():
        size = model_size(config.model)
        heard = (task.horizon - 1) * len(task.agents) * said  # what later rounds add, at the most
        (_, train_length), (_, test_length) = lengths[name]
        prompts = min(run.prompts, max(1, trained)) * len(agents)
        sampled = Texts(prompts, width, train_length + heard, said)
        learned = replace(sampled, prompts=prompts * rounds)
        if run.warm.examples and not run.warm.demonstrations:  # all of them are played at once
            warm = replace(sampled, prompts=run.warm.examples * len(agents), answers=run.warm.samples)
            sampled = max(sampled, warm, key=lambda texts: texts.tokens)
        tested = Texts(max(1, held_out) * len(agents), run.evaluation.samples, test_length + heard, said)
        learns = config.trainable and run.trains
        key, itemsize = (config.model, config.dtype), itemsize_of(config, size, device)
        owns, weights = not config.lora.rank or key not in bases, size.parameters * itemsize
        bodies.append(
            Body(
                name=name,
                size=size,
                itemsize=itemsize,
                trained=(size.adapter(config.lora) if config.lora.rank else size.parameters) if learns else 0,
                adapter=config.lora.rank > 0,
                owns=owns,
                reference=keeps and learns,
                older=run.team.partners.keep if run.team.partners.share and learns else 0,
                critic=False,
                sampled=sampled,
                held_out=tested,
                learned=learned,
                written_out=size.written_out,
                on_gpu=device.type != "cpu",
                local=config.engine.kind == "local",
                # Adapters on one model share an engine.
                engine=weights + config.engine.cache_gb * GB if config.engine.kind == "vllm" and owns else 0.0,
            )
        )
        if config.lora.rank:
            bases.add(key)
    return bodies + _critics(run, task, seated, bodies, bases, device)


def _critics(
    run: Experiment,
    task: Task[Any],
    seated: Mapping[str, tuple[PolicyConfig, tuple[str, ...]]],
    policies: Sequence[Body],
    bases: set[tuple[str, str]],
    device: torch.device,
) -> list[Body]:
    """One for each policy that learns, or one for all of them."""
    need, judged = run.algorithm.needs.critic, [body for body in policies if body.trained]
    if need is None or not judged:
        return []
    critics = []
    for policy in judged[:1] if need.sees == "joint" else judged:
        own = seated[policy.name][0]
        config = replace(own, model=run.critic.model or own.model, lora=run.critic.lora)
        size, key, lora = model_size(config.model), (config.model, config.dtype), run.critic.lora
        agents = len(task.agents) if need.sees == "joint" else 1
        answer = policy.learned.answer if need.at == "token" else 1
        shown = replace(policy.learned, prompt=policy.learned.prompt * agents, answer=answer)
        critics.append(
            replace(
                policy,
                name=f"critic-{policy.name}" if need.sees == "own" else "critic-joint",
                size=size,
                itemsize=itemsize_of(config, size, device),
                trained=size.width + (size.adapter(lora) if lora.rank else size.body),
                adapter=lora.rank > 0,
                owns=not lora.rank or key not in bases,
                reference=False,
                older=0,
                local=True,
                engine=0.0,
                critic=True,
                learned=shown,
                written_out=size.written_out,
            )
        )
        if lora.rank:
            bases.add(key)
    return critics


def _fluency(
    run: Experiment,
    seated: Mapping[str, tuple[PolicyConfig, tuple[str, ...]]],
    policies: Sequence[Body],
    device: torch.device,
) -> list[Body]:
    """The model that reads fluency, where it is read and no seat holds that model anyway."""
    wanted = fluency_model(run)
    if not reads_fluency(run) or any(holds_base(run, config, wanted) for config, _ in seated.values()):
        return []
    size = model_size(wanted.model)
    return [
        replace(
            policies[0],
            name="fluency",
            size=size,
            itemsize=itemsize_of(wanted, size, device),
            trained=0,
            adapter=False,
            owns=True,
            reference=False,
            older=0,
            local=True,
            engine=0.0,
            reads=True,
        )
    ]


def _described(config: PolicyConfig, bodies: Sequence[Body], name: str, rate: float | None) -> str:
    """A policy in a few words."""
    body = next(body for body in bodies if body.name == name)
    kind = "float32" if body.itemsize == 4 else "bfloat16"
    how = f"adapter of rank {config.lora.rank}" if config.lora.rank else "all weights"
    if rate is None:
        rate = learning_rate(body.size.parameters, body.adapter)
    learns = f"{how}, learning rate {rate:.2g}" if body.trained else "does not learn"
    return f"{config.model}, {body.size.parameters / 1e6:.1f} M parameters, {kind}, {learns}"


def _seconds(plan: Plan) -> float:
    """Of one step of one process."""
    workers = _workers(len(plan.bodies)) if plan.side_by_side else 1
    learning = 1 if plan.batches.in_turn else workers
    times = [body_seconds(body, plan.batches, plan.card) for body in plan.bodies]
    return sum(speaking / workers + updating / learning for speaking, updating in times)


def _workers(bodies: int) -> int:
    """How many of them get cores of their own, with the threads that each computes with."""
    return max(1, min(bodies, (os.cpu_count() or 1) // max(1, torch.get_num_threads())))


def _named(parts: Parts) -> dict[str, float]:
    """All parts that count at the fullest time."""
    fullest = max((parts.update, parts.sampling), key=lambda time: sum(time.values()))
    return parts.lasting | fullest
