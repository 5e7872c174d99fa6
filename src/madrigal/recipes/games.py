"""Recipes of self-play on the starter model: one policy in both seats, minutes on a CPU.

The method is SPIRAL's (arXiv:2506.24119); the numbers are ours. The starter model has never seen a game: it takes the
prompt for a word problem and begins with a number. One token is its whole answer here, so that most moves are legal
from the start; with more tokens it calculates on, and in tic-tac-toe 39 % of its moves are legal.

SPIRAL has no KL term. Here one helps: in the first steps nearly all reward is for legal moves, and without it they may
leave one number for every card (entropy 0), and nothing to learn from. See docs/self-play.md for what was measured.
"""

from __future__ import annotations

from dataclasses import replace

from madrigal.algorithms.self_play import SelfPlay
from madrigal.config import Experiment
from madrigal.evaluation.evaluate import EvaluationConfig
from madrigal.maths.sampling import Sampling
from madrigal.recipes.embedded import OPTIMISER, STARTER
from madrigal.tasks.games.kuhn import Kuhn
from madrigal.tasks.games.tictactoe import TicTacToe

BOTH_SEATS = replace(STARTER, shared=True)  # SPIRAL: one policy plays both roles
ONE_TOKEN = Sampling(max_new_tokens=1)  # temperature 1.0, as in SPIRAL


def tictactoe() -> Experiment:
    """Tic-tac-toe against itself; evaluated against a random player."""
    return Experiment(
        recipe="tictactoe",
        task=TicTacToe(),
        team=BOTH_SEATS,
        algorithm=SelfPlay(width=4, kl=0.1),
        sampling=ONE_TOKEN,
        optimiser=replace(OPTIMISER, lr=3e-4),
        evaluation=EvaluationConfig(examples=96),
        steps=100,
        prompts=16,
        threads=1,
    )


def kuhn() -> Experiment:
    """One hand of Kuhn poker against itself; evaluated against a random player."""
    return replace(
        tictactoe(),
        recipe="kuhn",
        task=Kuhn(),
        algorithm=SelfPlay(width=4, kl=0.2),
        optimiser=replace(OPTIMISER, lr=1e-4),
        prompts=24,  # each of the six deals about four times
    )
