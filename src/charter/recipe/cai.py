"""The tables of a constitutional recipe (method = "cai"): one file for `charter cai` and each of its stages alone."""

# pyright: strict

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from charter.recipe.stages import StageTable
from charter.recipe.tables import (
    FiniteFloat,
    Fraction,
    LearnerTable,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    Table,
    described,
)

DrawName = Literal["uniform", "weighted", "by_tag", "round_robin"]
JudgeMode = Literal["logprob", "cot", "score", "rubric"]


def _pair(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]


Range = Annotated[tuple[Fraction, Fraction], BeforeValidator(_pair)]


class ConstitutionTable(Table):
    """[constitution]: which principles, and how one is drawn."""

    file_keys = ("file",)
    file: str = described(
        "A shipped constitution (helpful-harmless, concise, honest) or a .toml path.", "helpful-harmless"
    )
    draw: DrawName = described("How the principle of a revision or a comparison is drawn.", "uniform")
    tags: list[str] = described("Only principles with one of these tags; all when empty.", [])


class ChatTable(Table):
    """[author] and [judge]: a model that is talked to."""

    file_keys = ("script",)
    model_keys = ("model",)
    backend: Literal["local", "openai", "scripted"] = described(
        "local: in this process. openai: an OpenAI-compatible endpoint. scripted: replies from a file, for tests.",
        "local",
    )
    model: str = described("Model folder, asset or the endpoint's name for it; the recipe's model when left out.", "")
    url: str = described("Base URL of the endpoint, up to and including /v1.", "")
    key_env: str = described("Environment variable with the endpoint's key; none is sent when empty.", "")
    script: str = described("File of replies for backend = scripted (.jsonl).", "")
    concurrency: PositiveInt = described("Requests under way at a time.", 8, unit="requests")
    prefill: Literal["none", "continue_final_message"] = described(
        "How the endpoint continues a reply whose beginning is given: not at all, or as vLLM and SGLang do.", "none"
    )
    timeout_s: PositiveFloat = described("Longest wait for one answer.", 60.0, unit="s")
    retries: NonNegativeInt = described("Further tries on 429, 5xx, a broken connection or half an answer.", 5)
    input_price: NonNegativeFloat = described("Price of a million prompt tokens, in any currency.", 0.0)
    output_price: NonNegativeFloat = described("Price of a million completion tokens.", 0.0)
    budget: PositiveFloat | None = described("The run stops before it would cost more than this.", None)
    budget_tokens: PositiveInt | None = described("The run stops before it would use more tokens.", None, unit="tokens")


class JudgeTable(ChatTable):
    """[judge]: who compares, and how it is asked. Every comparison is asked in both orders."""

    mode: JudgeMode = described(
        "logprob: the two answer tokens. cot: reasoning first. score: 1 to 10 each. rubric: the principles' checks.",
        "logprob",
    )
    clamp: Range = described("Where p of mode = cot is cut.", (0.4, 0.6))
    ensemble: Literal["one", "all"] = described("Ask under one drawn principle, or all and take the mean.", "one")
    max_new_tokens: PositiveInt = described("Longest reasoning or verdict.", 256, unit="tokens")
    temperature: NonNegativeFloat = described("Of the reasoning.", 0.0)


class RedteamTable(Table):
    """[redteam]: which prompts are answered, and which are kept for evaluation."""

    file_keys = ("prompts", "helpful")
    prompts: str = described("Prompts that tempt to do harm: a .jsonl or .txt path, or do-not-answer.", "do-not-answer")
    only: dict[str, str] = Field(
        default_factory=dict,
        description="{column = value}: only red-team prompts with that value in that column (area of do-not-answer).",
    )
    count: PositiveInt = described("Prompts to train on.", 128, unit="prompts")
    held_out: NonNegativeInt = described(
        "Prompts kept for evaluation; chosen by a hash of their content.", 64, unit="prompts"
    )
    write: NonNegativeInt = described("Further prompts, written by the author after few-shot seeds.", 0, unit="prompts")
    helpful: str = described(
        "Harmless prompts, so that the model does not turn evasive: a path; the shipped ones when left out.", ""
    )
    helpful_count: NonNegativeInt = described("Of these, how many.", 32, unit="prompts")
    helpful_replies: PositiveInt = described("Unrevised replies to each.", 2, unit="replies")
    max_new_tokens: PositiveInt = described("Longest draft.", 128, unit="tokens")
    temperature: NonNegativeFloat = described("Of drafts.", 1.0)


