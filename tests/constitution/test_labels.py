"""Rows of preferences: which replies are compared, what p and margin are, what is left out, how people's are mixed."""

from __future__ import annotations

import asyncio
import io
import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from charter.constitution.ablate import ablation
from charter.constitution.feedback import Judged, Match
from charter.constitution.labels import (
    complete,
    human_rows,
    judged_rows,
    mixed,
    preference_jsonl,
    preference_parquet,
)
from charter.constitution.records import Judgement, Preference
from charter.data import load_pairs
from charter.errors import UsageError
from charter.recipe import DataTable
from charter.recipe.cai import LabelTable
from charter.run.records import Journal
from charter.sampler.scripted import ScriptedChat
from charter.types import ChatRequest, Message, Pair, Prompt


def prompt(n: int) -> Prompt:
    return Prompt(id=f"p{n}", messages=(Message(role="user", content=f"question {n}"),))


def match(n: int = 0) -> Match:
    return Match(messages=prompt(n).messages, a=f"first {n}", b=f"second {n}", a_id=f"a{n}", b_id=f"b{n}")


def said(p: float | None, status: str = "ok", n: int = 0) -> Judged:
    judgement = Judgement(
        a=f"a{n}", b=f"b{n}", principle="x", order="ab", mode="logprob", p_a=p, raw="", status=status, model="m"
    )  # fmt: skip
    preference = Preference(a=f"a{n}", b=f"b{n}", p_a=p, position_gap=None, members=(judgement.id,))
    return Judged(preference=preference, judgements=(judgement,))


def test_the_first_two_replies_that_differ_are_compared_and_nothing_is_asked_twice(tmp_path: Path):
    words = {"question 0": ["x", "x ", "y", "z"], "question 1": ["same"] * 4, "question 2": ["", " ", "b", ""]}
    asked: dict[str, int] = {}

    def reply(request: ChatRequest) -> str | None:
        text = request.messages[-1]["content"]
        if text == "question 3":
            return None
        asked[text] = asked.get(text, -1) + 1
        return words[text][asked[text]]

    model = ScriptedChat(reply, name="policy")
    table = LabelTable(completions=4)
    path = tmp_path / "j.jsonl"
    for run in range(2):
        with Journal.open(path, {}) as journal:
            found = asyncio.run(complete([prompt(n) for n in range(4)], model, table, journal, 0))
            texts = [row["text"] for row in journal.of_kind("completion")]
        assert [(one.a, one.b, one.messages[-1]["content"]) for one in found.matches] == [("x", "y", "question 0")]
        assert found.counts == {"prompts": 4, "replies": 12, "failed": 1, "identical": 2}
        assert len(texts) == 12
        assert model.usage.requests == 12, run


def test_rows_have_p_of_the_chosen_and_what_is_unsaid_is_no_row():
    judged = [
        said(0.8, n=0), said(0.3, n=1), said(0.5, n=2), said(None, "unparsed", 3), said(None, "refused", 4),
        said(None, "error", 5),
    ]  # fmt: skip
    matches = [match(n) for n in range(6)]
    rows, left_out = judged_rows(matches, judged, "soft", (0.4, 0.6))
    assert left_out == {"undecided": 1, "unparsed": 1, "refused": 1, "error": 1}
    assert rows[0] == {
        "id": judged[0].preference.id,
        "prompt": [{"role": "user", "content": "question 0"}],
        "chosen": [{"role": "assistant", "content": "first 0"}],
        "rejected": [{"role": "assistant", "content": "second 0"}],
        "p": 0.8,
        "margin": pytest.approx(0.6),
    }
    assert rows[1]["chosen"][0]["content"] == "second 1"
    assert (rows[1]["p"], rows[1]["margin"]) == (pytest.approx(0.7), pytest.approx(0.4))
    hard, _ = judged_rows(matches, judged, "hard", (0.4, 0.6))
    assert [(row["p"], row["margin"]) for row in hard] == [(1.0, 1.0)] * 2
    clamped, _ = judged_rows(matches, judged, "clamped", (0.35, 0.6))
    assert [row["p"] for row in clamped] == [0.6, pytest.approx(0.65)]
    assert clamped[1]["chosen"][0]["content"] == "second 1"
    _, all_out = judged_rows(matches[:2], judged[:2], "clamped", (0.5, 0.5))
    assert all_out == {"undecided": 2}


def human_pair(n: int, p: float = 0.9) -> Pair:
    return Pair(id=f"h{n}", prompt=prompt(n), a=f"good {n}", b=f"bad {n}", p=p)


def test_human_rows_are_turned_to_their_chosen_side():
    rows = human_rows([human_pair(0), human_pair(1, 0.1), human_pair(2, 0.5)], "clamped")
    # in the order of their ids' hashes, whatever the order of the file
    assert [(row["id"], row["chosen"][0]["content"], row["p"]) for row in rows] == [
        ("h1", "bad 1", 0.9), ("h0", "good 0", 0.9)
    ]  # fmt: skip
    assert rows == human_rows([human_pair(1, 0.1), human_pair(0)], "clamped")
    assert [row["p"] for row in human_rows([human_pair(0)], "hard")] == [1.0]


