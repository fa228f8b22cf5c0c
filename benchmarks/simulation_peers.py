"""Other simulators on the same rounds: run by the interpreter that `federated_simulation.py --peers` names.

    python simulation_peers.py pfl|flower|blazefl --devices 100 --batch 10 --rounds 30

Writes one JSON line on standard output: `rounds_per_s`, the median over the rounds (pfl: in processor time; Flower,
which computes in many processes: by the clock), the version, or why it is absent. Every device computes one gradient of
`batch` of its own samples in each round (federated averaging with one local step, which is the same thing), on an MLP
784-200-10, one thread.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import time
from itertools import pairwise
from statistics import median
from typing import Any

os.environ.update(OMP_NUM_THREADS="1", FLWR_TELEMETRY_ENABLED="0", RAY_USAGE_STATS_ENABLED="0")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")

STEP, PER_DEVICE = 0.05, 100


def model() -> Any:
    from torch import nn

    return nn.Sequential(nn.Flatten(), nn.Linear(784, 200), nn.ReLU(), nn.Linear(200, 10))


def data(devices: int) -> tuple[Any, Any]:
    import torch

    generator = torch.Generator().manual_seed(0)
    x = torch.randn(devices, PER_DEVICE, 784, generator=generator)
    return x, torch.randint(0, 10, (devices, PER_DEVICE), generator=generator)


def pfl(devices: int, batch: int, rounds: int) -> list[float]:
    """Apple's pfl: SimulatedBackend, FederatedAveraging, the whole cohort in each round."""
    import torch
    from pfl.aggregate.simulate import SimulatedBackend
    from pfl.algorithm.base import NNAlgorithmParams
    from pfl.algorithm.federated_averaging import FederatedAveraging
    from pfl.callback.base import TrainingProcessCallback
    from pfl.data.dataset import Dataset
    from pfl.data.federated_dataset import FederatedDataset
    from pfl.data.sampling import get_user_sampler
    from pfl.hyperparam import NNTrainHyperParams
    from pfl.metrics import Metrics, Weighted
    from pfl.model.pytorch import PyTorchModel

    torch.set_num_threads(1)
    x, y = data(devices)
    net = model()

    def loss(images: Any, labels: Any, **_: Any) -> Any:
        return torch.nn.functional.cross_entropy(net(images), labels)

    net.loss = loss
    net.metrics = lambda images, labels, **_: {"loss": Weighted(0.0, 1)}

    def make(user: int) -> Dataset:
        rows = torch.randint(0, PER_DEVICE, (batch,))
        return Dataset(raw_data=(x[user][rows], y[user][rows]))

    users = FederatedDataset(make, get_user_sampler("minimize_reuse", list(range(devices))))
    ends: list[float] = []

    class Clock(TrainingProcessCallback):
        def after_central_iteration(self, *_: Any, **__: Any) -> tuple[bool, Metrics]:
            ends.append(time.process_time())
            return False, Metrics()

    FederatedAveraging().run(
        NNAlgorithmParams(
            central_num_iterations=rounds, evaluation_frequency=10**9, train_cohort_size=devices, val_cohort_size=None
        ),
        SimulatedBackend(users, None),
        PyTorchModel(net, torch.optim.SGD, torch.optim.SGD(net.parameters(), lr=1.0)),
        NNTrainHyperParams(local_batch_size=batch, local_num_epochs=1, local_learning_rate=STEP),
        callbacks=[Clock()],
        send_metrics_to_platform=False,
    )
    return ends


def flower(devices: int, batch: int, rounds: int) -> list[float]:
    """Flower's simulation: FedAvg over run_simulation (Ray), all nodes in each round."""
    import torch
    from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
    from flwr.clientapp import ClientApp
    from flwr.serverapp import Grid, ServerApp
    from flwr.serverapp.strategy import FedAvg
    from flwr.simulation import run_simulation

    client, server, ends = ClientApp(), ServerApp(), []

    @client.train()
    def train(message: Message, context: Context) -> Message:
        torch.set_num_threads(1)
        net = model()
        net.load_state_dict(message.content["arrays"].to_torch_state_dict())
        generator = torch.Generator().manual_seed(int(context.node_config["partition-id"]))
        x = torch.randn(batch, 784, generator=generator)
        y = torch.randint(0, 10, (batch,), generator=generator)
        optimiser = torch.optim.SGD(net.parameters(), lr=STEP)
        torch.nn.functional.cross_entropy(net(x), y).backward()
        optimiser.step()
        content = {"arrays": ArrayRecord(net.state_dict()), "metrics": MetricRecord({"num-examples": batch})}
        return Message(content=RecordDict(content), reply_to=message)

    @server.main()
    def main(grid: Grid, context: Context) -> None:
        def clock(_round: int, _arrays: ArrayRecord) -> MetricRecord:
            ends.append(time.perf_counter())
            return MetricRecord({"t": 0.0})

        strategy = FedAvg(fraction_train=1.0, fraction_evaluate=0.0, min_available_nodes=devices)
        arrays = ArrayRecord(model().state_dict())
        strategy.start(grid=grid, initial_arrays=arrays, num_rounds=rounds, evaluate_fn=clock)

    run_simulation(
        server_app=server,
        client_app=client,
        num_supernodes=devices,
        backend_config={"client_resources": {"num_cpus": 1, "num_gpus": 0.0}},
    )
    return ends


def blazefl(devices: int, batch: int, rounds: int) -> list[float]:
    """BlazeFL has no part here yet: where this was written there was no Python that it and a PyTorch both had."""
    raise ImportError("its rounds are not written down here")


WHY = {"blazefl": " (its releases need Python 3.12 or newer, where no PyTorch without CUDA was to be had)"}
PEERS = {"pfl": pfl, "flower": flower, "blazefl": blazefl}
PACKAGES = {"pfl": "pfl", "flower": "flwr", "blazefl": "blazefl"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("peer", choices=PEERS)
    parser.add_argument("--devices", type=int, default=100)
    parser.add_argument("--batch", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=30)
    options = parser.parse_args()
    row: dict[str, Any] = {"peer": options.peer}
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a peer prints is not the result
    try:
        row["version"] = importlib.metadata.version(PACKAGES[options.peer])
        ends = PEERS[options.peer](options.devices, options.batch, options.rounds)
        spent = [after - before for before, after in pairwise(ends)][1:]
        row |= {"rounds": len(spent), "rounds_per_s": 1.0 / median(spent)}
    except importlib.metadata.PackageNotFoundError:
        row["absent"] = "not installed" + WHY.get(options.peer, "")
    except ImportError as error:
        row["absent"] = str(error)
    out.write(json.dumps(row) + "\n")
    out.flush()


if __name__ == "__main__":
    main()
