"""What a device does in a round, whatever carries the messages: model in, gradient out.

It computes what the simulated device computes (`local.Worker`): the same samples of the same stream of draws.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import nn

from pretune.errors import InputError
from pretune.runtime.fedavg import looped_local
from pretune.runtime.federated.actuators import Actuator, Nothing, applied
from pretune.runtime.federated.frames import BadFrame, Frame, unpack_tensors
from pretune.runtime.federated.messages import Applied, Effort, Order, update_frame, weights_of
from pretune.runtime.federated.meter import Meter
from pretune.runtime.gradient import Gradient
from pretune.runtime.local import Worker
from pretune.runtime.partition import hold
from pretune.runtime.sampling import draw_one
from pretune.runtime.task import PerSampleLoss, Samples, Task
from pretune.scenario import Scenario


@dataclass(kw_only=True, eq=False)
class Engine:
    """One device: its samples, a copy of the model to compute on, and what makes it obey the plan."""

    name: str
    scenario_sha256: str
    data: Samples
    model: nn.Module
    loss: PerSampleLoss
    actuator: Actuator = field(default_factory=Nothing)
    meter: Meter = field(default_factory=Meter)
    _order: Order | None = None
    _applied: Applied | None = None

    @staticmethod
    def of(
        scenario: Scenario,
        task: Task,
        name: str,
        *,
        actuator: Actuator | None = None,
        meter: Meter | None = None,
        data: Samples | None = None,
    ) -> Engine:
        """The device `name` of the scenario with its part of the task's data, or with `data` of its own.

        Raises:
            InputError: the scenario has no such device, or the task does not fit it.
        """
        if name not in scenario.devices.names:
            raise InputError.field("device.name", name, f"a device of the scenario {scenario.name}")
        k = scenario.devices.names.index(name)
        model = task.build(0)
        return Engine(
            name=name,
            scenario_sha256=scenario.sha256,
            data=hold(task, scenario).of(k) if data is None else data,
            model=model.train(),
            loss=task.loss,
            actuator=Nothing() if actuator is None else actuator,
            meter=Meter() if meter is None else meter,
        )

    def take(self, order: Order) -> None:
        """Obey this order from the next round on."""
        self._order = order
        self._applied = applied(self.actuator, order, order.batch)

    def answer(self, frame: Frame, run: str, received_at: float) -> Frame:
        """The gradient at the model that was sent.

        Raises:
            BadFrame: no order has been given, or the tensors are not this model's.
        """
        order = self._order
        if order is None or self._applied is None:
            raise BadFrame("a round has begun before an order was given")
        round_ = frame.whole("round")
        own = weights_of(self.model)
        found = unpack_tensors(frame.body, own)
        began, joules = time.monotonic(), self.meter.read()
        with torch.no_grad():
            for name, tensor in found.items():
                own[name].copy_(tensor)
        gradient = self._gradient(order, round_)
        self.actuator.finish(order, began)
        done, spent = time.monotonic(), self.meter.joules(joules, self.meter.read())
        tensors = {f"{i}": part for i, part in enumerate(gradient.parts)}
        tensors |= {f"buffer:{name}": gradient.buffers.get(name, old) for name, old in self.model.named_buffers()}
        effort = Effort(
            received_at=received_at,
            sent_at=time.monotonic(),
            compute_s=done - began,
            compute_j=spent,
            source=self.meter.source,
            applied=self._applied,
        )
        return update_frame(run, round_, order.batch, gradient.loss, tensors, effort)

    def _gradient(self, order: Order, round_: int) -> Gradient:
        """Of one step, or summed over the local ones."""
        if order.steps == 1:
            worker = Worker(stage=order.stage, data=self.data, batch=order.batch, share=1.0, first=order.first)
            return worker.gradient(self.model, self.loss, order.seed, round_)

        def draws(step: int) -> Samples:
            first = order.first + step * order.stride
            rows = draw_one(order.seed, order.stage, round_, first=first, batch=order.batch, size=len(self.data))
            return self.data.take(rows)

        alone = np.array([order.batch], dtype=np.int64)
        return looped_local(self.model, self.loss, draws, alone, np.ones(1), steps=order.steps, size=order.step_size)

    def close(self) -> None:
        """Leave clock and power as they were found."""
        self.actuator.close()
