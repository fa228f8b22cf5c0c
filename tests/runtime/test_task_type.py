"""Task and Samples: what they refuse, and that building a model is repeatable and leaves no trace."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from pretune.errors import InputError
from pretune.runtime.models import KINDS, make_model
from pretune.runtime.task import Samples, Task, cross_entropy


def _samples(n: int = 6) -> Samples:
    return Samples(x=torch.arange(2.0 * n).reshape(n, 2), y=torch.arange(n) % 2)


def _task(**changes) -> Task:
    data = {part: _samples() for part in ("general", "train", "test")}
    return Task(**{"name": "tiny", "model": lambda g: nn.Linear(2, 2), **data, **changes})


def _weights(model: nn.Module) -> list[bytes]:
    return [p.detach().numpy().tobytes() for p in model.parameters()]


@pytest.mark.parametrize("kind", KINDS)
def test_same_seed_same_weights_and_no_trace(kind):
    before = torch.get_rng_state()
    task = _task(model=lambda generator: make_model(kind, (1, 8, 8), 10, 7, generator))
    first, again, other = task.build(3), task.build(3), task.build(4)
    assert torch.equal(before, torch.get_rng_state())
    assert _weights(first) == _weights(again) != _weights(other)
    assert first(torch.zeros(2, 1, 8, 8)).shape == (2, 10)
    fan_in = next(first.parameters())[0].numel()
    assert float(next(first.parameters()).detach().abs().max()) <= fan_in**-0.5


def test_make_model_alone_leaves_no_trace():
    before = torch.get_rng_state()
    make_model("cnn", (3, 32, 32), 10, 16, torch.Generator().manual_seed(0))
    assert torch.equal(before, torch.get_rng_state())
    with pytest.raises(ValueError, match="no model of kind 'rnn'"):
        make_model("rnn", (1, 8, 8), 10, 16, torch.Generator())


def test_a_factory_that_overlooks_its_generator_is_repeatable():
    task = _task()
    torch.manual_seed(5)
    first = _weights(task.build(1))
    torch.manual_seed(6)
    state = torch.get_rng_state()
    assert _weights(task.build(1)) == first
    assert torch.equal(state, torch.get_rng_state())


def test_generator_is_put_back_when_the_factory_fails():
    state = torch.get_rng_state()
    with pytest.raises(ZeroDivisionError):
        _task(model=lambda g: 1 / 0).build(0)
    assert torch.equal(state, torch.get_rng_state())


def test_models_that_can_not_be_trained():
    with pytest.raises(InputError, match=r"task.model: makes int, should make a torch.nn.Module"):
        _task(model=lambda g: 3).build(0)
    with pytest.raises(InputError, match="without trainable parameters"):
        _task(model=lambda g: nn.Flatten()).build(0)


def test_samples_refuse_what_does_not_fit():
    with pytest.raises(InputError, match=r"inputs of shape \(3, 2\) and targets of shape \(2,\)"):
        Samples(x=torch.zeros(3, 2), y=torch.zeros(2))
    with pytest.raises(InputError, match="at least one"):
        Samples(x=torch.zeros(0, 2), y=torch.zeros(0))
    with pytest.raises(InputError, match="ndarray and Tensor"):
        Samples(x=np.zeros((2, 2)), y=torch.zeros(2))
    with pytest.raises(InputError, match="at least one"):
        Samples(x=torch.tensor(1.0), y=torch.tensor(1.0))


def test_take_keeps_the_order():
    taken = _samples().take(np.array([5, 0, 5]))
    assert taken.y.tolist() == [1, 0, 1]
    assert taken.x[:, 0].tolist() == [10.0, 0.0, 10.0]


def test_loss_is_per_sample():
    assert cross_entropy(torch.zeros(4, 3), torch.tensor([0, 1, 2, 0])).shape == (4,)


def test_fingerprint_sees_every_sample():
    base = _task().fingerprint()
    assert _task().fingerprint() == base
    for part in ("general", "train", "test"):
        changed = _samples()
        changed.x[3, 1] += 1.0
        assert _task(**{part: changed}).fingerprint() != base
    assert _task(name="other").fingerprint() != base
    assert _task(parts=(np.array([1]),)).fingerprint() != base
    assert dataclasses.replace(_task(), test=_samples(4)).fingerprint() != base
