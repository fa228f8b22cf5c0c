"""A lower bound over all subsets of a fleet: branch and bound on rounds, spans, weights, broadcasts and devices.

A node holds boxes for the rounds of both stages, for the span of a fine-tuning round, for the admitted weight and for
the reach of the broadcast, and says of each device whether it is in, out or free. Any prices bound all subsets of a
node (`kernels.admission`); good ones are found by a compass search from those of the node it was cut from. The same
prices bound the node with one device forced in or out, and so decide most devices. A node that no prices settle is cut
where that promises most; one whose devices are all decided is planned.
"""

from __future__ import annotations

import heapq
import math
import time
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from pretune.planner.admission_alone import Alone, planned_bound
from pretune.planner.admission_candidates import Candidates
from pretune.planner.admission_fleet import Choice, Mask
from pretune.planner.admission_node import (
    DEVICES,
    Bid,
    Node,
    Study,
    by_device,
    halves,
    losses_of,
    middle_of,
    most_pretraining,
    recorded,
    server_batch,
    server_pays,
    widest,
)
from pretune.planner.admission_record import Record
from pretune.planner.kernels.admission import FREE, IN, OUT, Part, offered, prove, relaxed, subset_batches
from pretune.planner.kernels.priced import Region
from pretune.planner.kernels.rounds import TRAJECTORY
from pretune.planner.problem import Devices

