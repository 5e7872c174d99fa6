"""From settings to all that learns: one learner per trainable policy, and critics where an algorithm asks for some."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from madrigal.algorithms import CriticNeed
from madrigal.config import Experiment
from madrigal.learning.critic_learner import CriticLearner
from madrigal.learning.critics import CENTRAL, Critics
from madrigal.learning.embeddings import embedder_of
from madrigal.learning.learner import Learner
from madrigal.learning.learners import Learners
from madrigal.policies.critic import Critic, load_critic
from madrigal.policies.local import LocalPolicy
from madrigal.policies.team import Team
from madrigal.rollouts.seeds import derive
from madrigal.rollouts.task import Task
from madrigal.settings import PolicyConfig
from madrigal.types import Completion, ConfigError, Example, Turn

if TYPE_CHECKING:
    from madrigal.learning.ranks import Ranks

NOBODY = CriticNeed("own", "turn")  # what nobody is asked, where an algorithm learns without critics


def make_learning(run: Experiment, team: Team, *, in_turn: bool = False, ranks: Ranks | None = None) -> Learners:
    """Every learner of a run, each with its own optimizer; nobody learns in a run without steps.

    Args:
        in_turn: let policies learn one after the other.
        ranks: processes over which each learner is sharded.

    Raises:
        ConfigError, EngineError: if there is no such critic as is asked for.
    """
    needs, algorithm = run.algorithm.needs, run.algorithm
    return Learners(
        team,
        make_learners(run, team, ranks) if run.trains else {},
        make_critics(run, team, ranks),
        algorithm.loss,
        reads_reference=needs.reference == "credit" and run.steps > 0,
        embedder=embedder_of(team, run.optimizer.token_budget) if needs.embeddings and run.steps else None,
        in_turn=in_turn,
    )


def make_learners(run: Experiment, team: Team, ranks: Ranks | None = None) -> dict[str, Any]:
    """One learner per trainable policy."""
    return {policy.name: make_learner(run, policy, ranks) for policy in team.trainable}


def make_learner(run: Experiment, policy: LocalPolicy, ranks: Ranks | None = None) -> Any:
    """The learner of one policy, in this process or sharded over several."""
    loss: dict[str, Any] = {
        "reference": run.algorithm.needs.reference if run.steps else "",
        "clip": run.algorithm.clip,
        "staleness": run.cluster.staleness,
    }
    if ranks is None:
        return Learner(policy, run.optimizer, run.sampling, **loss)
    from madrigal.learning.sharded import ShardedLearner  # torch's sharding takes a moment to import

    return ShardedLearner(policy, policy.config, run.optimizer, run.sampling, ranks, **loss)


def make_critics(run: Experiment, team: Team, ranks: Ranks | None = None) -> Critics:
    """Loads a critic for each trainable policy, or one for all of them; adapters on one model share one copy of it.

    Raises:
        ConfigError: if a critic that reads answers token by token knows other tokens than who gave them.
        EngineError: if its model cannot be loaded.
    """
    need = run.algorithm.needs.critic
    if need is None or not run.steps:
        return Critics(NOBODY, {}, team, {})
    central = {CENTRAL: team.trainable}
    judged = central if need.sees == "joint" else {f"critic-{policy.name}": (policy,) for policy in team.trainable}
    bases = {_key(policy.config): policy.model for policy in team.trainable if policy.adapter}
    learners, same_vocabulary = dict[str, Any](), {}
    for name, policies in judged.items():
        config = _critic_config(run, policies[0].config)
        base = bases.get(_key(config)) if config.lora.rank else None
        learners[name] = make_critic(run, name, config, policies[0].device, need, base, ranks)
        critic = learners[name].critic
        if config.lora.rank:
            bases[_key(config)] = critic.body.model
        same_vocabulary[name] = _same_vocabulary(critic, team.trainable)
        others = [policy.name for policy in policies if policy.name not in same_vocabulary[name]]
        if need.at == "token":
            _check_vocabulary(config.model, others)
    return Critics(need, learners, team, same_vocabulary)


def make_critic(
    run: Experiment,
    name: str,
    config: PolicyConfig,
    device: torch.device,
    need: CriticNeed,
    base: Any = None,
    ranks: Ranks | None = None,
) -> Any:
    """The learner of one critic, in this process or sharded over several.

    Args:
        base: with an adapter, the model to put it on, if it was loaded before.
    """
    optimizer = replace(run.optimizer, lr=run.optimizer.lr if run.critic.lr is None else run.critic.lr)
    critic = load_critic(name, config, device, base=base, seed=derive(run.seed, "adapter", name) % 2**31)
    critic.body.chat_template = run.team.chat_template
    if ranks is None:
        return CriticLearner(critic, optimizer, need)
    from madrigal.learning.sharded import ShardedCritic

    return ShardedCritic(critic, config, optimizer, need, ranks)


def check_histories(run: Experiment, task: Task[Any], critics: Critics, examples: Iterable[Example]) -> None:
    """Finds a first round that is too long for a critic, before anything is played.

    A critic with its policy's own model and prompt has as much room as the policy.

    Raises:
        EngineError: naming example, critic, both lengths and what to do.
    """
    need = critics.need
    if not critics.learners or (need.sees == "own" and not run.critic.model):
        return
    room = run.sampling.max_new_tokens if need.at == "token" else 1
    for example in examples:
        state = task.reset(example)
        turns = {a: Turn(a, task.observe(state, a, ()), Completion("")) for a in task.acting(state)}
        for turn in turns.values():
            name = critics.critic_of(turn)
            if name in critics.learners:
                history, _ = critics.shown(name, turn, turns, task.agents)
                critics.check_length(name, len(history) + room, example.id, turn.round)


def _critic_config(run: Experiment, judged: PolicyConfig) -> PolicyConfig:
    return replace(judged, model=run.critic.model or judged.model, lora=run.critic.lora, trainable=True)


def _key(config: PolicyConfig) -> tuple[str, str]:
    """What two adapters must have in common to share a model."""
    return config.model, config.dtype


def _same_vocabulary(critic: Critic, policies: Sequence[LocalPolicy]) -> frozenset[str]:
    """The policies whose tokens mean the same to a critic."""
    known = critic.body.tokenizer.get_vocab()
    return frozenset(policy.name for policy in policies if policy.tokenizer.get_vocab() == known)


def _check_vocabulary(model: str, others: Sequence[str]) -> None:
    if others:
        raise ConfigError(
            f"critic.model {model}: expected the vocabulary of all policies whose answers it reads token by token, but "
            f"{', '.join(others)} has another one; name a model of the same family, or take an algorithm that asks "
            "once a turn (collm_dc, collm_cc)"
        )
