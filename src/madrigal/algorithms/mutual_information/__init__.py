"""What a team's words share with what the team was shown: the parts that `pmic` is made of.

    pairs        of state and joint action, one of each round, and which may be compared
    buffers      which pairs came of good episodes, which of poor ones
    bounds       on the mutual information of pairs, as functions of networks
    networks     how a network is made, and how it learns
    estimators   both bounds, learned from both buffers

References:
    Li et al., 2022, "PMIC: Improving Multi-Agent Reinforcement Learning with Progressive Mutual Information
    Collaboration", arXiv:2203.08553, and its public code.
"""