@pytest.mark.parametrize(
    ("weight", "people"),
    [(0.0, 0), (0.25, 10), (0.5, 30), (0.9, 200)],
)
def test_people_are_mixed_in_by_their_share(weight, people):
    rows, _ = judged_rows([match(n) for n in range(30)], [said(0.8, n=n) for n in range(30)], "soft", (0.4, 0.6))
    human = human_rows([human_pair(n) for n in range(200)], "soft")
    every = mixed(rows, human, weight)
    assert every[:30] == rows
    assert len(every) - 30 == people
    assert every == mixed(rows, human, weight)


def test_people_alone():
    human = human_rows([human_pair(n) for n in range(5)], "soft")
    assert mixed([], human, 0.5) == human
    rows, _ = judged_rows([match()], [said(0.8)], "soft", (0.4, 0.6))
    assert mixed(rows, human, 1.0) == human


def test_the_files_read_back(tmp_path: Path):
    rows, _ = judged_rows([match(0), match(1)], [said(0.8, n=0), said(0.3, n=1)], "soft", (0.4, 0.6))
    path = tmp_path / "preferences.jsonl"
    path.write_bytes(preference_jsonl(rows))
    assert [json.loads(line) for line in path.read_text().splitlines()] == rows
    assert pq.read_table(io.BytesIO(preference_parquet(rows))).to_pylist() == rows
    (tmp_path / "p.parquet").write_bytes(preference_parquet(rows))
    for file in ("preferences.jsonl", "p.parquet"):
        loaded = load_pairs(DataTable(pairs=str(tmp_path / file)), 0).train.items
        assert {(one.a, one.b, one.p) for one in loaded} == {
            ("first 0", "second 0", rows[0]["p"]), ("second 1", "first 1", rows[1]["p"])
        }  # fmt: skip
    empty = pq.read_table(io.BytesIO(preference_parquet([])))
    assert (empty.num_rows, empty.column_names) == (0, ["id", "prompt", "chosen", "rejected", "p", "margin"])


def judged_row(pair: str, principle: str, p: float | None, order: str = "ab", **keys: Any) -> dict[str, Any]:
    row = {"a": f"a{pair}", "b": f"b{pair}", "mode": "logprob", "model": "m", "principle": principle}
    return {"kind": "judgement", **row, "order": order, "p_a": p, **keys}


def test_what_a_principle_brings_by_hand():
    rows = [
        # pair 1: x = (0.9 + 0.7)/2 = 0.8, y = 0.4, z = 0.45: mean 0.55; without x 0.425 (flips), y 0.625, z 0.6
        judged_row("1", "x", 0.9), judged_row("1", "x", 0.7, "ba"), judged_row("1", "y", 0.4),
        judged_row("1", "z", 0.45),
        # pair 2: x = 0.6, y = 0.7, z = 0.8: mean 0.7; nothing flips
        judged_row("2", "x", 0.6), judged_row("2", "y", 0.7), judged_row("2", "z", 0.8),
        # pair 3 lacks an answer, pair 4 was judged under one principle
        judged_row("3", "x", 0.6), judged_row("3", "y", None), judged_row("4", "x", 0.6),
        {"kind": "draft"},
    ]  # fmt: skip
    found = ablation(rows)
    assert (found["pairs"], found["left_out"]) == (2, 1)
    x, y, z = found["principles"]
    assert (x["id"], x["flips"], x["flip_share"], x["pairs"]) == ("x", 1, 0.5, 2)
    # x says a (0.8) where the rest says b (0.425), and agrees on pair 2
    assert x["agreement"] == 0.5
    assert x["shift"] == pytest.approx((0.125 + 0.05) / 2)
    assert (y["id"], y["flips"], y["agreement"]) == ("y", 0, 0.5)
    assert (z["id"], z["flips"], z["shift"]) == ("z", 0, pytest.approx((0.05 + 0.05) / 2))


def test_the_later_judgement_counts_and_judges_are_kept_apart():
    rows = [
        judged_row("1", "x", 0.1), judged_row("1", "x", 0.9), judged_row("1", "y", 0.9),
        judged_row("1", "y", 0.1, model="other"),
    ]  # fmt: skip
    found = ablation(rows)
    assert (found["pairs"], [row["agreement"] for row in found["principles"]]) == (1, [1.0, 1.0])


@pytest.mark.parametrize(
    ("rows", "found"), [([], "no judgement"), ([judged_row("1", "x", 0.6)], "1 pairs, each under one principle")]
)
def test_one_principle_per_pair_cannot_be_left_out(rows, found):
    with pytest.raises(UsageError, match=f"{found}, so none can be left out"):
        ablation(rows)