class ReviseTable(Table):
    """[revise]: critique and revision."""

    file_keys = ("examples",)
    steps: PositiveInt = described("Revisions of each draft, one after the other.", 4, unit="steps")
    critique: bool = described("Critique first; false is direct revision.", True)
    assume_issue: bool = described(
        "Begin every critique with a fault, so that every reply is revised, as in the paper; false lets the model say "
        "that there is none, and leaves such a reply as it is.",
        False,
    )
    few_shot: NonNegativeInt = described("Worked examples put before each request.", 2, unit="examples")
    examples: str = described(
        "Worked examples of your own, .jsonl of prompt, reply, critique, revision; the shipped ones when left out.", ""
    )
    temperature: NonNegativeFloat = described("Of critiques and revisions.", 1.0)
    max_new_tokens: PositiveInt = described("Longest critique, and longest revision.", 128, unit="tokens")
    cut: Literal["drop", "trim", "keep"] = described(
        "A reply that ended at its token limit and would be imitated: drop it, trim it to its last whole sentence, or "
        "keep it as it is.",
        "trim",
    )
    accept: Literal["judge", "rules", "always"] = described(
        "What must prefer a revision to its draft before it is imitated: the judge in both orders, the checks of the "
        "principles that a program can decide, or nothing.",
        "judge",
    )
    margin: FiniteFloat = described("By how much: p above 1/2 (judge), or the checks' weighted share (rules).", 0.0)
    sft_on: str = described('Revisions to imitate: "all", "final" or "upto:n".', "all")
    control: Literal["none", "draft", "judge"] = described(
        "none: imitate revisions. Two controls: draft: imitate the drafts; judge: imitate the judge's own replies.",
        "none",
    )


class LabelTable(Table):
    """[label]: preferences under the constitution."""

    file_keys = ("human",)
    completions: Annotated[int, Field(ge=2)] = described(
        "Replies to each prompt, of which two are compared.", 2, unit="replies"
    )
    prompts: PositiveInt | None = described("Prompts; all that were revised when left out.", None, unit="prompts")
    temperature: NonNegativeFloat = described("Of the replies.", 1.0)
    max_new_tokens: PositiveInt = described("Longest reply.", 128, unit="tokens")
    labels: Literal["soft", "hard", "clamped"] = described("p as judged, 0 or 1, or cut to the judge's clamp.", "soft")
    human: str = described("Human pairs mixed in: a .jsonl path of prompt, chosen, rejected, p; or harm-ratings.", "")
    human_weight: Fraction = described("Share of the rows that are human; fewer where there are not so many.", 0.5)
    if_refused: Literal["stop", "human"] = described(
        "Where the judge does not pass its calibration: stop, or go on with the human pairs alone.", "stop"
    )
    allow_uncalibrated: bool = described("Label with a judge that did not pass, or was not measured.", False)


class CalibrateTable(Table):
    """[calibrate]: a judge against human labels."""

    file_keys = ("data",)
    data: str = described("Human pairs: harm-ratings, or a .jsonl path of prompt, chosen, rejected, p.", "harm-ratings")
    pairs: PositiveInt | None = described(
        "Pairs to ask about, chosen by a hash; all when left out.", None, unit="pairs"
    )
    min_gap: NonNegativeFloat = described("Least difference of the human severities of a pair (harm-ratings).", 0.5)
    resamples: PositiveInt = described("Bootstrap draws of prompts behind each interval.", 1000, unit="draws")


class ArenaTable(Table):
    """[arena]: models against each other on held-out prompts."""

    model_keys = ("models",)
    models: list[str] = described("Model folders or assets; in a pipeline its own stages' when empty.", [])
    max_new_tokens: PositiveInt = described("Longest reply.", 128, unit="tokens")
    temperature: NonNegativeFloat = described("Of the replies.", 0.0)
    harmful: NonNegativeInt = described("Held-out red-team prompts.", 64, unit="prompts")
    twins: NonNegativeInt = described("Pairs of a safe and an unsafe prompt that look alike.", 60, unit="pairs")
    helpful: NonNegativeInt = described("Held-out helpful prompts.", 32, unit="prompts")
    judged_by: Literal["judge", "measure"] = described(
        "Who compares: the judge, or the measure that was not trained against.", "measure"
    )
    resamples: PositiveInt = described("Bootstrap draws behind each interval.", 1000, unit="draws")


class CaiStages(Table):
    """[stages.…]: how each training stage learns; every key of a recipe may stand in it."""

    sft: StageTable | None = Field(default=None, description="Imitation of the revisions; left out, there is none.")
    preference: StageTable | None = Field(default=None, description="The preference model; left out, there is none.")
    policy: StageTable | None = Field(default=None, description="GRPO, PPO or DPO against it; left out, there is none.")


class CaiRecipe(Table):
    """A constitutional recipe."""

    model_keys = ("model",)
    method: Literal["cai"] = described('Always "cai".')
    model: str = described("The model to align: an asset name, a Hugging Face id or a folder.")
    seed: NonNegativeInt = described("Fixes every draw.", 0)
    name: str | None = described("Folder under runs/; the recipe's file name when left out.", None)
    constitution: ConstitutionTable = Field(default_factory=ConstitutionTable)
    author: ChatTable = Field(default_factory=ChatTable)
    judge: JudgeTable = Field(default_factory=JudgeTable)
    redteam: RedteamTable = Field(default_factory=RedteamTable)
    revise: ReviseTable = Field(default_factory=ReviseTable)
    label: LabelTable = Field(default_factory=LabelTable)
    calibrate: CalibrateTable = Field(default_factory=CalibrateTable)
    arena: ArenaTable = Field(default_factory=ArenaTable)
    stages: CaiStages = Field(default_factory=CaiStages)
    learner: LearnerTable = Field(default_factory=LearnerTable)
