"""The rewards that need a model: what the reward room does not know is put together here, by name.

`charter train`, `eval`, `reward test` and `reward rescore` pass these to `build_rubric` and `load_reward`; `explain`
and the hints of a misspelt name read their names and options. Nothing is loaded before a reward is opened.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from charter.constitution.rewards import JudgeOptions, JudgeReward
    from charter.protocols import ChatModel
    from charter.recipe import Recipe
    from charter.reward.preference import PreferenceOptions, PreferenceReward, Scorer
    from charter.reward.registry import Builder


def reward_builders(recipe: Recipe | None = None) -> dict[str, Builder]:
    """Name → how it is made. recipe: whose device and arithmetic the models take; the machine's own when left out."""
    from charter.constitution.rewards import JudgeOptions, PrinciplesOptions, PrinciplesReward
    from charter.reward.preference import PreferenceOptions
    from charter.reward.registry import Builder

    device = "auto" if recipe is None else recipe.learner.device
    dtype = "auto" if recipe is None else recipe.learner.dtype

    def preference(name: str, timeout_s: float, options: PreferenceOptions) -> PreferenceReward:
        return _preference(name, timeout_s, options, device, dtype)

    def judge(name: str, timeout_s: float, options: JudgeOptions) -> JudgeReward:
        return _judge(name, timeout_s, options, recipe)

    return {
        "preference": Builder(
            options=PreferenceOptions, make=preference, content="what a preference model or a bag of words thinks of it"
        ),
        "principles": Builder(
            options=PrinciplesOptions, make=PrinciplesReward, content="share of a constitution's checks that it meets"
        ),
        "judge": Builder(options=JudgeOptions, make=judge, content="what a judge thinks of it under a constitution"),
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


def _judge(name: str, timeout_s: float, options: JudgeOptions, recipe: Recipe | None) -> JudgeReward:
    from charter.cli.chat import open_chat
    from charter.constitution.rewards import JudgeReward
    from charter.errors import UsageError
    from charter.recipe import LearnerTable
    from charter.recipe.cai import JudgeTable

    if options.backend == "local" and not options.model:
        raise UsageError('model is missing: a judge with backend = "local" needs a folder, an asset or a model id')
    asked = options.model_dump(exclude={"constitution", "tags"})
    table = JudgeTable(**asked, timeout_s=timeout_s)
    seed = 0 if recipe is None else recipe.seed

    def open_judge() -> ChatModel:
        learner = LearnerTable() if recipe is None else recipe.learner
        return open_chat(table, model=options.model, learner=learner, seed=seed)

    return JudgeReward(name, timeout_s, options, open_judge, seed=seed)
