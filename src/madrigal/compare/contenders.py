"""What a trained team is compared with, as data: each contender is a task, a topology and a team, played or trained.

References:
    Liu et al., 2025, arXiv:2508.04652, section on baselines: single model, fine-tuned single model, parallel generation
    (naive concatenation), sequential pipeline, one-round discussion. Untrained where nothing else is said.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from madrigal.algorithms.catalog import switch_algorithm
from madrigal.algorithms.group import MAGRPO
from madrigal.algorithms.group_relative import GroupRelative
from madrigal.config import Experiment
from madrigal.rollouts.play import speaking_order
from madrigal.rollouts.topology import Discussion, Parallel, Sequential, TopologyConfig
from madrigal.settings import BASE, Lora, PolicyConfig, RolesConfig, TeamConfig, WarmConfig
from madrigal.tasks.building.task import Build
from madrigal.tasks.catalog import TaskConfig
from madrigal.tasks.coding.config import ALONE, Coding
from madrigal.tasks.consulting.task import Consult
from madrigal.tasks.data import EMBEDDED
from madrigal.tasks.discussion.debate import Debate
from madrigal.tasks.discussion.gsm8k import Gsm8k
from madrigal.tasks.editing.task import Edit
from madrigal.tasks.environments.pettingzoo import PettingZoo
from madrigal.tasks.environments.textarena import TextArena
from madrigal.tasks.environments.verifiers import Verifiers
from madrigal.tasks.messages.relay import Relay
from madrigal.tasks.office.task import Office
from madrigal.tasks.own import CustomTask, hears, single_of
from madrigal.tasks.project.task import Project
from madrigal.tasks.reworded import REWORDABLE
from madrigal.tasks.writing.single import WRITER
from madrigal.tasks.writing.task import Arxiv, Tldr
from madrigal.types import AgentId

TEAM, UNTRAINED, SINGLE, TUNED = "team", "untrained team", "single model", "tuned single model"
ONE_TURN, NO_BASELINE = "team, one turn", "team, no baseline"
SUPERVISED = "supervised on the best of n"
REVISING, TUNED_REVISING = "single model, revising", "tuned single model, revising"
IN_ALL_SEATS, TUNED_IN_ALL_SEATS = "model in all seats", "tuned model in all seats"
UNTRAINED_REWORDED, REWORDED = "untrained team, reworded", "team, reworded"
# How an untrained team may talk within one turn.
WAYS: dict[str, tuple[TopologyConfig, str]] = {
    "parallel": (Parallel(), "untrained, everyone at once: naive concatenation"),
    "sequential": (Sequential(), "untrained, one after the other, hearing what was said"),
    "discussion": (Discussion(), "untrained, everyone twice, having heard the first answers; the second count"),
}
# One model with about the parameters of two.
AS_LARGE_AS_TWO = {
    "starter:small": "starter:large",
    "Qwen/Qwen3-1.7B": "Qwen/Qwen3-4B",
    "Qwen/Qwen2.5-Coder-3B": "Qwen/Qwen2.5-Coder-7B",
}


@dataclass(frozen=True, slots=True)
class Contender:
    """One row of the table.

    Attributes:
        what: what it is, in one line.
        run: the experiment that trains it, or with 0 steps only plays it.
        costs: the untrained contender that shows what one of its episodes costs, where that is not what one of the
            team's does; its training then gets as many more or fewer examples.
        swapped: play the trained team with this seat given back to its base model.
        extra: made only where it is named, because it takes one more training.
    """

    name: str
    what: str
    run: Experiment
    costs: str = ""
    swapped: AgentId = ""
    extra: bool = False


def contenders(run: Experiment, agents: Sequence[AgentId], single: str = "", words: str = "") -> list[Contender]:
    """The trained team and all that it is compared with, in the order in which they are made.

    Args:
        single: the model that does the work alone; by default one with the parameters of the whole team.
        words: the file of other words for the prompts (`tasks.reworded`); by default those that come with the task.
    """
    plain = run.topology == Parallel() and one_round(run.task) == run.task and len(agents) > 1
    what = "the same prompts and models, not trained" + (": parallel generation" if plain else "")
    every = [
        Contender(UNTRAINED, what, replace(run, steps=0)),
        *_other_ways_to_talk(run, len(agents)),
        *_alone(run, agents, single),
        *_in_all_seats(run, agents, single),
        Contender(TEAM, "trained together on the joint reward", run),
        *_supervised(run),
        *_one_turn(run),
        *_no_baseline(run, agents),
        *_swapped(run, agents),
        *_reworded(run, words),
    ]
    # Who is only played has no warm start either.
    return [
        one if one.run.steps or one.name == SUPERVISED else replace(one, run=replace(one.run, warm=WarmConfig()))
        for one in every
    ]


def _other_ways_to_talk(run: Experiment, agents: int) -> Iterator[Contender]:
    """Untrained, in one turn, as in the paper."""
    base = replace(_in_one_round(run), algorithm=run.algorithm if _fits_a_round(run) else MAGRPO, steps=0)
    for name, (topology, what) in WAYS.items():
        talk = agents > 1 or topology == Parallel()
        if talk and (base.task, topology) != (run.task, run.topology):
            yield Contender(name, what, replace(base, topology=topology))


def _in_chains(run: Experiment) -> bool:
    """Whether the way to train fits any way to talk: crossed answers and trees may refuse to be, or grow too large."""
    return run.algorithm.branching.at == "start" and not run.algorithm.branching.crossed


def _fits_a_round(run: Experiment) -> bool:
    return _in_chains(run) and run.algorithm.needs.rounds <= 1


def _alone(run: Experiment, agents: Sequence[AgentId], single: str) -> Iterator[Contender]:
    """One model of the team's size, which may write as many tokens as all agents together."""
    task = alone(run.task)
    model = single or as_large_as(run.team, agents)
    if task is None or not model or len(agents) == 1:
        return
    team = TeamConfig(
        policy=replace(run.team.policy, model=model, trainable=True),
        chat_template=run.team.chat_template,
        device=run.team.device,
    )
    sampling = replace(run.sampling, max_new_tokens=len(agents) * run.sampling.max_new_tokens)
    algorithm = run.algorithm if run.algorithm.needs.agents == 1 else switch_algorithm(run.algorithm, "magrpo")
    if isinstance(algorithm, GroupRelative):
        algorithm = replace(algorithm, crossed=False)  # one agent has nobody to cross its answers with
    tuned = replace(
        _read_alike(run),
        task=task,
        topology=Parallel(),
        team=team,
        roles=RolesConfig(),  # there is nobody to tell it from
        sampling=sampling,
        algorithm=algorithm,
        warm=run.warm if run.warm.demonstrations in ("", EMBEDDED) else WarmConfig(),  # a file has the team's
    )
    yield Contender(SINGLE, f"{model} does it all, not trained", replace(tuned, steps=0))
    yield Contender(TUNED, f"{model} does it all, trained alone: GRPO's group baseline", tuned, costs=SINGLE)
    if not _in_chains(tuned) or (turns := len(speaking_order(run.topology, agents))) < 2:
        return
    if isinstance(task, CustomTask) and not hears(task):  # it would answer the same prompt again
        return
    revising = replace(tuned, topology=Discussion(turns))
    what = f"{model} does it all, {turns} times, having read its earlier answers; the last counts"
    yield Contender(REVISING, f"{what}; not trained", replace(revising, steps=0))
    yield Contender(TUNED_REVISING, f"{what}; trained so", revising, costs=REVISING, extra=True)


