"""How much does one thing tell about another, and do two sources say the same? In nats, or
units="bits".

gaussian: the formula. tables: labels that can be counted. estimators: histogram and nearest
neighbours. neural: lower bounds from a trained critic. pid: redundant, unique and synergetic parts,
and what shuffling can correct. Taught in chapter 9.
"""

from mmtutor.information.estimators import histogram_mi, ksg_mi
from mmtutor.information.gaussian import gaussian_mi
from mmtutor.information.neural import Bound, infonce_mi, mine_mi
from mmtutor.information.pid import PID, pid, shuffle_correct
from mmtutor.information.tables import discrete_mi, plug_in_joint

__all__ = [
    "PID",
    "Bound",
    "discrete_mi",
    "gaussian_mi",
    "histogram_mi",
    "infonce_mi",
    "ksg_mi",
    "mine_mi",
    "pid",
    "plug_in_joint",
    "shuffle_correct",
]
