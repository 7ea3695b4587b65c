"""`csv`: a table against an expected one or a column spec; and the comparison of tables itself."""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from charter.errors import UsageError
from charter.reward import load_reward
from charter.reward.csv_answer import is_of_type, parse_table
from charter.reward.table import same_cell, table_fault
from charter.types import Score

Scores = Callable[..., list[Score]]
PEOPLE = "name,age\nAnn,3\nBob,4\n"
DIALECT = {"delimiter": ",", "quote": '"', "trim": False, "header": True}


def values(scores: list[Score]) -> list[float | None]:
    return [score.value for score in scores]


@pytest.mark.parametrize(
    ("text", "note"),
    [
        (PEOPLE, ""),
        (PEOPLE.strip(), ""),
        (PEOPLE.replace("\n", "\r\n"), ""),
        (f"Here it is:\n```csv\n{PEOPLE}```\n", ""),
        (f"<answer>{PEOPLE}</answer>", ""),
        ('name,age\n"Ann","3"\nBob,4', ""),
        ("", "there is no table"),
        (" \n ", "there is no table"),
        ("name,age\nBob,4\nAnn,3", "row 1 is ('Bob', '4')"),
        ("name,age\nAnn,3", "1 rows; expected 2"),
        ("name,age\nAnn,3\nBob,4\nBob,4", "3 rows; expected 2"),
        ("Name,age\nAnn,3\nBob,4", "the header is ['Name', 'age'], not ['name', 'age']"),
        ("age,name\n3,Ann\n4,Bob", "the header is ['age', 'name'], not ['name', 'age']"),
        ("name,age\nAnn,3.0\nBob,4", "row 1 is ('Ann', '3.0')"),  # text is compared as text
        ("name, age\nAnn, 3\nBob, 4", "the header is ['name', ' age'], not ['name', 'age']"),
        ("name,age\nAnn\nBob,4", "row 2 has 1 cells; the first has 2"),
        ("name,age\n\nAnn,3\nBob,4", "row 2 has 0 cells; the first has 2"),
        ('name,age\n"Ann,3\nBob,4', "not CSV: row 2: unexpected end of data"),
        ('name,age\n"Ann"x,3', "not CSV: row 2: ',' expected after '\"'"),
        ("| name | age |\n| Ann | 3 |", "the header is ['| name | age |'], not ['name', 'age']"),
    ],
)
def test_a_table_against_the_expected_one(score_texts: Scores, text: str, note: str) -> None:
    (score,) = score_texts("csv", [text], {"answer": PEOPLE})
    assert (score.value, score.note) == (0.0 if note else 1.0, note)


@pytest.mark.parametrize(
    "expected",
    [
        [{"id": 1, "x": 2.5, "ok": True, "s": None}],
        [["id", "x", "ok", "s"], [1, 2.5, True, None]],
    ],
)
def test_expected_tables_of_json(score_texts: Scores, expected: list[Any]) -> None:
    texts = ["id,x,ok,s\n1,2.50,true,", "id,x,ok,s\n01,25e-1,true,", "id,x,ok,s\n1,2.5,True,", "id,x,ok,s\n1,2.6,true,"]
    assert values(score_texts("csv", texts, {"answer": expected})) == [1, 1, 0, 0]
    assert values(score_texts("csv", texts, {"answer": expected}, tolerance=0.05)) == [1, 1, 0, 1]


def test_csv_options(score_texts: Scores) -> None:
    shuffled = "name,age\nBob,4\nAnn,3"
    assert values(score_texts("csv", [shuffled], {"answer": PEOPLE}, ordered=False)) == [1]
    spaced = "name ; age\nAnn; 3 \nBob;4"
    semicolons = PEOPLE.replace(",", ";")
    assert values(score_texts("csv", [spaced], {"answer": semicolons}, delimiter=";")) == [0]
    assert values(score_texts("csv", [spaced], {"answer": semicolons}, delimiter=";", trim=True)) == [1]
    assert values(score_texts("csv", ["'a,b',c"], {"answer": [["a,b", "c"]]}, header=False, quote="'")) == [1]
    assert values(score_texts("csv", [PEOPLE], {"gold": PEOPLE}, answer="gold", extract="fence")) == [0]
    for options, said in (
        ({"delimiter": '"'}, "must differ"),
        ({"columns": {"a": "int"}}, "column 'a' has the type 'int'"),
        ({"columns": {}}, "columns names none"),
    ):
        with pytest.raises(UsageError, match=said):
            load_reward("csv", **options)


