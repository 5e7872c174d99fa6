"""What every contender is: task, topology, models, steps, examples and new tokens; and how budgets are matched."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from fakes import pairs
from fakes.made import said
from madrigal.algorithms.group import REINFORCE, GroupRelative
from madrigal.compare.contenders import (
    SUPERVISED,
    Contender,
    alone,
    as_large_as,
    contenders,
    left_out,
    matched,
    with_base,
)
from madrigal.compare.rows import Played
from madrigal.compare.run import training_tokens
from madrigal.config import Experiment
from madrigal.recipes import recipe
from madrigal.recipes.embedded import own
from madrigal.rollouts.branching import Branching
from madrigal.rollouts.topology import Discussion, Parallel, Sequential, TopologyConfig
from madrigal.settings import BASE, Lora, PolicyConfig, Sampling, TeamConfig, WarmConfig
from madrigal.tasks.catalog import TaskConfig
from madrigal.tasks.coding.config import Coding
from madrigal.tasks.discussion.gsm8k import Gsm8k
from madrigal.tasks.environments.pettingzoo import PettingZoo
from madrigal.tasks.environments.textarena import TextArena
from madrigal.tasks.environments.verifiers import Verifiers
from madrigal.tasks.own import CustomTask
from madrigal.tasks.writing.prompts import TldrPrompts
from madrigal.tasks.writing.task import Arxiv, Tldr
from madrigal.training.checks import open_checked_task

PAIR = ("concise", "detailed")
CODERS = ("helper", "main")
WRITER = Tldr(agents=("writer",))


def of(run: Experiment, agents: tuple[str, ...] = PAIR, single: str = "") -> dict[str, Contender]:
    return {one.name: one for one in contenders(run, agents, single)}


def test_the_contenders_of_a_writing_team() -> None:
    """Task, topology, model, steps and new tokens of each; parallel generation is the untrained team itself."""
    run = replace(recipe("tldr"), steps=110, sampling=Sampling(max_new_tokens=112))
    small, large = "starter:small", "starter:large"
    assert {
        name: (c.run.task, c.run.topology, c.run.team.policy.model, c.run.steps, c.run.sampling.max_new_tokens)
        for name, c in of(run).items()
    } == {
        "untrained team": (Tldr(), Parallel(), small, 0, 112),
        "sequential": (Tldr(), Sequential(), small, 0, 112),
        "discussion": (Tldr(), Discussion(2), small, 0, 112),
        "single model": (WRITER, Parallel(), large, 0, 224),
        "tuned single model": (WRITER, Parallel(), large, 110, 224),
        "single model, revising": (WRITER, Discussion(2), large, 0, 224),
        "tuned single model, revising": (WRITER, Discussion(2), large, 110, 224),
        "model in all seats": (Tldr(), Parallel(), large, 0, 112),
        "tuned model in all seats": (Tldr(), Parallel(), large, 110, 112),
        "team": (Tldr(), Parallel(), small, 110, 112),
        "supervised on the best of n": (Tldr(), Parallel(), small, 0, 112),
        "team, no baseline": (Tldr(), Parallel(), small, 110, 112),
        "concise swapped": (Tldr(), Parallel(), small, 110, 112),
        "detailed swapped": (Tldr(), Parallel(), small, 110, 112),
        "untrained team, reworded": (Tldr(), Parallel(), small, 0, 112),
        "team, reworded": (Tldr(), Parallel(), small, 110, 112),
    }
    assert of(run)["team"].run == run
    assert [c.swapped for c in contenders(run, PAIR) if c.swapped] == list(PAIR)


def test_all_else_is_as_in_the_team() -> None:
    run = replace(recipe("tldr"), algorithm=GroupRelative(width=8, kl=0.01))
    for one in contenders(run, PAIR):
        if one.name == "team, no baseline":
            assert one.run == replace(run, algorithm=replace(REINFORCE, width=8, kl=0.01))
            continue
        # All answers are read by one model for their fluency, whoever wrote them.
        other = one.run.team.policy.model == "starter:large"
        assert one.run.evaluation.fluency == ("starter:small" if other else BASE)
        evaluation = replace(one.run.evaluation, fluency=BASE)
        kept = (one.run.algorithm, one.run.optimizer, evaluation, one.run.prompts, one.run.seed, one.run.recipe)
        assert kept == (run.algorithm, run.optimizer, run.evaluation, run.prompts, run.seed, run.recipe)
        assert one.run.team.chat_template == run.team.chat_template and one.what


@pytest.mark.parametrize("name", ["tldr", "arxiv", "coding-two-turns", "gsm8k", "debate", "debate-no-verifier", "kuhn"])
def test_whatever_a_recipe_is_compared_with_can_be_made(name: str) -> None:
    """An algorithm of several rounds has no single turn to be compared with."""
    run = recipe(name)
    with open_checked_task(run) as task:
        found = of(run, task.agents)
    for one in found.values():
        with open_checked_task(one.run):
            pass
    assert "team" in found and ("team, one turn" in found) == (name == "coding-two-turns" or name == "debate")


def test_what_takes_one_more_training_is_made_only_where_it_is_named() -> None:
    found = of(recipe("tldr"))
    assert [name for name, one in found.items() if one.extra] == [
        "tuned single model, revising",
        "tuned model in all seats",
        "supervised on the best of n",
        "team, reworded",
    ]
    assert {name: one.costs for name, one in found.items() if one.extra} == {
        "tuned single model, revising": "single model, revising",
        "tuned model in all seats": "model in all seats",
        "supervised on the best of n": "",
        "team, reworded": "",
    }


@pytest.mark.parametrize(
    ("topology", "turns"), [(Parallel(), 2), (Sequential(), 2), (Discussion(), 4), (Discussion(3), 6)]
)
def test_a_single_model_revises_as_often_as_the_team_takes_turns(topology: TopologyConfig, turns: int) -> None:
    revising = of(replace(recipe("tldr"), topology=topology))["single model, revising"]
    assert revising.run.topology == Discussion(turns) and f", {turns} times," in revising.what


def test_one_model_in_all_seats_is_one_policy() -> None:
    team = of(recipe("tldr"))["tuned model in all seats"].run.team
    assert (team.policy, team.shared) == (PolicyConfig("starter:large"), True)
    # Adapters on one model: the untrained team has that model in all seats already.
    lora = replace(recipe("tldr"), team=TeamConfig(PolicyConfig("starter:small", lora=Lora(rank=4))))
    assert "model in all seats" not in of(lora) and of(lora)["tuned model in all seats"].costs == ""
    # A shared policy plays all roles anyway.
    shared = replace(recipe("tldr"), team=TeamConfig(shared=True))
    assert not {"model in all seats", "tuned model in all seats"} & of(shared).keys()


def test_prompts_are_reworded_by_the_tasks_own_words_or_by_a_file(tmp_path: Path) -> None:
    (tmp_path / "pair.py").write_text(pairs.PAIR)
    run, mine = recipe("tldr"), own(f"{tmp_path / 'pair.py'}:task")
    assert of(run)["untrained team, reworded"].run == replace(run, steps=0, reworded="embedded")
    assert "untrained team, reworded" not in of(mine)
    found = {one.name: one.run.reworded for one in contenders(mine, PAIR, words="words.json") if one.run.reworded}
    assert found == {"untrained team, reworded": "words.json", "team, reworded": "words.json"}
    assert not [name for name in of(replace(run, reworded="words.json")) if name.endswith("reworded")]
    own_words = replace(run, task=Tldr(prompts=TldrPrompts(concise="Shorten: {post}")))
    assert not [name for name in of(own_words) if name.endswith("reworded")]
    assert [one.run.reworded for one in contenders(own_words, PAIR, words="w.json") if one.run.reworded] == [
        "w.json"
    ] * 2


def test_the_contenders_of_a_coding_team_with_two_turns() -> None:
    """Ways to talk are compared in one turn, as in the paper; the untrained team and the single model get both."""
    run = recipe("coding-two-turns")
    assert {name: (c.run.task, c.run.topology, c.run.steps, c.costs) for name, c in of(run, CODERS).items()} == {
        "untrained team": (Coding(turns=2, test_seconds=1.0), Parallel(), 0, ""),
        "parallel": (Coding(test_seconds=1.0), Parallel(), 0, ""),
        "sequential": (Coding(test_seconds=1.0), Sequential(), 0, ""),
        "discussion": (Coding(test_seconds=1.0), Discussion(), 0, ""),
        "single model": (Coding(turns=2, test_seconds=1.0, agents=("main",)), Parallel(), 0, ""),
        "tuned single model": (
            Coding(turns=2, test_seconds=1.0, agents=("main",)),
            Parallel(),
            run.steps,
            "single model",
        ),
        "single model, revising": (Coding(turns=2, test_seconds=1.0, agents=("main",)), Discussion(2), 0, ""),
        "tuned single model, revising": (
            Coding(turns=2, test_seconds=1.0, agents=("main",)),
            Discussion(2),
            run.steps,
            "single model, revising",
        ),
        "model in all seats": (Coding(turns=2, test_seconds=1.0), Parallel(), 0, ""),
        "tuned model in all seats": (
            Coding(turns=2, test_seconds=1.0),
            Parallel(),
            run.steps,
            "model in all seats",
        ),
        "team": (Coding(turns=2, test_seconds=1.0), Parallel(), run.steps, ""),
        "supervised on the best of n": (Coding(turns=2, test_seconds=1.0), Parallel(), 0, ""),
        "team, one turn": (Coding(test_seconds=1.0), Parallel(), run.steps, "parallel"),
        "team, no baseline": (Coding(turns=2, test_seconds=1.0), Parallel(), run.steps, ""),
        "helper swapped": (Coding(turns=2, test_seconds=1.0), Parallel(), run.steps, ""),
        "main swapped": (Coding(turns=2, test_seconds=1.0), Parallel(), run.steps, ""),
        "untrained team, reworded": (Coding(turns=2, test_seconds=1.0), Parallel(), 0, ""),
        "team, reworded": (Coding(turns=2, test_seconds=1.0), Parallel(), run.steps, ""),
    }


def test_supervised_on_the_best_of_n_plays_as_many_joint_answers_as_the_team() -> None:
    """And who is only played has no warm start, whatever the team has; demonstrations are the team's own."""
    run = replace(
        recipe("tldr"), steps=10, prompts=4, warm=WarmConfig(examples=16, samples=4, demonstrations="x.jsonl")
    )
    found = of(run)
    warm = found[SUPERVISED].run.warm
    assert (warm.examples * warm.samples, warm.samples) == (10 * 4 * 8, 8) and not warm.demonstrations
    plays = WarmConfig(examples=16, samples=4)
    played = of(replace(run, warm=plays))[SUPERVISED].run.warm
    assert played.examples * played.samples == 10 * 4 * 8 + 16 * 4  # demonstrations are not played
    assert found["team"].run.warm == found["team, no baseline"].run.warm == run.warm
    assert found["tuned single model"].run.warm == WarmConfig()
    assert of(replace(run, warm=plays))["tuned single model"].run.warm == plays
    assert not any(found[name].run.trains for name in ("untrained team", "sequential", "discussion", "single model"))
    assert not with_base(run, PAIR, "concise", Path("team")).trains
    assert SUPERVISED not in of(recipe("kuhn"), ("first", "second"))


