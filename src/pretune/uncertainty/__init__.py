"""Planning for gains and clocks that vary: a scenario's `planning`, made into a scenario in which nothing does.

rice, gains   the laws of a channel, their quantiles and inverse means, always on the promise's side
odds          per device: what of its channel and its computing a plan may count on
equivalent    the deterministic scenario whose plans keep the promise
margin        what the whole run may take beyond its mean, and with which probability
policy        what a device does in a round, so that the promise holds
claim         what a plan says it was planned under; `verify` recomputes that by other formulas
"""

from pretune.uncertainty.equivalent import Equivalent, asking, counted, equivalent, planned_under
from pretune.uncertainty.odds import Odds, odds_of, participation

__all__ = ["Equivalent", "Odds", "asking", "counted", "equivalent", "odds_of", "participation", "planned_under"]
