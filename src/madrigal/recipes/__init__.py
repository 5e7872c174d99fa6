"""Recipes: experiments by name, each number beside its source."""

from __future__ import annotations

from collections.abc import Callable

from madrigal.config import Experiment
from madrigal.recipes import debate, embedded, games, office, paper, small
from madrigal.types import ConfigError, unknown

RECIPES: dict[str, Callable[[], Experiment]] = {
    "tldr": embedded.tldr,
    "arxiv": embedded.arxiv,
    "coding": embedded.coding,
    "coding-two-turns": embedded.coding_two_turns,
    "gsm8k": embedded.gsm8k,
    "debate": debate.debate,
    "debate-no-verifier": debate.debate_no_verifier,
    "tictactoe": games.tictactoe,
    "kuhn": games.kuhn,
    "office": office.office,
    "build": embedded.build,
    "relay": embedded.relay,
    "ledger": embedded.ledger,
    "taboo": embedded.taboo,
    "edit": embedded.edit,
    "project": embedded.project,
    "consult": embedded.consult,
    "chores": embedded.chores,
    "maporl-gsm8k-phi3-mini": debate.gsm8k,
    "maporl-anli-phi3-mini": debate.anli,
    "tldr-smollm2": small.tldr,
    "arxiv-smollm2": small.arxiv,
    "coop-smollm2": small.coop,
    "tldr-qwen3-1.7b": paper.tldr,
    "arxiv-qwen3-1.7b": paper.arxiv,
    "humaneval-qwen2.5-coder-3b": paper.humaneval,
    "humaneval-qwen2.5-coder-3b-two-turns": paper.humaneval_two_turns,
    "coophumaneval-qwen2.5-coder-3b": paper.coophumaneval,
    "coophumaneval-qwen2.5-coder-3b-two-turns": paper.coophumaneval_two_turns,
}


def recipe(name: str) -> Experiment:
    """The experiment of a recipe.

    Raises:
        ConfigError: if there is none of that name; naming the nearest ones.
    """
    if name not in RECIPES:
        raise ConfigError(unknown("recipe", name, RECIPES))
    return RECIPES[name]()