def test_a_team_that_talks_otherwise_is_compared_with_the_remaining_ways() -> None:
    found = of(replace(recipe("tldr"), topology=Sequential()))
    assert list(found)[:3] == ["untrained team", "parallel", "discussion"]
    kept = {name for name, one in found.items() if one.run.topology == Sequential()}
    seated = {"model in all seats", "tuned model in all seats", "untrained team, reworded", "team, reworded"}
    trained = {"untrained team", "team", SUPERVISED, "team, no baseline"}
    assert kept == seated | trained | {"concise swapped", "detailed swapped"}
    turns = replace(recipe("coding-two-turns"), topology=Discussion())
    assert of(turns, CODERS)["team, one turn"].costs == "discussion"
    assert of(replace(turns, topology=Sequential(("main", "helper"))), CODERS)["team, one turn"].costs == ""


def test_crossed_joint_actions_do_not_keep_others_from_talking() -> None:
    run = replace(recipe("tldr"), algorithm=GroupRelative(crossed=True))
    found = of(run)
    assert [name for name, one in found.items() if not one.run.algorithm.crossed] == [
        "sequential",
        "discussion",
        "single model",
        "tuned single model",
        "single model, revising",
        "tuned single model, revising",
    ]
    raw = replace(REINFORCE, width=8, crossed=True, kl=0.05)
    assert of(recipe("tldr"))["team, no baseline"].run == replace(recipe("tldr"), algorithm=raw)


