"""What a branching costs, counted and played; and which settings it refuses."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import pytest

from fakes.play import Diary, grow
from madrigal.rollouts.branching import Branching, check_branching
from madrigal.rollouts.play import GenerationRequest, speaking_order
from madrigal.rollouts.topology import Asynchronous, Coordinated, Discussion, Parallel, Sequential, Topology
from madrigal.rollouts.tree import rollout_groups, walk, with_scores
from madrigal.runs.records import full_episodes, segments
from madrigal.types import Completion, ConfigError, Group, Point, TurnScores, all_groups

State = tuple[str, ...]


def groups_of(*given: Any, origins: int = 1) -> list[Group[Any]]:
    return grow(*given, origins=origins)[0]


def asked_for(group: Group[Any]) -> dict[tuple[int, int], int]:
    """Answers by round and place in it, each counted once, however many episodes share it."""
    found = defaultdict[tuple[int, int], set[int]](set)
    greedy = [node.greedy for node in all_groups([group]) if node.greedy is not None]
    for episode in [*full_episodes([group]), *greedy, *group.solo]:
        for index in {turn.round for turn in episode.turns}:
            spoken = [turn for turn in episode.turns if turn.round == index]
            for place, turn in enumerate(spoken):
                # Alone, the last speaker is the only one; it still speaks in its own place.
                found[index, place + (len(group.agents) - 1 if episode in group.solo else 0)].add(turn.number)
    return {key: len(answers) for key, answers in found.items()}


WAYS = [
    Parallel(),
    Sequential(),
    Sequential(("cat", "bob", "ann")),
    Discussion(2),
    Asynchronous(2),
    Coordinated("ann", turns=2),
]
SHAPES = [
    Branching(3),
    Branching(3, greedy=True),
    Branching(2, at="round"),
    Branching(2, at="round", greedy=True),
    Branching(3, at="round", follow="best"),
    Branching(2, at="turn"),
    Branching(1, at="turn", fanout=(2, 3)),
    Branching(2, at="turn", fanout=(1, 3)),
    Branching(3, at="turn", vary=("bob",)),
    Branching(2, at="turn", fanout=(3,), follow="one"),
    Branching(2, at="turn", vary=("bob",), follow="one"),
]


@pytest.mark.parametrize("branching", SHAPES)
@pytest.mark.parametrize("topology", WAYS)
@pytest.mark.parametrize("agents", [("ann", "bob"), ("ann", "bob", "cat")])
def test_what_is_played_is_what_was_counted(agents: tuple[str, ...], topology: Topology, branching: Branching) -> None:
    order = speaking_order(topology, agents)
    horizon = 2 if branching.leaves(order, 2) <= 256 else 1
    (group,) = groups_of(Diary(agents, horizon), branching, topology)
    count = segments if branching.follow == "best" else full_episodes
    assert sum(1 for _ in count([group])) == branching.leaves(order, horizon)
    expected = {(r, p): branching.answers(order, r, p) for r in range(horizon) for p in range(len(order))}
    assert asked_for(group) == expected


@pytest.mark.parametrize("branching", [Branching(2, crossed=True), Branching(2, at="round", crossed=True)])
def test_crossed_joint_actions_are_counted_too(branching: Branching) -> None:
    for agents in (("ann", "bob"), ("ann", "bob", "cat")):
        (group,) = groups_of(Diary(agents), branching, Parallel())
        assert sum(1 for _ in full_episodes([group])) == branching.leaves(agents, 2)
        assert asked_for(group) == {
            (r, p): branching.answers(agents, r, p) for r in range(2) for p in range(len(agents))
        }


def test_an_agent_alone_speaks_once_more_beside_every_chain() -> None:
    (group,) = groups_of(Diary(horizon=1), Branching(3, solo=True), Sequential())
    assert asked_for(group) == {(0, 0): 3, (0, 1): 6}
    assert [Branching(3, solo=True).answers(("ann", "bob"), 0, place) for place in (0, 1)] == [3, 6]


def test_the_released_tree_of_c3_has_two_messages_and_four_answers_to_each() -> None:
    (group,) = groups_of(Diary(horizon=1), Branching(4, at="turn", fanout=(2, 4)), Sequential())
    assert asked_for(group) == {(0, 0): 2, (0, 1): 8}
    assert [len(episode.turns) for episode in segments([group])] == [1] * 10
    assert [episode.then is None for episode in segments([group])] == [False] * 2 + [True] * 8


def test_places_beyond_the_fanout_take_the_width() -> None:
    tree = Branching(3, at="turn", fanout=(2, 4))
    assert [tree.alternatives(place, "ann") for place in range(4)] == [2, 4, 3, 3]
    assert Branching(3, at="turn", fanout=(2, 4), vary=("bob",)).alternatives(1, "ann") == 1
    assert tree.leaves(("ann", "bob", "cat"), 1) == 2 * 4 * 3


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"width": 0}, "expected at least 1 answer at every place, got width 0"),
        ({"at": "turn", "fanout": (2, 0)}, r"fanout \(2, 0\)"),
        ({"fanout": (2, 4)}, 'fanout works with at="turn" only, got at="start"'),
        ({"vary": ("ann",), "at": "round"}, 'vary works with at="turn" only, got at="round"'),
        ({"follow": "best"}, 'follow="best" works with at="round" only'),
        ({"follow": "best", "at": "turn"}, 'follow="best" works with at="round" only'),
        ({"follow": "one", "at": "round"}, 'follow="one" works with at="turn" only'),
        ({"solo": True, "at": "turn"}, 'solo works with at="start" and aligned joint actions only'),
        ({"solo": True, "crossed": True}, "solo works with .* crossed=True"),
        ({"crossed": True, "at": "turn"}, 'crossed works with at="start" or at="round" only'),
        ({"greedy": True, "at": "turn"}, 'greedy works with at="start" or at="round" only'),
    ],
)
def test_settings_that_do_not_go_together_are_refused(settings: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        Branching(**settings)


def test_a_tree_of_decisions_over_the_limit_is_refused_with_its_size() -> None:
    tree = Branching(4, at="turn", fanout=(2, 4))
    check_branching(tree, ("ann", "bob"), horizon=2)
    with pytest.raises(ConfigError, match=r"512 episodes per example exceed .* 256 .*fanout=\(2, 4\).*tree false"):
        check_branching(tree, ("ann", "bob"), horizon=3)
    with pytest.raises(ConfigError, match="512 episodes"):  # four decisions in a round
        check_branching(Branching(4, at="turn", fanout=(2, 4, 8, 8)), ("ann", "bob", "ann", "bob"), horizon=1)
    check_branching(Branching(4, at="turn", follow="one"), ("ann", "bob") * 2, horizon=20)  # 1 + 20 * 4 * 3


def test_a_tree_in_which_nothing_can_be_compared_is_refused() -> None:
    with pytest.raises(ConfigError, match="gives one alternative to every decision of ann, bob"):
        check_branching(Branching(4, at="turn", fanout=(1, 1)), ("ann", "bob"), horizon=1)
    check_branching(Branching(4, at="turn", fanout=(1, 1)), ("ann", "bob", "cat"), horizon=1)


def test_an_agent_that_nobody_is_cannot_be_varied() -> None:
    with pytest.raises(
        ConfigError, match=r"algorithm\.agents: eve is no agent of this task; expected some of ann, bob"
    ):
        check_branching(Branching(4, at="turn", vary=("ann", "eve")), ("ann", "bob", "ann"), horizon=1)


@pytest.mark.parametrize(
    "branching",
    [Branching(2), Branching(2, at="round"), Branching(2, at="turn"), Branching(2, at="round", crossed=True)],
    ids=["chains", "tree", "decisions", "crossed"],
)
def test_scores_come_to_the_turns_that_they_were_given_for(branching: Branching) -> None:
    groups = groups_of(Diary(), branching, Parallel(), origins=2)
    turns = [turn for _, _, turn in walk(groups)]
    scored = with_scores(groups, [TurnScores((float(n),)) for n in range(len(turns))])
    assert [(turn.scores.values, turn) for _, _, turn in walk(scored)] == [((n,), turn) for n, turn in enumerate(turns)]
    assert all(turn.scores.values is None for turn in turns) and scored == groups
    with pytest.raises(ValueError, match="zip"):
        with_scores(groups, [TurnScores()])


def test_answers_are_numbered_and_crossed_joint_actions_share_them() -> None:
    """Two answers of two agents: four joint actions of round 0 say four answers; later rounds are each chain's own."""
    groups = groups_of(Diary(), Branching(2, crossed=True, greedy=True), Parallel(), origins=2)
    for group in groups:
        first = [[turn.number for turn in one.turns if turn.round == 0] for one in group.episodes]
        assert len({tuple(pair) for pair in first}) == 4 and len({number for pair in first for number in pair}) == 4
    played = [one for group in groups for one in (*group.episodes, group.greedy) if one is not None]
    numbers = {turn.number for one in played for turn in one.turns}
    assert numbers == set(range(2 * (4 + 8 + 4)))  # the first answers, those of later rounds, the greedy ones


def test_crossed_answers_stay_with_who_gave_them_in_whatever_order_agents_act() -> None:
    class Reversed(Diary):
        def acting(self, state: State) -> tuple[str, ...]:
            return self.agents[::-1]

    def named(wanted: Sequence[GenerationRequest]) -> list[Completion]:
        return [Completion(one.agent) for one in wanted]

    task = Reversed()
    (group,) = rollout_groups(
        task,
        Parallel(),
        [Point("x", ())],
        Branching(2, crossed=True),
        named,
        lambda asked: [task.step(r.state, r.actions) for r in asked],
    )
    assert all(turn.completion.text == turn.agent for _, _, turn in walk([group]))
