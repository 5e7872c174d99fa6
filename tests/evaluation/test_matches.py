"""Matches between speakers: both seats, win rates, who is asked for what."""

from __future__ import annotations

import pytest

from fakes.play import judge_of
from madrigal.evaluation.games import match, scripted
from madrigal.rollouts.play import GenerationRequest
from madrigal.rollouts.task import SingleRound
from madrigal.tasks.games.kuhn import Kuhn, equilibrium_player
from madrigal.tasks.games.opponent import open_table
from madrigal.tasks.games.players import random_player
from madrigal.tasks.games.rules import PLAYERS
from madrigal.tasks.games.tictactoe import TicTacToe, perfect_player
from madrigal.types import Completion, ConfigError, Example, Messages

RANDOM, PERFECT = scripted(random_player), scripted(perfect_player)


def test_perfect_play_never_loses_and_draws_with_itself() -> None:
    task = open_table(TicTacToe())
    examples = task.examples("train")[:40]
    against_random = match(task, PERFECT, RANDOM, examples, judge_of(task))
    assert against_random.win + against_random.draw == 1
    assert against_random.win > 0.6
    assert against_random.payoff.mean == pytest.approx(against_random.win)
    assert against_random.episodes == 80
    mirror = match(task, PERFECT, PERFECT, examples, judge_of(task))
    assert (mirror.draw, mirror.payoff.mean) == (1, 0)


def test_what_one_wins_of_the_other_the_other_loses() -> None:
    task = open_table(TicTacToe(opening=0))
    examples = task.examples("train")[:20]
    lost = match(task, RANDOM, PERFECT, examples, judge_of(task))
    assert lost.win == 0 and lost.payoff.mean < -0.4


def test_a_seat_that_is_ahead_shows() -> None:
    """Always to bet against always to pass wins an ante in either seat."""
    task = open_table(Kuhn())
    bold, meek = (scripted(lambda prompt, seed, move=move: move) for move in "21")  # type: ignore[misc]
    result = match(task, bold, meek, task.examples("train")[:6], judge_of(task))
    assert (result.win, result.payoff.mean, result.payoff.low) == (1, 1, 1)
    assert result.win_as == {"first": 1, "second": 1}


def test_the_equilibrium_wins_of_a_random_player() -> None:
    task = open_table(Kuhn())
    result = match(task, scripted(equilibrium_player), RANDOM, task.examples("train"), judge_of(task))
    assert result.payoff.low > 0


def test_a_scripted_player_sees_the_prompt_and_shows_no_tokens() -> None:
    seen: list[Messages] = []

    def player(prompt: Messages, seed: int) -> str:
        seen.append(prompt)
        return str(seed)

    utterance = GenerationRequest("first", (), 7)
    assert scripted(player)([utterance]) == [Completion("7")]
    assert seen == [()]


def test_a_task_that_is_no_match_is_refused() -> None:
    joint = SingleRound("greet", PLAYERS, (Example("a", {}),), (Example("b", {}),), lambda e, a: "Hi", lambda e, s: 1.0)
    with pytest.raises(ConfigError, match="two agents and zero-sum rewards; greet has 2 and joint ones"):
        match(joint, RANDOM, RANDOM, joint.examples("train"), judge_of(joint))
