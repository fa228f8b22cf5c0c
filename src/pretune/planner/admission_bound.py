"""A lower bound over all subsets of a fleet: branch and bound on rounds, spans, weights, broadcasts and devices.

A node holds boxes for the rounds of both stages, for the span of a fine-tuning round, for the admitted weight and for
the reach of the broadcast, and says of each device whether it is in, out or free. Any prices bound all subsets of a
node (`kernels.admission`); good ones are found by a compass search from those of the node it was cut from. A node that
no prices settle is cut where that promises most; one whose devices are all decided is planned.
"""

from __future__ import annotations

import heapq
import math
import time
from dataclasses import dataclass, field, replace

import numpy as np

from pretune.physics.types import Floats
from pretune.planner.admission_candidates import Candidates, shares_at
from pretune.planner.admission_fleet import Choice, Mask
from pretune.planner.admission_node import Node, between, by_device, halves, most_pretraining, server_batch, server_pays
from pretune.planner.infeasible import STAGES, fits_one_round
from pretune.planner.kernels.admission import (
    FREE,
    IN,
    OUT,
    Cell,
    Offer,
    brackets,
    offer_of,
    subset_batches,
    subset_bound,
)
from pretune.planner.kernels.priced import Region
from pretune.planner.kernels.rounds import coefficients
from pretune.planner.problem import Problem
from pretune.planner.search import Search
from pretune.planner.whole import Decision

MOST_NODES = 20_000
MOST_WORK = 2_000_000
"""Nodes to study, and nodes times devices: what ends a search that no tolerance ends."""
_WIDE = 1.6
"""Ratio of the ends of a side above which prices are also taken at its upper end, where they are gentler."""
_COARSE = 1.0
"""Sides wider than this (in the logarithm) are cut by width alone: what they lose says little."""


@dataclass(frozen=True, kw_only=True)
class Study:
    """What some prices prove of a node, and the point where the devices' shares were taken."""

    bound: float
    offer: Offer
    mu: float
    n: float
    span: float
    weight: float
    prices: tuple[float, float]


