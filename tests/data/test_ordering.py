"""The order of prompts: each epoch whole, no repeats in a step, any step found again from its number."""

from __future__ import annotations

from collections import Counter
from itertools import islice
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from charter.data import EpochOrder, PromptSource
from charter.errors import DataError
from charter.types import Message, Prompt

if TYPE_CHECKING:
    from charter import protocols


def order(n: int, seed: int = 0) -> PromptSource:
    message = Message(role="user", content="?")
    return EpochOrder([Prompt(id=f"p{i}", messages=(message,)) for i in range(n)], seed, "made up")


def ids(source: PromptSource, size: int, count: int, start: int = 1) -> list[tuple[str, ...]]:
    return [tuple(p.id for p in prompts) for _, prompts in islice(source.steps(size, start=start), count)]


sizes = st.integers(1, 12).flatmap(lambda size: st.tuples(st.just(size), st.integers(size, 30)))


@given(sizes=sizes, seed=st.integers(0, 5), steps=st.integers(1, 40))
def test_epochs_are_whole_and_steps_have_no_repeats(sizes: tuple[int, int], seed: int, steps: int) -> None:
    size, n = sizes
    drawn = ids(order(n, seed), size, steps)
    assert all(len(set(step)) == size for step in drawn)
    stream = [name for step in drawn for name in step]
    for begin in range(0, len(stream), n):
        epoch = stream[begin : begin + n]
        assert len(set(epoch)) == len(epoch)


@given(sizes=sizes, start=st.integers(1, 40))
def test_a_later_start_continues_the_same_order(sizes: tuple[int, int], start: int) -> None:
    size, n = sizes
    assert ids(order(n), size, 5, start=start) == ids(order(n), size, start + 4)[start - 1 :]


def test_steps_are_numbered_from_start() -> None:
    assert [step for step, _ in islice(order(5).steps(2, start=7), 3)] == [7, 8, 9]


def test_seeds_and_epochs_shuffle_differently_and_files_do_not() -> None:
    first, second = ids(order(50), 50, 2)
    assert first != second
    assert ids(order(50, seed=1), 50, 1)[0] != first
    backwards = EpochOrder(order(50).items[::-1], 0)
    assert ids(backwards, 50, 1)[0] == first


def test_every_prompt_comes_first_about_as_often() -> None:
    # 4 prompts, 400 epochs: each opens 100 of them on average, with a standard deviation of √(400·¼·¾) ≈ 8.7
    counts = Counter(step[0] for step in ids(order(4), 4, 400))
    assert all(60 < count < 140 for count in counts.values())
    assert len(counts) == 4


def test_more_per_step_than_there_is_names_both_numbers() -> None:
    with pytest.raises(DataError, match=r"made up: 9 per step were asked for and there are 8"):
        order(8).steps(9)


def test_steps_are_counted_from_one() -> None:
    with pytest.raises(ValueError, match="counted from 1"):
        order(8).steps(2, start=0)


@given(step=st.integers(1, 9), takes=st.lists(st.integers(0, 4), min_size=1, max_size=4))
def test_refills_meet_neither_the_step_nor_each_other(step: int, takes: list[int]) -> None:
    source = order(40)
    (own,) = ids(source, 4, 1, start=step)
    drawn = [*own]
    for round, n in enumerate(takes, start=1):
        more = source.refill(step, round, n)
        # 36 prompts are left for at most 4 rounds of 4
        assert len(more) == n
        drawn += [p.id for p in more]
    assert len(set(drawn)) == len(drawn)


def test_a_refill_does_not_depend_on_what_was_asked_before() -> None:
    fresh, used = order(40), order(40)
    fresh.steps(4)
    list(islice(used.steps(4), 9))
    used.refill(9, 1, 4)
    assert fresh.refill(5, 2, 3) == used.refill(5, 2, 3)
    assert fresh.refill(5, 2, 3) != fresh.refill(6, 2, 3)


def test_a_data_set_that_is_used_up_refills_with_what_is_left() -> None:
    source = order(6)
    (own,) = ids(source, 4, 1)
    left = {p.id for p in source.items} - set(own)
    assert {p.id for p in source.refill(1, 1, 4)} == left
    assert source.refill(1, 2, 4) == ()


def test_refill_refuses_more_than_a_step() -> None:
    source = order(40)
    with pytest.raises(ValueError, match="call steps first"):
        source.refill(1, 1, 2)
    source.steps(4)
    with pytest.raises(ValueError, match="0 to 4"):
        source.refill(1, 1, 5)


def test_it_is_the_prompt_source_that_trainers_ask_for() -> None:
    source: protocols.PromptSource = order(3)
    assert next(iter(source.steps(3)))[0] == 1
