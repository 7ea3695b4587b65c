"""Where gradients are kept: one place per weight for as long as there is an updater, none for untouched ones."""

from __future__ import annotations

import gc
import weakref

import torch
from torch import nn

from charter.learner.updating import Updater
from charter.recipe import OptimizerTable


def test_gradients_are_added_up_in_one_place() -> None:
    weight = nn.Parameter(torch.tensor([1.0, 2.0]))
    updater = Updater([({"w": weight}, 1.0)], OptimizerTable(learning_rate=0.5, max_grad_norm=100.0))
    places = set()
    for _ in range(2):
        updater.begin()
        assert weight.grad is None
        for scale in (1.0, 10.0, 100.0):
            (weight * torch.tensor([scale, 2 * scale])).sum().backward()
            assert weight.grad is not None
            places.add(weight.grad.data_ptr())
        assert weight.grad.tolist() == [111.0, 222.0]  # nothing is left of the update before
    assert len(places) == 1


def test_what_no_loss_touched_does_not_decay() -> None:
    touched, other = nn.Parameter(torch.ones(2, 2)), nn.Parameter(torch.ones(2, 2))
    settings = OptimizerTable(learning_rate=0.1, weight_decay=0.5)
    updater = Updater([({"touched": touched, "other": other}, 1.0)], settings)
    updater.begin()
    touched.sum().backward()
    updater.apply(0.0, 0.1, 0.0)
    assert touched.max() < 0.9
    assert other.tolist() == [[1.0, 1.0], [1.0, 1.0]]


def test_the_place_goes_with_the_updater() -> None:
    weight = nn.Parameter(torch.zeros(3))
    updater = Updater([({"w": weight}, 1.0)], OptimizerTable())
    weight.sum().backward()
    place = weakref.ref(weight.grad)
    weight.grad = None
    assert place() is not None
    del updater
    gc.collect()
    assert place() is None
    weight.sum().backward()  # no hook is left
    assert weight.grad is not None
    assert weight.grad.tolist() == [1.0, 1.0, 1.0]
