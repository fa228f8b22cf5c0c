"""The server's round at a price of time, and the price at which it takes a given time."""

from __future__ import annotations

from numba import njit

from pretune.planner.kernels.fleet import Point
from pretune.planner.kernels.scalar import batch_at, clock_at, price_for_time, sample_cost
from pretune.planner.problem import Batches, Server


@njit(cache=True, error_model="numpy")
def server_price(
    server: Server, low: float, high: float, beta: float, time: float, guess: float
) -> tuple[float, float]:
    """The price at which the server's round takes `time`, and its derivative by the time."""
    price, slope, _ = price_for_time(
        time,
        server.cycles,
        server.capacitance,
        server.clock_max,
        server.static,
        1.0,
        0.0,
        1.0,
        0.0,
        beta,
        1.0,
        low,
        high,
        guess,
        -1.0,
    )
    return price, slope


@njit(cache=True, error_model="numpy")
def settle_server(server: Server, batches: Batches, beta0: float, t0: float, point: Point) -> None:
    """Write the server's price, batch, clock and round time for a round of `t0` seconds."""
    price, _ = server_price(server, batches.server_low, batches.server_high, beta0, t0, point.scalars[1])
    clock = clock_at(price, server.capacitance, server.clock_max, server.static)
    cost = sample_cost(price, clock, server.cycles, server.capacitance, server.static)
    batch = batch_at(cost, beta0, 1.0, batches.server_low, batches.server_high)
    point.scalars[1] = price
    point.scalars[3] = server.cycles * batch / clock
    point.scalars[4] = batch
    point.scalars[5] = clock


@njit(cache=True, error_model="numpy")
def server_energy(server: Server, point: Point) -> float:
    """Joules of one pre-training round."""
    batch, clock = point.scalars[4], point.scalars[5]
    cycles = server.cycles * batch
    return cycles * server.capacitance * clock * clock + server.static * cycles / clock