@pytest.mark.parametrize(
    ("task", "single"),
    [
        (Tldr(), WRITER),
        (Arxiv(variant="later"), Arxiv(variant="later", agents=("writer",))),
        (Coding("humaneval", turns=2), Coding("humaneval", turns=2, agents=("main",))),
        (Gsm8k(agents=("a", "b", "c")), Gsm8k(agents=("a",))),
        (Verifiers("gsm8k", agents=("helper", "main")), Verifiers("gsm8k", agents=("main",))),
        (PettingZoo("classic/tictactoe_v3"), None),
    ],
)
def test_one_agent_does_everybodys_part(task: TaskConfig, single: TaskConfig | None) -> None:
    assert alone(task) == single


def test_whose_seats_have_moves_of_their_own_there_is_no_single_model_but_one_in_all_seats() -> None:
    """An environment's team with a policy for each seat, and a game that one policy plays against itself."""
    run = replace(recipe("tldr"), task=TextArena("SimpleTak-v0"))
    assert "SimpleTak-v0 has moves of its own; --also tuned-model-in-all-seats trains one." in left_out(run, PAIR)
    found = of(run)
    assert "single model" not in found and "tuned model in all seats" in found
    game = replace(run, team=TeamConfig(shared=True))
    assert "one policy plays all seats already" in left_out(game, PAIR)
    assert "tuned model in all seats" not in of(game)


