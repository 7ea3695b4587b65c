"""A preference model out of words: TF-IDF of the reply, and a weight for every word and pair of words.

    s(reply) = Σ_j w_j · x_j(reply),      P(a better than b) = σ(s(a) − s(b))

The weights maximise Σ_pairs [p log σ(s_a − s_b) + (1 − p) log σ(s_b − s_a)] − |w|² / (2C), a logistic regression on the
differences x(a) − x(b) without intercept. It fits in seconds and knows nothing but words: the baseline that a model
with a scalar head must beat, and on small data a hard one.

Fitting needs scikit-learn (extra `cai`); scoring needs nothing. Not here: a model with a scalar head
(`charter.model.scorer`), either of them as a reward (`preference.py`).
"""

from __future__ import annotations

import json
import math
import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from charter.errors import DataError, MissingExtra, ModelError
from charter.types import Message, Pair

FILE = "bag_of_words.json"
"""Its name inside a folder."""
FORMAT = 1
WORD = re.compile(r"\w+(?:['’]\w+)?")
"""A word; an apostrophe inside it belongs to it, so that "can't" is not "can"."""


def terms(text: str) -> Counter[str]:
    """How often each word and each pair of neighbouring words stands in a text, in small letters."""
    words = [word.replace("’", "'") for word in WORD.findall(text.lower())]
    return Counter([*words, *(f"{first} {second}" for first, second in pairwise(words))])


