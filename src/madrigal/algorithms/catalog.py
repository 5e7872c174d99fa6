"""The algorithms there are: one table that the command line, experiments and docs all read.

A new algorithm is a preset of a record that is there, or a record of its own with a name in `AlgorithmConfig`; and a
line in `ALGORITHMS`.
"""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

from madrigal.algorithms import group
from madrigal.algorithms.actor_critic import COLLM_CC, COLLM_DC, IPPO, MAPPO, ActorCritic
from madrigal.algorithms.ccpo import Ccpo
from madrigal.algorithms.counterfactual import Counterfactual
from madrigal.algorithms.group_relative import GroupRelative
from madrigal.algorithms.maporl import Maporl
from madrigal.algorithms.marti import Marti
from madrigal.algorithms.pmic import Pmic
from madrigal.algorithms.role_information import RoleInformation
from madrigal.algorithms.self_play import SelfPlay

AlgorithmConfig = (
    GroupRelative | Marti | SelfPlay | Counterfactual | Ccpo | Pmic | RoleInformation | ActorCritic | Maporl
)

# Each as it comes, and what it is in one line.
ALGORITHMS: dict[str, tuple[AlgorithmConfig, str]] = {
    "magrpo": (group.MAGRPO, "group-relative advantages of a joint reward, plain policy gradient (arXiv:2508.04652)"),
    "reinforce": (group.REINFORCE, "MA-REINFORCE: the joint return itself, no baseline"),
    "rloo": (group.RLOO, "MA-RLOO: compared with the mean of the siblings, itself left out (arXiv:2402.14740)"),
    "remax": (group.REMAX, "MA-ReMax: compared with an episode of the most likely words (arXiv:2310.10505)"),
    "independent_grpo": (group.INDEPENDENT_GRPO, "GRPO for each agent on its own reward, standardized and clipped"),
    "dr_mas": (group.DR_MAS, "every agent's steps standardized over its own active steps (arXiv:2602.08847)"),
    "at_grpo": (group.AT_GRPO, "K candidates a round from one state, the best goes on (arXiv:2510.11062)"),
    "matpo": (group.MATPO, "the final answer's reward for every turn that led to it (arXiv:2510.04678)"),
    "marti": (Marti(), "rewards shaped by what an answer adds to earlier ones, then a group mean (MARTI)"),
    "multi_turn_grpo": (
        group.MULTI_TURN_GRPO,
        "GRPO over whole episodes, turns not averaged (arXiv:2503.09501, 2511.02303)",
    ),
    "self_play": (SelfPlay(), "zero-sum games against itself, a moving baseline for each role (arXiv:2506.24119)"),
    "counterfactual": (Counterfactual(), "C3: alternatives of one decision in one context (arXiv:2603.06859)"),
    "coma": (group.COMA, "COMA's baseline over all crossed joint actions: teammates' words fixed (arXiv:1705.08926)"),
    "ccpo": (Ccpo(), "CCPO: what a thinker adds to a reasoner who also works alone (arXiv:2603.21563)"),
    "leave_one_out_team": (
        group.LEAVE_ONE_OUT_TEAM,
        "what the round loses without an agent's words (arXiv:2512.24609)",
    ),
    "maporl": (Maporl(), "debates scored answer by answer: influence-aware rewards and PPO (arXiv:2502.18439)"),
    "pmic": (Pmic(), "a bonus for what state and joint action share in good episodes (arXiv:2203.08553)"),
    "role_information": (RoleInformation(), "a bonus for answers that tell the speaker's role (arXiv:1802.06070)"),
    "ippo": (IPPO, "PPO for each agent by itself: its own critic, its own reward (arXiv:2011.09533)"),
    "mappo": (MAPPO, "PPO with one critic that reads what all agents are shown (arXiv:2103.01955)"),
    "collm_dc": (COLLM_DC, "CoLLM-DC: one critic for each agent, asked once a turn (arXiv:2601.21972)"),
    "collm_cc": (COLLM_CC, "CoLLM-CC: one critic of the joint history, asked once a turn (arXiv:2601.21972)"),
}
COMMON = ("width", "discount", "reward_shift", "kl")  # settings of a recipe that stay when its algorithm is changed


def switch_algorithm(old: AlgorithmConfig, name: str) -> AlgorithmConfig:
    """Another algorithm by name, with what the old one's settings say of the task rather than of the method.

    A width of 1 is such a method's that compares nothing, and stays with it.

    >>> new = switch_algorithm(GroupRelative(width=8, kl=0.01, clip=0.2), "reinforce")
    >>> new.name, new.width, new.kl, new.clip
    ('reinforce', 8, 0.01, None)
    """
    if old.name == name:
        return old
    new = ALGORITHMS[name][0]
    both = {field.name for field in fields(new)} & {field.name for field in fields(old)}
    kept: dict[str, Any] = {key: getattr(old, key) for key in COMMON if key in both}
    if kept["width"] == 1:
        del kept["width"]
    return replace(new, **kept)
