"""Trees that part at single decisions, all alternatives in one context, whoever speaks when; and who plays alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from fakes import play as play_fakes
from fakes.play import Diary, State, Voice, judge_of
from madrigal.rollouts.branching import Branching
from madrigal.rollouts.play import GenerationRequest, SpeakRequest, StepRequest, play, play_turn
from madrigal.rollouts.rewards import rewarded
from madrigal.rollouts.topology import Asynchronous, Coordinated, Discussion, Parallel, Sequential, Topology
from madrigal.rollouts.tree import rollout_groups
from madrigal.runs.records import full_episodes
from madrigal.settings import RewardWeights
from madrigal.types import Completion, Episode, Group, Message, Point, Step, Turn, all_groups

TREE = Branching(2, at="turn")


@dataclass(frozen=True)
class Turnwise(Diary):
    """Only one agent moves in each round, as in a game."""

    def acting(self, state: State) -> tuple[str, ...]:
        return (self.agents[len(state) % len(self.agents)],)

    def step(self, state: State, actions: Mapping[str, str]) -> Step[State]:
        (said,) = actions.values()
        ending = "horizon" if len(state) + 1 == self.horizon else ""
        return Step((*state, said), dict.fromkeys(self.agents, float(len(state))), ending)  # type: ignore[arg-type]


def grow(
    task: Any,
    branching: Branching = TREE,
    topology: Topology = Sequential(),  # noqa: B008
    origins: int = 1,
) -> tuple[list[Group[Any]], Voice]:
    judge = rewarded(judge_of(task), task, topology, RewardWeights(), stop_above=branching.stop_above)
    return play_fakes.grow(task, branching, topology, origins, judge=judge)


def ended(moves: Any, reply: object) -> Episode[Any]:
    with pytest.raises(StopIteration) as end:
        moves.send(reply)
    return end.value.value  # type: ignore[no-any-return]


def test_a_decision_in_the_middle_of_a_round_by_hand() -> None:
    moves = play_turn(Diary(horizon=1), Sequential(), Point("x", ()))
    assert next(moves) == SpeakRequest({"ann": (Message("user", "ann:0:"),)}, 0, 0)
    episode = ended(moves, {"ann": Completion("a", seconds=2.0)})
    assert (episode.steps, [turn.completion.text for turn in episode.turns]) == ((), ["a"])


def test_the_decision_that_closes_the_joint_action_is_judged() -> None:
    said = Turn("ann", (), Completion("a", seconds=2.0))
    moves = play_turn(Diary(horizon=1), Sequential(), Point("x", (), (said,)))
    assert next(moves) == SpeakRequest({"bob": (Message("user", "bob:0:a"),)}, 0, 1)
    assert moves.send({"bob": Completion("b")}) == StepRequest((), {"ann": "a", "bob": "b"})
    step = Step(("a+b",), {"ann": 1.0, "bob": 1.0}, "horizon")
    episode = ended(moves, step)
    assert (episode.steps, [(turn.agent, turn.started) for turn in episode.turns]) == ((step,), [("bob", 2.0)])


def test_those_who_speak_at_once_decide_one_by_one_without_hearing_each_other() -> None:
    (group,), _ = grow(Diary(horizon=1), topology=Parallel())
    below = group.episodes[0].then
    assert below is not None and below.origin.history == group.episodes[0].turns
    assert {turn.prompt for episode in below.episodes for turn in episode.turns} == {(Message("user", "bob:0:"),)}


TOPOLOGIES = [Parallel(), Sequential(), Discussion(2), Asynchronous(2), Coordinated("ann", turns=2)]


@pytest.mark.parametrize("topology", TOPOLOGIES)
@pytest.mark.parametrize("agents", [("ann", "bob"), ("ann", "bob", "cat")])
def test_alternatives_differ_in_their_words_and_in_nothing_before_them(
    topology: Topology, agents: tuple[str, ...]
) -> None:
    (group,), _ = grow(Diary(agents, horizon=1), topology=topology)
    for node in all_groups([group]):
        first = [episode.turns[0] for episode in node.episodes]
        assert len({(turn.agent, turn.prompt, turn.round, turn.started) for turn in first}) == 1
        assert len({turn.completion.text for turn in first}) == len(first) == 2
        for episode in node.episodes:
            assert episode.start == node.origin
            if episode.then is not None:
                assert episode.then.origin.history == node.origin.history + episode.turns


@pytest.mark.parametrize("topology", TOPOLOGIES)
@pytest.mark.parametrize("agents", [("ann", "bob"), ("ann", "bob", "cat")])
def test_every_path_of_a_tree_is_an_episode_that_play_could_have_played(
    topology: Topology, agents: tuple[str, ...]
) -> None:
    task = Diary(agents, horizon=2 if len(agents) == 2 else 1)
    (group,), _ = grow(task, topology=topology)
    for path in list(full_episodes([group]))[:40]:
        rest = {round: [turn for turn in path.turns if turn.round == round] for round in range(task.horizon)}
        moves, steps = play(task, topology, Point("x0", ())), list(path.steps)
        asked = next(moves)
        while True:
            if isinstance(asked, StepRequest):
                step = task.step(asked.state, asked.actions)
                assert step == steps.pop(0)
                if step.ending:
                    break
                asked = moves.send(step)
                continue
            spoken = [rest[asked.round].pop(0) for _ in asked.prompts]
            assert {turn.agent: turn.prompt for turn in spoken} == asked.prompts
            asked = moves.send({turn.agent: turn.completion for turn in spoken})
        assert steps == [] and not any(rest.values())


def test_in_a_game_only_the_player_to_move_decides() -> None:
    (group,), voice = grow(Turnwise(horizon=3))
    assert [len(call) for call in voice.calls] == [2, 4, 8]
    assert [{turn.agent for turn in path.turns} for path in full_episodes([group])] == [{"ann", "bob"}] * 8
    assert all(len(episode.steps) == 1 for node in all_groups([group]) for episode in node.episodes)


def test_one_call_per_place_for_all_examples_together() -> None:
    _, voice = grow(Diary(horizon=2), Branching(3, at="turn", fanout=(2,)), origins=5)
    assert [len(call) for call in voice.calls] == [10, 30, 60, 180]


def test_seeds_are_all_different_and_do_not_depend_on_the_examples_beside() -> None:
    _, voice = grow(Diary(("ann", "bob", "cat"), horizon=2), origins=3)
    seeds = [one.seed for call in voice.calls for one in call]
    assert len(set(seeds)) == len(seeds) == 3 * (2 + 4 + 8 + 16 + 32 + 64)
    assert grow(Diary(horizon=2), origins=1)[0][0] == grow(Diary(horizon=2), origins=4)[0][0]


def test_the_first_alternatives_are_the_same_in_a_narrower_tree() -> None:
    (wide,), _ = grow(Diary(horizon=1), Branching(4, at="turn"))
    (narrow,), _ = grow(Diary(horizon=1), Branching(2, at="turn"))
    assert narrow.episodes[1].turns == wide.episodes[1].turns
    assert narrow.episodes[1].then.episodes[1] == wide.episodes[1].then.episodes[1]  # type: ignore[union-attr]


def test_a_branch_that_has_ended_grows_no_further() -> None:
    task = Diary(horizon=2)

    def speak(wanted: Sequence[GenerationRequest]) -> list[Completion]:
        return [Completion("stop" if n == 0 and one.agent == "bob" else "go") for n, one in enumerate(wanted)]

    judge = judge_of(task)
    (group,) = rollout_groups(task, Sequential(), [Point("x", ())], TREE, speak, judge)
    lengths = [len(path.steps) for path in full_episodes([group])]
    assert lengths == [1] + [2] * 12


def test_a_reward_above_the_threshold_ends_a_branch_of_a_tree() -> None:
    (group,), _ = grow(Diary(horizon=3), Branching(2, at="turn", stop_above=5.0))
    for path in full_episodes([group]):
        values = [step.rewards["ann"] for step in path.steps]
        assert all(value <= 5 for value in values[:-1])
        assert path.steps[-1].ending == ("horizon" if len(values) == 3 else "solved")


def test_only_one_agents_words_are_varied() -> None:
    (group,), _ = grow(Diary(("ann", "bob", "cat"), horizon=1), Branching(3, at="turn", vary=("bob",)))
    assert [len(node.episodes) for node in all_groups([group])] == [1, 3, 1, 1, 1]
    assert {node.episodes[0].turns[0].agent for node in all_groups([group]) if len(node.episodes) > 1} == {"bob"}


def test_where_one_goes_on_the_others_are_played_to_their_end() -> None:
    (group,), voice = grow(Diary(horizon=2), Branching(3, at="turn", follow="one"))
    assert [len(node.episodes) for node in all_groups([group])] == [3, 3, 3, 3]
    for node in all_groups([group]):
        branching, *others = node.episodes
        assert all(other.then is None and other.steps[-1].ending == "horizon" for other in others)
        assert len(branching.turns) == 1
    assert len({one.seed for call in voice.calls for one in call}) == sum(map(len, voice.calls))


def test_only_the_best_of_a_round_goes_on() -> None:
    (group,), voice = grow(Diary(horizon=3), Branching(4, at="round", follow="best"))
    assert [len(call) for call in voice.calls] == [4, 4] * 3
    for node in all_groups([group]):
        rewards = [episode.steps[0].rewards["ann"] for episode in node.episodes]
        gone_on = [n for n, episode in enumerate(node.episodes) if episode.then is not None]
        assert gone_on == ([rewards.index(max(rewards))] if node.origin.round < 2 else [])


def test_nothing_goes_on_where_the_best_has_ended() -> None:
    task = Diary(horizon=2)
    rewards = {"stop+b": 3.0, "a+b": 1.0}

    def judge(asked: Sequence[StepRequest[Any]]) -> list[Step[Any]]:
        steps = [task.step(one.state, one.actions) for one in asked]
        return [Step(one.state, dict.fromkeys(task.agents, rewards[one.state[-1]]), one.ending) for one in steps]

    def speak(wanted: Sequence[GenerationRequest]) -> list[Completion]:
        return [Completion("b" if one.agent == "bob" else "stop" if n == 2 else "a") for n, one in enumerate(wanted)]

    (group,) = rollout_groups(task, Parallel(), [Point("x", ())], Branching(2, at="round", follow="best"), speak, judge)
    assert [episode.steps[0].ending for episode in group.episodes] == ["", "horizon"]
    assert [episode.then for episode in group.episodes] == [None, None]


def test_who_is_silent_is_not_asked_not_heard_and_does_nothing() -> None:
    moves = play(Diary(("ann", "bob", "cat"), horizon=1), Sequential(), Point("x", ()), silent=("ann", "bob"))
    assert next(moves) == SpeakRequest({"cat": (Message("user", "cat:0:"),)}, 0, 0)
    assert moves.send({"cat": Completion("c")}) == StepRequest((), {"ann": "", "bob": "", "cat": "c"})


@pytest.mark.parametrize(
    ("topology", "last"), [(Sequential(), "cat"), (Sequential(("cat", "ann", "bob")), "bob"), (Parallel(), "cat")]
)
def test_beside_every_chain_the_last_speaker_plays_alone(topology: Topology, last: str) -> None:
    (group,), voice = grow(Diary(("ann", "bob", "cat"), horizon=2), Branching(3, solo=True), topology)
    assert len(group.solo) == len(group.episodes) == 3
    for alone in group.solo:
        assert [(turn.agent, turn.round) for turn in alone.turns] == [(last, 0), (last, 1)]
        assert [step.state[-1].count("+") for step in alone.steps] == [2, 2]
        assert [turn.prompt[0].content for turn in alone.turns] == [f"{last}:0:", f"{last}:1:"]
    seeds = [one.seed for call in voice.calls for one in call]
    assert len(set(seeds)) == len(seeds)


def test_who_plays_alone_draws_words_of_its_own() -> None:
    _, voice = grow(Diary(horizon=1), Branching(3, solo=True), Parallel())
    seeds = [one.seed for call in voice.calls for one in call]
    assert len(set(seeds)) == len(seeds) == 3 * 3


def test_playing_alone_does_not_change_what_is_played_together() -> None:
    (beside,), _ = grow(Diary(horizon=1), Branching(3, solo=True))
    (plain,), _ = grow(Diary(horizon=1), Branching(3))
    assert beside.episodes == plain.episodes and plain.solo == ()
