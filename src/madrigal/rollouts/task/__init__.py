"""Tasks: what one is (`protocol`), what it promises (`contract`), and the shortest way to one (`single`)."""

from madrigal.rollouts.task.contract import check_agents, check_examples, check_step, check_task, explain
from madrigal.rollouts.task.protocol import (
    Rewards,
    Task,
    Wrapper,
    answering_in,
    demonstrations_of,
    joint,
    moves_of,
    rewards_of,
    scripted_in,
)
from madrigal.rollouts.task.single import SingleRound, said_lines

__all__ = [
    "Rewards",
    "SingleRound",
    "Task",
    "Wrapper",
    "answering_in",
    "check_agents",
    "check_examples",
    "check_step",
    "check_task",
    "demonstrations_of",
    "explain",
    "joint",
    "moves_of",
    "rewards_of",
    "said_lines",
    "scripted_in",
]
