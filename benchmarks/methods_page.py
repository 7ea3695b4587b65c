"""What was stored about the methods, as tables and pictures: writes the parts of docs/compare.md between markers.

    python benchmarks/methods_page.py [--page docs/compare.md] [--take DIR]

Reads benchmarks/results/{compare,compare_search,memory_of_methods}.json. The comparison goes between its own markers as
`charter compare --render` writes it, with docs/images/compare_*.svg before it; the trials of the search and the memory
of the methods each between theirs. What was not stored is left as it is. --take copies DIR/compare.json to the results
first, with the commit and the machine: run it from the checkout that the comparison ran from.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from harness import ROOT, child_environment, facts, store, stored
from performance_page import standalone, table

from charter.cli.compare_page import markdown, write_between
from charter.cli.compare_plots import pictures
from charter.cli.compare_table import interval, size
from charter.cli.pages.plots import WIDE
from charter.evaluate.compare_record import TITLES
from charter.run.atomic import write_text

Data = Mapping[str, Any]
SEARCH = ("<!-- search: begin -->", "<!-- search: end -->")
MEMORY = ("<!-- memory: begin -->", "<!-- memory: end -->")
SHOWN = ("score", "reward_tokens", "reward_processor_seconds", "memory", "time")
"""Pictures of the comparison that the page shows."""
HALF = 0.5
CASES = {
    "grpo": "GRPO",
    "grpo_kl": "GRPO, `kl_coef` > 0",
    "ppo": "PPO, a critic of its own",
    "ppo_head": "PPO, the critic a head",
}


def comparison_part(record: Data, images: Path) -> str:
    """The pictures, written to files, and the tables of the comparison."""
    shown: list[str] = []
    for one in pictures(record):
        if one.name in SHOWN:
            write_text(images / f"compare_{one.name}.svg", standalone(one.draw(WIDE)))
            shown += [f"![{one.caption}](images/compare_{one.name}.svg)", "", f"*{one.caption}*", ""]
    taken = record["taken"]
    machine = taken["machine"]
    where = (
        f"`benchmarks/results/compare.json`: {machine['processor']}, {machine['cores']} cores, "
        f"OMP_NUM_THREADS {taken['threads']}, commit {taken['revision']}, {taken['date'][:10]}."
    )
    return "\n".join([where, "", *shown, markdown(record)])


def search_part(found: Data) -> str:
    """Every trial, the highest score of each method first, which was chosen, and what it was judged by."""
    rounds = [(found["tokens"], found["trials"]), (found.get("final_tokens", 0), found.get("finals", []))]
    last = found.get("finals") or found["trials"]
    rows = [
        (
            TITLES[trial["method"]],
            f"{tokens:,}",
            ", ".join(f"`{key.split('.')[-1]}` {value}" for key, value in trial["trial"].items())
            + (" **chosen**" if trials is last and trial["trial"] == found["best"][method]["trial"] else ""),
            interval(trial["score"], trial["score_interval"]),
            interval(trial["gain"], trial["gain_interval"], sign=True),
            f"{trial['kl']:.3g}",
            str(trial["steps"]).removesuffix(".0"),
            f"{trial['processor_seconds']:.0f}",
        )
        for method in TITLES
        for tokens, trials in rounds
        for trial in sorted((t for t in trials if t["method"] == method), key=lambda t: -t["score"])
    ]
    head = ("method", "tokens", "trial", "score [95 %]", "gain [95 %]", "KL, k3", "steps", "processor s")
    about = (
        f"Scores are accuracies at the temperature of training on "
        f"{found['dev_prompts']} development prompts, {found['dev_samples']} completions each. The chosen one is "
        "in the recipes: of those within one standard error of the highest score, the one that stayed nearest to the "
        "start. Trials of one method began with the same weights, the same questions and "
        f"the same draws. Commit {found['revision']}, {found['date'][:10]}."
    )
    return f"{about}\n\n{table(head, rows)}\n\n" + "\n".join(f"- {line}" for line in _unsure(found))


def _unsure(found: Data) -> Iterator[str]:
    """Where the best trial's interval holds another trial's score, which is nearly everywhere: it is said."""
    for method in TITLES:
        trials = sorted((t for t in found["trials"] if t["method"] == method), key=lambda t: -t["score"])
        near = [t for t in trials[1:] if t["score"] >= trials[0]["score_interval"][0]]
        yield (
            f"{TITLES[method]}: the scores of {len(near)} of the other {len(trials) - 1} trials lie within the best "
            "one's interval."
        )


def memory_part(found: Data) -> str:
    """Peaks and ratios at each size, and whether the half that is commonly said is one."""
    rows = [
        (
            f"{one['parameters'] / 1e6:.0f} M",
            CASES[case],
            ", ".join(one["models_resident"]),
            size(one["peak_bytes"]),
            size(one["baseline_bytes"]),
            size(one["estimate_bytes"]),
        )
        for sized in found["sizes"].values()
        for case, one in sized["cases"].items()
    ]
    head = ("parameters", "method", "models in memory", "peak, measured", "of that, before any model", "estimate")
    ratios = [
        (
            f"{next(iter(sized['cases'].values()))['parameters'] / 1e6:.0f} M",
            " / ".join(CASES[part] for part in name.split(" / ")),
            *(f"{ratio[kind]:.2f}" for kind in ("peak_bytes", "own_bytes", "estimate_bytes")),
        )
        for sized in found["sizes"].values()
        for name, ratio in sized["ratios"].items()
    ]
    ratio_head = ("parameters", "ratio", "measured", "without what was there before", "estimated")
    told = " ".join(_halves(found))
    date = f"Commit {found['revision']}, {found['date'][:10]}."
    return f"{told} {date}\n\n{table(head, rows)}\n\n{table(ratio_head, ratios)}"


def _halves(found: Data) -> Iterator[str]:
    for sized in found["sizes"].values():
        parameters = next(iter(sized["cases"].values()))["parameters"]
        for case, words in (("grpo", "GRPO without a KL"), ("grpo_kl", "GRPO with a KL")):
            ratio = sized["ratios"].get(f"{case} / ppo", {}).get("peak_bytes")
            if ratio is not None:
                holds = "at most the half that is said" if ratio <= HALF else "more than the half that is said"
                yield f"With {parameters / 1e6:.0f} M parameters {words} took {ratio:.2f} of PPO's peak: {holds}."
        for case, one in sized["cases"].items():
            over = one["estimate_bytes"] / one["peak_bytes"]
            yield f"With {parameters / 1e6:.0f} M the estimate of {CASES[case]} is {over:.2f} times what was measured."


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--page", type=Path, default=ROOT / "docs" / "compare.md")
    parser.add_argument("--take", type=Path, metavar="DIR", help="store DIR/compare.json first")
    asked = parser.parse_args()
    if asked.take is not None:
        threads = int(child_environment()["OMP_NUM_THREADS"])
        record = json.loads((asked.take / "compare.json").read_text("utf-8"))
        print(f"stored {store('compare', {**record, 'taken': {**facts(), 'threads': threads}})}")
    if (record := stored("compare")) is not None:
        images = asked.page.parent / "images"
        write_between(asked.page, comparison_part(record, images))
    for name, markers, part in (
        ("compare_search", SEARCH, search_part),
        ("memory_of_methods", MEMORY, memory_part),
    ):
        if (found := stored(name)) is not None:
            write_between(asked.page, part(found), markers)


if __name__ == "__main__":
    main()