@dataclass
class SubsetSearch:
    """The search and its state; `candidates` holds the best subset and is improved on the way."""

    choice: Choice
    candidates: Candidates
    tolerance: float
    deadline: float = math.inf
    floor: float = math.inf
    """The least bound of a subset whose own plan keeps a gap."""
    proven: float = -math.inf
    nodes: int = 0
    late: bool = False
    _planned: set[bytes] = field(default_factory=set)

    @property
    def target(self) -> float:
        """A node whose bound reaches this is settled."""
        value = self.candidates.value
        if not math.isfinite(value):
            return self.floor
        return min(value - 0.999 * self.tolerance * abs(value), self.floor)

    def run(self, pretrain_bound: float) -> None:
        """Search until the gap is closed, nothing is left to cut, or time or nodes are up.

        `pretrain_bound` bounds the plans that do not fine-tune.
        """
        self.floor = pretrain_bound
        self.levels = np.unique(self.choice.down_s)
        root = self._root()
        heap: list[tuple[float, int, Node]] = [] if root is None else [(root.bound, 0, root)]
        most = max(min(MOST_NODES, MOST_WORK // len(self.choice)), 200)
        count = 0
        while heap and heap[0][0] < self.target and self.nodes < most:
            if time.monotonic() > self.deadline:
                self.late = True
                break
            _, _, node = heapq.heappop(heap)
            self.nodes += 1
            for child in self._study(node):
                if child.bound < self.target:
                    count += 1
                    heapq.heappush(heap, (child.bound, count, child))
        self.proven = min([self.target, *(entry[0] for entry in heap)])

    def enumerate(self, pretrain_bound: float) -> None:
        """Plan every subset there is, each against the best plan known; for small fleets."""
        self.floor = pretrain_bound
        count = len(self.choice)
        for number in range(1, 2**count):
            if time.monotonic() > self.deadline:
                self.late, self.floor = True, -math.inf
                break
            self.nodes += 1
            self._leaf(np.array([bool(number >> k & 1) for k in range(count)]))
        self.proven = self.target

    @property
    def planned(self) -> int:
        """Subsets that were planned at all rounds."""
        return len(self._planned)

    # ------------------------------------------------------------------ one node

    def _root(self) -> Node | None:
        choice, leader = self.choice, self.candidates.leader
        d, limits = choice.problem.devices, choice.limits(float(self.levels[0]))
        problem = choice.problem._replace(limits=limits)
        uploads = d.span / d.exponent_max
        fastest = d.cycles / d.clock_max
        self.least = (fastest if limits.tdma else fastest + uploads) * (1.0 - 1e-9)
        one_round = float((fastest + uploads + choice.down_s).min()) * (1.0 - 1e-9)
        most_n = float(math.floor(min(limits.delay / one_round, 2.0**53)))
        if most_n < 1.0:
            return None
        low = float(self.least.min())
        nobody = np.zeros(len(choice), dtype=np.bool_)
        per_m = problem.server.cycles / problem.server.clock_max
        most_m = float(math.floor(min(limits.delay / per_m * (1.0 + 1e-9), 2.0**53)))
        return Node(
            bound=-math.inf,
            region=Region(
                0.0, most_pretraining(problem, 0.0, most_m, 1.0, low, nobody), 1.0, most_n, low, limits.delay
            ),
            weights=(choice.least_weight, 1.0),
            reach=(0, len(self.levels) - 1),
            state=np.zeros(len(choice)),
            prices=(1.0, 1.0) if leader is None else (leader.lam, leader.omega),
        )

    def _study(self, node: Node) -> list[Node]:
        """The parts of a node that stay open, with their bounds; none where it is settled."""
        tight = self._tightened(node)
        if tight is None:
            return []
        node, problem, caps = tight
        if not np.any(node.state == FREE):
            self._leaf(node.state == IN)
            return []
        best = self._best_prices(node, problem, caps)
        if best.bound >= self.target:
            return []
        mask, critical = self._relaxed(node, problem, caps, best)
        self._try(mask)
        node = replace(node, bound=max(node.bound, best.bound), prices=best.prices)
        return self._cut(node, problem, caps, best, mask, critical)

    def _tightened(self, node: Node) -> tuple[Node, Problem, Floats] | None:
        """The node without what its own limits rule out, its problem, and the largest batches; None if it is empty."""
        choice = self.choice
        m1, m2, n1, n2, s1, s2 = node.region
        far = choice.down_s > self.levels[node.reach[1]]
        inside = node.state == IN
        limits = choice.limits(float(self.levels[node.reach[0]]))
        problem = choice.problem._replace(limits=limits)
        up_s = float(choice.uploads[inside].sum())
        server, overhead = problem.server, limits.down_s + up_s
        if np.any(far & inside):
            return None
        s1 = max(s1, float(self.least[inside].max(initial=0.0)))
        per_m = server.cycles / server.clock_max
        s2 = min(s2, (limits.delay - m1 * per_m) / n1 - overhead)
        if s2 < s1 * (1.0 - 1e-12) or not server_pays(problem, m1, n1, s1, inside):
            return None
        s2 = max(s1, s2)
        m2 = most_pretraining(problem, m1, m2, n1, s1, inside)
        n2 = min(n2, float(math.floor((limits.delay - m1 * per_m) / (s1 + overhead) * (1.0 + 1e-9))))
        if n2 < n1:
            return None
        region = Region(m1, m2, n1, n2, s1, s2)
        caps = subset_batches(problem, region, up_s)
        if np.any(caps[inside] < 1.0):
            return None
        state = np.where(far | ((node.state == FREE) & (caps < 1.0)), OUT, node.state)
        w1 = max(node.weights[0], float(choice.alpha[inside].sum()) * (1.0 - 1e-12))
        w2 = min(node.weights[1], float(choice.alpha[state != OUT].sum()) * (1.0 + 1e-12))
        if w2 < w1:
            return None
        return replace(node, region=region, state=state, weights=(w1, w2)), problem, caps

    def _leaf(self, mask: Mask) -> None:
        """Plan the one subset that is left, at all rounds."""
        key = mask.tobytes()
        if not self.choice.allows(mask) or key in self._planned:
            return
        self._planned.add(key)
        bound, best, late = planned_bound(self.choice.subset(mask), self.tolerance, self.deadline, self.candidates)
        self.floor = min(self.floor, bound)
        self.late = self.late or late
        self.candidates.accept(mask, best)

    # ------------------------------------------------------------------ prices

    def _priced(self, node: Node, problem: Problem, caps: Floats, prices: tuple[float, float], upper: bool) -> Study:
        """What the prices of energy and time prove, with shares and a price of weight made for the node.

        They are made for the middle of the node, or (`upper`) for its longest span and largest weight.
        """
        choice, cell, region = self.choice, node.cell, node.region
        n = math.sqrt(region.n1 * region.n2)
        m = math.sqrt((region.m1 + 1.0) * (region.m2 + 1.0)) - 1.0
        span = cell.s2 if upper else math.sqrt(cell.s1 * cell.s2)
        weight = cell.w2 if upper else math.sqrt(cell.w1 * cell.w2)
        high = np.where(node.state == OUT, 0.0, caps)
        batches = problem.batches._replace(high=high)
        shares, ratios = shares_at(choice, batches, *prices, (m, n), span, weight)
        offer = offer_of(problem, *prices, shares, ratios)
        study = Study(bound=-math.inf, offer=offer, mu=0.0, n=n, span=span, weight=weight, prices=prices)
        cost, order = self._ranked(node, problem, caps, study)
        mu = self._weight_price(node, cost, order, study)
        most = server_batch(problem, region, node.state == IN)
        bound, mu = subset_bound(problem, offer, region, cell, choice.alpha, node.state, caps, most, weight, mu, True)
        return replace(study, bound=float(bound), mu=float(mu))

    def _best_prices(self, node: Node, problem: Problem, caps: Floats) -> Study:
        """A compass search over the prices of energy and time, from the node's; ends where the node is settled."""
        wide = node.cell.s2 > _WIDE * node.cell.s1 or node.cell.w2 > _WIDE * node.cell.w1

        def study(prices: tuple[float, float]) -> Study:
            found = self._priced(node, problem, caps, prices, False)
            if wide and found.bound < self.target:
                found = max(found, self._priced(node, problem, caps, prices, True), key=lambda one: one.bound)
            return found

        best = study(node.prices)
        step = 4.0 if node.bound == -math.inf else 1.5
        while step > 1.1 and best.bound < self.target:
            lam, omega = best.prices
            around = ((lam * step, omega), (lam / step, omega), (lam, omega * step), (lam, omega / step))
            before = best
            for prices in around:
                trial = study(prices)
                if trial.bound > best.bound:
                    best = trial
                    if best.bound >= self.target:
                        return best
            if best is before:
                step = step**0.5
        return best

    def _ranked(self, node: Node, problem: Problem, caps: Floats, study: Study) -> tuple[Floats, list[int]]:
        """What everyone costs at the study's point, and the free devices by what they cost per weight."""
        cost = np.empty(len(self.choice))
        psi = float(coefficients(problem.criterion, node.region.m1, study.n)[3])
        brackets(problem, study.offer, caps, study.n, psi, 1.0 / study.weight**2, study.span, cost)
        free = np.flatnonzero((node.state == FREE) & np.isfinite(cost))
        order = free[np.argsort(cost[free] / self.choice.alpha[free], kind="stable")]
        return cost, order.tolist()

    def _weight_price(self, node: Node, cost: Floats, order: list[int], study: Study) -> float:
        """The price of weight, per round, at which the devices that are worth it just reach the point's weight."""
        alpha = self.choice.alpha
        reached, price = float(alpha[node.state == IN].sum()), 0.0
        for k in order:
            if reached >= study.weight:
                break
            price = float(cost[k] / alpha[k])
            reached += float(alpha[k])
        return max(price, 1e-300) / study.n

    def _relaxed(self, node: Node, problem: Problem, caps: Floats, study: Study) -> tuple[Mask, int]:
        """The cheapest devices that reach the point's weight, and the last of them."""
        _, order = self._ranked(node, problem, caps, study)
        alpha = self.choice.alpha
        mask = node.state == IN
        reached, critical = float(alpha[mask].sum()), order[0] if order else -1
        for k in order:
            if reached >= study.weight * (1.0 - 1e-12) and mask.any():
                break
            mask[k] = True
            reached += float(alpha[k])
            critical = k
        return mask, critical

    def _try(self, mask: Mask) -> None:
        """Plan a subset that the relaxation likes, if it is new."""
        leader = self.candidates.leader
        if leader is not None and mask.tobytes() not in self.candidates.tried and self.choice.allows(mask):
            self.candidates.improve(mask, leader.rounds, step=1.1, patience=0.02)

    # ------------------------------------------------------------------ cuts

    def _cut(self, node: Node, problem: Problem, caps: Floats, study: Study, mask: Mask, critical: int) -> list[Node]:
        """Two halves of a node, of the side that loses most of the bound; or with and without a device."""
        region, cell, alpha = node.region, node.cell, self.choice.alpha
        m = between(region.m1, region.m2 + 1.0)
        n = between(region.n1, region.n2 + 1.0)
        s, w = math.sqrt(cell.s1 * cell.s2), math.sqrt(cell.w1 * cell.w2)

        def bound(**ends: float) -> float:
            rounds = region._replace(**{key: value for key, value in ends.items() if key[0] != "w"})
            part = Cell(rounds.s1, rounds.s2, ends.get("w1", cell.w1), ends.get("w2", cell.w2))
            most = server_batch(problem, rounds, node.state == IN)
            given = (problem, study.offer, rounds, part, alpha, node.state, caps, most)
            return float(subset_bound(*given, study.weight, study.mu, False)[0])

        widths = {
            "m": math.log((region.m2 + 1.0) / (region.m1 + 1.0)),
            "n": math.log((region.n2 + 1.0) / (region.n1 + 1.0)),
            "s": math.log(cell.s2 / cell.s1),
            "w": math.log(cell.w2 / cell.w1),
        }
        widest = max(widths, key=lambda key: widths[key])
        if widths[widest] > _COARSE:
            return halves(widest, node, self.levels)
        gains = {
            "m": bound(m1=m, m2=m) - study.bound if region.m2 > region.m1 else 0.0,
            "n": bound(n1=n, n2=n) - study.bound if region.n2 > region.n1 else 0.0,
            "s": bound(s1=s, s2=s) - study.bound if widths["s"] > 1e-9 else 0.0,
            "w": bound(w1=w, w2=w) - study.bound if widths["w"] > 1e-9 else 0.0,
        }
        first, last = node.reach
        if last > first:
            weight = float(coefficients(problem.criterion, m, study.n)[0])
            per_down = study.offer.energy * self.choice.scenario.server.transmit_power_w + study.offer.delay
            farther = float(self.choice.down_s[mask].max() - self.levels[first])
            gains["reach"] = study.n * per_down * farther / weight
        kind = max(gains, key=lambda key: gains[key])
        if gains[kind] < 0.1 * (self.target - node.bound):
            return by_device(node, critical, alpha)
        return halves(kind, node, self.levels)


def planned_bound(
    problem: Problem, tolerance: float, deadline: float, candidates: Candidates
) -> tuple[float, Decision | None, bool]:
    """What is proven of every plan of one subset, the best decision known after it, and whether time was up.

    The best decision so far is what the subset has to beat, so most subsets are settled by a few prices.
    """
    if not any(fits_one_round(problem, stage) for stage in STAGES):
        return math.inf, None, False
    known = candidates.decision
    for starts in ((known.rounds,) if known is not None else (), ()):
        search = Search(problem, tolerance, deadline, best=known, starts=starts)
        search.run()
        if search.proven > -math.inf or search.late:
            break
    return search.proven, None if search.best is known else search.best, search.late
