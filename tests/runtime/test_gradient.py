"""The averaged gradient: fused equals device by device; batch norm, dropout and odd losses are noticed."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn

from pretune.errors import InputError
from pretune.ledger import Stage
from pretune.runtime import gradient as module
from pretune.runtime.evaluate import evaluate
from pretune.runtime.gradient import fused_gradient, looped_gradient, probe, step, trainable
from pretune.runtime.local import Crew
from pretune.runtime.models import make_model
from pretune.runtime.task import Samples, cross_entropy

SIZES, BATCH = np.array([40, 25, 60, 5]), np.array([7, 3, 11, 5])
SHARES = np.array([0.4, 0.1, 0.3, 0.2])


def _data(dtype: torch.dtype = torch.float32) -> Samples:
    generator = torch.Generator().manual_seed(1)
    n = int(SIZES.sum())
    return Samples(
        x=torch.randn(n, 1, 8, 8, generator=generator, dtype=dtype), y=torch.randint(0, 10, (n,), generator=generator)
    )


def _crew(dtype: torch.dtype = torch.float32) -> Crew:
    return Crew.of(Stage.FINETUNE, _data(dtype), SIZES, BATCH, SHARES)


def _model(kind: str = "mlp") -> nn.Module:
    return make_model(kind, (1, 8, 8), 10, 16, torch.Generator().manual_seed(0))


def _apart(a, b) -> float:
    scale = max(float(part.abs().max()) for part in b)
    return max(float((x - y).abs().max()) for x, y in zip(a, b, strict=True)) / scale


@pytest.mark.parametrize("kind", ["mlp", "cnn", "logistic"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_fused_equals_device_by_device(kind, dtype, tolerance):
    crew, model = _crew(dtype), _model(kind).to(dtype)
    for round_ in (1, 2, 3):
        fused = crew.gradient(model, cross_entropy, 0, round_)
        looped = crew.gradient(model, cross_entropy, 0, round_, coupled=True)
        assert _apart(fused.parts, looped.parts) < tolerance
        assert fused.loss == pytest.approx(looped.loss, rel=tolerance)
        assert fused.norm_sq == pytest.approx(looped.norm_sq, rel=10 * tolerance)
        # and each device for itself, knowing nothing but its own samples and its place in the stream
        parts = [torch.zeros_like(p) for p in model.parameters()]
        for worker in crew.workers():
            alone = worker.gradient(model, cross_entropy, 0, round_)
            parts = [old + worker.share * new for old, new in zip(parts, alone.parts, strict=True)]
        assert _apart(fused.parts, parts) < tolerance


def test_slices_do_not_change_the_gradient(monkeypatch):
    crew, model = _crew(torch.float64), _model().double()
    whole = crew.gradient(model, cross_entropy, 0, 1)
    monkeypatch.setattr(module, "SLICE", 4)
    sliced = crew.gradient(model, cross_entropy, 0, 1)
    assert _apart(sliced.parts, whole.parts) < 1e-13
    assert sliced.loss == pytest.approx(whole.loss, rel=1e-13)
    score = evaluate(model, cross_entropy, crew.data)
    monkeypatch.undo()
    assert evaluate(model, cross_entropy, crew.data).loss == pytest.approx(score.loss, rel=1e-13)
    assert evaluate(model, cross_entropy, crew.data).accuracy == score.accuracy


def test_batch_gradient_has_the_theory_s_mean_and_variance():
    """Mean: the devices' full gradients, averaged. Variance: sum_k alpha_k^2 sigma_k^2 / b_k (math.md section 2)."""
    crew, model = _crew(torch.float64), _model("logistic").double()
    full, theory = 0.0, 0.0
    for k, worker in enumerate(crew.workers()):
        rows = []
        for i in range(len(worker.data)):
            one = Samples(x=worker.data.x[i : i + 1], y=worker.data.y[i : i + 1])
            rows.append(torch.cat([p.flatten() for p in looped_gradient(model, cross_entropy, [one], [1.0]).parts]))
        grid = torch.stack(rows)
        full = full + SHARES[k] * grid.mean(dim=0)
        theory += SHARES[k] ** 2 * float((grid - grid.mean(dim=0)).square().sum(dim=1).mean()) / BATCH[k]
    rounds = 4000
    found = torch.stack(
        [
            torch.cat([p.flatten() for p in crew.gradient(model, cross_entropy, 0, r).parts])
            for r in range(1, rounds + 1)
        ]
    )
    spread = float((found - full).square().sum(dim=1).mean())
    assert spread == pytest.approx(theory, rel=0.05)
    assert float((found.mean(dim=0) - full).square().sum()) < 4 * theory / rounds


