"""Who reads what of a turn, who learns from it, and how often: own and central critics of a tiny team."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fakes import tiny
from fakes.play import AGENTS, siblings
from fakes.tiny import chat
from madrigal.algorithms.actor_critic import COLLM_CC, COLLM_DC, IPPO, MAPPO, ActorCritic
from madrigal.algorithms.group import MAGRPO
from madrigal.config import Experiment
from madrigal.learning.critic_learner import Lesson
from madrigal.learning.critics import CENTRAL, UNREAD, Critics, answer_read, joint_history, visible_turns
from madrigal.policies.adapters import adapter_name
from madrigal.policies.local import LocalPolicy
from madrigal.policies.team import Team
from madrigal.rollouts.task import SingleRound
from madrigal.rollouts.tree import walk
from madrigal.settings import CriticConfig, Lora, OptimizerConfig, PolicyConfig, Sampling, TeamConfig
from madrigal.tasks.own import CustomTask
from madrigal.training.learner_factory import check_histories, make_critics, make_learning
from madrigal.training.teams import make_team
from madrigal.types import (
    Completion,
    ConfigError,
    EngineError,
    Episode,
    Example,
    Group,
    Point,
    Sample,
    Step,
    Turn,
    TurnScores,
)
from pretraining.tokenizer import train_tokenizer

SAID = {"ann": (5, 6, 7), "bob": (8, 9)}


def experiment(folder: Path, algorithm: ActorCritic, **settings: Any) -> Experiment:
    team = TeamConfig(policy=PolicyConfig(model=str(folder)), device="cpu")
    return Experiment(
        "own",
        CustomTask("x:y"),
        **{"team": team, "algorithm": algorithm, "optimizer": OptimizerConfig(lr=1e-3), "steps": 4, **settings},
    )


def critics_of(run: Experiment) -> Critics:
    """Critics that have something to say."""
    critics = make_critics(run, make_team(run.team, AGENTS, 0))
    torch.manual_seed(3)
    for learner in critics.learners.values():
        with torch.no_grad():
            learner.critic.head.weight.copy_(0.3 * torch.randn_like(learner.critic.head.weight))
    return critics


def turn(policy: LocalPolicy, agent: str, text: str, index: int = 0, after: int = 0) -> Turn:
    said = Completion("", policy.encode(chat(text)), SAID[agent], (-0.5,) * len(SAID[agent]))
    return Turn(agent, chat(text), said, index, 0.0, after)


def episode(team: Team, *rounds: Mapping[str, str], after: Mapping[str, int] | None = None) -> Episode[str]:
    """Rounds in which each agent is shown a text."""
    turns = [
        turn(team.seats[agent], agent, text, n, (after or {}).get(agent, 0))
        for n, shown in enumerate(rounds)
        for agent, text in shown.items()
    ]
    steps = tuple(Step("", dict.fromkeys(AGENTS, 1.0)) for _ in rounds)
    return Episode(Point("x", ""), tuple(turns), steps)


def values(critics: Critics, one: Group[str]) -> dict[tuple[int, str, int], tuple[float, ...]]:
    """By episode, agent and round."""
    turns = [(n, each) for n, played in enumerate(one.episodes) for each in played.turns]
    found = zip(turns, critics.read([one]), strict=True)
    return {(n, each.agent, each.round): scores.values or () for (n, each), scores in found}


@pytest.mark.parametrize("algorithm", [IPPO, COLLM_DC], ids=["token", "turn"])
def test_an_own_critic_sees_its_agents_prompt_and_no_other(model_folder: Path, algorithm: ActorCritic) -> None:
    critics = critics_of(experiment(model_folder, algorithm))
    assert set(critics.learners) == {"critic-ann", "critic-bob"}
    one, other = ({"ann": "a cat", "bob": text} for text in ("a dog", "three blind mice"))
    found = values(critics, siblings(episode(critics.team, one), episode(critics.team, other)))
    assert found[0, "ann", 0] == pytest.approx(found[1, "ann", 0], abs=1e-6)
    assert found[0, "bob", 0][0] != pytest.approx(found[1, "bob", 0][0], abs=1e-3)


@pytest.mark.parametrize("algorithm", [MAPPO, COLLM_CC], ids=["token", "turn"])
def test_a_central_critic_sees_the_prompts_of_all(model_folder: Path, algorithm: ActorCritic) -> None:
    critics = critics_of(experiment(model_folder, algorithm))
    assert set(critics.learners) == {CENTRAL}
    one, other = ({"ann": "a cat", "bob": text} for text in ("a dog", "three blind mice"))
    found = values(critics, siblings(episode(critics.team, one), episode(critics.team, other)))
    for agent in AGENTS:
        assert found[0, agent, 0][0] != pytest.approx(found[1, agent, 0][0], abs=1e-3)


def test_values_are_as_many_as_are_asked_for(model_folder: Path) -> None:
    for algorithm, counts in ((IPPO, (3, 2)), (MAPPO, (3, 2)), (COLLM_DC, (1, 1)), (COLLM_CC, (1, 1))):
        critics = critics_of(experiment(model_folder, algorithm))
        found = values(critics, siblings(episode(critics.team, {"ann": "a cat", "bob": "a dog"})))
        assert tuple(len(found[0, agent, 0]) for agent in AGENTS) == counts


def test_what_is_read_of_a_joint_action(model_folder: Path) -> None:
    """Once a turn all prompts in the order of the agents; token by token the acting agent's last, and its answer."""
    for algorithm in (COLLM_CC, MAPPO):
        critics = critics_of(experiment(model_folder, algorithm))
        policy = critics.team.seats["ann"]
        ann, bob, end = policy.encode(chat("a cat")), policy.encode(chat("a dog")), policy.tokenizer.eos_token_id
        rows = critics.rows([siblings(episode(critics.team, {"ann": "a cat", "bob": "a dog"}))])
        read = [(row.prompt_ids, row.token_ids) for row in rows if row is not None]
        if algorithm is COLLM_CC:
            assert read == [((*ann, end, *bob), (0,))] * 2
        else:
            assert read == [((*bob, end, *ann), SAID["ann"]), ((*ann, end, *bob), SAID["bob"])]