def test_the_single_model_has_the_parameters_of_the_team() -> None:
    """Two seats: the next size. Shared weights, and adapters on one model, are that model. Else nobody knows."""
    small = PolicyConfig("starter:small")
    assert as_large_as(TeamConfig(small), PAIR) == "starter:large"
    assert as_large_as(TeamConfig(PolicyConfig("Qwen/Qwen3-1.7B")), PAIR) == "Qwen/Qwen3-4B"
    assert as_large_as(TeamConfig(small, shared=True), PAIR) == "starter:small"
    assert as_large_as(TeamConfig(replace(small, lora=Lora(rank=4))), PAIR) == "starter:small"
    assert as_large_as(TeamConfig(small), (*PAIR, "third")) == ""
    assert as_large_as(TeamConfig(small, {"concise": PolicyConfig("starter:large")}), PAIR) == ""
    assert as_large_as(TeamConfig(PolicyConfig("./mine")), PAIR) == ""


def test_a_single_model_by_name_and_what_it_keeps_of_the_team() -> None:
    policy = PolicyConfig("./mine", trainable=False, lora=Lora(rank=4), dtype="bfloat16")
    team = TeamConfig(policy, {"concise": PolicyConfig("./other")}, chat_template=False, device="cpu")
    tuned = of(replace(recipe("tldr"), team=team), single="./big")["tuned single model"].run.team
    assert tuned == TeamConfig(replace(policy, model="./big", trainable=True), chat_template=False, device="cpu")


def test_an_own_task_says_how_one_agent_does_it_all_by_single(tmp_path: Path) -> None:
    (tmp_path / "pair.py").write_text(pairs.SINGLE)
    run = own(f"{tmp_path / 'pair.py'}:task")
    one = of(run, ("ann", "bob"))["single model"].run
    assert one.task == CustomTask(f"{tmp_path / 'pair.py'}:single") and left_out(run, ("ann", "bob")) == ""
    assert one.sampling.max_new_tokens == 2 * run.sampling.max_new_tokens
    assert alone(one.task) is None  # nobody is less than one


def test_an_own_task_that_hides_answers_is_not_revised(tmp_path: Path) -> None:
    """Or the model would give a second answer to the same prompt, in a row that says it has read the first."""
    hides = 'from dataclasses import replace\nsingle = replace(single, quote=lambda turn, listener: "")\n'
    (tmp_path / "shown.py").write_text(pairs.SINGLE)
    (tmp_path / "hidden.py").write_text(f"{pairs.SINGLE}\n{hides}")
    revising = {"single model, revising", "tuned single model, revising"}
    for name, kept in (("shown", revising), ("hidden", set())):
        run = replace(own(f"{tmp_path / f'{name}.py'}:task"), topology=Sequential())
        assert revising & of(run, ("ann", "bob")).keys() == kept


@pytest.mark.parametrize("name", ["tldr", "arxiv", "gsm8k", "debate", "office"])
def test_every_contender_of_a_recipe_can_be_opened(name: str) -> None:
    run = recipe(name)
    with open_checked_task(run) as task:
        agents = task.agents
    for one in contenders(run, agents, "starter:large"):
        with open_checked_task(one.run) as task:
            assert task.examples("test")