def _in_all_seats(run: Experiment, agents: Sequence[AgentId], single: str) -> Iterator[Contender]:
    """One model of the team's size that plays all roles: one policy, which learns from what is said in every seat."""
    model = single or as_large_as(run.team, agents)
    if not model or len(agents) == 1 or (run.team.shared and model == run.team.policy.model):
        return
    policy = replace(run.team.policy, model=model, trainable=True)
    team = TeamConfig(policy=policy, shared=True, chat_template=run.team.chat_template, device=run.team.device)
    tuned = replace(_read_alike(run), team=team)
    other = {policy_of(run.team, agent).model for agent in agents} != {model}
    if other:  # else it is the untrained team
        yield Contender(IN_ALL_SEATS, f"{model} plays all roles, not trained", replace(tuned, steps=0))
    what = f"{model} plays all roles, one policy trained in all seats"
    yield Contender(TUNED_IN_ALL_SEATS, what, tuned, costs=IN_ALL_SEATS if other else "", extra=True)


def _read_alike(run: Experiment) -> Experiment:
    """One yardstick for all contenders: what reads the team's answers for fluency reads another model's too."""
    fluency = run.team.policy.model if run.evaluation.fluency == BASE else run.evaluation.fluency
    return replace(run, evaluation=replace(run.evaluation, fluency=fluency))


