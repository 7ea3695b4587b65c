"""`sql_result`: a query against the reference query, in a stand-in for the sandbox and in the real one."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from charter.errors import DataError, UsageError
from charter.reward import as_group, load_reward, probe
from charter.reward.sql import SqlOptions, SqlReward
from charter.reward.sql_database import build_database, has_order, is_script, open_database
from charter.sandbox.job import Limits, QueryResult
from charter.types import Prompt, Score

SHOP = """
create table item (name text, price real, kind text);
insert into item values ('pen', 1.5, 'desk'), ('ink', 4.0, 'desk'), ('mug', 7.25, 'home'), ('cup', null, 'home');
"""
DEAR = "select name, price from item where price > 2"


class Fake:
    """A sandbox of one process: SQLite in memory, and answers to order for what only a real one meets."""

    kind = "fake"

    def __init__(self, told: dict[str, QueryResult] | None = None) -> None:
        self.told, self.ran, self.limits, self.closed = told or {}, [], None, False

    async def run_query(self, query: str, database: bytes, limits: Limits) -> QueryResult:
        self.ran.append(query)
        self.limits = limits
        if query in self.told:
            return self.told[query]
        connection = sqlite3.connect(":memory:")
        try:
            connection.deserialize(database)
            found = connection.execute(query)
            rows = tuple(map(tuple, found.fetchall()))
            return QueryResult(outcome="passed", columns=tuple(c[0] for c in found.description or ()), rows=rows)
        except (sqlite3.Error, sqlite3.Warning, ValueError) as error:
            return QueryResult(outcome="failed", note=str(error))
        finally:
            connection.close()

    def close(self) -> None:
        self.closed = True


def run(
    queries: Sequence[str], answer: Any = DEAR, database: Any = SHOP, sandbox: Any = None, **options: Any
) -> list[Score]:
    reward = SqlReward("sql_result", 5.0, SqlOptions(**options), sandbox or Fake())
    prompt = Prompt(id="p", messages=(), fields={"answer": answer, "database": database})
    return list(asyncio.run(reward.score(as_group(prompt, queries))))


def values(scores: list[Score]) -> list[float | None]:
    return [score.value for score in scores]


@pytest.mark.parametrize(
    ("query", "note"),  # the columns' names and the rows' order are nothing
    [
        (DEAR, ""),
        (DEAR + ";", ""),
        (f"Like this:\n```sql\n{DEAR}\n```\n", ""),
        (f"```sql\n{DEAR}\n```\nIn Python:\n```python\nrun()\n```", ""),
        (f"<answer>{DEAR}</answer>", ""),
        ("select name as n, price as p from item where not price <= 2 order by price desc", ""),
        ("select price, name from item where price > 2", "2 rows are not among the expected ones, one is (4.0, 'ink')"),
        ("select name from item where price > 2", "1 columns; expected 2"),
        ("select name, price from item", "4 rows; expected 2"),
        ("select name, price from item where price > 2 union all select 'ink', 4", "3 rows; expected 2"),
        ("select 'ink', 4.0 union select 'mug', 7.3", "1 rows are not among the expected ones, one is ('mug', 7.3)"),
        ("select 'ink', 4.0 union select 'mug', 7.2500001", ""),  # within 1e-6
        ("select nme from item", "failed: no such column: nme"),
        ("select 1; select 2", "failed: You can only execute one statement at a time."),
        ("The answer is 42.", 'failed: near "The": syntax error'),
        ("", "there is no query"),
        ("```sql\n\n```", "there is no query"),
        ("x" * 100_001, "a query of 100001 characters; 100000 at most"),
    ],
)  # fmt: skip
def test_a_query_against_the_reference(query: str, note: str) -> None:
    (score,) = run([query])
    assert (score.value, score.note) == (0.0 if note else 1.0, note)


def test_order_matters_where_the_reference_has_one() -> None:
    up, down = "select name from item order by name", "select name from item order by name desc"
    assert values(run([up, down], up)) == [1, 0]
    assert values(run([up, down], up, order="never")) == [1, 1]
    assert values(run([up, down], "select name from item")) == [1, 1]
    assert values(run([up, "select name from item"], "select name from item", order="always")) == [0, 1]
    assert run([down], up)[0].note == "row 1 is ('pen')"


@pytest.mark.parametrize(
    ("query", "ordered"),
    [
        ("select a from t order by a", True),
        ("SELECT a FROM t ORDER\n\tBY a", True),
        ("select a from t order /* x */ by a", True),
        ("select a from (select a from t order by a limit 3)", False),
        ("select 'order by' from t", False),
        ('select "order by" from t', False),
        ("select a from t -- order by a", False),
        ("select a from t /* order by a */", False),
        ("select [order by] from t", False),
        ("select a, row_number() over (order by a) from t", False),
        ("with x as (select 1 order by 1) select * from x order by 1", True),
        ("select 'it''s' from t order by 1", True),
        ("select border, byte from t", False),
    ],
)
def test_which_queries_are_ordered(query: str, ordered: bool) -> None:
    assert has_order(query) is ordered


def test_expected_rows_in_place_of_a_query() -> None:
    for rows in ([["ink", 4], ["mug", 7.25]], [{"name": "mug", "price": 7.25}, {"name": "ink", "price": 4}]):
        assert values(run([DEAR, "select 1, 2"], rows)) == [1, 0]
    assert values(run([DEAR], [["mug", 7.25], ["ink", 4]], order="always")) == [0]
    assert values(run(["select price is null from item where name = 'cup'"], [[True]])) == [1]


def test_a_query_must_be_right_on_every_database() -> None:
    other = SHOP.replace("4.0", "1.0")
    lucky = "select name, price from item where name in ('ink', 'mug')"
    assert values(run([lucky, DEAR])) == [1, 1]
    scores = run([lucky, DEAR], database=[SHOP, other])
    assert values(scores) == [0, 1]
    assert scores[0].note == "database 2: 2 rows; expected 1"
    assert run(["x"], [[1]], [SHOP, other])[0].note == (
        "row p: expected rows fit one database; give a reference query for several"
    )


def test_the_reference_runs_once_and_databases_are_built_once(tmp_path: Path) -> None:
    fake = Fake()
    reward = SqlReward("sql_result", 3.0, SqlOptions(memory_mb=100), fake)
    prompt = Prompt(id="p", messages=(), fields={"answer": DEAR, "database": SHOP})
    for texts in (["select 1", "select 2"], ["select 2", "select 3"]):
        asyncio.run(reward.score(as_group(prompt, texts)))
    assert fake.ran.count(DEAR) == 1
    assert sorted(set(fake.ran)) == ["select 1", "select 2", "select 3", DEAR]
    assert fake.ran.count("select 2") == 1  # remembered: the reward is pure
    assert (fake.limits.wall_s, fake.limits.memory_bytes) == (3.0, 100 * 1024**2)
    reward.shut_down()
    assert fake.closed


@pytest.mark.parametrize(
    ("outcome", "status", "value", "note"),
    [
        ("sandbox_error", "failed", None, "sandbox_error: told\ufffdso"),
        ("timeout", "scored", 0.0, "timeout: told\ufffdso"),
        ("out_of_memory", "scored", 0.0, "out_of_memory: told\ufffdso"),
        ("output_limit", "scored", 0.0, "output_limit: told\ufffdso"),
        ("policy_violation", "scored", 0.0, "policy_violation: told\ufffdso"),
        ("crashed", "scored", 0.0, "crashed: told\ufffdso"),
    ],
)
def test_outcomes(outcome: Any, status: str, value: float | None, note: str) -> None:
    fake = Fake({"q": QueryResult(outcome=outcome, note="told\nso")})
    (score,) = run(["q"], sandbox=fake)
    assert (score.status, score.value, score.note) == (status, value, note)
    (broken,) = run([DEAR], "q", sandbox=fake)
    assert (broken.status, broken.value) == ("failed", None)
    assert broken.note.startswith(f"row p: the reference query did not run: {outcome}: told")


def test_only_what_depends_on_the_query_alone_is_remembered() -> None:
    fake = Fake({"slow": QueryResult(outcome="timeout"), "wrong": QueryResult(outcome="failed")})
    reward = SqlReward("sql_result", 1.0, SqlOptions(), fake)
    prompt = Prompt(id="p", messages=(), fields={"answer": DEAR, "database": SHOP})
    for _ in range(2):
        asyncio.run(reward.score(as_group(prompt, ["slow", "wrong"])))
    assert (fake.ran.count("slow"), fake.ran.count("wrong")) == (2, 1)


def test_databases_come_as_files_scripts_and_bytes(tmp_path: Path) -> None:
    path = tmp_path / "shop.sqlite"
    connection = sqlite3.connect(path)
    connection.execute("pragma journal_mode=wal")
    connection.executescript(SHOP)
    connection.close()
    content = path.read_bytes()
    assert content[18:20] == b"\2\2"  # written with a log file, which a copy in memory cannot have
    for database, folder in ((str(path), "."), ("shop.sqlite", str(tmp_path)), (content, ".")):
        assert values(run([DEAR, "select 1"], database=database, folder=folder)) == [1, 0]
    assert is_script("create table t (a)")
    assert not is_script("data/create.sqlite")


@pytest.mark.parametrize(
    ("database", "said"),
    [
        ("none.sqlite", "none.sqlite' cannot be read: No such file or directory"),
        ("create table t (a", "the script that builds the database does not run: incomplete input"),
        ("select 1;", "the script that builds the database makes no table"),
        ("attach 'x.db' as x;", "the script that builds the database does not run: not authorized"),
        (b"GIF89a", '"the column\'s value" is no SQLite database'),
        (3, "3 is no database; expected the path of an SQLite file, or SQL that builds one"),
        ([], "0 databases; expected 1 to 16"),
        ("a\0b", "cannot be read: embedded null byte"),
    ],
)
def test_databases_that_are_none(database: Any, said: str, tmp_path: Path) -> None:
    (score,) = run([DEAR], database=database, folder=str(tmp_path))
    assert score.status == "failed"
    assert score.note.startswith("row p: ")
    assert said in score.note
    assert not (tmp_path / "x.db").exists()


def test_rows_that_cannot_be_judged(tmp_path: Path) -> None:
    assert run([DEAR], 3)[0].note == "row p: column 'answer' holds 3; expected a query or a list of rows"
    assert run([DEAR], [3])[0].note == "row p: an expected row is 3; expected a list of values, or a table"
    assert run([DEAR], [[[]]])[0].note.startswith("row p: an expected cell is []")
    assert run([DEAR], None)[0].status == "abstained"
    (tmp_path / "a.sqlite").write_bytes(build_database(SHOP))
    (tmp_path / "a.sqlite-wal").write_bytes(b"x")
    with pytest.raises(DataError, match="wal_checkpoint"):
        open_database("a.sqlite", tmp_path)
    with pytest.raises(UsageError, match="order"):
        load_reward("sql_result", order="sometimes")
    with pytest.raises(UsageError, match='the url is of a server, and sandbox is "auto"'):
        load_reward("sql_result", url="http://127.0.0.1:1")


def test_references_reach_the_maximum() -> None:
    prompt = Prompt(id="p", messages=(), fields={"answer": DEAR, "database": SHOP})
    for extract in ("auto", "text", "fence", "answer"):
        reward = SqlReward("sql_result", 5.0, SqlOptions(extract=extract), Fake())
        assert asyncio.run(probe(reward, [prompt])) == []
        assert reward.required_columns() == ("answer", "database")


def test_sql_result_is_gamed_by_constants_and_by_empty_results() -> None:
    constant = "select 'ink', 4.0 union select 'mug', 7.25"
    nothing = "select name, price from item where 0"
    assert values(run([constant, nothing])) == [1, 0]
    assert values(run([constant], database=[SHOP, SHOP.replace("4.0", "5.0")])) == [0]
    assert values(run([nothing], "select name, price from item where price > 100")) == [1]


@given(st.text(max_size=200))
def test_no_reference_query_breaks_the_reader(query: str) -> None:
    assert has_order(query) in (True, False)


def test_hostile_text_is_wrong_in_bounded_time() -> None:
    pieces = ["(", "select ", "```sql\n", "'", "/*", "\0", "\ud800", "<answer>", "select 1;"]
    texts = [piece * (size // len(piece)) for piece in pieces for size in (90_000, 1_000_000)]
    started = time.monotonic()
    scores = run(texts)
    assert {(score.value, score.status) for score in scores} == {(0.0, "scored")}
    assert time.monotonic() - started < 20
    for piece in pieces:
        has_order(piece * 30_000)
    assert time.monotonic() - started < 30


def test_in_the_sandbox() -> None:
    reward = load_reward("sql_result", timeout_s=2.0)
    assert isinstance(reward, SqlReward)
    prompt = Prompt(id="p", messages=(), fields={"answer": DEAR, "database": SHOP})
    hostile = [
        DEAR,
        "drop table item",
        "attach '/etc/passwd' as x",
        "with recursive n(i) as (select 1 union all select i + 1 from n) select count(*) from n",
        "select zeroblob(900000000)",
        "with recursive n(i) as (select 1 union all select i + 1 from n limit 3000000) select i, i from n",
        "select load_extension('x')",
        "select \ud800",
        "select '\0'",
        "pragma journal_mode = wal",
        "(" * 50_000,
    ]
    try:
        scores = list(asyncio.run(reward.score(as_group(prompt, hostile))))
        again = list(asyncio.run(reward.score(as_group(prompt, [DEAR]))))
    finally:
        reward.shut_down()
    assert [(score.status, score.value) for score in scores] == [("scored", 1.0)] + [("scored", 0.0)] * 10, scores
    assert values(again) == [1]
