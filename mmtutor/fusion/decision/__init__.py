"""Decision-level (late) fusion: let each modality form its own opinion, then combine the opinions.

Pure functions of probs: modality → (B, C) with rows that sum to 1, returning the same. `votes` asks
who is for what and whom to trust, `evidence` multiplies, `fuzzy` integrates over coalitions,
`stacking` learns. Taught in chapter 5.
"""

from mmtutor.fusion.decision.evidence import (
    conflict,
    dempster_shafer,
    log_linear_pool,
    product_rule,
)
from mmtutor.fusion.decision.fuzzy import choquet, lambda_measure, sugeno, sugeno_lambda
from mmtutor.fusion.decision.stacking import Stacking
from mmtutor.fusion.decision.votes import average, fuzzy_rules, majority_vote, trust, weighted_vote

__all__ = [
    "Stacking",
    "average",
    "choquet",
    "conflict",
    "dempster_shafer",
    "fuzzy_rules",
    "lambda_measure",
    "log_linear_pool",
    "majority_vote",
    "product_rule",
    "sugeno",
    "sugeno_lambda",
    "trust",
    "weighted_vote",
]
