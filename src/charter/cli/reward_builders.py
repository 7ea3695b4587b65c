"""The rewards that need a model: what the reward room does not know is put together here, by name.

`charter train`, `eval`, `reward test` and `reward rescore` pass these to `build_rubric` and `load_reward`; `explain`
and the hints of a misspelt name read their names and options. Nothing is loaded before a reward is opened.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from charter.recipe import Recipe
    from charter.reward.preference import PreferenceOptions, PreferenceReward, Scorer
    from charter.reward.registry import Builder


def reward_builders(recipe: Recipe | None = None) -> dict[str, Builder]:
    """Name → how it is made. recipe: whose device and arithmetic the models take; the machine's own when left out."""
    from charter.reward.preference import PreferenceOptions
    from charter.reward.registry import Builder

    device = "auto" if recipe is None else recipe.learner.device
    dtype = "auto" if recipe is None else recipe.learner.dtype

    def preference(name: str, timeout_s: float, options: PreferenceOptions) -> PreferenceReward:
        return _preference(name, timeout_s, options, device, dtype)

    return {
        "preference": Builder(
            options=PreferenceOptions, make=preference, content="what a preference model or a bag of words thinks of it"
        ),
    }


def scorer_folder(model: str) -> Path:
    """The folder that a reward's `model` means: a run's newest checkpoint, or the folder itself.

    Raises: UsageError where there is neither a preference model nor a bag of words.
    """
    from charter.errors import UsageError
    from charter.reward.bag_of_words import is_bag_of_words

    folder = Path(model)
    for place in (folder / "latest" / "model", folder):
        if (place / "preference_model.json").is_file() or is_bag_of_words(place):
            return place
    found = "there is no such folder" if not folder.exists() else "it holds neither"
    raise UsageError(
        f"model = {model!r} is no preference model and no bag of words ({found}); train one with "
        'method = "preference", or save a BagOfWords'
    )


def open_scorer(folder: Path, device: str = "auto", dtype: Literal["auto", "float32", "bfloat16"] = "auto") -> Scorer:
    """The frozen model in a folder, ready to score."""
    from charter.reward.bag_of_words import BagOfWords, is_bag_of_words
    from charter.reward.preference import WordsScorer

    if is_bag_of_words(folder):
        return WordsScorer(BagOfWords.load(folder))
    from charter.model.scorer import load_scorer

    return load_scorer(folder, device=device, dtype=dtype)


def _preference(
    name: str,
    timeout_s: float,
    options: PreferenceOptions,
    device: str,
    dtype: Literal["auto", "float32", "bfloat16"],
) -> PreferenceReward:
    from charter.reward.preference import PreferenceReward

    folder = scorer_folder(options.model)
    return PreferenceReward(name, timeout_s, options, lambda: open_scorer(folder, device, dtype))
