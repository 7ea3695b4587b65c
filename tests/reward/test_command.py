"""`charter reward test`, through its own sub-application."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from charter.cli.reward import app


def rows(path: Path, *tables: Any) -> Path:
    path.write_text("\n".join(t if isinstance(t, str) else json.dumps(t) for t in tables) + "\n", "utf-8")
    return path


def run(*words: str) -> Any:
    return CliRunner().invoke(app, ["test", *words])


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return rows(
        tmp_path / "rows.jsonl",
        {"prompt": "What is 59+63?", "completion": "It is 122", "answer": "122"},
        "",
        {"prompt": [{"role": "user", "content": "?"}], "completion": "122 or 123", "answer": 122},
        {"prompt": "?", "completion": [{"role": "assistant", "content": "7"}], "answer": None},
    )


def test_one_line_per_row(data: Path) -> None:
    result = run("math", "--data", str(data), "--json")
    assert result.exit_code == 0
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert [set(line) for line in lines] == [{"score", "status", "note", "seconds"}] * 3
    assert [(line["score"], line["status"]) for line in lines] == [
        (1.0, "scored"),
        (0.0, "scored"),
        (None, "abstained"),
    ]
    assert all(0 <= line["seconds"] < 10 for line in lines)


def test_options(data: Path) -> None:
    result = run("regex", "--data", str(data), "--option", r"pattern=it IS \d+", "--option", "ignore_case=true")
    assert [json.loads(line)["score"] for line in result.stdout.splitlines()] == [1.0, 0.0, 0.0]
    assert result.stderr == "3 rows, 0 failed\n"
    schema = '{"type": "integer"}'
    result = run("schema", "--data", str(data), "--option", f"schema={schema}", "--json")
    assert [json.loads(line)["score"] for line in result.stdout.splitlines()] == [0.0, 0.0, 1.0]


def test_a_function_and_a_failure(data: Path, tmp_path: Path) -> None:
    source = tmp_path / "mine.py"
    source.write_text(
        "def f(completions, scale=1):\n"
        "    text = completions[0] if isinstance(completions[0], str) else completions[0][0]['content']\n"
        "    assert 'or' not in text, 'undecided'\n"
        "    return [scale * len(text)]\n"
    )
    result = run(f"{source}:f", "--data", str(data), "--option", "scale=0.5")
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert [line["score"] for line in lines] == [4.5, None, 0.5]  # half of len("It is 122") and of len("7")
    assert lines[1]["note"].startswith("reward 'f' failed: AssertionError: undecided (mine.py, line 3)")
    assert result.exit_code == 1


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ('{"prompt": 1', "line 2: not JSON"),
        ("[1]", "line 2: found a list; expected a table"),
        ({"prompt": "x", "answer": "1"}, "line 2: the column 'completion' is missing (columns: 'prompt', 'answer')"),
        ({"completion": "x"}, "line 2: the column 'prompt' is missing"),
        ({"prompt": 1, "completion": "x", "answer": 1}, 'line 2: "prompt" must be text'),
        ({"prompt": "x", "completion": None, "answer": 1}, 'line 2: "completion" must be text'),
        ({"prompt": "x", "completion": "x"}, "line 2 does not have (its columns: none besides the prompt)"),
    ],
)
def test_a_bad_row_is_named(tmp_path: Path, row: Any, said: str) -> None:
    path = rows(tmp_path / "bad.jsonl", {"prompt": "a", "completion": "b", "answer": "b"}, row)
    result = run("exact", "--data", str(path))
    assert result.exit_code == 2
    assert said in result.stderr
    assert str(path) in result.stderr
    assert result.stdout == ""


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["exac"], "Did you mean 'exact'?"),
        (["exact", "--option", "strip"], "expected key=value"),
        (["exact", "--option", "strip=1", "--option", "strip=0"], "given twice"),
        (["exact", "--option", "stripe=1"], "Did you mean 'strip'?"),
        (["exact", "--timeout-s", "0"], "timeout_s is 0.0"),
    ],
)
def test_bad_usage(data: Path, words: list[str], said: str) -> None:
    result = run(*words, "--data", str(data))
    assert (result.exit_code, result.stdout) == (2, "")
    assert said in result.stderr


def test_no_file_and_no_rows(tmp_path: Path) -> None:
    result = run("exact", "--data", str(tmp_path / "none.jsonl"))
    assert (result.exit_code, "cannot be read: No such file" in result.stderr) == (2, True)
    result = run("exact", "--data", str(rows(tmp_path / "empty.jsonl")))
    assert (result.exit_code, "there are no rows" in result.stderr) == (2, True)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b'{"prompt": "?", "completion": "\xff"}', "line 1: not UTF-8 text ('utf-8' codec can't decode byte 0xff"),
        (b"[" * 100_000, "line 1: not JSON (maximum recursion depth"),
    ],
)
def test_lines_that_no_reader_takes(tmp_path: Path, line: bytes, said: str) -> None:
    data = tmp_path / "rows.jsonl"
    data.write_bytes(line)
    result = run("exact", "--data", str(data))
    assert result.exit_code == 2
    assert said in result.stderr
    assert result.exception is None or isinstance(result.exception, SystemExit)
