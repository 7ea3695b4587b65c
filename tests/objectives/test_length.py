"""The soft overlong penalty, by hand."""

from __future__ import annotations

import pytest
import torch

from charter.objectives.length import overlong_penalty


def test_linear_over_the_window():
    # window 4 before 10: it starts at 6 and grows by a quarter per token
    found = overlong_penalty(torch.tensor([0, 5, 6, 7, 8, 9, 10, 11]), 10, 4)
    assert found.tolist() == [0, 0, 0, -0.25, -0.5, -0.75, -1, -1]
    assert found.dtype == torch.float32


def test_without_a_window_the_limit_alone_is_penalised():
    assert overlong_penalty(torch.tensor([[1, 9, 10, 11]]), 10, 0).tolist() == [[0, 0, -1, -1]]


def test_the_window_may_be_the_whole_length():
    assert overlong_penalty(torch.tensor([0, 1, 2]), 2, 2).tolist() == [0, -0.5, -1]
    assert overlong_penalty(torch.tensor([0, 1]), 1, 1).tolist() == [0, -1]


@pytest.mark.parametrize(("limit", "window"), [(0, 0), (4, 5), (4, -1)])
def test_refusals(limit: int, window: int):
    with pytest.raises(ValueError, match="max_tokens"):
        overlong_penalty(torch.tensor([1]), limit, window)
