"""Intervals of shares and means over pairs, by a bootstrap that draws prompts.

Pairs of one prompt resemble each other (on the human ratings one prompt alone has a fifth of them); an interval that
draws pairs would be far too narrow. Everything here is a ratio of sums, so a resample is a matrix product.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

Interval = tuple[float, float]


class Clusters:
    """Rows that belong to clusters, and the bootstrap draws of whole clusters.

    keys: of each row, its cluster. resamples: draws. seed: fixes them.
    """

    def __init__(self, keys: Sequence[str], resamples: int = 1000, seed: int = 0) -> None:
        if resamples < 1:
            raise ValueError(f"an interval needs at least one resample, not {resamples}")
        self.names = list(dict.fromkeys(keys))
        at = {name: index for index, name in enumerate(self.names)}
        self._of = np.array([at[key] for key in keys], dtype=np.int64)
        generator = np.random.Generator(np.random.Philox(seed))
        count = len(self.names)
        draws = generator.integers(count, size=(resamples, count)) if count else np.zeros((resamples, 0), dtype=int)
        self._times = np.stack([np.bincount(draw, minlength=count) for draw in draws]) if count else draws

    def __len__(self) -> int:
        return len(self.names)

    def mean(self, values: Sequence[float | None]) -> tuple[float | None, Interval | None]:
        """Mean over the rows that have a value, and its interval; (None, None) where none has one."""
        told = np.array([0.0 if value is None else value for value in values])
        has = np.array([0.0 if value is None else 1.0 for value in values])
        found, interval = self.ratio(np.column_stack([told, has]), lambda s: s[..., 0] / s[..., 1])
        return found, interval

    def ratio(
        self, columns: np.ndarray, statistic: Callable[[np.ndarray], np.ndarray]
    ) -> tuple[float | None, Interval | None]:
        """A statistic of the columns' sums, and its 95 % percentile interval.

        columns: rows × k. statistic: from sums (…, k) to numbers (…); NaN where it is not defined.
        """
        sums = np.zeros((len(self.names), columns.shape[1]))
        np.add.at(sums, self._of, columns)
        with np.errstate(divide="ignore", invalid="ignore"):
            found = float(statistic(sums.sum(axis=0)))
            drawn = np.asarray(statistic(self._times @ sums), dtype=float)
        if not np.isfinite(found):
            return None, None
        drawn = drawn[np.isfinite(drawn)]
        if not drawn.size:
            return found, None
        low, high = np.quantile(drawn, [0.025, 0.975])
        return found, (float(low), float(high))
