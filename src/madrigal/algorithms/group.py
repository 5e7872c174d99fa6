"""Group-relative methods: eleven of them, each one `GroupRelative` with other settings, its equation and its paper.

method               siblings are         X: rewards, over        baseline  scale   loss
MAGRPO               G chains (or tree)   joint, to go            mean      -       plain
REINFORCE            G chains             joint, to go            none      -       plain
RLOO                 G chains             joint, to go            others    -       plain
REMAX                G chains             joint, to go            greedy    -       plain
COMA                 a crossed tree       joint, to go            others    -       plain
INDEPENDENT_GRPO     G chains             own, to go              mean      group   clipped
AT_GRPO              a round's answers    joint, of the round     mean      group   clipped
MULTI_TURN_GRPO      whole chains         joint, of all rounds    mean      group   clipped
MATPO                whole chains         joint, of the last      mean      group   clipped
DR_MAS               an agent's steps     joint, of all rounds    mean      group   clipped
LEAVE_ONE_OUT_TEAM   G chains             joint, to go + added    mean      batch   clipped
"""

from __future__ import annotations

from dataclasses import replace

from madrigal.algorithms.group_relative import GroupRelative

MAGRPO = GroupRelative()
"""MAGRPO, multi-agent group-relative policy optimization: every default is the paper's choice.

    Eq. 1   A_t^(g) = R_t^(g) - 1/G * sum_g' R_t^(g')              the same advantage for every agent, no std
    Eq. 2   J(theta_i) = E[ 1/G * sum_g A_t^(g) * log pi_i(a_i,t^(g) | h_i,t^(g)) ]      no ratio, no clip, no KL

With one agent this is GRPO's group baseline without the division by the standard deviation.

References:
    Liu, Chen, Liang, Lyu, Amato, 2025, "LLM Collaboration with Multi-Agent Reinforcement Learning", arXiv:2508.04652:
    Algorithm 1 (chains: AAAI text) and the Eq. 2 of its second version (`tree`).
"""

REINFORCE = replace(MAGRPO, name="reinforce", baseline="none")
"""MA-REINFORCE: A_t^(g) = R_t^(g). Unbiased and noisy: where all rewards are positive every answer is pushed up.

References:
    Williams, 1992, "Simple statistical gradient-following algorithms"; as MA-REINFORCE beside MAGRPO in the public code
    of arXiv:2508.04652.
"""

RLOO = replace(MAGRPO, name="rloo", baseline="others")
"""MA-RLOO: A_t^(g) = R_t^(g) - 1/(G-1) * sum_{g' != g} R_t^(g').

MAGRPO's baseline contains the answer that it judges and shrinks the gradient by (G-1)/G; this one does not. With equal
groups the two differ by that factor only, and where episodes end early by one factor per round.

References:
    Ahmadian et al., 2024, "Back to Basics", arXiv:2402.14740; as MARLOO in the public code of arXiv:2508.04652.
"""

REMAX = replace(MAGRPO, name="remax", baseline="greedy")
"""MA-ReMax: A_t^(g) = R_t^(g) - R_t^greedy, the return of the same round of an episode of the most likely words.

Where that episode ended earlier R_t^greedy is 0. Leaving such rounds out would be a biased gradient, because answers
that are worth something there would never be credited. The paper has a width of 1; 4 is ours.
Not the MAREMAX of the public code of arXiv:2508.04652, which subtracts the best return of the group.

References:
    Li et al., 2023, "ReMax", arXiv:2310.10505.
"""

COMA = replace(MAGRPO, name="coma", tree=True, crossed=True, baseline="others")
"""COMA's counterfactual baseline over crossed joint actions: what if I had answered otherwise, and nobody else?

    A_i(k | a_-i) = Q(a_i^k, a_-i) - 1/(K-1) * sum_{k' != k} Q(a_i^k', a_-i)        teammates' words fixed
    A_i(k)        = mean over a_-i of A_i(k | a_-i)                                   the credit of answer k

Baseline and mean over teammates are linear, so their order does not matter: this is leave-one-out on the mean over
teammates (proved in tests/algorithms/test_coma.py), and with baseline "mean" MAGRPO over crossed trees. COMA asks a
critic for Q; here all K ** A joint actions of K answers each are judged, which is ours. COMA's sum over the policy
contains the answer that it judges; of K draws it must be left out. With one agent it is RLOO.

References:
    Foerster, Farquhar, Afouras, Nardelli, Whiteson, 2018, "Counterfactual Multi-Agent Policy Gradients", Eq. 4,
    arXiv:1705.08926.
"""

