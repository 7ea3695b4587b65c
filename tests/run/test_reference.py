"""The reference's log-probabilities on disk: written once, found again, the same wherever the writing stopped."""

from __future__ import annotations

import pytest

from charter.errors import StoreError
from charter.run import reference as module
from charter.run.reference import ReferenceLogprobs
from charter.types import Branch, Tree


def tree(number: int) -> Tree:
    return Tree(
        prefix=(1, number),
        branches=tuple(Branch(tokens=(number, k), mask=(True, True)) for k in (1, 2)),
    )


STEPS = [[tree(0), tree(1)], [tree(1), tree(2)], [tree(3)]]


class Model:
    """Says prefix · 10 + token of each token, and counts what it is asked; dies after `lives` calls."""

    def __init__(self, lives: int = 100) -> None:
        self.asked: list[list[Tree]] = []
        self.lives = lives

    def __call__(self, trees):
        if len(self.asked) == self.lives:
            raise KeyboardInterrupt
        self.asked.append(list(trees))
        return [[[t.prefix[1] * 10.0 + token for token in b.tokens] for b in t.branches] for t in trees]


def test_each_tree_is_asked_once_and_found_again(tmp_path):
    cache, model = ReferenceLogprobs(tmp_path), Model()
    cache.add(cache.missing(STEPS), model)
    assert model.asked == [[tree(0), tree(1)], [tree(2)], [tree(3)]]
    again = ReferenceLogprobs(tmp_path)
    assert again.missing(STEPS) == []
    assert again([tree(2), tree(0)]) == [[(22.0, 21.0), (22.0, 22.0)], [(0.0, 1.0), (0.0, 2.0)]]


def test_what_stopped_half_way_goes_on_with_the_same_calls(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "PART_STEPS", 1)
    cache = ReferenceLogprobs(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        cache.add(cache.missing(STEPS), Model(lives=2))
    again, model = ReferenceLogprobs(tmp_path), Model()
    again.add(again.missing(STEPS), model)
    assert model.asked == [[tree(3)]]
    assert [p.name for p in sorted((tmp_path / "reference").iterdir())] == [f"part-00000{i}.parquet" for i in range(3)]


def test_a_longer_run_asks_for_the_rest_alone(tmp_path):
    first, rest = Model(), Model()
    cache = ReferenceLogprobs(tmp_path)
    cache.add(cache.missing(STEPS[:1]), first)
    again = ReferenceLogprobs(tmp_path)
    again.add(again.missing(STEPS), rest)
    assert rest.asked == [[tree(2)], [tree(3)]]


def test_prefix_tokens_and_temperature_are_the_key(tmp_path):
    cache = ReferenceLogprobs(tmp_path)
    cache.add([[tree(1)]], Model())
    other = Tree(prefix=(1,), branches=(Branch(tokens=(1, 1, 1), mask=(True,) * 3),))  # the same ids, cut elsewhere
    with pytest.raises(StoreError, match="does not hold"):
        cache([other])
    with pytest.raises(StoreError, match="--resume"):
        ReferenceLogprobs(tmp_path, temperature=0.5)([tree(1)])


def test_a_damaged_part_is_named(tmp_path):
    cache = ReferenceLogprobs(tmp_path)
    cache.add([[tree(1)]], Model())
    (tmp_path / "reference" / "part-000000.parquet").write_bytes(b"PAR1 torn")
    with pytest.raises(StoreError, match=r"part-000000\.parquet does not read.*Delete it"):
        ReferenceLogprobs(tmp_path)