def test_who_is_asked_later_is_not_shown_to_who_was_asked_before(model_folder: Path) -> None:
    """bob has heard ann: his prompt holds her answer, which a critic that judges it must not know."""
    critics = critics_of(experiment(model_folder, MAPPO))
    in_turn = episode(critics.team, {"ann": "a cat", "bob": "ann said meow"}, after={"bob": 1})
    ann, bob = in_turn.turns
    assert visible_turns(in_turn, ann) == {"ann": ann}
    assert visible_turns(in_turn, bob) == {"ann": ann, "bob": bob}
    other = episode(critics.team, {"ann": "a cat", "bob": "ann said woof"}, after={"bob": 1})
    found = values(critics, siblings(in_turn, other))
    assert found[0, "ann", 0] == pytest.approx(found[1, "ann", 0], abs=1e-6)
    assert found[0, "bob", 0][0] != pytest.approx(found[1, "bob", 0][0], abs=1e-3)


def test_company_is_of_the_same_round_and_of_what_was_said_before_this_stretch() -> None:
    def spoken(agent: str, index: int, after: int) -> Turn:
        return Turn(agent, (), Completion(f"{agent}{index}{after}"), index, 0.0, after)

    before, other = spoken("ann", 1, 0), spoken("ann", 0, 0)
    bob, again, late = spoken("bob", 1, 1), spoken("ann", 1, 2), spoken("bob", 1, 3)
    here = Episode(Point("x", "", (before,), round=1), (bob, again, late), ())
    assert visible_turns(here, bob) == {"ann": before, "bob": bob}
    assert visible_turns(here, again) == {"ann": again, "bob": bob}
    assert visible_turns(here, late) == {"ann": again, "bob": late}
    assert other not in visible_turns(here, late).values()


@given(st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=4), min_size=1, max_size=4), st.integers(0, 3))
def test_a_joint_history_can_be_taken_apart_again(prompts: list[list[int]], last: int) -> None:
    turns = [Turn(f"a{n}", (), Completion("", tuple(ids))) for n, ids in enumerate(prompts)]
    ids = joint_history(turns, lambda one: one.completion.prompt_ids, 0, f"a{last}")
    parts = [tuple(map(int, part)) for part in "".join(map(str, ids)).split("0")]
    whole = list(map(tuple, prompts))
    assert parts == whole[:last] + whole[last + 1 :] + whole[last : last + 1]


def test_what_is_read_once_a_turn_has_no_answer() -> None:
    one = Turn("ann", (), Completion("words", (1, 2), (3, 4), (-1.0, -1.0)), 2)
    assert answer_read(one, "turn") == UNREAD and len(UNREAD) == 1
    assert answer_read(one, "token") == (3, 4)