def test_batch_norm_is_noticed_and_left_unchanged_by_a_gradient():
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 10))
    crew = _crew()
    assert probe(model, cross_entropy, crew.data)
    before = copy.deepcopy(model.state_dict())
    found = crew.gradient(model, cross_entropy, 0, 1, coupled=True)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name]), name
    step(model, found, 0.1)
    after = model.state_dict()
    assert int(after["2.num_batches_tracked"]) == 1
    # the buffers are those that the devices would have each, averaged by share
    means = []
    for worker in crew.workers():
        alone = copy.deepcopy(model)
        alone.load_state_dict(before)
        alone(worker.batch_of(0, 1).x)
        means.append(worker.share * alone.state_dict()["2.running_mean"])
    torch.testing.assert_close(after["2.running_mean"], sum(means))
    assert not torch.equal(after["1.weight"], before["1.weight"])


def test_layer_and_group_norm_are_fused():
    for norm in (nn.LayerNorm(8), nn.GroupNorm(2, 8)):
        model = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), norm, nn.Linear(8, 10))
        assert not probe(model, cross_entropy, _data())


class _Coupled(nn.Module):
    """Batch norm by hand, without buffers: only the outputs tell."""

    def __init__(self) -> None:
        super().__init__()
        self.line = nn.Linear(64, 10)

    def forward(self, x):
        y = self.line(x.flatten(1))
        return y - y.mean(dim=0)


def test_coupling_without_buffers_is_noticed():
    assert probe(_Coupled(), cross_entropy, _data())


def test_probe_leaves_no_trace():
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.BatchNorm1d(8), nn.Linear(8, 10)).eval()
    before, state = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    probe(model, cross_entropy, _data())
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert not model.training
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize(
    ("model", "loss", "says"),
    [
        (nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(64, 10)), cross_entropy, "draws random numbers"),
        (nn.Linear(3, 10), cross_entropy, "task.model: fails on the first samples (RuntimeError"),
        (_model(), nn.CrossEntropyLoss(), "task.loss: gives (), should give one loss per sample, shape (4,)"),
        (_model(), lambda output, y: 1.0, "task.loss: gives float"),
    ],
)
def test_models_and_losses_that_can_not_be_run(model, loss, says):
    state = torch.get_rng_state()
    with pytest.raises(InputError) as caught:
        probe(model, loss, _data())
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
    assert torch.equal(state, torch.get_rng_state())


def test_frozen_and_unused_parameters_stay():
    model = _model()
    model[1].weight.requires_grad_(False)
    model.register_parameter("unused", nn.Parameter(torch.ones(3)))
    before = copy.deepcopy(model.state_dict())
    found = _crew().gradient(model, cross_entropy, 0, 1)
    assert len(found.parts) == len(trainable(model)) == 4
    step(model, found, 0.1)
    after = model.state_dict()
    assert torch.equal(after["1.weight"], before["1.weight"])
    assert torch.equal(after["unused"], before["unused"])
    assert not torch.equal(after["3.weight"], before["3.weight"])


def test_step_is_plain_sgd():
    model, other = _model(), _model()
    crew = _crew()
    found = crew.gradient(model, cross_entropy, 0, 1)
    batch = crew.batch_of(0, 1)
    weights = crew.weight_column.float()
    torch.dot(cross_entropy(other(batch.x), batch.y), weights).backward()
    norm_sq = sum(float(p.grad.square().sum()) for p in other.parameters())
    with torch.no_grad():
        for p in other.parameters():
            p.sub_(0.1 * p.grad)
    step(model, found, 0.1)
    assert _apart([p.detach() for p in model.parameters()], [p.detach() for p in other.parameters()]) < 1e-6
    assert found.norm_sq == pytest.approx(norm_sq, rel=1e-5)


def test_non_finite_gradients_are_told():
    model = _model("logistic")
    with torch.no_grad():
        next(model.parameters()).fill_(1e38)
    found = fused_gradient(model, cross_entropy, _data(), torch.full((130,), 1 / 130))
    assert not found.finite


def test_evaluation_counts_and_restores_the_mode():
    model = nn.Linear(1, 2, bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[-1.0], [1.0]]))
    data = Samples(x=torch.tensor([[1.0], [2.0], [-1.0], [-2.0]]), y=torch.tensor([1, 0, 0, 0]))
    score = evaluate(model, cross_entropy, data)
    assert score.accuracy == 0.75
    assert score.loss == pytest.approx(float(cross_entropy(model(data.x), data.y).detach().mean()), rel=1e-6)
    assert model.training
    regression = Samples(x=data.x, y=torch.zeros(4))
    assert evaluate(model, lambda o, y: (o[:, 0] - y) ** 2, regression).accuracy is None
