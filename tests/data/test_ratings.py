"""Ratings of harm → pairs: what counts as a pair, its label, its part, and the counts on the asset itself."""

from __future__ import annotations

import json
import math
from fractions import Fraction
from itertools import combinations
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from charter import assets
from charter.assets.gathering import gather_do_not_answer, gather_harm_ratings, gather_strongreject
from charter.data import DataSettings, load_pairs
from charter.data.ratings import (
    RATER_SPREAD,
    RatedReply,
    as_jsonl,
    as_pairs,
    pair_rows,
    part_of,
    rated_pairs,
    rated_replies,
)
from charter.errors import AssetError, DataError
from charter.recipe import DataTable


def reply(text: str, *ratings: float, prompt: str = "How?", table: str = "violence") -> RatedReply:
    return RatedReply(prompt=prompt, reply=text, ratings=ratings, source=f"{table}:1")


def test_a_pair_needs_one_table_one_prompt_two_texts_and_the_gap():
    replies = [
        reply("no", 0.0),
        reply("well", 0.25),
        reply("so", 0.5),
        reply("no", 1.0),  # the text of the first
        reply("here", 1.0, prompt="What?"),
        reply("there", 1.0, table="privacy"),
    ]
    found = [(pair.less.reply, pair.more.reply, pair.gap) for pair in rated_pairs(replies)]
    # 0 and 1 are the same text; 0.25 and 0.5 are too near; the last two are of another prompt and of another table
    assert found == [("no", "so", 0.5), ("well", "no", 0.75), ("so", "no", 0.5)]


def test_severities_that_are_equal_are_no_pair_however_small_the_gap():
    assert rated_pairs([reply("a", 0.5), reply("b", 0.25, 0.75)], min_gap=0.0) == ()


def test_the_soft_label_by_hand():
    (pair,) = rated_pairs([reply("a", 0.0), reply("b", 0.5)])
    # one rating each: the scatter is s·√(2 + 1 + 1) = 2s; Φ(0.5 / 0.2972) = Φ(1.6824)
    assert pair.p == pytest.approx(0.953755, abs=1e-5)
    (surer,) = rated_pairs([reply("a", 0.0, 0.0, 0.0), reply("b", 0.5, 0.5, 0.5)])
    # three each: s·√(2 + 2/3) = 1.633 s; Φ(2.0604)
    assert surer.p == pytest.approx(0.980321, abs=1e-5)
    assert RATER_SPREAD == 0.1486


@given(st.lists(st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]), min_size=1, max_size=3), st.floats(0.01, 1))
def test_the_label_grows_with_the_gap_and_stays_above_a_half(ratings, gap):
    def pair(by: float):
        return rated_pairs([reply("a", *ratings), reply("b", *(value + by for value in ratings))], min_gap=0.0)[0]

    assert 0.5 < pair(gap).p <= pair(gap * 1.5).p <= 1


def test_pairs_for_a_judge_come_in_either_order_with_their_label_turned():
    pairs = rated_pairs([reply(f"reply {n}", n % 5 / 4) for n in range(20)])
    made = as_pairs(pairs)
    first = {pair.id: pair.a == rated.less.reply for pair, rated in zip(made, pairs, strict=True)}
    assert 0.35 < sum(first.values()) / len(first) < 0.65
    for pair, rated in zip(made, pairs, strict=True):
        assert pair.p == (rated.p if first[pair.id] else 1 - rated.p)
        assert {pair.a, pair.b} == {rated.less.reply, rated.more.reply}
        assert (pair.prompt.fields["severity_a"] < pair.prompt.fields["severity_b"]) == first[pair.id]
    assert {pair.p for pair in as_pairs(pairs, "hard")} == {0.0, 1.0}


def test_rows_read_back_through_our_own_loader(tmp_path: Path):
    pairs = rated_pairs([reply("no", 0.0), reply("yes — é", 1.0), reply("perhaps", 0.5)])
    path = tmp_path / "pairs.jsonl"
    path.write_text(as_jsonl(pair_rows(pairs)), encoding="utf-8")
    assert [set(json.loads(line)) for line in path.read_text().splitlines()] == [
        {"id", "prompt", "chosen", "rejected", "p", "margin"}
    ] * 3
    table: DataSettings = DataTable(pairs=str(path))
    loaded = load_pairs(table, 0).train.items
    assert {(pair.id, pair.a, pair.b, pair.p) for pair in loaded} == {
        (pair.id, pair.less.reply, pair.more.reply, pair.p) for pair in pairs
    }
    assert loaded[0].prompt.messages == ({"role": "user", "content": "How?"},)
    assert [row["margin"] for row in pair_rows(pairs, "hard")] == [1.0] * 3


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"prompt": "a", "reply": "b", "file": "f", "ratings": []}, "ratings is []"),
        ({"prompt": "a", "reply": "b", "file": "f", "ratings": [2]}, r"ratings is \[2\]"),
        ({"prompt": "a", "reply": "b", "file": "f", "ratings": [True]}, "expected a list of numbers from 0 to 1"),
        ({"prompt": "a", "reply": " ", "file": "f", "ratings": [1]}, "reply is ' ', expected text"),
    ],
)
def test_a_row_that_is_no_rating_is_named(tmp_path: Path, row, said):
    path = tmp_path / "ratings.jsonl"
    path.write_text(json.dumps(row) + "\n")
    with pytest.raises(DataError, match=rf"ratings.jsonl:1: .*{said.replace('[]', '.*')}"):
        rated_replies(path)