def _supervised(run: Experiment) -> Iterator[Contender]:
    """Fine-tuned on the best of as many joint answers as the team's training plays, and no RL; chains are counted."""
    width = max(2, run.algorithm.branching.width)
    before = 0 if run.warm.demonstrations else run.warm.examples * run.warm.samples
    played = run.steps * run.prompts * run.algorithm.branching.width + before
    warm = replace(run.warm, examples=max(1, round(played / width)), samples=width, demonstrations="")
    if run.algorithm.needs.rewards != "zero-sum":
        what = f"the team fine-tuned on the best of {width} joint answers (RAFT), from as many played, without RL"
        yield Contender(SUPERVISED, what, replace(run, steps=0, warm=warm), extra=True)


def _one_turn(run: Experiment) -> Iterator[Contender]:
    one = _in_one_round(run)
    if one.task != run.task and run.algorithm.needs.rounds <= 1:
        costs = next((name for name, (topology, _) in WAYS.items() if topology == run.topology), "")
        what = "trained as the team, without feedback and further turns"
        yield Contender(ONE_TURN, what, one, costs)


def _no_baseline(run: Experiment, agents: Sequence[AgentId]) -> Iterator[Contender]:
    """The same training on raw returns, neither compared with a group nor divided by its deviation."""
    team = run.algorithm
    if len(agents) > 1 and isinstance(team, GroupRelative) and team.name == "magrpo" and not team.tree:
        plain = replace(run, algorithm=replace(team, name="reinforce", baseline="none", scale="none"))
        yield Contender(NO_BASELINE, "trained as the team, by raw REINFORCE instead of a group's baseline", plain)


def _swapped(run: Experiment, agents: Sequence[AgentId]) -> Iterator[Contender]:
    """Seats that were not trained are their base model already; a seat with a policy for each round is not swapped."""
    trained = [agent for agent in agents if policy_of(run.team, agent).trainable]
    for agent in trained if len(agents) > 1 and run.team.rounds == 1 else ():
        yield Contender(f"{agent} swapped", f"trained, but {agent} is its base model", run, swapped=agent)


def _reworded(run: Experiment, words: str) -> Iterator[Contender]:
    """A/A pairs with the team and its untrained self: the same prompts in other words."""
    words = words or (EMBEDDED if _as_worded(run.task) else "")
    if words and not run.reworded:
        other = replace(run, reworded=words)
        what = "with the same prompts in other words"
        yield Contender(UNTRAINED_REWORDED, f"the untrained team, {what}", replace(other, steps=0))
        yield Contender(REWORDED, f"trained as the team, {what}", other, extra=True)


