"""Questions made by a program: right answers, all different, the same for the same seed."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from charter.data import load_prompts
from charter.errors import DataError, MissingExtra
from charter.recipe import DataTable


def made(source: str, seed: int = 0, **table: Any) -> list[Any]:
    return list(load_prompts(DataTable(prompts=source, held_out=0, **table), seed).train.items)


@given(digits=st.integers(1, 4), terms=st.integers(2, 4), seed=st.integers(0, 99))
def test_additions_have_the_digits_and_terms_asked_for(digits: int, terms: int, seed: int) -> None:
    prompts = made("arithmetic:addition", seed, size=20, options={"digits": digits, "terms": terms})
    for prompt in prompts:
        numbers = prompt.fields["question"].split("+")
        assert len(numbers) == terms
        assert all(re.fullmatch(rf"\d{{{digits}}}", number) for number in numbers)
        assert prompt.fields["answer"] == str(sum(map(int, numbers)))
    assert len({p.fields["question"] for p in prompts}) == 20


def test_the_default_is_a_thousand_of_two_two_digit_numbers() -> None:
    loaded = load_prompts(DataTable(prompts="arithmetic:addition", template="What is {question}?"), 0)
    assert len(loaded.train) + len(loaded.held_out) == 1000
    assert loaded.columns == ("question", "answer", "task")
    assert re.fullmatch(r"What is \d\d\+\d\d\?", loaded.train.items[0].messages[0]["content"])
    # all of 10…99 occur: a number is missing from 2000 draws with probability (89/90)^2000 ≈ 2·10⁻¹⁰
    prompts = [*loaded.train.items, *loaded.held_out]
    assert {n for p in prompts for n in p.fields["question"].split("+")} == {str(n) for n in range(10, 100)}


def test_every_pair_can_be_asked_for_and_not_one_more() -> None:
    options = {"digits": 1, "terms": 2}
    assert len(made("arithmetic:addition", size=100, options=options)) == 100
    with pytest.raises(DataError, match=r"only 100 different questions were found for data.size = 101"):
        made("arithmetic:addition", size=101, options=options)


def test_seeds_decide() -> None:
    def questions(seed: int) -> list[str]:
        return [p.fields["question"] for p in made("arithmetic:addition", seed, size=10)]

    assert questions(1) == questions(1) != questions(2)


@pytest.mark.parametrize(
    ("source", "options", "sentence"),
    [
        ("arithmetic:division", {}, "no such task"),
        ("arithmetic:addition", {"digit": 2}, "no option 'digit'"),
        ("arithmetic:addition", {"digits": 0}, "digits = 0"),
        ("arithmetic:addition", {"terms": 1}, "terms = 1"),
        ("arithmetic:addition", {"terms": True}, "terms = True"),
        ("reasoning_gym:chain_sun", {}, "Did you mean chain_sum"),
        ("reasoning_gym:chain_sum", {"no": 1}, "unexpected keyword argument 'no'"),
        ("reasoning_gym:chain_sum", {"min_terms": 0}, "min_terms must be positive"),
        ("reasoning_gym:chain_sum", {"size": 3}, "data.size instead"),
    ],
)
def test_what_cannot_be_made(source: str, options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        made(source, size=5, options=options)


def test_reasoning_gym_gives_what_its_own_scorer_takes() -> None:
    from reasoning_gym import get_score_answer_fn

    prompts = made(
        "reasoning_gym:basic_arithmetic",
        size=40,
        template="What is {metadata.expression}?",
        options={"min_terms": 2, "max_terms": 2, "operators": ["+"], "allow_parentheses": False},
    )
    assert len({p.messages[0]["content"] for p in prompts}) == 40
    score: Any = get_score_answer_fn("basic_arithmetic")
    for prompt in prompts:
        assert set(prompt.fields) == {"question", "answer", "task", "metadata"}
        assert prompt.fields == json.loads(json.dumps(prompt.fields))
        assert score(prompt.fields["answer"], dict(prompt.fields)) == 1.0
        assert prompt.messages[0]["content"] == f"What is {prompt.fields['metadata']['expression']}?"


def test_a_finite_task_says_how_many_there_are() -> None:
    options = {"min_terms": 1, "max_terms": 1, "min_digits": 1, "max_digits": 1}
    with pytest.raises(DataError, match="only 10 different questions"):
        made("reasoning_gym:chain_sum", size=11, options=options)


def test_reasoning_gym_needs_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "reasoning_gym", None)
    with pytest.raises(MissingExtra, match=r"charter\[gym\]"):
        made("reasoning_gym:chain_sum")


def test_data_needs_no_torch() -> None:
    code = (
        "import sys; from charter.data import load_prompts; from charter.recipe import DataTable; "
        "load_prompts(DataTable(prompts='arithmetic:addition'), 0); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0