_WIDE = 1.3
"""Ratio of the spans above which the devices' shares are also taken at its upper end, where they are gentler."""
_CLOSE = 0.8
"""Prices are polished where they prove this share of what is asked for."""
_MOST_TRIALS, _TRIALS = 60, 12
"""Prices that a search tries at the first node and at others."""
_WORTHS = (1e-4, 0.03, 0.3, 1.0)
"""What both budgets may be worth, over the criterion."""
_MOST_WORTH, _LEAST_WORTH = 10.0, 1e-3
"""What one device's time or battery may be worth, over the criterion."""
_TRYING, _FIRST = 0.02, 4
"""Subsets that the relaxation likes and that are tried, for each node looked at, and at first."""
_SWAPS = 30
"""Swaps tried on each that leads."""
_LEAF = 5
"""Nodes that planning one subset counts for."""
MOST_NODES = 5_000
MOST_WORK = 300_000
"""Nodes to study, and nodes times devices: what ends a search that no tolerance ends."""


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
    _tries: int = 0
    _planned: set[bytes] = field(default_factory=set)
    alone: dict[bytes, Alone] = field(default_factory=dict)
    """What is proven of subsets that were planned by themselves."""
    record: Record = field(default_factory=Record)
    """The tree of what was cut, from all subsets and rounds on."""

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
        self.guess = np.zeros(len(self.choice))
        root = self._root()
        self.record = Record(entry=["e"]) if root is None else root.record
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
                # the others keep the bound that their node's own prices prove
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
        even = limits.energy / limits.delay
        self.omegas = (1e-6 * even, 1e6 * even)
        omega = even if leader is None else min(max(leader.omega, self.omegas[0]), self.omegas[1])
        lam = 1.0 if leader is None or not leader.lam > 0.0 else leader.lam
        worth = lam * (limits.energy + omega * limits.delay)
        if problem.criterion[0] == TRAJECTORY:
            # the budgets' worth at which more of all rounds, in proportion, brings nothing (math.md section 4)
            worth = 2.0 * float(problem.criterion[1])
        return Node(
            bound=-math.inf,
            region=Region(
                0.0, most_pretraining(problem, 0.0, most_m, 1.0, low, nobody), 1.0, most_n, low, limits.delay
            ),
            weights=(choice.least_weight, 1.0),
            reach=(0, len(self.levels) - 1),
            state=np.zeros(len(choice)),
            prices=(worth, omega, _MOST_WORTH),
            inner=(worth, omega, _MOST_WORTH),
            likely=nobody,
            record=Record(),
        )

    def _study(self, node: Node) -> list[Node]:
        """The parts of a node that stay open, with their bounds; none where it is settled."""
        tight = self._tightened(node)
        if tight is None:
            node.record.entry = ["e"]
            return []
        node, part, who = tight
        best = self._best_prices(node, part, who)
        node.record.price(best.offer, who, best.bound)
        if best.bound >= self.target:
            return []
        if not np.any(node.state == FREE):
            self._leaf(node.state == IN)
            node.record.entry = ["f"]
            node.record.alone = self.alone.get((node.state == IN).tobytes(), Alone()).bound
            return []
        node, decided = self._decided(node, part, who, best)
        if decided:
            return [node] if node.bound < math.inf else []
        region, cell = part.region, part.cell
        at = (math.sqrt(region.n1 * region.n2), math.sqrt(cell.s1 * cell.s2), math.sqrt(cell.w1 * cell.w2))
        chosen, critical = relaxed(part, best.offer, *at)
        mask = np.zeros(len(self.choice), dtype=np.bool_)
        mask[who[chosen]] = True
        self._try(mask, int(at[0]))
        node = replace(node, bound=max(node.bound, best.bound), prices=best.prices, likely=mask)
        side = widest(node, part)
        if side:
            return halves(side, node, self.levels)
        inner = self._inner_prices(node, part, who, best)
        losses = losses_of(node, part, inner.offer, self.levels)
        node = replace(node, inner=inner.prices)
        side = max(losses, key=lambda key: losses[key], default="")
        if side and losses[side] > max(DEVICES * (self.target - inner.bound), 0.0):
            return halves(side, node, self.levels)
        return by_device(node, int(who[critical]) if critical >= 0 else -1, self.choice.alpha)

    def _tightened(self, node: Node) -> tuple[Node, Part, NDArray[np.intp]] | None:
        """The node without what its own limits rule out, the devices that may be in, and who they are; None: empty."""
        choice = self.choice
        m1, m2, n1, n2, s1, s2 = node.region
        inside = node.state == IN
        first, last = node.reach
        if inside.any():
            first = max(first, int(np.searchsorted(self.levels, choice.down_s[inside].max())))
        if first > last:
            return None
        far = choice.down_s > self.levels[last]
        limits = choice.limits(float(self.levels[first]))
        problem = choice.problem._replace(limits=limits)
        up_s = float(choice.uploads[inside].sum())
        server, overhead = problem.server, limits.down_s + up_s
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
        w1, w2 = node.weights
        while True:
            sure, rest = float(choice.alpha[state == IN].sum()), float(choice.alpha[state != OUT].sum())
            free = state == FREE
            # too heavy for the node, or too heavy to go without
            heavy = free & (sure + choice.alpha > w2 * (1.0 + 1e-9))
            needed = free & (rest - choice.alpha < w1 * (1.0 - 1e-9))
            if np.any(heavy & needed):
                return None
            if not np.any(heavy | needed):
                break
            state = np.where(heavy, OUT, np.where(needed, IN, state))
        if np.any(caps[state == IN] < 1.0):
            return None
        w1, w2 = max(w1, sure * (1.0 - 1e-12)), min(w2, rest * (1.0 + 1e-12))
        if w2 < w1:
            return None
        node = replace(node, region=region, state=state, weights=(w1, w2), reach=(first, last))
        who = np.flatnonzero(state != OUT)
        small = problem._replace(
            devices=Devices(*(column[who] for column in problem.devices)),
            batches=problem.batches._replace(low=problem.batches.low[who], high=caps[who]),
        )
        most = server_batch(problem, region, inside)
        part = Part(small, choice.alpha[who], state[who] == IN, region, node.cell, most)
        return node, part, who

    def _leaf(self, mask: Mask) -> None:
        """Plan the one subset that is left, at all rounds."""
        key = mask.tobytes()
        if not self.choice.allows(mask) or key in self._planned:
            return
        self._planned.add(key)
        self.nodes += _LEAF
        found = planned_bound(self.choice.subset(mask), self.tolerance, self.deadline, self.candidates.decision)
        self.floor = min(self.floor, found.bound)
        self.late = self.late or found.late
        self.alone[key] = found
        self.candidates.accept(mask, found.best)

    # ------------------------------------------------------------------ prices

    def _priced(self, node: Node, part: Part, who: NDArray[np.intp], prices: Bid, middle: bool) -> Study:
        """What prices prove of a part: the worth of both budgets, and joules per second.

        `middle`: a device that is likely to be in pays the share of the span's middle; else all pay that of its end.
        """
        worth, omega, most = prices
        limits, cell = part.problem.limits, part.cell
        lam = worth / (limits.energy + omega * limits.delay)
        spans = np.full(len(who), cell.s2)
        if middle and cell.s2 > cell.s1:
            least = np.maximum(self.least[who] * (1.0 + 1e-6), cell.s1)
            spans = np.where(node.likely[who] & (least < cell.s2), np.sqrt(least * cell.s2), cell.s2)
        guess = self.guess[who]
        offer = offered(part, lam, omega, spans, guess, self._scale(part, most))
        self.guess[who] = guess
        return Study(bound=float(prove(part, offer, False)[0]), offer=offer, prices=prices)

    def _best_prices(self, node: Node, part: Part, who: NDArray[np.intp]) -> Study:
        """The best prices for a node: those it has from the one it was cut from, some fresh ones, then a search."""
        best, middle = self._priced(node, part, who, node.prices, True), True
        if part.cell.s2 > _WIDE * part.cell.s1 and best.bound < self.target:
            trial = self._priced(node, part, who, node.prices, False)
            if trial.bound > best.bound:
                best, middle = trial, False
        for prices in (node.inner, *self._fresh(part, node.prices[1])):
            if best.bound >= self.target:
                return best
            trial = self._priced(node, part, who, prices, middle)
            best = trial if trial.bound > best.bound else best
        # prices that prove little are not worth polishing before the node is cut
        trials = _MOST_TRIALS if node.bound == -math.inf else _TRIALS if best.bound > _CLOSE * self.target else 0
        return self._search(node, part, who, best, middle, trials)

    def _inner_prices(self, node: Node, part: Part, who: NDArray[np.intp], best: Study) -> Study:
        """The best prices for the middle of a node, or such as settle it: they say what cutting the node will bring."""
        thin = middle_of(part)
        found = replace(best, bound=float(prove(thin, best.offer, False)[0]))
        for prices in (node.inner, *self._fresh(part, node.prices[1])):
            if found.bound >= self.target:
                return found
            trial = self._priced(node, thin, who, prices, False)
            found = trial if trial.bound > found.bound else found
        return self._search(node, thin, who, found, False, _TRIALS)

    def _search(self, node: Node, part: Part, who: NDArray[np.intp], best: Study, middle: bool, trials: int) -> Study:
        """A compass search over the prices of energy and time; ends where the part is settled."""
        low, high = self._scale(part, 1e-4), self._scale(part, 1e3)
        step, way, failed = (4.0 if node.bound == -math.inf else 1.5), 0, 0
        while step > 1.04 and best.bound < self.target and trials > 0:
            worth, omega, most = best.prices
            around = (
                (worth, omega * step, most),
                (worth, omega / step, most),
                (worth * step, omega, most),
                (worth / step, omega, most),
                (worth, omega, most / step**2),
                (worth, omega, most * step**2),
            )
            prices = around[way]
            sane = low <= prices[0] <= high and self.omegas[0] <= prices[1] <= self.omegas[1]
            if sane and 1e-6 <= prices[2] <= _MOST_WORTH:
                trial, trials = self._priced(node, part, who, prices, middle), trials - 1
                if trial.bound > best.bound:
                    best, failed, step = trial, 0, min(step * 1.3, 8.0)
                    continue
            way, failed = (way + 1) % len(around), failed + 1
            if failed == len(around):
                step, failed = step**0.5, 0
        return best

    def _fresh(self, part: Part, omega: float) -> list[Bid]:
        """Prices that owe nothing to the node: of the size of the criterion, and those of the best subset known."""
        fresh = [(self._scale(part, worth), omega, most) for most in (_LEAST_WORTH, _MOST_WORTH) for worth in _WORTHS]
        limits, leader = part.problem.limits, self.candidates.leader
        if leader is not None and leader.lam > 0.0:
            omega = min(max(leader.omega, self.omegas[0]), self.omegas[1])
            worth = leader.lam * (limits.energy + omega * limits.delay)
            fresh.append((min(max(worth, self._scale(part, 1e-4)), self._scale(part, 1e3)), omega, _MOST_WORTH))
        return fresh

    def _scale(self, part: Part, factor: float) -> float:
        """So many times what both budgets may be worth: trajectory, what makes more rounds bring nothing."""
        c, value = part.problem.criterion, abs(self.candidates.value)
        return factor * (2.0 * float(c[1]) if c[0] == TRAJECTORY else value if 0.0 < value < math.inf else 1.0)

    def _decided(self, node: Node, part: Part, who: NDArray[np.intp], best: Study) -> tuple[Node, bool]:
        """The node with the devices decided that every, or no, good subset has; whether any are."""
        _, inside, outside = prove(part, best.offer, True)
        never, always = inside >= self.target, (outside >= self.target) & ~part.certain
        node = replace(node, bound=max(node.bound, best.bound), prices=best.prices)
        if not np.any(never | always):
            return node, False
        record = node.record
        (node,) = recorded(node, ["x", who[always].tolist(), who[never].tolist()], [node])
        record.alone = float(min(inside[never].min(initial=math.inf), outside[always].min(initial=math.inf)))
        if np.any(never & (always | part.certain)):
            node.record.entry = ["e"]
            return replace(node, bound=math.inf), True
        state = node.state.copy()
        state[who[never]] = OUT
        state[who[always]] = IN
        return replace(node, state=state), True

    def _try(self, mask: Mask, rounds: int) -> None:
        """Plan a subset that the relaxation likes, if it is new; looked for near so many fine-tuning rounds."""
        leader, candidates = self.candidates.leader, self.candidates
        if mask.tobytes() in candidates.tried or not self.choice.allows(mask):
            return
        if self._tries > _TRYING * self.nodes + _FIRST:
            return
        self._tries += 1
        starts = () if leader is None else (leader.rounds, (leader.rounds[0], rounds))
        candidates.improve(mask, *starts, patience=0.5)
        if candidates.leader is not leader and candidates.leader is not None:
            candidates.search(candidates.leader.mask)
            candidates.chase()
            candidates.swap(_SWAPS)