def lessons_of(
    critics: Critics, one: Group[str], targets: Mapping[str, float], old: float = 0.5, num: int = 1
) -> dict[str, list[list[Lesson]]]:
    """What critics learn if every turn of an agent came to its target, in `num` stages of the same samples."""
    samples = []
    for row, (_, _, each) in zip(critics.rows([one]), walk([one]), strict=True):
        assert row is not None
        size, target = len(row.token_ids), targets[each.agent]
        read = replace(each, scores=TurnScores((old,) * size, row=row))
        samples.append(Sample(read, 0.0, target, token_returns=(target,) * size))
    return critics.lessons([samples] * num)


def test_a_central_critic_asked_once_a_turn_has_one_row_per_joint_action(model_folder: Path) -> None:
    """Two episodes of two rounds; in the first, both rounds look alike."""
    critics = critics_of(experiment(model_folder, COLLM_CC))
    same, other = {"ann": "a cat", "bob": "a dog"}, {"ann": "a cat", "bob": "three blind mice"}
    played = siblings(episode(critics.team, same, same), episode(critics.team, same, other))
    ((rows,),) = lessons_of(critics, played, {"ann": 2.0, "bob": 2.0}).values()
    assert [(lesson.returns, lesson.values) for lesson in rows] == [((2.0,), (0.5,))] * 4
    read: list[int] = []
    learner = critics.learners[CENTRAL]
    learner.read = lambda rows: read.append(len(rows)) or [(float(n),) for n in range(4)]  # type: ignore[method-assign, func-returns-value]
    found = critics.read([played])
    assert read == [4] and [scores.values for scores in found] == [(n,) for n in (0, 0, 1, 1, 2, 2, 3, 3)]


def test_where_agents_disagree_one_row_is_taught_their_mean(model_folder: Path) -> None:
    critics = critics_of(experiment(model_folder, COLLM_CC))
    played = siblings(episode(critics.team, {"ann": "a cat", "bob": "a dog"}))
    ((rows,),) = lessons_of(critics, played, {"ann": 1.0, "bob": 4.0}).values()
    assert [lesson.returns for lesson in rows] == [(2.5,)]


@pytest.mark.parametrize(
    ("algorithm", "expected"),
    [
        (COLLM_CC, {CENTRAL: (1, 1)}),
        (MAPPO, {CENTRAL: (2, 5)}),
        (COLLM_DC, {"critic-ann": (1, 1), "critic-bob": (1, 1)}),
        (IPPO, {"critic-ann": (1, 3), "critic-bob": (1, 2)}),
    ],
)
def test_rows_and_values_that_each_critic_learns_from(
    model_folder: Path, algorithm: ActorCritic, expected: dict[str, tuple[int, int]]
) -> None:
    critics = critics_of(experiment(model_folder, algorithm))
    lessons = lessons_of(critics, siblings(episode(critics.team, {"ann": "a", "bob": "a"})), dict.fromkeys(AGENTS, 1.0))
    assert {
        name: (len(rows), sum(len(lesson.returns) for lesson in rows)) for name, (rows,) in lessons.items()
    } == expected


@pytest.mark.parametrize(("algorithm", "critics"), [(MAPPO, 1), (COLLM_CC, 1), (IPPO, 2), (COLLM_DC, 2)])
@pytest.mark.parametrize("shared", [False, True])
def test_every_critic_takes_one_step_per_stage_however_many_agents_it_serves(
    model_folder: Path, algorithm: ActorCritic, critics: int, shared: bool
) -> None:
    policy = PolicyConfig(model=str(model_folder))
    run = experiment(
        model_folder, replace(algorithm, whiten=False), team=TeamConfig(policy=policy, shared=shared, device="cpu")
    )
    run = replace(run, optimizer=replace(run.optimizer, mismatch_tolerance=1e9))
    learning = make_learning(run, make_team(run.team, AGENTS, 0))
    steps: list[str] = []
    for name, learner in learning.by_name.items():
        learner.optimizer.adamw.register_step_post_hook(lambda *_, name=name: steps.append(name))
    groups = [siblings(*(episode(learning.team, {"ann": "a cat", "bob": "a dog"}) for _ in range(3)))]
    groups = learning.read(groups)
    stages, _ = run.algorithm.credit(groups, run.algorithm.begin())
    reports = learning.update(groups, stages)
    names = sorted(learning.by_name)
    assert sorted(steps) == names and len(names) == (1 if shared else 2) + (1 if shared else critics)
    assert sorted(reports) == names
    steps.clear()
    for body in learning.team.policies:
        body.version = 0  # of which these answers are
    learning.update(groups, stages * 3)
    assert sorted(steps) == sorted(names * 3)


