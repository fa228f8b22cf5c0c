"""Measured constants against models whose constants are known in closed form."""

from __future__ import annotations

import copy
import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from pretune.convergence.constants import EstimateSettings
from pretune.convergence.estimate import estimate
from pretune.errors import InputError

D = 6
CURVATURE = torch.tensor([5.0, 3.0, 2.0, 1.0, 0.5, 0.25], dtype=torch.float64)
"""Eigenvalues of the quadratics below."""


class Quadratic(nn.Module):
    """Loss of sample x: ``1/2 (w - x)' H (w - x)``; its gradient is ``H (w - x)``, so everything is known."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.full((D,), 2.0, dtype=torch.float64))

    def forward(self, x):
        return (self.w - x) * CURVATURE.sqrt()


def quadratic_loss(output, _target):
    return 0.5 * output.square().sum(dim=1)


def _points(n: int, mean: float, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return mean + torch.randn(n, D, generator=generator, dtype=torch.float64), torch.zeros(n)


GENERAL = _points(300, 0.0, 1)
DEVICES = [_points(100, 0.5, 2), _points(50, 1.0, 3)]
WEIGHTS = np.array([0.7, 0.3])
QUICK = EstimateSettings(pretrain_rounds=8, finetune_rounds=4, points=2)


def _measure(**changes):
    settings = dataclasses.replace(QUICK, **{k: v for k, v in changes.items() if k in vars(QUICK)})
    rest = {k: v for k, v in changes.items() if k not in vars(QUICK)}
    arguments = {
        "general": GENERAL,
        "devices": DEVICES,
        "weights": WEIGHTS,
        "pretrain_step": 0.1,
        "finetune_step": 0.05,
    }
    return estimate(Quadratic(), quadratic_loss, **{**arguments, "settings": settings, **rest})


def _spread(x: torch.Tensor) -> float:
    """Trace of the covariance of ``H (w - x)``."""
    return float((CURVATURE.square() * x.var(dim=0, correction=0)).sum())


def test_variances_shift_and_gap_of_a_quadratic_are_exact():
    found = _measure()
    assert found.pretrain_variance.value == pytest.approx(_spread(GENERAL[0]), rel=1e-9)
    assert found.device_variance == pytest.approx([_spread(x) for x, _ in DEVICES], rel=1e-9)
    assert found.finetune_variance.value == pytest.approx(WEIGHTS @ np.array(found.device_variance), rel=1e-9)
    means = [x.mean(dim=0) for x, _ in DEVICES]
    task_mean = 0.7 * means[0] + 0.3 * means[1]
    shift = float((CURVATURE * (GENERAL[0].mean(dim=0) - task_mean)).norm())
    assert found.shift.value == pytest.approx(shift, rel=1e-9)  # the same at every model
    assert found.shift.low == pytest.approx(found.shift.high, rel=1e-9)
    start = sum(
        w * float(quadratic_loss((2.0 - x) * CURVATURE.sqrt(), None).mean())
        for (x, _), w in zip(DEVICES, WEIGHTS, strict=True)
    )
    assert found.initial_gap.value == pytest.approx(start, rel=1e-9)
    assert _measure(floor=1.5).initial_gap.value == pytest.approx(start - 1.5, rel=1e-9)


def test_smoothness_is_the_largest_eigenvalue_with_its_margin():
    found = _measure(margin=1.25, iterations=60)
    assert found.smoothness.high == pytest.approx(5.0, rel=2e-3)
    assert found.smoothness.high <= 5.0 * (1 + 1e-9)
    assert found.smoothness.value == 1.25 * found.smoothness.high


def test_pl_constant_of_a_quadratic_lies_between_its_curvatures():
    """With the true least loss as the floor, |grad|^2 / (2 gap) lies between the extreme eigenvalues."""
    x = torch.cat([DEVICES[0][0], DEVICES[1][0]])
    weight = torch.cat([torch.full((100,), 0.7 / 100), torch.full((50,), 0.3 / 50)]).double()
    best = (weight[:, None] * x).sum(dim=0)
    floor = float((weight * quadratic_loss((best - x) * CURVATURE.sqrt(), None)).sum())
    found = _measure(floor=floor).pl_constant
    assert 0.25 - 1e-9 <= found.low <= found.value <= found.high <= 5.0 + 1e-9
    assert _measure(floor=0.0).pl_constant.value < found.value  # a lower floor is the more careful figure


def test_sub_samples_are_corrected_for_their_noise():
    """Small sub-samples make the raw distance of the gradients far too large; on average the corrected one is right."""
    task = [_points(4000, 0.02, 5)]
    general = _points(4000, 0.0, 6)
    true_sq = float((CURVATURE * (general[0].mean(dim=0) - task[0][0].mean(dim=0))).square().sum())
    noise = (_spread(general[0]) + _spread(task[0][0])) / 40
    assert true_sq < 0.1 * noise
    arguments = {
        "general": general,
        "devices": task,
        "weights": np.ones(1),
        "samples": 40,
        "pretrain_rounds": 0,
        "finetune_rounds": 0,
    }
    found = [_measure(**arguments, seed=seed) for seed in range(60)]
    mean_sq = np.mean([one.shift.value**2 for one in found])
    assert mean_sq < 0.7 * noise  # uncorrected it would be `noise` and more; what is left is the cut at zero
    variances = [one.pretrain_variance.value for one in found]
    assert np.mean(variances) == pytest.approx(_spread(general[0]), rel=0.05)
    assert "corrected for the noise" in found[0].shift.method


def test_nothing_is_changed_and_the_seed_decides():
    model = Quadratic()
    before, state = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    arguments = {
        "general": GENERAL,
        "devices": DEVICES,
        "weights": WEIGHTS,
        "pretrain_step": 0.1,
        "finetune_step": 0.05,
    }
    runs = [estimate(model, quadratic_loss, **arguments, settings=QUICK, seed=seed) for seed in (1, 1, 2)]
    assert runs[0] == runs[1] != runs[2]
    assert torch.equal(model.w, before["w"])
    assert torch.equal(state, torch.get_rng_state())


def _network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 5), nn.ReLU(), nn.Linear(5, 3))


def _classes(n: int, seed: int):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, 8, generator=generator), torch.randint(0, 3, (n,), generator=generator)


def _cross_entropy(output, target):
    return nn.functional.cross_entropy(output, target, reduction="none")


def _network_constants(model: nn.Module, **changes):
    arguments = {
        "general": _classes(60, 1),
        "devices": [_classes(40, 2), _classes(20, 3)],
        "weights": np.array([0.5, 0.5]),
        "pretrain_step": 0.1,
        "finetune_step": 0.1,
        "settings": QUICK,
    }
    return estimate(model, _cross_entropy, **{**arguments, **changes})


def test_workload_of_a_small_network():
    found = _network_constants(_network())
    # forward: 2 (8*5 + 5*3); backward: both weights again, and the inputs of the second layer
    assert found.flops_per_sample.value == 2 * (8 * 5 + 5 * 3) * 2 + 2 * 5 * 3
    assert found.upload_bits.value == found.download_bits.value == 32 * (8 * 5 + 5 + 5 * 3 + 3)
    frozen = _network()
    frozen[0].weight.requires_grad_(False)
    found = _network_constants(frozen)
    assert found.upload_bits.value == found.download_bits.value - 32 * 40
    assert set(found.workload) == {"flops_per_sample", "upload_bits", "download_bits"}


def test_single_gradients_agree_with_one_sample_at_a_time():
    model = _network()
    general = _classes(60, 1)
    rows = []
    for x, y in zip(*general, strict=True):
        parts = torch.autograd.grad(_cross_entropy(model(x[None]), y[None])[0], list(model.parameters()))
        rows.append(torch.cat([p.flatten() for p in parts]).double())
    grid = torch.stack(rows)
    by_hand = float((grid - grid.mean(dim=0)).square().sum(dim=1).mean())
    found = _network_constants(model, settings=dataclasses.replace(QUICK, pretrain_rounds=0))
    assert found.pretrain_variance.value == pytest.approx(by_hand, rel=1e-4)


def test_smoothness_of_a_network_agrees_with_its_hessian():
    model = _network()
    data = _classes(60, 2)
    names = [name for name, _ in model.named_parameters()]
    sizes = [p.numel() for p in model.parameters()]

    def objective(flat):
        parts = torch.split(flat, sizes)
        parameters = {n: part.view_as(p) for n, part, p in zip(names, parts, model.parameters(), strict=True)}
        return _cross_entropy(torch.func.functional_call(model, parameters, (data[0],)), data[1]).mean()

    flat = torch.cat([p.detach().flatten() for p in model.parameters()])
    exact = float(torch.linalg.eigvalsh(torch.autograd.functional.hessian(objective, flat)).abs().max())
    settings = EstimateSettings(pretrain_rounds=0, finetune_rounds=0, margin=1.0, iterations=300)
    found = _network_constants(model, devices=[data], weights=np.ones(1), settings=settings)
    assert found.smoothness.value == pytest.approx(exact, rel=2e-2)


def test_convolutions_can_be_measured():
    model = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.LazyLinear(3))
    generator = torch.Generator().manual_seed(0)
    data = torch.randn(20, 1, 8, 8, generator=generator), torch.randint(0, 3, (20,), generator=generator)
    model(data[0])
    found = _network_constants(model, general=data, devices=[data], weights=np.ones(1))
    assert found.shift.value == pytest.approx(0.0, abs=1e-6)  # the same data on both sides
    assert found.pretrain_variance.value > 0


@pytest.mark.parametrize(
    ("model", "changes", "says"),
    [
        (nn.Sequential(nn.Linear(8, 5), nn.BatchNorm1d(5), nn.Linear(5, 3)), {}, "task.model: has batch norm"),
        (nn.Sequential(nn.Linear(8, 5), nn.Dropout(0.5), nn.Linear(5, 3)), {}, "gradients of single samples can't be"),
        (_network(), {"pretrain_step": 1e30}, "the steps are too large to measure with"),
    ],
)
def test_what_can_not_be_measured(model, changes, says):
    with pytest.raises(InputError) as caught:
        _network_constants(model, **changes)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_every_figure_says_how_it_was_taken():
    found = _measure()
    assert set(found.convergence) == {
        "smoothness", "initial_gap", "shift", "pretrain_variance", "finetune_variance", "pl_constant"
    }  # fmt: skip
    for key in (*found.convergence, *found.workload):
        measured = getattr(found, key)
        assert len(measured.method) > 20
        assert measured.low <= measured.high