@dataclass(frozen=True, slots=True, kw_only=True)
class BagOfWords:
    """A fitted model.

    idf, weights: of each term, in the order of `vocabulary`. mean, std: of the scores of the distinct replies it was
    fitted on, by which a reward may be brought to a common scale. pairs: it was fitted on.
    """

    vocabulary: tuple[str, ...]
    idf: tuple[float, ...]
    weights: tuple[float, ...]
    mean: float
    std: float
    pairs: int
    _known: Mapping[str, tuple[float, float]] = field(repr=False, compare=False)

    @classmethod
    def fit(cls, pairs: Sequence[Pair], *, c: float = 10.0, min_replies: int = 2) -> BagOfWords:
        """Fit to pairs with their labels p; a pair of p = 1/2 pulls both scores together.

        c: C above, the inverse strength of the penalty. min_replies: terms of fewer distinct replies are left out.
        Raises: MissingExtra without scikit-learn; DataError where there is nothing to learn from.
        """
        try:
            import numpy as np
            import scipy.sparse as sp
            from sklearn.linear_model import LogisticRegression
        except ImportError as error:
            raise MissingExtra("scikit-learn", "cai", "Fitting a bag-of-words preference model") from error
        if not any(pair.p != 0.5 for pair in pairs):
            raise DataError(f"{len(pairs)} pairs, none of which prefers a reply: nothing can be learnt from them")
        replies = list(dict.fromkeys(text for pair in pairs for text in (pair.a, pair.b)))
        counted = [terms(text) for text in replies]
        within = Counter(term for counts in counted for term in counts)
        vocabulary = tuple(sorted(term for term, n in within.items() if n >= min_replies))
        if not vocabulary:
            raise DataError(f"no word stands in {min_replies} of the {len(replies)} replies: give more pairs")
        idf = {term: inverse_frequency(within[term], len(replies)) for term in vocabulary}
        place = {term: i for i, term in enumerate(vocabulary)}
        rows = [[(place[term], value) for term, value in features(counts, idf).items()] for counts in counted]
        matrix = sp.csr_matrix(
            (
                np.array([value for row in rows for _, value in row]),
                np.array([column for row in rows for column, _ in row], dtype=np.int32),
                np.cumsum([0, *(len(row) for row in rows)]),
            ),
            shape=(len(replies), len(vocabulary)),
        )
        at = {text: i for i, text in enumerate(replies)}
        x = matrix[[at[pair.a] for pair in pairs]] - matrix[[at[pair.b] for pair in pairs]]
        p = np.array([pair.p for pair in pairs])
        # Every pair in both directions, each with half its weight: the same loss, as there is no intercept, and both
        # classes are there even where every p is 1.
        labels = np.repeat([1, 0, 0, 1], len(pairs))
        shares = np.concatenate([p, p, 1 - p, 1 - p]) / 2
        model = LogisticRegression(C=c, fit_intercept=False, max_iter=10_000, tol=1e-6)
        model.fit(sp.vstack([x, -x, x, -x]).tocsr(), labels, sample_weight=shares)
        weights = model.coef_[0]
        scores = matrix @ weights
        return cls.of(
            vocabulary=vocabulary, idf=tuple(idf.values()), weights=tuple(float(w) for w in weights),
            mean=float(scores.mean()), std=float(scores.std()), pairs=len(pairs),
        )  # fmt: skip

    @classmethod
    def of(
        cls, *, vocabulary: tuple[str, ...], idf: tuple[float, ...], weights: tuple[float, ...],
        mean: float, std: float, pairs: int,
    ) -> BagOfWords:  # fmt: skip
        """The model of these numbers. Raises: ValueError where they are not as many as the terms, or not finite."""
        if not len(vocabulary) == len(set(vocabulary)) == len(idf) == len(weights):
            raise ValueError(f"{len(vocabulary)} terms with {len(idf)} frequencies and {len(weights)} weights")
        if not all(map(math.isfinite, (*idf, *weights, mean, std))):
            raise ValueError("a number is not finite")
        known = dict(zip(vocabulary, zip(idf, weights, strict=True), strict=True))
        return cls(
            vocabulary=vocabulary, idf=idf, weights=weights, mean=mean, std=std, pairs=pairs, _known=known,
        )  # fmt: skip

    def score(self, messages: Sequence[Message], reply: str) -> float:
        """s, in logits: only differences between replies to one prompt mean anything. The prompt is not looked at."""
        del messages
        return self.score_reply(reply)

    def score_reply(self, reply: str) -> float:
        """`score` without a prompt. A reply without a known word has the score 0."""
        counts, known = terms(reply), self._known
        found = features(counts, {term: known[term][0] for term in counts if term in known})
        return math.fsum(known[term][1] * value for term, value in found.items())

    def prefers(self, a: str, b: str) -> float:
        """Probability that a is the better reply: σ(s(a) − s(b))."""
        margin = self.score_reply(a) - self.score_reply(b)
        return 1 / (1 + math.exp(-margin)) if margin >= 0 else 1 - 1 / (1 + math.exp(margin))

    def save(self, path: str | Path) -> Path:
        """Write one JSON file, whole or not at all; into a folder (made if need be) where the path is no .json."""
        file = _file_of(Path(path))
        file.parent.mkdir(parents=True, exist_ok=True)
        record = {
            "kind": "bag-of-words", "format": FORMAT, "pairs": self.pairs, "mean": self.mean, "std": self.std,
            "vocabulary": self.vocabulary, "idf": self.idf, "weights": self.weights,
        }  # fmt: skip
        aside = file.with_name(f".tmp-{file.name}-{os.getpid()}")
        with aside.open("w", encoding="utf-8") as out:
            json.dump(record, out, ensure_ascii=False)
            out.flush()
            os.fsync(out.fileno())
        aside.replace(file)
        return file

    @classmethod
    def load(cls, path: str | Path) -> BagOfWords:
        """Read what `save` wrote. Raises: ModelError that says what the file holds instead."""
        file = _file_of(Path(path))
        try:
            record: dict[str, Any] = json.loads(file.read_text("utf-8"))
            if record["kind"] != "bag-of-words" or record["format"] != FORMAT:
                raise ValueError(f"its kind and format are {record['kind']!r} and {record['format']!r}")
            return cls.of(
                vocabulary=tuple(record["vocabulary"]), idf=tuple(record["idf"]), weights=tuple(record["weights"]),
                mean=float(record["mean"]), std=float(record["std"]), pairs=int(record["pairs"]),
            )  # fmt: skip
        except OSError as error:
            raise ModelError(f"the bag of words {file} cannot be read: {error.strerror or error}") from error
        except (ValueError, KeyError, TypeError) as error:
            cause = f"{type(error).__name__}: {error}"
            raise ModelError(
                f"{file} holds no bag of words of format {FORMAT} ({cause}); fit it again and save it with "
                "BagOfWords.save"
            ) from error


def is_bag_of_words(path: str | Path) -> bool:
    """Whether a path is a saved bag of words, or a folder with one."""
    return _file_of(Path(path)).is_file() and (Path(path).suffix == ".json" or Path(path).is_dir())


def inverse_frequency(replies_with: int, replies: int) -> float:
    """`ln((1 + n) / (1 + df)) + 1`, smoothed as if one further reply held every term."""
    return math.log((1 + replies) / (1 + replies_with)) + 1


def features(counts: Mapping[str, int], idf: Mapping[str, float]) -> dict[str, float]:
    """Term → `(1 + ln count) · idf`, divided by the length of the whole vector; terms without an idf are left out.

    In sorted order, so that a sum over them is the same wherever it is made.
    """
    raw = {term: (1 + math.log(counts[term])) * idf[term] for term in sorted(counts) if term in idf}
    length = math.sqrt(math.fsum(value * value for value in raw.values()))
    return {term: value / length for term, value in raw.items()}


def _file_of(path: Path) -> Path:
    return path if path.suffix == ".json" else path / FILE
