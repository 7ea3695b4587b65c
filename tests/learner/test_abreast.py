"""Micro-batches at once: the sums of one after another, whatever the timing, and no thread left when one fails."""

from __future__ import annotations

import threading
import time

import pytest
import torch
from torch import nn

from charter.learner.abreast import abreast, run_in_turn


@pytest.fixture(autouse=True)
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("sizes", "most", "threads", "device", "at_once"),
    [
        ([5, 5], 10, 2, "cpu", 2),
        ([5, 6], 11, 2, "cpu", 1),  # two of the largest would not fit
        ([5], 100, 2, "cpu", 1),
        ([], 100, 2, "cpu", 1),
        ([5, 5], 10, 1, "cpu", 1),
        ([5, 5], 10, 2, "cuda", 1),
    ],
)
def test_when_two_run(sizes: list[int], most: int, threads: int, device: str, at_once: int) -> None:
    torch.set_num_threads(threads)
    assert abreast(sizes, most, torch.device(device)) == at_once


def test_sums_are_in_order_whoever_is_first() -> None:
    """1e8 + 1 − 1e8 + 1 is 1 in float32 from left to right, and 0 or 2 in other orders; the later ones come first."""
    weight = nn.Parameter(torch.zeros(3))
    threads = set()

    def work(i: int) -> int:
        threads.add(threading.current_thread().name)
        time.sleep((0.06, 0.0, 0.06, 0.0)[i])
        (weight * (1e8, 1.0, -1e8, 1.0)[i]).sum().backward()
        return i

    for _ in range(3):
        weight.grad = None
        assert run_in_turn(4, work, [weight], at_once=2) == [0, 1, 2, 3]
        assert weight.grad is not None
        assert weight.grad.tolist() == [1.0] * 3
    assert len(threads) == 2
    assert torch.get_num_threads() == 2


def test_a_weight_that_a_micro_batch_does_not_touch_waits_for_nobody() -> None:
    touched, other = nn.Parameter(torch.zeros(())), nn.Parameter(torch.zeros(()))

    def work(i: int) -> None:
        if i % 2:
            (touched * 2.0**i).backward()
        else:
            time.sleep(0.02)
            (other * 2.0**i).backward()

    run_in_turn(6, work, [touched, other], at_once=2)
    assert touched.grad is not None
    assert other.grad is not None
    assert (touched.grad.item(), other.grad.item()) == (2 + 8 + 32, 1 + 4 + 16)


@pytest.mark.parametrize("failing", [0, 1, 3])
def test_a_failure_is_raised_and_nobody_waits_for_it(failing: int) -> None:
    weight = nn.Parameter(torch.zeros(()))

    begun: list[int] = []

    def work(i: int) -> None:
        begun.append(i)
        if i == failing:
            time.sleep(0.02)  # the next one waits already
            raise ZeroDivisionError(f"micro-batch {i}")
        (weight * 1.0).backward()

    began = time.monotonic()
    with pytest.raises(ZeroDivisionError, match=f"micro-batch {failing}"):
        run_in_turn(6, work, [weight], at_once=2)
    assert time.monotonic() - began < 5
    assert len(begun) <= failing + 3  # what ran beside it, and at most one more
    assert not [t for t in threading.enumerate() if t.name.startswith("charter-learn")]
    weight.grad = None
    (weight * 3.0).backward()  # no hook is left
    assert weight.grad is not None
    assert weight.grad.item() == 3