def test_a_critic_of_a_shared_policy_serves_all_seats(model_folder: Path) -> None:
    run = experiment(model_folder, IPPO)
    run = replace(run, team=replace(run.team, shared=True))
    critics = critics_of(run)
    assert set(critics.learners) == {"critic-team"}
    found = values(critics, siblings(episode(critics.team, {"ann": "a cat", "bob": "a cat"})))
    assert found[0, "ann", 0][0] == pytest.approx(found[0, "bob", 0][0], abs=1e-6)


def test_what_does_not_learn_is_not_judged_but_is_part_of_the_joint_history(model_folder: Path) -> None:
    frozen = PolicyConfig(model=str(model_folder), trainable=False)
    run = experiment(model_folder, MAPPO)
    run = replace(run, team=replace(run.team, seats={"bob": frozen}))
    critics = critics_of(run)
    one, other = (episode(critics.team, {"ann": "a cat", "bob": text}) for text in ("a dog", "three blind mice"))
    found = values(critics, siblings(one, other))
    assert [bool(numbers) for numbers in found.values()] == [True, False] * 2
    assert found[0, "ann", 0][0] != pytest.approx(found[1, "ann", 0][0], abs=1e-3)
    assert set(critics_of(replace(run, algorithm=IPPO)).learners) == {"critic-ann"}


@pytest.mark.parametrize("algorithm", [IPPO, MAPPO, COLLM_DC, COLLM_CC])
def test_what_an_older_self_said_is_not_judged(model_folder: Path, algorithm: ActorCritic) -> None:
    """Its turns have no tokens: what they come to says nothing of the policy that its critic judges."""
    critics = critics_of(experiment(model_folder, algorithm))
    ann, bob = episode(critics.team, {"ann": "a cat", "bob": "a dog"}).turns
    played = Episode(Point("x", ""), (ann, replace(bob, completion=Completion("woof"))), (Step("", {}),))
    assert [row is not None for row in critics.rows([siblings(played)])] == [True, False]
    assert [scores.values == () for scores in critics.read([siblings(played)])] == [False, True]


def test_prompts_are_read_as_they_were_given_and_encoded_where_nobody_knows_how(model_folder: Path) -> None:
    critics = critics_of(experiment(model_folder, COLLM_CC))
    played = episode(critics.team, {"ann": "a cat", "bob": "a dog"})
    ann, bob = played.turns
    given = replace(ann, completion=replace(ann.completion, prompt_ids=(11, 12)))
    remote = replace(bob, completion=replace(bob.completion, prompt_ids=()))
    policy = critics.team.seats["bob"]
    row, _ = critics.rows([siblings(replace(played, turns=(given, remote)))])
    assert row is not None and row.prompt_ids == (11, 12, policy.tokenizer.eos_token_id, *policy.encode(chat("a dog")))


def test_an_algorithm_without_critics_has_none(model_folder: Path) -> None:
    run = replace(experiment(model_folder, MAPPO), algorithm=MAGRPO)
    critics = make_critics(run, make_team(run.team, AGENTS, 0))
    played = siblings(episode(critics.team, {"ann": "a cat", "bob": "a dog"}))
    assert critics.read([played]) == [TurnScores()] * 2 and dict(critics.learners) == {}
    assert critics.lessons([[]]) == {}
    assert make_critics(replace(experiment(model_folder, MAPPO), steps=0), critics.team).learners == {}


def test_critics_of_adapters_share_the_policies_model(model_folder: Path) -> None:
    policy = PolicyConfig(model=str(model_folder), lora=Lora(rank=4))
    for algorithm in (IPPO, MAPPO):
        run = experiment(model_folder, algorithm, team=TeamConfig(policy=policy, device="cpu"))
        run = replace(run, critic=CriticConfig(lora=Lora(rank=2)))
        critics = critics_of(run)
        assert {id(body.model) for body in critics.bodies} == {id(critics.team.seats["ann"].model)}
        assert {body.adapter for body in critics.bodies} == set(map(adapter_name, critics.learners))
        whole = critics_of(replace(run, critic=CriticConfig()))
        assert not {id(body.model) for body in whole.bodies} & {id(whole.team.seats["ann"].model)}


