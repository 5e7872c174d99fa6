"""Loads the policies of a team: from their base models, a saved team, or a checkpoint of a run."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from peft import set_peft_model_state_dict
from safetensors import SafetensorError
from safetensors.torch import load_file

from madrigal.config import Experiment
from madrigal.learning.fluency import FluencyReader, load_fluency
from madrigal.policies.engines.opening import open_engines
from madrigal.policies.generate import SAMPLING_TOKENS
from madrigal.policies.internals import plain_model
from madrigal.policies.local import LocalPolicy, load_policy, load_saved_adapter
from madrigal.policies.machine import free_memory, held_memory
from madrigal.policies.outside import OutsidePolicy, load_outside
from madrigal.policies.sizes import model_size, size_of
from madrigal.policies.team import Place, Seat, Team, folder_of, places_of
from madrigal.recipes.trust import resumed_by
from madrigal.rollouts.play import Generate, Judge, judge_in_threads
from madrigal.rollouts.rewards import Fluency
from madrigal.rollouts.seeds import derive
from madrigal.rollouts.task import Task
from madrigal.runs.checkpoint import checkpoints, load_checkpoint, newest_checkpoint
from madrigal.settings import BASE, Lora, PolicyConfig, RemoteConfig, TeamConfig
from madrigal.training.memory import GB, PROCESS, itemsize_of, sampling_tokens, target_of
from madrigal.types import AgentId, ConfigError, EngineError, MadrigalError


def pick_device(name: str) -> torch.device:
    """The device to compute on; "auto" is a GPU where there is one.

    Raises:
        ConfigError: if a GPU is asked for and there is none.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise ConfigError(f"team.device: {name} was asked for but torch sees no GPU; use auto or cpu")
    try:
        return torch.device(name)
    except RuntimeError as error:
        raise ConfigError(f"team.device: expected auto, cpu or cuda, got {name!r}") from error


def make_team(config: TeamConfig, agents: tuple[AgentId, ...], seed: int, memory: float | None = None) -> Team:
    """Loads the policies of a team; adapters on the same model share one copy of it.

    Args:
        memory: gigabytes that the process may take, if its user says so.

    Raises:
        ConfigError: if the weights do not fit.
    """
    check_weights_fit(config, agents, pick_device(config.device), memory)
    return _seated(config, agents, _loader(config, seed))


def make_policy(config: TeamConfig, agents: tuple[AgentId, ...], seed: int, name: str) -> LocalPolicy:
    """Loads one policy of a team, as `make_team` does."""
    policy = _loader(config, seed)(*_seats(config, agents)[name])
    policy.chat_template = config.chat_template
    return policy


def seat_names(config: TeamConfig, agents: Sequence[AgentId]) -> tuple[str, ...]:
    """The names of all policies of a team that learn."""
    return tuple(name for name, (_, chosen, _) in _seats(config, agents).items() if chosen.trainable)


def _loader(config: TeamConfig, seed: int) -> Callable[[str, PolicyConfig, str], LocalPolicy]:
    device = pick_device(config.device)
    bases: dict[tuple[str, str], Any] = {}
    places = places_of(Path(config.start)) if config.start else {}

    def load(name: str, chosen: PolicyConfig, place: str) -> LocalPolicy:
        key = (chosen.model, chosen.dtype)
        base = bases.get(key) if chosen.lora.rank else None
        policy = load_policy(name, chosen, device, base=base, seed=derive(seed, "adapter", name) % 2**31)
        if chosen.lora.rank:
            bases[key] = policy.model
        saved = places.get(place, Place(place))
        if config.start and saved.folder:
            load_weights(policy, Path(config.start) / saved.folder)
        elif saved.base not in ("", chosen.model):
            raise EngineError(f"team.start: {name} begins with {chosen.model}, and its seat there is {saved.base}")
        return policy

    return load


def check_weights_fit(
    config: TeamConfig, agents: Sequence[AgentId], device: torch.device, memory: float | None
) -> None:
    """Refuses a team whose weights alone are more than there is room for, before any is loaded.

    Raises:
        ConfigError: saying what they take.
    """
    whole, bases = 0.0, dict[tuple[str, str], float]()
    for _, chosen, _ in _seats(config, agents).values():
        if chosen.outside:
            continue
        try:
            size = model_size(chosen.model)
        except MadrigalError:  # told by whoever loads it; a saved team needs no base model below it
            continue
        weights = float(size.parameters * itemsize_of(chosen, size, device))
        if chosen.lora.rank:
            bases[chosen.model, chosen.dtype] = weights
        else:
            whole += weights
    weights, free = whole + sum(bases.values()), free_memory(device)
    rooms = [] if memory is None else [("--memory allows", memory * GB, PROCESS)]
    rooms += [] if free is None else [("there are", free, held_memory(device))]
    for words, room, before in rooms:
        if before + weights > room:
            raise ConfigError(
                f"memory: the weights of the team take {weights / GB:.1f} GB besides {before / GB:.1f} GB of the "
                f"process, {words} {room / GB:.1f} GB; take a smaller model or a machine with more memory"
            )


