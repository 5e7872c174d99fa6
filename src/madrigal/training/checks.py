"""Opens the task of a run, and finds what cannot work before a model is loaded, or before anything is played."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

from madrigal.algorithms.catalog import AlgorithmConfig
from madrigal.config import Experiment
from madrigal.policies.engines.opening import check_engines
from madrigal.policies.local import resolve_model
from madrigal.policies.outside import OutsidePolicy
from madrigal.policies.team import Team
from madrigal.rollouts.branching import check_branching
from madrigal.rollouts.play import speaking_order
from madrigal.rollouts.task import Task, check_agents, check_examples, rewards_of
from madrigal.rollouts.topology import Asynchronous, Coordinated, Parallel, Sequential, TopologyConfig
from madrigal.settings import BASE, RewardWeights
from madrigal.tasks.catalog import open_task
from madrigal.tasks.coordinating import coordinated
from madrigal.tasks.reworded import reworded
from madrigal.tasks.roles import with_roles
from madrigal.tasks.splits import with_validation
from madrigal.tasks.tools.config import with_tools
from madrigal.training.elsewhere import check_elsewhere
from madrigal.training.teams import pick_device
from madrigal.types import ConfigError, EngineError, Example, Messages

AS_IT_COMES = RewardWeights()


@contextmanager
def open_checked_task(run: Experiment, given: Task[Any] | None = None) -> Iterator[Task[Any]]:
    """Opens the task of a run and checks all that can be checked without a model and without a run folder.

    Args:
        given: the task itself, where it was made by the caller and no file names it.

    Raises:
        ConfigError, TaskError, RewardError, EngineError: one line each.
    """
    pick_device(run.team.device)
    with (
        open_task(run.task) if given is None else nullcontext(given) as plain,
        with_tools(plain, run.tools, run.topology) as tooled,
    ):
        task = coordinated(with_roles(reworded(tooled, run.reworded), run.roles), run.topology)
        check_experiment(run, task)
        yield with_validation(task) if validates(run) else task


def validates(run: Experiment) -> bool:
    """Whether a run needs validation examples."""
    return run.steps > 0 and run.evaluation.keep == "best"


def check_experiment(run: Experiment, task: Task[Any]) -> None:
    """Finds what cannot work before any model is loaded.

    Raises:
        ConfigError, TaskError: one line each.
    """
    check_agents(task)
    check_elsewhere(run)
    check_needs(run.algorithm, task, run.reward)
    check_team(run, task)
    check_outside_seats(run)
    if run.algorithm.branching.crossed and not isinstance(run.topology, Parallel):
        raise ConfigError(
            "algorithm.crossed needs agents that speak at once: add --algorithm.no-crossed, or take the "
            "parallel topology"
        )
    check_branching(run.algorithm.branching, speaking_order(run.topology, task.agents), task.horizon)
    check_topology(run.topology, task)
    check_tools(run)
    if run.trains:
        check_training(run, task)
    if run.reward != AS_IT_COMES and rewards_of(task) == "zero-sum":
        raise ConfigError(f"reward: the rewards of {task.name} sum up to zero; leave its weights as they come")
    if run.algorithm.needs.critic and run.critic.model:
        resolve_model(run.critic.model)
    if run.evaluation.fluency not in ("", BASE):
        resolve_model(run.evaluation.fluency)
    check_examples(task, "train")
    check_examples(task, "test")


def check_team(run: Experiment, task: Task[Any]) -> None:
    """Refuses seats of agents that are not there, and more policies for rounds than rounds.

    Raises:
        ConfigError: naming the setting.
    """
    strangers = set(run.team.seats) - set(task.agents)
    if strangers:
        raise ConfigError(
            f"team.seats: {', '.join(strangers)} is no agent of {task.name}; expected {', '.join(task.agents)}"
        )
    if run.team.rounds > task.horizon:
        raise ConfigError(
            f"team.rounds: expected at most as many as {task.name} has, {task.horizon}, got {run.team.rounds}"
        )


def check_outside_seats(run: Experiment) -> None:
    """Refuses what asks for the model of a seat in which an endpoint or a function speaks.

    Raises:
        ConfigError: naming the setting.
    """
    for setting, policy in run.team.outside.items():
        if run.algorithm.needs.embeddings and run.steps:
            raise ConfigError(
                f"{setting}: algorithm {run.algorithm.name} reads answers as vectors by the model that gave them, and "
                f"{policy.speaker} is none of this process; take another algorithm, or a model that does not learn "
                "(trainable)"
            )
        based = run.evaluation.fluency == BASE or (run.reward.fluency and not run.evaluation.fluency)
        if setting == "team.policy" and based:
            raise ConfigError(
                f"evaluation.fluency: {BASE} is the model of team.policy, where {policy.speaker} speaks; name another"
            )


def check_training(run: Experiment, task: Task[Any]) -> None:
    """Refuses a run in which nobody would learn.

    Raises:
        ConfigError: naming the setting, and what to do.
    """
    learns = {agent: run.team.seats.get(agent, run.team.policy).trainable for agent in task.agents}
    if not any(learns.values()):
        raise ConfigError("team: no policy is trainable; let one learn, or set steps to 0 to evaluate only")
    if run.warm.examples and not run.warm.demonstrations and rewards_of(task) == "zero-sum":
        raise ConfigError(
            f"warm.examples: the rewards of {task.name} sum up to zero, so that no joint answer is the best; leave "
            "it at 0, or give warm.demonstrations"
        )
    varied = run.algorithm.branching.vary
    if varied and not any(learns.get(agent) for agent in varied):
        raise ConfigError(
            f"algorithm.agents: only the messages of {', '.join(varied)} are compared, which does not learn; name an "
            "agent whose policy is trainable"
        )
    if run.algorithm.needs.all_learn and not all(learns.values()):
        frozen = ", ".join(agent for agent, trainable in learns.items() if not trainable)
        raise ConfigError(
            f"algorithm.alternate: thinkers and reasoner learn in turns, and {frozen} does not learn; set it to 0 to "
            "train the others in every step"
        )
    episodes = run.prompts * run.algorithm.branching.width
    if episodes < run.algorithm.needs.minibatches:
        raise ConfigError(
            f"algorithm.minibatches: {run.algorithm.needs.minibatches} mini-batches need as many episodes, a step has "
            f"{episodes} (prompts x width); lower it, or raise prompts"
        )
    if run.sampling.greedy:
        raise ConfigError(
            "sampling.greedy: training needs answers that differ, the most likely words are always the same; leave it "
            "off, or set steps to 0 to evaluate only"
        )


def check_engines_of(run: Experiment, task: Task[Any]) -> None:
    """Looks at the engines of all seats: are they there, and do they take models, adapters and sampling.

    Raises:
        ConfigError, EngineError: one line each.
    """
    team = run.team
    chosen = [team.policy] if team.shared else [team.seats.get(agent, team.policy) for agent in task.agents]
    check_engines(chosen, run.sampling)


def check_tools(run: Experiment) -> None:
    """Refuses what takes a round for a joint answer, where a round may be a call.

    Raises:
        ConfigError: naming the setting.
    """
    if not run.tools.wanted:
        return
    if run.reward.share == "difference" or run.algorithm.needs.counterfactual_rewards:
        raise ConfigError(
            "tools: what an agent's silence costs is read of a joint answer, and a call is none; leave reward.share at "
            f"task, and take another algorithm than {run.algorithm.name} where it asks for that"
        )
    if run.team.rounds > 1:
        raise ConfigError("tools: a call is a round of its own; leave team.rounds at 1")


def check_topology(topology: TopologyConfig, task: Task[Any]) -> None:
    """Refuses an order of speech that does not fit the agents of a task.

    Raises:
        ConfigError: naming the setting.
    """
    agents = ", ".join(task.agents)
    match topology:
        case Sequential(order) if order and sorted(order) != sorted(task.agents):
            raise ConfigError(
                f"topology.order: expected every agent of {task.name} once ({agents}), got {', '.join(order)}"
            )
        case Asynchronous(budget=budget) if 0 < budget < len(task.agents):
            raise ConfigError(
                f"topology.budget: expected a turn for each of {agents}, {len(task.agents)} or more, got {budget}"
            )
        case Coordinated(coordinator) if coordinator not in task.agents or len(task.agents) < 2:
            raise ConfigError(
                f"topology.coordinator: expected {coordinator} and somebody to call among the agents of {task.name}, "
                f"got {agents}"
            )


def check_needs(algorithm: AlgorithmConfig, task: Task[Any], reward: RewardWeights = AS_IT_COMES) -> None:
    """Refuses a task, or a way to pay, that cannot give what an algorithm learns from.

    Raises:
        ConfigError: naming both, what is asked for and what there is.
    """
    needs, name = algorithm.needs, algorithm.name
    given = "own" if reward.share == "difference" else rewards_of(task)
    otherwise = f", or {needs.otherwise}" if needs.otherwise else ""
    if needs.rewards not in ("any", given):
        wanted = {"own": "a reward of its own for every agent", "zero-sum": "rewards that sum up to zero"}
        paid = ", --reward.share difference (what each agent's words add)" if needs.rewards == "own" else ""
        raise ConfigError(
            f"algorithm {name} needs {wanted[needs.rewards]}, the rewards of {task.name} are {given}; take another "
            f"task{paid}, or an algorithm for these rewards (madrigal list){otherwise}"
        )
    if reward.share == "difference" and not (needs.reads_own or needs.counterfactual_rewards):
        raise ConfigError(
            f"reward.share: algorithm {name} reads the joint reward, of which differences leave nothing; leave it at "
            "task, or take an algorithm of own rewards (independent_grpo, ippo, collm_dc, maporl)"
        )
    if needs.counterfactual_rewards and reward.share == "difference":
        raise ConfigError(f"algorithm {name} takes the differences itself; leave reward.share at task")
    if len(task.agents) < needs.agents:
        raise ConfigError(
            f"algorithm {name} needs at least {needs.agents} agents, {task.name} has {len(task.agents)}; take another "
            f"task{otherwise}"
        )
    if task.horizon < needs.rounds:
        raise ConfigError(
            f"algorithm {name} needs at least {needs.rounds} rounds, {task.name} has {task.horizon}; give it more "
            f"turns{otherwise}"
        )


def check_prompts(run: Experiment, task: Task[Any], team: Team, examples: Iterable[Example]) -> None:
    """Finds a prompt of the first round that leaves no room for the longest answer, before anything is played.

    What agents hear within the round, and what later rounds add, is known and checked only when it is drawn.

    Raises:
        EngineError: naming example, agent, both lengths and what to do.
    """
    room, seen = run.sampling.max_new_tokens, set[tuple[str, Messages]]()
    for example in examples:
        state = task.reset(example)
        for agent in task.acting(state):
            policy, prompt = team.seats[agent], task.observe(state, agent, ())
            if isinstance(policy, OutsidePolicy) or (policy.name, prompt) in seen:
                continue
            seen.add((policy.name, prompt))
            try:
                length = len(policy.encode(prompt))
            except EngineError as error:
                raise EngineError(f"example {example.id}, agent {agent}: {error}") from error
            if length + room > policy.context:
                raise EngineError(
                    f"example {example.id}, agent {agent}: its prompt of {length} tokens and an answer of up to {room} "
                    f"do not fit the model's context of {policy.context}; shorten the example or leave it out, lower "
                    "sampling.max_new_tokens, or take a model with a longer context"
                )