def test_what_cannot_be_compared_is_left_out_and_said(tmp_path: Path) -> None:
    (tmp_path / "pair.py").write_text(pairs.PAIR)
    tldr, mine = recipe("tldr"), own(f"{tmp_path / 'pair.py'}:task")
    assert left_out(tldr, PAIR) == ""
    assert "name such a task `single` in its file" in left_out(mine, PAIR, "starter:large")
    assert not {"single model", "tuned single model"} & of(mine, PAIR, "starter:large").keys()
    three = ("a", "b", "c")
    assert "as many parameters as 3 seats of starter:small; name one with --single" in left_out(tldr, three)
    assert left_out(tldr, three, "starter:large") == "" and "single model" in of(tldr, three, "starter:large")
    assert "single model" not in of(tldr, three)


def test_one_agent_is_compared_with_its_untrained_self_only() -> None:
    run = replace(recipe("tldr"), task=WRITER)
    reworded = ["untrained team, reworded", "team, reworded"]
    assert list(of(run, ("writer",))) == ["untrained team", "team", SUPERVISED, *reworded]
    assert "one agent" in left_out(run, ("writer",))
    turns = replace(recipe("coding-two-turns"), task=Coding(turns=2, agents=("main",)))
    expected = ["untrained team", "parallel", "team", SUPERVISED, "team, one turn", *reworded]
    assert list(of(turns, ("main",))) == expected


def test_a_seat_that_was_not_trained_is_not_swapped() -> None:
    frozen = TeamConfig(seats={"concise": PolicyConfig(trainable=False)})
    assert [c.swapped for c in contenders(replace(recipe("tldr"), team=frozen), PAIR) if c.swapped] == ["detailed"]


def test_a_swapped_team_is_the_saved_one_with_one_base_model() -> None:
    """Every seat a model of its own: also where the team shares one, or holds adapters."""
    policy = PolicyConfig("starter:small", lora=Lora(rank=4), dtype="float32")
    run = replace(recipe("tldr"), team=TeamConfig(policy, shared=True, device="cpu"))
    base, saved = (
        PolicyConfig(name, trainable=False, dtype="float32") for name in ("starter:small", "t/team/detailed")
    )
    swapped = with_base(run, PAIR, "concise", Path("t/team"))
    assert swapped.team == TeamConfig(policy, {"concise": base, "detailed": saved}, shared=False, device="cpu")
    assert swapped.steps == 0 and (swapped.task, swapped.topology) == (run.task, run.topology)


def test_training_tokens_are_matched_at_the_same_number_of_updates() -> None:
    run = replace(recipe("tldr"), prompts=8)
    assert [matched(run, *tokens).prompts for tokens in ((100, 50), (100, 100), (100, 260), (1, 99))] == [16, 8, 3, 1]
    assert matched(run, 100, 50) == replace(run, prompts=16)


def two_rounds(*tokens: int, agents: int = 2) -> Played:
    """A transcript in which every agent says so many tokens in each round."""
    turns = [
        {"agent": f"a{n}", "round": r, "text": "", "tokens": count}
        for r, count in enumerate(tokens)
        for n in range(agents)
    ]
    return Played([{**said("x", 0.0), "turns": turns}])


@pytest.mark.parametrize(
    ("branching", "expected"),
    [
        (Branching(4), 2 * (10 + 3)),  # chains: 4 answers in either round
        (Branching(4, "round"), 2 * (10 + 4 * 3)),  # a tree: 4, then 4 x 4
        (Branching(4, crossed=True), 2 * (10 + 4 * 3)),  # 4 answers in 16 joint actions, each of which goes on
        (Branching(4, "round", crossed=True), 2 * (10 + 16 * 3)),  # 4, then 16 x 4
    ],
)
def test_a_trees_later_rounds_cost_more_in_training(branching: Branching, expected: float) -> None:
    assert training_tokens(two_rounds(10, 3), branching) == expected


def test_training_tokens_are_a_mean_over_answers() -> None:
    both = [*two_rounds(10, 2).transcripts, *two_rounds(4).transcripts]
    assert training_tokens(Played(both), Branching(4)) == (24 + 8) / 2