INDEPENDENT_GRPO = replace(MAGRPO, name="independent_grpo", joint_weight=0.0, own_weight=1.0, scale="group", clip=0.2)
"""GRPO for each agent by itself: A_{i,t} = (R_{i,t} - mean R_{i,t}) / (std R_{i,t} + epsilon), of its own rewards.

What a shared reward is measured against. Each agent may settle where it alone cannot gain, short of what all could
have: in the matrix game of appendix A of arXiv:2508.04652v2 own rewards reach 7 of 10.

References:
    Shao et al., 2024, "DeepSeekMath" (GRPO), arXiv:2402.03300, once per agent.
"""

AT_GRPO = replace(
    MAGRPO, name="at_grpo", tree=True, follow="best", over="round", scale="group", clip=0.2, updates="episode"
)
"""AT-GRPO: K candidates of each round from one state; play goes on from the best of them.

    r_{t,i}^(k) = alpha * r_team^(k) + r_loc,i^(k)          joint_weight alpha, 1 in the paper; own_weight 1 adds r_loc
    A_{t,i}^(k) = (r_{t,i}^(k) - mean_k r_{t,i}) / std_k r_{t,i}

Groups of plain GRPO hold chains whose later prompts differ; these are keyed by (example, agent, turn), at the cost of
K H joint actions, not K^H. Credit ends with the round, so an answer that pays only later is not credited for it. The
width was not found; 4 is ours.

References:
    "Stronger-MAS" (AT-GRPO), 2025, arXiv:2510.11062.
"""

MULTI_TURN_GRPO = replace(MAGRPO, name="multi_turn_grpo", over="episode", scale="group", clip=0.2, updates="episode")
"""Multi-turn GRPO: whole episodes are compared, and every turn gets the result.

    A_i = (R_i - mean_i R) / std_i R                         R_i the joint return of episode i
    J   = E[ 1/G sum_i  w_i  sum_t  A_i log pi(a_{i,t}) ]    w_i = 1, or with `average_turns` 1 / T_i

The 1/T_i is ReMA's. It makes agents lazy: of two equally good episodes the shorter one has the larger gradient in each
of its turns, so answers that skip the work are reinforced first. It is off here for that reason. Dr. MAMR, which found
this, adds a causal influence and a restart reward; their weights are not published and they are not built. ReMA takes
one ratio per turn, here it is one per token. The width is ours.

References:
    ReMA, 2025, arXiv:2503.09501; "Dr. MAMR", 2025, arXiv:2511.02303.
"""

MATPO = replace(MULTI_TURN_GRPO, name="matpo", width=8, over="final")
"""MATPO: A^(g) = (r_last^(g) - mean_g r_last) / std_g r_last for all turns of all agents of episode g.

r_last is the joint reward of the episode's last round, whenever that was; rewards of earlier rounds are not read. A
worker's turns are right whenever the final answer is, so episodes that ended early stay in the comparison.

References:
    "MATPO", 2025, arXiv:2510.04678: one model plays planner and workers; 8 rollouts of a query.
"""

DR_MAS = replace(MULTI_TURN_GRPO, name="dr_mas", width=8, among="own_steps", epsilon=1e-6)
"""Dr. MAS: every agent's steps are compared with its own steps only.

    A_{i,k} = (R_i - mu_k) / (sigma_k + epsilon)          R_i the joint return of episode i

mu_k and sigma_k (ddof 1) are over the steps in which agent k was active, in the rollouts of one example: an agent that
acts twice counts twice, one that is silent not at all. With the mean and deviation of everybody's steps instead, the
second moment of agent k's gradient is multiplied by (sigma_k^2 + (mu_k - mu)^2) / sigma^2 (Lemma 4.2): an agent that is
called mainly in hard or in easy episodes gets inflated gradients. A single step gets 0; the public code credits it with
its raw return. `scale` "none" is its `remove_std`. The paper has 8 rollouts for mathematics, 5 for search.

References:
    Feng, Zheng, He, Zhang, An, 2026, "Dr. MAS", arXiv:2602.08847.
"""

LEAVE_ONE_OUT_TEAM = replace(
    MAGRPO, name="leave_one_out_team", joint_weight=0.5, difference_weight=0.5, scale="batch", clip=0.2
)
"""Leave-one-out team credit: an answer is worth what the round would have lost without it.

    X_{i,t} = joint_weight * R_t + difference_weight * (r_t - r_t^{-i})       R_t the joint return to go
    A_{i,t} = (X_{i,t} - mean X_{i,t}) / sigma                                sigma over the batch

A teammate's good answer raises R_t of everybody and no difference but its own. What an answer moves others to say in
later rounds is in R_t only, which is why the two are mixed.

References:
    Qiu, Xu, Yue, 2025, "Reinforcement Learning-Augmented LLM Agents for Collaborative Decision Making and Performance
    Optimization", arXiv:2512.24609: group-relative advantages, leave-one-out team credit "without the current move",
    batch-scaled rewards. How the move is taken away, how the credits are joined and what is scaled is not published: a
    silent agent (the action ""), the mixture, the deviation over the batch and all numbers are ours.
"""