def _as_worded(task: TaskConfig) -> bool:
    """Whether there are other words for the prompts of a task: for those that come with it, not for a user's own."""
    prompts = getattr(task, "prompts", None)
    return isinstance(task, REWORDABLE) and (prompts is None or prompts == type(prompts)())


def left_out(run: Experiment, agents: Sequence[AgentId], single: str = "") -> str:
    """Why no single model is among the contenders, in one sentence; "" where there is one."""
    if len(agents) == 1:
        return "The team has one agent, so it is not compared with a single model."
    if isinstance(run.task, PettingZoo | TextArena):
        how = "one policy plays all seats already" if run.team.shared else "--also tuned-model-in-all-seats trains one"
        return f"The single model is left out: each seat of {run.task.environment} has moves of its own; {how}."
    if alone(run.task) is None:
        how = "; name such a task `single` in its file" if isinstance(run.task, CustomTask) else ""
        return f"The single model is left out: the task does not say how one agent does everybody's part{how}."
    if not single and not as_large_as(run.team, agents):
        names = " + ".join(dict.fromkeys(policy_of(run.team, agent).speaker for agent in agents))
        return (
            f"The single model is left out: none is known with as many parameters as {len(agents)} seats of {names}; "
            "name one with --single."
        )
    return ""


def as_large_as(team: TeamConfig, agents: Sequence[AgentId]) -> str:
    """The model with as many parameters as a whole team, "" where none is known; adapters count as their one model."""
    policies = [policy_of(team, agent) for agent in agents]
    models = {policy.model for policy in policies}
    if len(models) > 1:
        return ""
    (model,) = models
    if team.shared or all(policy.lora.rank for policy in policies):
        return model
    return AS_LARGE_AS_TWO.get(model, "") if len(agents) == 2 else ""


def policy_of(team: TeamConfig, agent: AgentId) -> PolicyConfig:
    """The policy of a seat."""
    return team.policy if team.shared else team.seats.get(agent, team.policy)


def alone(task: TaskConfig) -> TaskConfig | None:
    """The same task for one agent that does everybody's part; None where the task does not say how."""
    match task:
        case Coding():
            return replace(task, agents=ALONE)
        case Gsm8k() | Debate():
            return replace(task, agents=task.agents[:1])
        case Tldr() | Arxiv():
            return replace(task, agents=WRITER)
        case Office() | Build() | Relay() | Edit() | Project() | Consult():
            return replace(task, alone=True)
        case Verifiers():  # all work on one answer, the last one's
            return replace(task, agents=task.agents[-1:])
        case CustomTask():
            return single_of(task)
        case _:
            return None


def one_round(task: TaskConfig) -> TaskConfig:
    """The same task without further turns."""
    match task:
        case Coding() | Build() | Edit():
            return replace(task, turns=1)
        case Project():  # a plan, files, a review: none of these can be left out
            return replace(task, passes=1)
        case Gsm8k() | Debate() | Office() | Consult():
            return replace(task, rounds=1)
        case _:
            return task


def _in_one_round(run: Experiment) -> Experiment:
    """The same run without further turns, nor policies for them."""
    return replace(run, task=one_round(run.task), team=replace(run.team, rounds=1))


def matched(run: Experiment, team: float, own: float) -> Experiment:
    """A contender's training with as many tokens a step as the team's; `team` and `own` are tokens per example."""
    return replace(run, prompts=max(1, round(run.prompts * team / own)))


def with_base(run: Experiment, agents: Sequence[AgentId], swapped: AgentId, saved: Path) -> Experiment:
    """Plays a saved team with one seat given back to its base model; every seat holds a model of its own."""
    seats = {agent: replace(policy_of(run.team, agent), lora=Lora(), trainable=False) for agent in agents}
    trained = {agent: replace(seats[agent], model=str(saved / agent)) for agent in agents if agent != swapped}
    team = replace(run.team, seats=seats | trained, shared=False)
    return replace(run, steps=0, team=team, warm=WarmConfig())
