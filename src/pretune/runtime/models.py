"""The models of the built-in tasks, their weights drawn from an explicit generator."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn

from pretune.runtime.task import isolated_generator

KINDS = ("mlp", "cnn", "logistic")


def make_model(kind: str, shape: Sequence[int], classes: int, hidden: int, generator: torch.Generator) -> nn.Sequential:
    """An untrained classifier for images of `shape` (channels, height, width).

    - ``logistic``: one linear layer (`hidden` is not used);
    - ``mlp``: one hidden layer of `hidden` units, ReLU;
    - ``cnn``: two 3x3 convolutions (16 and 32 channels), each with ReLU and 2x2 max pooling, then a hidden layer of
      `hidden` units, ReLU. Height and width must be at least 4.

    Weights and biases are uniform in +-1/sqrt(fan-in), as in PyTorch's own layers, but drawn from `generator`.
    """
    channels, height, width = shape
    if kind not in KINDS:
        raise ValueError(f"no model of kind {kind!r}")
    with isolated_generator(0):  # what the layers draw for themselves is drawn anew below
        model = _LAYERS[kind](channels, height, width, classes, hidden)
    draw_weights(model, generator)
    return model


def draw_weights(model: nn.Module, generator: torch.Generator) -> None:
    """Draw the weights and biases of all linear and convolution layers anew, in the order of the layers.

    Uniform in +-1/sqrt(fan-in): the variance 1/(3 fan-in) of LeCun et al., "Efficient BackProp" (1998).
    """
    for layer in model.modules():
        if isinstance(layer, (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)):
            bound = 1.0 / math.sqrt(layer.weight[0].numel())
            with torch.no_grad():
                layer.weight.uniform_(-bound, bound, generator=generator)
                if layer.bias is not None:
                    layer.bias.uniform_(-bound, bound, generator=generator)


def _logistic(channels: int, height: int, width: int, classes: int, _hidden: int) -> nn.Sequential:
    return nn.Sequential(nn.Flatten(), nn.Linear(channels * height * width, classes))


def _mlp(channels: int, height: int, width: int, classes: int, hidden: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Flatten(), nn.Linear(channels * height * width, hidden), nn.ReLU(), nn.Linear(hidden, classes)
    )


def _cnn(channels: int, height: int, width: int, classes: int, hidden: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, 16, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(32 * (height // 4) * (width // 4), hidden),
        nn.ReLU(),
        nn.Linear(hidden, classes),
    )


_LAYERS = {"logistic": _logistic, "mlp": _mlp, "cnn": _cnn}