def test_a_prompts_part_depends_on_the_prompt_alone():
    parts = [part_of(f"prompt {n}") for n in range(2000)]
    shares = [parts.count(part) / 2000 for part in ("train", "calibration", "evaluation")]
    assert shares == pytest.approx([0.6, 0.2, 0.2], abs=0.04)
    # SHA-256 of "" begins with e3b0c442: 0.889 of the way
    assert part_of("") == "evaluation"


def write_table(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


def test_tables_become_rows_and_keep_where_they_stood(tmp_path: Path):
    head = "# version=1.0,,\nharm_category,objective,assistant_response,human_score_1,human_score_2,data_type\n"
    from charter.assets.gathering import _LABELLED, _RATED

    for name in _RATED:
        write_table(tmp_path / f"{name}.csv", head + 'x,"How, then?","No.\nNever.",0.25,1,text\n')
    for name in _LABELLED:
        write_table(tmp_path / f"{name}.csv", "# v\nobjective,assistant_response,human_score,data_type\na,b,1,text\n")
    gather_harm_ratings(tmp_path)
    rows = [json.loads(line) for line in (tmp_path / "harm-ratings.jsonl").read_text().splitlines()]
    assert len(rows) == 10
    assert rows[0] == {
        "prompt": "How, then?",
        "reply": "No.\nNever.",
        "ratings": [0.25, 1.0],
        "file": "exploits",
        "row": 1,
    }
    labelled = [json.loads(line) for line in (tmp_path / "refusals.jsonl").read_text().splitlines()]
    assert [(row["refuses"], row["file"]) for row in labelled] == [(True, "refusal"), (True, "mini_refusal")]
    write_table(tmp_path / "privacy.csv", head + "x,a,b,3,1,text\n")
    with pytest.raises(AssetError, match=r"privacy.csv, row 1: found the ratings \[3.0, 1.0\]"):
        gather_harm_ratings(tmp_path)
    write_table(tmp_path / "privacy.csv", "a,b\n1,2\n")
    with pytest.raises(AssetError, match="no column assistant_response, objective"):
        gather_harm_ratings(tmp_path)


def test_prompts_become_rows(tmp_path: Path):
    write_table(tmp_path / "human_chatbox.jsonl", '{"prompt": "Why?", "intents": ["S1"]}\n')
    write_table(tmp_path / "a_b.jsonl", '{"prompt": "How?"}\n')
    gather_do_not_answer(tmp_path)
    gather_do_not_answer(tmp_path)
    assert [json.loads(line) for line in (tmp_path / "do-not-answer.jsonl").read_text().splitlines()] == [
        {"prompt": "How?", "area": "a_b", "intents": []},
        {"prompt": "Why?", "area": "human_chatbox", "intents": ["S1"]},
    ]
    write_table(tmp_path / "strongreject_dataset.csv", 'category,source,forbidden_prompt\nFraud,DAN,"Do, it"\n')
    gather_strongreject(tmp_path)
    (row,) = [json.loads(line) for line in (tmp_path / "strongreject.jsonl").read_text().splitlines()]
    assert row == {"prompt": "Do, it", "category": "Fraud", "source": "DAN"}


@pytest.mark.parametrize("name", ["do-not-answer", "harm-ratings", "strongreject"])
def test_the_pins_take_data_and_licences_alone(name):
    asset = assets.ASSETS[name]
    assert len(asset.sha256) == 64
    assert len({Path(member).name for member in asset.members}) == len(asset.members)
    assert any("LICENSE" in member for member in asset.members)
    assert {Path(member).suffix for member in asset.members} <= {".csv", ".jsonl", ".txt", ""}
    assert "refusal_extra" not in "".join(asset.members)


@pytest.mark.slow
def test_the_assets_hold_what_the_design_says():
    folder = assets.get("harm-ratings")
    replies = rated_replies(folder / "harm-ratings.jsonl")
    assert len(replies) == 990
    pairs = rated_pairs(replies)
    assert (len(pairs), len({pair.prompt for pair in pairs})) == (1253, 79)
    exact = {
        source: Fraction(sum(Fraction(rating) for rating in one.ratings), len(one.ratings))
        for one in replies
        for source in [(one.source, one.reply)]
    }
    groups: dict[tuple[str, str], list[RatedReply]] = {}
    for one in replies:
        groups.setdefault((one.source.partition(":")[0], one.prompt), []).append(one)
    without_rounding = sum(
        a.reply != b.reply and abs(exact[a.source, a.reply] - exact[b.source, b.reply]) >= Fraction(1, 2)
        for group in groups.values()
        for a, b in combinations(group, 2)
    )
    assert without_rounding == 1280 == len(rated_pairs(replies, 0.4999))
    shorter = sum(len(pair.less.reply) < len(pair.more.reply) for pair in pairs)
    assert shorter / len(pairs) == pytest.approx(0.769, abs=5e-4)
    thrice = [one for one in replies if len(one.ratings) == 3]
    square = sum((value - one.severity) ** 2 for one in thrice for value in one.ratings)
    assert math.sqrt(square / (2 * len(thrice))) == pytest.approx(RATER_SPREAD, abs=5e-5)
    counts = [sum(part_of(pair.prompt) == part for pair in pairs) for part in ("train", "calibration", "evaluation")]
    assert counts == [810, 153, 290]
    refusals = (folder / "refusals.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(refusals) == 105 + 24
    for name, rows in (("do-not-answer", 939), ("strongreject", 313)):
        path = assets.get(name) / assets.ASSETS[name].rows
        assert len(path.read_text(encoding="utf-8").splitlines()) == rows
