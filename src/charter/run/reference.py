"""What a frozen reference said about a run's data, written down so that the reference can be let go.

    reference/part-000000.parquet     columns: key, logprobs

key: BLAKE2b of the branch's prompt tokens, its own tokens and the temperature. Parts appear whole or not at all; a run
that was killed while it wrote them goes on with what is missing.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from charter.errors import StoreError
from charter.run.atomic import remove_leftovers, write_bytes
from charter.run.rollouts import parquet_bytes
from charter.types import Branch, Tree

PART_STEPS = 32
"""Steps whose log-probabilities are written together."""

Compute = Callable[[Sequence[Tree]], Sequence[Sequence[Sequence[float]]]]
_SCHEMA = pa.schema([("key", pa.binary(16)), ("logprobs", pa.list_(pa.float64()))])


class ReferenceLogprobs:
    """The log-probabilities of a run's branches under its reference.

    folder: of the run. temperature: of the distribution they belong to. kind: "reference", or another name for
    other numbers about the same branches (the states of a frozen backbone).
    """

    def __init__(self, folder: Path, temperature: float = 1.0, *, kind: str = "reference") -> None:
        """Reads what is there. Raises StoreError for a part that does not read."""
        self._folder = folder / kind
        self._temperature = temperature
        self._known: dict[bytes, tuple[float, ...]] = {}
        if self._folder.is_dir():
            remove_leftovers(self._folder)
            for part in self._parts():
                self._known.update(_read(part))

    def missing(self, steps: Iterable[Sequence[Tree]]) -> list[list[Tree]]:
        """Per step, the trees of which some branch is not there yet, each in the first step that has it."""
        seen: set[tuple[bytes, ...]] = set()
        found: list[list[Tree]] = []
        for trees in steps:
            new: list[Tree] = []
            for tree in trees:
                keys = tuple(self._keys(tree))
                if keys not in seen and any(key not in self._known for key in keys):
                    new.append(tree)
                seen.add(keys)
            if new:
                found.append(new)
        return found

    def add(self, steps: Sequence[Sequence[Tree]], compute: Compute) -> None:
        """Compute and write what the reference says about these trees.

        steps: as `missing` gives them. Trees of a step are computed together and those of two steps never, so that the
        numbers are the same to the last bit wherever a run was interrupted and however long it is.
        compute: trees → log-probabilities per branch. Raises StoreError where a part cannot be written.
        """
        self._folder.mkdir(exist_ok=True)
        number = max((int(part.stem.removeprefix("part-")) for part in self._parts()), default=-1) + 1
        for at in range(0, len(steps), PART_STEPS):
            rows = {
                key: tuple(float(x) for x in row)
                for trees in steps[at : at + PART_STEPS]
                for tree, told in zip(trees, compute(trees), strict=True)
                for key, row in zip(self._keys(tree), told, strict=True)
            }
            table = pa.Table.from_pylist(
                [{"key": key, "logprobs": list(row)} for key, row in rows.items()], schema=_SCHEMA
            )
            write_bytes(self._folder / f"part-{number:06d}.parquet", parquet_bytes(table))
            self._known.update(rows)
            number += 1

    def __call__(self, trees: Sequence[Tree]) -> list[list[tuple[float, ...]]]:
        """Per tree and branch, what was written down. Raises StoreError for a branch that is not there."""
        try:
            return [[self._known[key] for key in self._keys(tree)] for tree in trees]
        except KeyError:
            raise StoreError(
                f"{self._folder} does not hold what was worked out for all pairs. Go on with --resume: "
                "what is missing is computed first"
            ) from None

    def _parts(self) -> list[Path]:
        return sorted(self._folder.glob("part-*.parquet"))

    def _keys(self, tree: Tree) -> Iterator[bytes]:
        return (_key(tree.prefix, branch, self._temperature) for branch in tree.branches)


def _key(prefix: Sequence[int], branch: Branch, temperature: float) -> bytes:
    content = hashlib.blake2b(struct.pack("<dq", temperature, len(prefix)), digest_size=16)
    content.update(struct.pack(f"<{len(prefix) + len(branch.tokens)}q", *prefix, *branch.tokens))
    return content.digest()


def _read(part: Path) -> dict[bytes, tuple[float, ...]]:
    try:
        table = pq.read_table(part)
        return dict(zip(table["key"].to_pylist(), map(tuple, table["logprobs"].to_pylist()), strict=True))
    except (pa.ArrowException, OSError, KeyError) as error:
        raise StoreError(
            f"{part} does not read: {error}. Delete it and go on with --resume: what it held is computed again"
        ) from error