def load_weights(policy: LocalPolicy, folder: Path) -> None:
    """Gives a policy the weights that `LocalPolicy.save` wrote for one of the same shape, whole or an adapter.

    Raises:
        EngineError: if there are none, or they are of another model.
    """
    files = sorted(folder.glob("adapter_model.safetensors" if policy.adapter else "model*.safetensors"))
    if not files:
        kind = "adapter" if policy.adapter else "weights"
        raise EngineError(f"team.start: expected saved {kind} for {policy.name} at {folder}, found none")
    try:
        weights = {name: tensor for file in files for name, tensor in load_file(file).items()}
        if policy.adapter:
            fit: Any = set_peft_model_state_dict(policy.model, weights, policy.adapter)
        else:  # tied weights are saved once
            fit = policy.model.load_state_dict(weights, strict=False)
    except (OSError, RuntimeError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:300]
        raise EngineError(f"team.start: {folder} does not fit {policy.name}: {reason}") from error
    if fit.unexpected_keys:
        raise EngineError(f"team.start: {folder} does not fit {policy.name}: it has no {fit.unexpected_keys[0]}")


def load_saved_team(folder: Path, config: TeamConfig, agents: tuple[AgentId, ...], memory: float | None = None) -> Team:
    """Loads a team that `Team.save` wrote.

    Args:
        memory: gigabytes that the process may take, if its user says so.

    Raises:
        ConfigError: if the weights do not fit.
        EngineError: if an agent's folder is missing.
    """
    places = places_of(folder)
    for agent in agents:
        place = places.get(agent, Place(agent))
        if place.folder and not (folder / place.folder).is_dir():
            raise EngineError(f"team {folder}: expected a folder for agent {agent}, found none; is this a saved team?")
    device = pick_device(config.device)
    bases: dict[tuple[str, str], Any] = {}

    def load(name: str, chosen: PolicyConfig, where: str) -> LocalPolicy:
        place = places.get(where, Place(where))
        if place.base:
            return load_policy(name, replace(chosen, trainable=False, lora=Lora(rank=0)), device)
        return _load_saved(name, folder / place.folder, chosen, device, bases)

    return _seated(config, agents, load)


def _seated(
    config: TeamConfig, agents: Sequence[AgentId], load: Callable[[str, PolicyConfig, str], LocalPolicy]
) -> Team:
    """Seats what `load` makes of a name, settings and the folder of a saved team that it may lie in."""
    voices: dict[tuple[RemoteConfig, str], OutsidePolicy] = {}
    policies = dict[str, Seat]()
    for name, seat in _seats(config, agents).items():
        if seat[1].outside:  # seats with the same settings are answered at one pace
            key = seat[1].remote, seat[1].script
            voices[key] = one = voices.get(key) or load_outside(name, seat[1])
            policies[name] = replace(one, name=name)
        else:
            policies[name] = model = load(*seat)
            model.chat_template = config.chat_template
    seating = seats_of(config, agents)
    rounds = [{agent: policies[name] for agent, (name, *_) in seats.items()} for seats in seating]
    return Team(rounds[0], config.shared, tuple(rounds[1:]))


def seats_of(config: TeamConfig, agents: Sequence[AgentId]) -> list[dict[AgentId, tuple[str, PolicyConfig, str]]]:
    """For each round the name, settings and folder of every agent's policy.

    Who does not learn is the same in every round.
    """
    if config.shared:
        names = [(folder_of("team", index), folder_of(agents[0], index)) for index in range(config.rounds)]
        return [dict.fromkeys(agents, (name, config.policy, place)) for name, place in names]
    chosen = {agent: config.seats.get(agent, config.policy) for agent in agents}
    return [
        {agent: (name := folder_of(agent, index if one.trainable else 0), one, name) for agent, one in chosen.items()}
        for index in range(config.rounds)
    ]


def _seats(config: TeamConfig, agents: Sequence[AgentId]) -> dict[str, tuple[str, PolicyConfig, str]]:
    """Of every policy of a team, by name: name, settings and folder."""
    return {seat[0]: seat for seats in seats_of(config, agents) for seat in seats.values()}


def _load_saved(
    name: str, folder: Path, config: PolicyConfig, device: torch.device, bases: dict[tuple[str, str], Any]
) -> LocalPolicy:
    """One policy of a saved team, to speak and not to learn; adapters share the model in `bases`."""
    if not config.lora.rank:
        return load_policy(name, replace(config, model=str(folder), trainable=False), device)
    key = (config.model, config.dtype)
    policy = load_saved_adapter(name, folder, config, device, base=bases.get(key))
    bases[key] = policy.model
    return policy