@pytest.mark.parametrize(
    ("text", "partial", "note"),
    [
        ("id,when,rate\n1,2024-02-29,0.5\n2,2024-03-01,\n", 1.0, ""),
        ("id,when,rate\n1,2024-02-30,x\n", 1 / 3, "row 1, column 'when': '2024-02-30' is no date"),
        ("id,when,rate\n,2024-02-29,1\n", 2 / 3, "row 1, column 'id': '' is no integer"),
        ("id,when,rate\n", 0.0, "0 rows; at least 1"),
        ("id,when,rate\n" + "1,2024-02-29,1\n" * 3, 0.0, "3 rows; at most 2"),
        ("id,rate\n1,1", 0.0, "the header is ['id', 'rate'], not ['id', 'when', 'rate']"),
    ],
)
def test_a_column_spec(score_texts: Scores, text: str, partial: float, note: str) -> None:
    spec = {"columns": {"id": "integer", "when": "date", "rate": "number?"}, "max_rows": 2}
    (score,) = score_texts("csv", [text], partial=True, **spec)
    assert score.value == pytest.approx(partial, abs=1e-12)
    assert score.note == note
    assert values(score_texts("csv", [text], **spec)) == [float(note == "")]


def test_rows_and_header_of_a_spec(score_texts: Scores) -> None:
    texts = ["1\n2", "1", "a\n2", "1,1\n2,2"]
    assert values(score_texts("csv", texts, columns={"n": "integer"}, header=False, rows=2)) == [1, 0, 0, 0]


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        ("string", ["a", "1", " a "], ["", " "]),
        ("string?", ["", " ", "a"], []),
        ("integer", ["0", "-7", "+1", "9" * 300], ["1.0", "1e3", "9" * 301, "٣", " 1", ""]),
        ("number", ["0", "-.5", "1.", "2e-3"], ["nan", "inf", "1,000", "1e9999", ".", "0x1"]),
        ("boolean", ["true", "False", "TRUE"], ["1", "yes", ""]),
        ("date", ["2024-02-29"], ["2023-02-29", "29.02.2024", "2024-2-9", "20240229"]),
        ("datetime", ["2024-02-29T10:00", "2024-02-29 10:00:01.5+02:00", "2024-02-29T10:00:00Z"], ["2024-02-29", "x"]),
    ],
)
def test_types(kind: str, good: list[str], bad: list[str]) -> None:
    assert [cell for cell in good if not is_of_type(cell, kind)] == []
    assert [cell for cell in bad if is_of_type(cell, kind)] == []


@pytest.mark.parametrize(
    ("text", "options", "value"),
    [
        ("name,age\nAnn,3\nBob,5", {}, 3 / 4),  # 3 of 4 cells
        ("name,age\nAnn,3", {}, 1 / 2),  # 2 right of 4
        (PEOPLE + "Cid,5\nDan,6\n", {}, 1 / 2),  # 4 right of 8
        ("name,age\nBob,4\nAnn,9", {"ordered": False}, 1 / 2),  # one whole row of two
        ("nam,age\nAnn,3\nBob,4", {}, 0.0),  # a wrong header earns nothing
    ],
)
def test_partial_credit(score_texts: Scores, text: str, options: dict[str, Any], value: float) -> None:
    (score,) = score_texts("csv", [text], {"answer": PEOPLE}, partial=True, **options)
    assert score.value == pytest.approx(value, abs=1e-12)


@pytest.mark.parametrize(
    ("expected", "said"),
    [
        ([], "[] is no table"),
        (3, "3 is no table"),
        ([["a"], ["b", "c"]], "the rows of the list are not lists of one length"),
        ([{"a": 1}, {"b": 1}], "the objects of the list have different keys"),
        ("a,b\n1", "row 2 has 1 cells; the first has 2"),
    ],
)
def test_references_that_are_none(score_texts: Scores, expected: Any, said: str) -> None:
    (score,) = score_texts("csv", ["a\n1"], {"answer": expected})
    assert score.status == "failed"
    assert score.note.startswith(f"row p, column 'answer': {said}")
    assert score_texts("csv", ["a\n1"], {"answer": None})[0].status == "abstained"


def test_references_reach_the_maximum(probe_reward: Callable[..., list[str]]) -> None:
    for expected in (PEOPLE, [["a", "b"], [1.5, True]], [{"a": 'x"y', "b": None}, {"a": "p,q", "b": 2}]):
        assert probe_reward("csv", {"answer": expected}, ordered=False) == []


