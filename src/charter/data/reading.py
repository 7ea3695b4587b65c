"""Rows out of files and hubs, each with a name for where it stands."""

from __future__ import annotations

import importlib
import json
import math
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from charter.errors import DataError, MissingExtra

Row = dict[str, Any]
Located = tuple[str, Row]
"""Where a row stands ("prompts.jsonl:12") and the row."""


def read_rows(source: str, options: Mapping[str, Any], size: int | None) -> Iterator[Located]:
    """Rows of a .jsonl or .parquet file or of `hf:NAME`, at most `size` of them.

    Raises:
        DataError: the file is missing, of another kind, or holds a row that is no JSON object.
        MissingExtra: `hf:` without the package datasets.
    """
    if source.startswith("hf:"):
        rows = _hub(source.removeprefix("hf:"), dict(options))
    else:
        path = Path(source)
        if options:
            raise DataError(
                f"{source}: a file takes no options, and data.options has {', '.join(options)}. Remove them"
            )
        if not path.is_file():
            raise DataError(
                f"{source}: there is no such file. Give a .jsonl or .parquet file, arithmetic:addition, "
                "programs:tiny, reasoning_gym:TASK or hf:NAME"
            )
        if path.suffix in (".jsonl", ".ndjson"):
            rows = _json_lines(path)
        elif path.suffix == ".parquet":
            rows = _parquet(path)
        else:
            raise DataError(f"{source}: files of type {path.suffix!r} are not read. Convert it to .jsonl or .parquet")
    # islice asks for no row beyond the last wanted one, which may be one that does not parse
    yield from islice(rows, size)


def _json_lines(path: Path) -> Iterator[Located]:
    # bytes, split at \n alone: a text's own line separators (U+2028, \x85) end no row
    with path.open("rb") as file:
        for number, raw in enumerate(file, start=1):
            where = f"{path}:{number}"
            line = raw.removeprefix(b"\xef\xbb\xbf") if number == 1 else raw
            if not line.strip():
                continue
            try:
                row = _READ(line.decode("utf-8"))
            except UnicodeDecodeError as error:
                raise DataError(
                    f"{where}: byte {error.start} of the line is not UTF-8. Save the file as UTF-8"
                ) from None
            except json.JSONDecodeError as error:
                torn = "" if line.endswith(b"\n") else " (the last line has no end: the file may be cut off)"
                raise DataError(
                    f"{where}: the row is not JSON: {error.msg} at column {error.colno}{torn}. "
                    "Every line must hold one JSON object"
                ) from None
            except (ValueError, RecursionError) as error:
                raise DataError(f"{where}: {error}. Repair the row or remove it") from None
            if not isinstance(row, dict):
                raise DataError(f'{where}: the row is {_kind(row)}, not a JSON object. Write {{"prompt": …}}')
            yield where, row


def _parquet(path: Path) -> Iterator[Located]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.ParquetFile(path)
        number = 0
        for batch in table.iter_batches(batch_size=1024):
            for row in batch.to_pylist():
                number += 1
                where = f"{path} row {number}"
                if (bad := _first_not_finite(row)) is not None:
                    raise DataError(
                        f"{where}: the column {bad!r} holds a number that is not finite. Repair or remove it"
                    )
                yield where, row
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path}: it is not readable as Parquet: {error}") from None


def _hub(name: str, options: dict[str, Any]) -> Iterator[Located]:
    try:
        datasets = importlib.import_module("datasets")
    except ImportError:
        raise MissingExtra("datasets", "hub", f"reading hf:{name}") from None
    options.setdefault("split", "train")
    try:
        # the hub raises the errors of a dozen packages
        loaded: Any = datasets.load_dataset(name, **options)
    except Exception as error:
        raise DataError(f"hf:{name}: it could not be loaded with {options}: {type(error).__name__}: {error}") from error
    for number, row in enumerate(loaded):
        yield f"hf:{name} row {number}", dict(row)


def _not_finite(constant: str) -> float:
    raise ValueError(f"the row holds {constant}, which is no finite number")


def _finite(digits: str) -> float:
    value = float(digits)
    return value if math.isfinite(value) else _not_finite(digits)


def _no_twins(pairs: list[tuple[str, Any]]) -> Row:
    row = dict(pairs)
    if len(row) != len(pairs):
        names = [name for name, _ in pairs]
        twin = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the row holds the key {twin!r} twice")
    return row


_READ = json.JSONDecoder(parse_constant=_not_finite, parse_float=_finite, object_pairs_hook=_no_twins).decode
"""json.loads without its leniences: NaN, numbers beyond float64, and a key given twice."""


def _first_not_finite(row: Row) -> str | None:
    return next((key for key, value in row.items() if isinstance(value, float) and not math.isfinite(value)), None)


def _kind(value: object) -> str:
    names = {list: "a list", str: "a text", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")
