"""What a run meets: channels that fade, devices that leave, heat up and dawdle, round by round.

state       what must be kept between rounds, exactly       columns     a scenario's variation as arrays of shape (K,)
processes   the laws, each one step of all devices          fate        `Reality`: from one round to the next

    reality = Reality.of(scenario)
    state = reality.start()
    state, met = reality.next(state, 0.0)        # the first round's conditions
    state, met = reality.next(state, 1.7)        # the next round's: it begins 1.7 s after the first
"""

from pretune.reality.fate import Reality
from pretune.reality.state import Conditions, State

__all__ = ["Conditions", "Reality", "State"]
