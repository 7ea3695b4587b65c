"""What the benchmarks of the constitutional stages share: arms that differ in a few keys and see the same drafts.

An arm is an ordinary run folder of `charter revise`. All arms of a benchmark ask through one journal of replies: what
two of them have in common, their drafts above all, is answered once and is the same to the letter, and a second start
asks nothing.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from harness import ROOT, as_json, store, table

from charter.cli.cai_run import CaiRun, open_cai_run
from charter.cli.stage_lines import StageLines
from charter.cli.supervising import run_supervised
from charter.constitution.supervised import Supervised
from charter.errors import CharterError, RunError
from charter.evaluate.effect import FEWEST_CLUSTERS
from charter.protocols import ChatModel
from charter.recipe import load_cai_recipe
from charter.recipe.cai import CaiRecipe
from charter.run.records import Journal
from charter.types import ChatReply, ChatRequest, ChoiceReply, ChoiceRequest, Usage

Interval = Sequence[float] | None


class Remembered:
    """A chat model that is asked nothing that is in the journal.

    Requests are named by everything that decides their reply, the model too, so that models may share a journal.
    """

    def __init__(self, model: ChatModel, journal: Journal) -> None:
        self._model = model
        self._journal = journal

    @property
    def name(self) -> str:
        return self._model.name

    @property
    def capabilities(self) -> frozenset[str]:
        return self._model.capabilities

    @property
    def usage(self) -> Usage:
        """Of the model, so without what was remembered."""
        return self._model.usage

    async def generate(self, requests: Sequence[ChatRequest]) -> AsyncIterator[ChatReply]:
        missing: list[ChatRequest] = []
        for request in requests:
            row = self._journal.get("reply", request.id)
            if row is None:
                missing.append(request)
            else:
                yield ChatReply(**{key: value for key, value in row.items() if key != "kind"})
        if not missing:
            return
        try:
            async for reply in self._model.generate(missing):
                if reply.stop != "failed":
                    self._journal.append({"kind": "reply", **asdict(reply)})
                yield reply
        finally:
            self._journal.sync()

    def choice_logprobs(self, requests: Sequence[ChoiceRequest]) -> AsyncIterator[ChoiceReply]:
        return self._model.choice_logprobs(requests)

    async def close(self) -> None:
        await self._model.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class Sheet:
    """A table of results. Cells are texts, counts or measured numbers."""

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[object]]

    def text(self) -> str:
        return f"{self.title}\n\n{table(self.rows, self.head)}"

    def markdown(self) -> str:
        def line(cells: Sequence[object]) -> str:
            told = (f"{cell:.3g}" if isinstance(cell, float) else str(cell) for cell in cells)
            return "| " + " | ".join(cell.replace("|", "\\|") for cell in told) + " |"

        return "\n".join([f"{self.title}:", "", line(self.head), "|---" * len(self.head) + "|", *map(line, self.rows)])


def parser_of(doc: str | None, name: str, *, prompts: int, seeds: int) -> argparse.ArgumentParser:
    """The options that all have. doc: the module's. name: of the run folder and the stored file."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print data")
    parser.add_argument("--markdown", action="store_true", help="print the tables as Markdown")
    parser.add_argument("--store", action="store_true", help=f"write benchmarks/results/cai_{name}.json")
    parser.add_argument("--prompts", type=positive, default=prompts, help=f"red-team prompts ({prompts})")
    parser.add_argument("--seeds", type=positive, default=seeds, help=f"seeds, counted from 0 ({seeds})")
    parser.add_argument("--recipe", type=Path, default=ROOT / "recipes" / "cai-quick.toml", help="what arms vary")
    parser.add_argument("--run-dir", type=Path, default=Path("runs") / f"bench-{name}", help="where arms are kept")
    parser.add_argument("--resamples", type=positive, default=2000, help="draws behind each interval")
    parser.add_argument("--plain", action="store_true", help="lines instead of lines that are drawn over")
    return parser


def finish(given: argparse.Namespace, name: str, result: Mapping[str, Any], sheets: Sequence[Sheet]) -> None:
    """Store and print what was found, as the options say."""
    if given.store:
        print(f"stored {store(f'cai_{name}', result)}", file=sys.stderr)
    if given.json:
        print(as_json(result))
    else:
        print("\n\n".join(sheet.markdown() if given.markdown else sheet.text() for sheet in sheets))


def run_main(main: Callable[[], None]) -> None:
    """Run a benchmark; what the user can mend is one sentence and exit code 1."""
    try:
        main()
    except CharterError as error:
        raise SystemExit(f"error: {error}") from None
    except KeyboardInterrupt:
        raise SystemExit("stopped; every reply is kept. Run the same command again to go on") from None


@contextmanager
def replies_of(folder: Path) -> Iterator[Journal]:
    """The journal that all arms of a benchmark ask through."""
    with Journal.open(folder / "replies" / "records.jsonl", {"records": "replies"}) as journal:
        yield journal


def recipe_of(given: argparse.Namespace, seed: int, overrides: Mapping[str, Any]) -> CaiRecipe:
    """The recipe of an arm: the benchmark's, with its size, a seed and what the arm varies. Raises: RecipeError."""
    return load_cai_recipe(given.recipe, {"redteam.count": given.prompts, "seed": seed, **overrides})


def arm_folder(given: argparse.Namespace, seed: int, arm: str) -> Path:
    """Where an arm is kept: sizes do not mix, since an arm's records depend on its prompts."""
    return given.run_dir / f"{given.prompts}-prompts" / f"seed-{seed}" / arm


async def run_arm(
    recipe: CaiRecipe, folder: Path, author: ChatModel, *, judge: ChatModel | None = None, plain: bool = False
) -> tuple[CaiRun, Supervised]:
    """The supervised stage of an arm, finished. The run is closed; its journal can be read.

    Raises: RunError where requests had no answer; what was answered is kept.
    """
    with open_cai_run(recipe, folder) as run:
        if len(run.sets.prompts) < recipe.redteam.count:
            raise RunError(
                f"{recipe.redteam.prompts} has {len(run.sets.prompts)} prompts to revise on, and "
                f"{recipe.redteam.count} are asked for. Lower --prompts"
            )
        done = await run_supervised(run, author, judge=judge, watcher=StageLines([author], plain=plain))
    if done.lost:
        raise RunError(f"{folder}: {done.lost} requests had no answer; run the same command again to ask only these")
    return run, done


def verdict_of(interval: Interval, prompts: int) -> str:
    """ "higher", "lower" or "cannot decide", as `charter.evaluate.effect` says it of its own."""
    if interval is None or prompts < FEWEST_CLUSTERS or interval[0] <= 0 <= interval[1]:
        return "cannot decide"
    return "higher" if interval[0] > 0 else "lower"


def shown(value: float | None, interval: Interval, digits: int = 3) -> str:
    """A figure with its interval as a cell."""
    if value is None:
        return "not measured"
    if interval is None:
        return f"{value:.{digits}f}"
    return f"{value:.{digits}f} [{interval[0]:.{digits}f}, {interval[1]:.{digits}f}]"


def counted(number: int, noun: str) -> str:
    """ "1 seed", "2 seeds"."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def positive(text: str) -> int:
    """A whole number from 1 up, as an option's type."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text}: give a number from 1 up")
    return value