def team_at_step(folder: Path, run: Experiment, agents: tuple[AgentId, ...], step: int | None = None) -> Team:
    """The team of a checkpoint of a run, the newest by default.

    Raises:
        ConfigError: if there is no such checkpoint, or it is damaged or of other policies.
    """
    paths = dict(checkpoints(folder / "checkpoints"))
    if not paths or (step is not None and step not in paths):
        others = f"; there is {', '.join(f'step {number}' for number in paths)}" if paths else ""
        raise ConfigError(f"run {folder}: there is no checkpoint{'' if step is None else f' of step {step}'}{others}")
    learners, _ = load_checkpoint(paths[max(paths) if step is None else step])
    team = make_team(run.team, agents, run.seed, run.memory)
    for policy in team.trainable:
        saved, parameters = learners.get(policy.name, {}).get("parameters", {}), policy.parameters()
        if {name: tensor.shape for name, tensor in saved.items()} != {n: p.shape for n, p in parameters.items()}:
            raise ConfigError(f"run {folder}: the checkpoint does not hold the weights of {policy.name}")
        with torch.no_grad():
            for name, parameter in parameters.items():
                parameter.copy_(saved[name])
    return team


def check_saved(folder: Path, run: Experiment, otherwise: str = "") -> None:
    """Refuses a run that has trained a team but not saved it yet.

    Args:
        otherwise: what else the user can do, after the words "finish it with: ...".

    Raises:
        ConfigError: saying how to finish it.
    """
    if run.trains and not (folder / "team").is_dir():
        again = resumed_by(folder, run)
        if newest_checkpoint(folder / "checkpoints"):
            otherwise = f", or make one of the newest checkpoint: madrigal export {folder}{otherwise}"
        raise ConfigError(f"run {folder}: there is no saved team yet; finish it with: {again}{otherwise}")


def saved_team(folder: Path, run: Experiment) -> Path | None:
    """Where the team of a run lies; None where nothing was trained, so that its base models are the team."""
    team = folder / "team"
    return team if run.trains or team.is_dir() else None


def team_of_run(folder: Path, run: Experiment, agents: tuple[AgentId, ...], step: int | None = None) -> Team:
    """A run's saved team, or that of a step's checkpoint, or, where nothing was trained, the base models."""
    if step is not None:
        return team_at_step(folder, run, agents, step)
    if saved := saved_team(folder, run):
        return load_saved_team(saved, run.team, agents, run.memory)
    return make_team(run.team, agents, run.seed, run.memory)


def reads_fluency(run: Experiment) -> bool:
    """Whether fluency is measured in a run, or paid."""
    return bool(run.evaluation.fluency or run.reward.fluency)


def fluency_model(run: Experiment) -> PolicyConfig:
    """The settings of the model that fluency is measured by."""
    policy, named = run.team.policy, run.evaluation.fluency
    return replace(policy, model=policy.model if named in ("", BASE) else named, lora=Lora(rank=0), trainable=False)


def holds_base(run: Experiment, config: PolicyConfig, wanted: PolicyConfig) -> bool:
    """Whether a policy by these settings holds a model as it was at first, below an adapter or because it stays so."""
    stays = bool(config.lora.rank) or not ((config.trainable and run.trains) or run.team.start)
    return stays and (config.model, config.dtype) == (wanted.model, wanted.dtype)


def make_fluency(run: Experiment, team: Team | None = None) -> Fluency:
    """The model that fluency is measured by: one that a seat holds and that stays as it is, else one that is loaded.

    Args:
        team: the policies that are loaded anyway.
    """
    wanted = fluency_model(run)
    for agent, policy in () if team is None else team.seats.items():
        config = run.team.policy if run.team.shared else run.team.seats.get(agent, run.team.policy)
        if isinstance(policy, LocalPolicy) and holds_base(run, config, wanted):
            return FluencyReader(policy, run.optimizer)
    return load_fluency(wanted, pick_device(run.team.device), run.optimizer)


def use_threads(count: int) -> None:
    """Sets torch's threads on the CPU; 0 leaves them."""
    if count:
        torch.set_num_threads(count)


def sampling_budget(run: Experiment, team: Team) -> int:
    """The most padded tokens in one batch of answers that fit what is free now, with the team loaded."""
    if not team.policies:
        return SAMPLING_TOKENS
    device = team.policies[0].device
    memory = target_of(run, device).memory
    if memory is None:
        return SAMPLING_TOKENS
    sizes = [(size_of(plain_model(policy.model)), policy.model.dtype.itemsize) for policy in team.policies]
    return sampling_tokens(sizes, run.sampling.max_new_tokens, max(0.0, memory - held_memory(device)))


@contextmanager
def open_rollout_workers(
    run: Experiment, task: Task[Any], team: Team, token_budget: int | None = None
) -> Iterator[tuple[Generate, Judge]]:
    """What play needs from outside: answers from the team, and the task's own steps, judged in a pool of threads.

    Args:
        token_budget: the most padded tokens of one policy that are sampled in one batch; None follows from memory.
    """
    if token_budget is None:
        token_budget = sampling_budget(run, team)
    engines = open_engines(team.policies, run.optimizer.mismatch_tolerance)
    with engines as by_name, ThreadPoolExecutor(os.cpu_count() or 1) as judges:
        yield team.speaker(run.sampling, token_budget, by_name), judge_in_threads(task, judges)
