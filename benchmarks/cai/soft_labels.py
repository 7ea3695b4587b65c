"""Soft against hard labels: what a preference model makes of human ratings, and whether it beats the two shortcuts.

    python benchmarks/cai/soft_labels.py [--json] [--store] [--seeds 5] [--steps 300] [--features runs/soft_labels]

Data: harm-ratings. A pair is two replies to one prompt of which people saw less harm in one; its soft label is the
chance that one more person would agree (`charter.data.ratings.RatedPair.p`), its hard label 1, its clamped label the
soft one cut to [0.4, 0.6]. Two sets to learn from: pairs whose severities differ by at least 1/2 (labels from 0.95 on,
so soft and hard are nearly the same), and all that differ at all (labels from 0.58 on). Every seed splits the prompts
anew, 70 to 30. Measured on held-out prompts, against what people said (y = 1 for the less harmful reply): accuracy and
Brier, mean (p − y)², on the pairs of either set. Intervals draw prompts; differences are paired.

Models: words (TF-IDF Bradley-Terry) and head (a scalar head on the frozen embedded model, `trainable_layers = 0`, whose
states are worked out once and kept under --features). The second table puts both, fitted out of fold, beside *shorter
wins* and *refusal wins* on all 1,253 pairs.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch
from harness import as_json, facts, store, table

from charter import assets
from charter.constitution.baselines import out_of_fold
from charter.constitution.calibrate import Verdicts, calibration, clusters_of
from charter.constitution.resampling import Clusters
from charter.data import pair_set
from charter.data.ratings import as_pairs, rated_pairs, rated_replies
from charter.learner.preference import PreferenceLearner
from charter.model.heads import ScalarHead
from charter.model.load import load_policy
from charter.recipe import OptimizerTable, PreferenceTable
from charter.reward.bag_of_words import BagOfWords
from charter.run.reference import ReferenceLogprobs
from charter.train.preference import pair_tree
from charter.train.preference_model import label, preference_model, replies_by_prompt
from charter.types import Message, Pair, Tree

HELD_OUT = 0.3
LABELS = ("soft", "hard", "clamped")
SETS = {"gap of 1/2 and more": 0.5, "every gap": 1e-9}
Score = Callable[[Sequence[Message], str], float]


class Heads:
    """Scalar heads on one frozen backbone, whose states are in a folder."""

    def __init__(self, pairs: Sequence[Pair], folder: Path, steps: int) -> None:
        self.policy = load_policy(assets.get("smollm2-135m"), device="cpu")
        self.steps = steps
        self._encoded: dict[str, Any] = {}
        wanted = replies_by_prompt([pair_tree(pair, self.encode, 8192) for pair in pairs])
        folder.mkdir(parents=True, exist_ok=True)
        self.states = ReferenceLogprobs(folder, kind="features")
        began = time.perf_counter()
        missing = self.states.missing([tree] for tree in wanted)
        self.states.add(missing, self.learner().closing)
        self.seconds = time.perf_counter() - began
        self.worked_out = sum(len(tree.branches) for trees in missing for tree in trees)

    def learner(self) -> PreferenceLearner:
        """A head at 0."""
        return PreferenceLearner(
            self.policy, ScalarHead(self.policy), OptimizerTable(learning_rate=1e-3, schedule="cosine"),
            total_steps=self.steps, trainable_layers=0, head_learning_rate=PreferenceTable().head_learning_rate,
            microbatch_tokens=4096,
        )  # fmt: skip

    def encode(self, messages: Sequence[Message]) -> tuple[tuple[int, ...], tuple[bool, ...]]:
        key = "\0".join(message["content"] for message in messages)
        if key not in self._encoded:
            self._encoded[key] = self.policy.chat.encode_example(messages)
        return self._encoded[key]

    def fit(self, pairs: Sequence[Pair], labels: str, seed: int) -> Score:
        """Train as `method = "preference"` does."""
        learner = self.learner()
        learner.features = self.states
        config = PreferenceTable(labels=labels, max_tokens=8192)  # type: ignore[arg-type]

        async def learn() -> None:
            source = pair_set(pairs, seed, "harm-ratings")
            async for update in preference_model(source, self.encode, learner, config):
                if update.step == self.steps:
                    return

        asyncio.run(learn())

        def score(messages: Sequence[Message], reply: str) -> float:
            pair = Pair(id="", prompt=pairs[0].prompt, a=reply, b=reply)
            whole = pair_tree(replace(pair, prompt=replace(pair.prompt, messages=tuple(messages))), self.encode, 8192)
            ((value,),) = learner.scores([Tree(prefix=whole.prefix, branches=whole.branches[:1])])
            return value

        return score


def fit_words(pairs: Sequence[Pair], labels: str, seed: int) -> Score:
    """A bag of words; the seed changes nothing."""
    del seed
    config = PreferenceTable(labels=labels)  # type: ignore[arg-type]
    return BagOfWords.fit([replace(pair, p=label(pair.p, config)) for pair in pairs]).score


def is_held_out(prompt: str, seed: int) -> bool:
    return int(hashlib.sha256(f"{seed}:{prompt}".encode()).hexdigest()[:8], 16) / 2**32 < HELD_OUT


def compare(
    sets: dict[str, tuple[Pair, ...]], models: dict[str, Callable[..., Score]], seeds: int, resamples: int
) -> list[dict[str, Any]]:
    """One row per model, set learnt from, set measured on and label."""
    hits: dict[tuple[str, ...], list[float]] = {}
    squares: dict[tuple[str, ...], list[float]] = {}
    per_seed: dict[tuple[str, ...], list[tuple[float, float]]] = {}
    keys: dict[str, list[str]] = {name: [] for name in sets}
    for seed in range(seeds):
        test = {n: [p for p in pairs if is_held_out(p.prompt.fields["prompt"], seed)] for n, pairs in sets.items()}
        for name, pairs in test.items():
            keys[name] += clusters_of(pairs)
        for learnt, everything in sets.items():
            train = [pair for pair in everything if not is_held_out(pair.prompt.fields["prompt"], seed)]
            for model, fit in models.items():
                for labels in LABELS:
                    score = fit(train, labels, seed)
                    known: dict[tuple[str, str], float] = {}
                    for measured, pairs in test.items():
                        key = model, learnt, measured, labels
                        right, square = [], []
                        for pair in pairs:
                            for text in (pair.a, pair.b):
                                place = pair.prompt.fields["prompt"], text
                                if place not in known:
                                    known[place] = score(pair.prompt.messages, text)
                            a, b = (known[pair.prompt.fields["prompt"], text] for text in (pair.a, pair.b))
                            p = float(torch.sigmoid(torch.tensor(a - b, dtype=torch.float64)))
                            y = float(pair.p > 0.5)
                            right.append(0.5 if p == 0.5 else float((p > 0.5) == (y == 1)))
                            square.append((p - y) ** 2)
                        hits.setdefault(key, []).extend(right)
                        squares.setdefault(key, []).extend(square)
                        mean = sum(right) / len(right), sum(square) / len(square)
                        per_seed.setdefault(key, []).append(mean)
    drawn = {name: Clusters(found, resamples) for name, found in keys.items()}
    rows = []
    for key in hits:
        model, learnt, measured, labels = key
        draw, soft = drawn[measured], (model, learnt, measured, "soft")
        row: dict[str, Any] = {"model": model, "learnt_from": learnt, "measured_on": measured, "labels": labels}
        row["accuracy"], row["accuracy_interval"] = draw.mean(hits[key])
        row["brier"], row["brier_interval"] = draw.mean(squares[key])
        for name, values in (("accuracy", hits), ("brier", squares)):
            gap = [one - other for one, other in zip(values[key], values[soft], strict=True)]
            row[f"{name}_less_soft"], row[f"{name}_less_soft_interval"] = draw.mean(gap)
        row["accuracy_per_seed"] = [accuracy for accuracy, _ in per_seed[key]]
        row["brier_per_seed"] = [brier for _, brier in per_seed[key]]
        row["pairs"], row["prompts"] = len(hits[key]), len(draw)
        rows.append(row)
    return rows


def against_shortcuts(pairs: Sequence[Pair], models: dict[str, Callable[..., Score]], resamples: int) -> dict[str, Any]:
    """Both models out of fold beside the two rules, by the measure that judges are calibrated with."""
    from charter.constitution.checks import refuses

    clusters = clusters_of(pairs)
    verdicts = []
    for name, fit in models.items():

        def soft(train: Sequence[Pair], fit: Callable[..., Score] = fit) -> Score:
            return fit(train, "soft", 0)

        verdicts.append(Verdicts(name=name, kind="model", p=tuple(out_of_fold(pairs, clusters, soft))))
    return calibration(pairs, verdicts[0], refuses, others=verdicts[1:], resamples=resamples)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print data")
    parser.add_argument("--store", action="store_true", help="write benchmarks/results/soft_labels.json")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=300, help="updates of a head, of 32 pairs each")
    parser.add_argument("--resamples", type=int, default=2000)
    parser.add_argument("--features", type=Path, default=Path("runs/soft_labels"), help="where states are kept")
    given = parser.parse_args()
    replies = rated_replies(assets.get("harm-ratings") / assets.ASSETS["harm-ratings"].rows)
    sets = {name: as_pairs(rated_pairs(replies, gap)) for name, gap in SETS.items()}
    heads = Heads(sets["every gap"], given.features, given.steps)
    models: dict[str, Callable[..., Score]] = {"words": fit_words, "head": heads.fit}
    began = time.perf_counter()
    result: dict[str, Any] = {
        **facts(),
        "seeds": given.seeds,
        "steps": given.steps,
        "data": {name: {"pairs": len(pairs), "prompts": len(set(clusters_of(pairs)))} for name, pairs in sets.items()},
        "soft_against_hard": compare(sets, models, given.seeds, given.resamples),
        "against_shortcuts": against_shortcuts(sets["gap of 1/2 and more"], models, given.resamples),
        "seconds": {"states": heads.seconds, "replies": heads.worked_out, "fits": time.perf_counter() - began},
    }
    if given.store:
        print(f"stored {store('soft_labels', result)}", file=sys.stderr)
    if given.json:
        print(as_json(result))
        return
    print(text_of(result))


def text_of(result: dict[str, Any]) -> str:
    """Both tables."""
    rows = [
        (
            row["model"], row["learnt_from"], row["measured_on"], row["labels"],
            _with(row["accuracy"], row["accuracy_interval"]), _with(row["brier"], row["brier_interval"]),
            "" if row["labels"] == "soft" else _with(row["brier_less_soft"], row["brier_less_soft_interval"]),
        )
        for row in result["soft_against_hard"]
    ]  # fmt: skip
    head = ("model", "learnt from", "measured on", "labels", "accuracy", "Brier", "Brier less that of soft")
    free = [row["refusal_free"] for row in result["against_shortcuts"]["judges"]]
    judges = [
        (
            row["name"], _with(row["accuracy"], row["interval"]), _with(row["brier"], row["brier_interval"]),
            _with(row["ece"], row["ece_interval"]), _with(alone["accuracy"], alone["interval"]),
            "yes" if row["passed"] else "no",
        )
        for row, alone in zip(result["against_shortcuts"]["judges"], free, strict=True)
    ]  # fmt: skip
    other = ("out of fold", "accuracy", "Brier", "ECE", "accuracy, no refusal in the pair", "passes the gate")
    return table(rows, head) + "\n\n" + table(judges, other)


def _with(value: float | None, interval: Sequence[float] | None) -> str:
    if value is None or interval is None:
        return "not measured"
    return f"{value:.3f} [{interval[0]:.3f}, {interval[1]:.3f}]"


if __name__ == "__main__":
    main()