def test_csv_specs_are_gamed_by_any_values_of_the_right_type(score_texts: Scores) -> None:
    spec = {"columns": {"city": "string", "population": "integer"}}
    nonsense = "city,population\n.,0"
    assert values(score_texts("csv", [nonsense, "city,population"], **spec)) == [1, 0]
    gold = {"answer": "city,population\nOslo,700000"}
    assert values(score_texts("csv", [nonsense], gold, answer="answer", **spec)) == [0]


@settings(max_examples=150)
@given(st.lists(st.lists(st.text(st.characters(exclude_characters="\0")), min_size=2, max_size=2), min_size=1))
def test_what_python_writes_is_read_back(rows: list[list[str]]) -> None:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_ALL).writerows(rows)
    assert parse_table(text.getvalue(), {**DIALECT, "header": False}).rows == rows


@settings(max_examples=300)
@given(st.text(alphabet='a,"\n\r\0 \ud800;', max_size=40))
def test_no_text_does_more_than_be_wrong(text: str) -> None:
    table, said = None, ""
    try:
        table = parse_table(text, DIALECT)
    except ValueError as error:
        said = str(error)
    assert (table is None) == bool(said)
    assert table is None or {len(row) for row in table.rows} <= {len(table.header or [])}


def test_hostile_text_is_wrong_in_bounded_time(score_texts: Scores) -> None:
    pieces = [",", "\n", '"', '""', "a,b\n", "\0", "\ud800", "\r", '"\n', "9", "```\n", "name,age\n"]
    texts = [piece * (1_000_000 // len(piece)) for piece in pieces]
    started = time.monotonic()
    options = {"ordered": False, "tolerance": 0.1, "partial": True}
    scores = score_texts("csv", texts, {"answer": PEOPLE}, in_worker=True, **options)
    assert {(score.value, score.status) for score in scores} == {(0.0, "scored")}
    assert time.monotonic() - started < 30


@pytest.mark.parametrize(
    ("a", "b", "tolerance", "same"),
    [
        (1, 1.0, 0, True),
        (Decimal("2.50"), Decimal("2.5"), 0, True),
        (1.0, 1.0 + 1e-9, 0, False),
        (1.0, 1.0 + 1e-9, 1e-6, True),
        (1e9, 1e9 + 1, 1e-6, True),
        (12345678, 12345679, 1e-6, False),  # the relative difference is 8e-8, and it is another id all the same
        (12345678, 12345678, 1e-6, True),
        (12345678, 12345679.0, 1e-6, True),
        (None, 0, 1e-6, False),
        (None, None, 0, True),
        ("1", 1, 0.5, False),
        (b"a", "a", 0, False),
    ],
)
def test_cells(a: Any, b: Any, tolerance: float, same: bool) -> None:
    assert same_cell(a, b, tolerance) is same
    assert same_cell(b, a, tolerance) is same


def test_tables() -> None:
    rows = [(1, "a"), (2, "b"), (2, "b")]
    assert table_fault(rows, [(2, "b"), (1, "a"), (2, "b")], ordered=False) == ""
    assert table_fault(rows, [(2, "b"), (1, "a"), (2, "b")], ordered=True) == "row 1 is (2, 'b')"
    assert table_fault(rows, [(1, "a"), (1, "a"), (2, "b")], ordered=False).startswith("1 rows are not among")
    assert table_fault(rows, [(1, "a")], ordered=False) == "1 rows; expected 3"
    assert table_fault([(1, 2)], [(1,)], ordered=False) == "1 columns; expected 2"
    assert table_fault([], [], ordered=True) == ""
    # In sorted order 0.0 z meets 0.008 a; the texts say that it belongs to 0.009 z.
    close = table_fault([(0.0, "z"), (0.01, "a")], [(0.008, "a"), (0.009, "z")], ordered=False, tolerance=0.01)
    assert close == ""
    # 1.0 has an exact partner, but 1.9 has none but that one: 1.0 belongs to 0.1, and 1.9 to 1.0.
    assert table_fault([(1.0,), (1.9,)], [(0.1,), (1.0,)], ordered=False, tolerance=0.9) == ""


@settings(max_examples=100)
@given(st.lists(st.tuples(st.floats(-10, 10), st.sampled_from("ab")), max_size=8), st.randoms())
def test_a_nudged_and_shuffled_table_is_the_same_within_the_tolerance(rows: list[Any], random: Any) -> None:
    nudged = [(x + random.uniform(-0.9e-6, 0.9e-6), y) for x, y in rows]
    random.shuffle(nudged)
    assert table_fault(rows, nudged, ordered=False, tolerance=1e-6) == ""
    if rows:
        nudged[0] = (nudged[0][0] + 100, nudged[0][1])
        assert table_fault(rows, nudged, ordered=False, tolerance=1e-6)