def test_adapters_of_critics_beside_whole_policies_have_one_model_of_their_own(model_folder: Path) -> None:
    critics = critics_of(replace(experiment(model_folder, IPPO), critic=CriticConfig(lora=Lora(rank=2))))
    bodies = {id(body.model) for body in critics.bodies}
    assert len(bodies) == 1 and not bodies & {id(policy.model) for policy in critics.team.policies}


def test_the_critics_rate_is_the_policies_unless_it_is_given(model_folder: Path) -> None:
    run = experiment(model_folder, MAPPO, optimizer=OptimizerConfig(lr=3e-4, clip_norm=0.5))
    assert critics_of(run).learners[CENTRAL].config == run.optimizer
    fast = critics_of(replace(run, critic=CriticConfig(lr=5e-5))).learners[CENTRAL].config
    assert (fast.lr, fast.clip_norm) == (5e-5, 0.5)


def build_stranger(folder: Path) -> Path:
    """A model of another family: its tokens mean something else."""
    tiny.build_model(folder)
    train_tokenizer(["who can tell a cat from a catalog, or a dog from dogma"] * 3).save_pretrained(folder)
    return folder


def test_a_critic_of_another_vocabulary_reads_no_tokens(model_folder: Path, tmp_path: Path) -> None:
    other = build_stranger(tmp_path / "stranger")
    run = replace(experiment(model_folder, MAPPO), critic=CriticConfig(model=str(other)))
    with pytest.raises(ConfigError, match=r"vocabulary of all policies .* but ann, bob has another one") as refusal:
        critics_of(run)
    assert "\n" not in str(refusal.value)


def test_a_critic_of_another_vocabulary_is_shown_prompts_in_its_own(model_folder: Path, tmp_path: Path) -> None:
    run = replace(experiment(model_folder, COLLM_CC), critic=CriticConfig(model=str(build_stranger(tmp_path / "s"))))
    critics = critics_of(run)
    body = critics.learners[CENTRAL].critic.body
    row, _ = critics.rows([siblings(episode(critics.team, {"ann": "a cat", "bob": "a dog"}))])
    end = body.tokenizer.eos_token_id
    assert row is not None and row.prompt_ids == (*body.encode(chat("a cat")), end, *body.encode(chat("a dog")))
    assert body.encode(chat("a cat")) != critics.team.seats["ann"].encode(chat("a cat"))


LONG = SingleRound(
    "long",
    AGENTS,
    (Example("short", {"text": "a"}), Example("long", {"text": "the cat sat on the mat " * 12})),
    (Example("test", {"text": "a"}),),
    lambda example, agent: str(example.data["text"]),
    lambda example, said: 1.0,
)


def test_a_joint_history_that_is_too_long_is_found_before_anything_is_played(model_folder: Path) -> None:
    run = experiment(model_folder, MAPPO, sampling=Sampling(max_new_tokens=8))
    critics = critics_of(run)
    critics.learners[CENTRAL].critic.body.model.config.max_position_embeddings = 150
    longest = len(critics.team.seats["ann"].encode(chat(LONG.train[1].data["text"])))
    check_histories(run, LONG, critics, LONG.train[:1])
    with pytest.raises(EngineError) as refusal:
        check_histories(run, LONG, critics, LONG.train)
    said = str(refusal.value)
    assert f"example long, round 0: the joint history that {CENTRAL} is to read" in said and "\n" not in said
    assert f"is {2 * longest + 1 + 8} tokens and does not fit its context of 150" in said
    assert "critic.model" in said


def test_a_history_that_grows_too_long_in_play_is_named(model_folder: Path) -> None:
    critics = critics_of(experiment(model_folder, MAPPO))
    critics.learners[CENTRAL].critic.body.model.config.max_position_embeddings = 60
    later = episode(critics.team, {"ann": "a", "bob": "a"}, {"ann": "the cat sat on the mat " * 6, "bob": "a"})
    with pytest.raises(EngineError, match="example x, round 1"):
        critics.read([siblings(later)])


def test_own_critics_with_their_policies_model_need_no_check(model_folder: Path) -> None:
    run = experiment(model_folder, IPPO)
    critics = critics_of(run)
    for body in critics.bodies:
        body.model.config.max_position_embeddings = 2
    check_histories(run, LONG, critics, LONG.train)
    with pytest.raises(EngineError, match="the own history that critic-ann is to read"):
        check_histories(replace(run, critic=CriticConfig(model=str(model_folder))), LONG, critics, LONG.train)
