"""A short digest of a model folder: what decides its replies, and nothing of where it lies."""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path

from charter.errors import ModelError

_DECIDING = ("*.safetensors", "*.bin", "*.gguf", "config.json", "generation_config.json", "tokenizer*", "vocab*",
             "merges.txt", "chat_template*", "added_tokens.json", "special_tokens_map.json")  # fmt: skip
_PART = 2**22


def fingerprint(folder: Path | str) -> str:
    """SHA-256 over names and contents of weights, configuration, tokenizer and template, its first 12 digits.

    A file is read again only when its size or time of change is another. Raises: ModelError for a folder without
    weights, or one that cannot be read.
    """
    folder = Path(folder)
    files = sorted({file for pattern in _DECIDING for file in folder.glob(pattern) if file.is_file()})
    if not any(file.suffix in (".safetensors", ".bin", ".gguf") for file in files):
        raise ModelError(f"model folder {folder} has no weights (*.safetensors)")
    total = hashlib.sha256()
    try:
        for file in files:
            stat = file.stat()
            total.update(f"{file.name}\0{_digest(file.resolve(), stat.st_size, stat.st_mtime_ns)}\n".encode())
    except OSError as error:
        raise ModelError(f"model folder {folder} cannot be read: {error}") from error
    return total.hexdigest()[:12]


@functools.lru_cache(maxsize=256)
def _digest(file: Path, size: int, changed_ns: int) -> str:
    """size, changed_ns: parts of the cache's key alone."""
    digest = hashlib.sha256()
    with file.open("rb") as opened:
        while part := opened.read(_PART):
            digest.update(part)
    return digest.hexdigest()
