"""A preference model as a thing: a language model's backbone, a scalar head, and what its scores look like.

The score of a reply is read at its closing token, in the conversation that the chat template makes of prompt and reply.

    folder/                         a plain Hugging Face folder; AutoModelForSequenceClassification loads it
    folder/preference_model.json    {"format", "mean", "std", "replies", "max_tokens"}

Several replies to one prompt share its tokens in one forward.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from charter.errors import ModelError
from charter.model.heads import ScalarHead
from charter.model.load import Policy, load_policy
from charter.model.prefix import PackedTrees
from charter.types import Branch, Message, Tree

FACTS = "preference_model.json"
WEIGHT = "score.weight"
"""The head's name, as transformers' sequence classifiers call it."""
FORMAT = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreFacts:
    """What a preference model's scores look like. mean, std: in logits, over `replies` distinct replies that were kept
    for evaluation. max_tokens: longest conversation it was trained on."""

    mean: float
    std: float
    replies: int
    max_tokens: int


class PreferenceModel:
    """A backbone with a head, for scoring. It is a `charter.reward.preference.Scorer`.

    most_tokens: of one forward; a group that has more goes through in parts.
    """

    def __init__(self, policy: Policy, head: ScalarHead, facts: ScoreFacts, *, most_tokens: int = 4096) -> None:
        self.policy = policy
        self.head = head
        self.facts = facts
        self.most_tokens = most_tokens

    @property
    def mean(self) -> float:
        return self.facts.mean

    @property
    def std(self) -> float:
        return self.facts.std

    @property
    def bytes(self) -> int:
        """Memory of the weights."""
        return sum(p.numel() * p.element_size() for p in (*self.policy.module.parameters(), self.head.weight))

    def score(self, messages: Sequence[Message], reply: str) -> float:
        """s of one reply, in logits. Raises: ModelError for a conversation that is too long."""
        (found,) = self.score_replies(messages, [reply])
        if isinstance(found, str):
            raise ModelError(found)
        return found

    def score_replies(self, messages: Sequence[Message], replies: Sequence[str]) -> list[float | str]:
        """s of each reply to one prompt, in logits; for one that is too long, a text that says so.

        A reply that stands there twice is forwarded once, so that its score is the same to the last bit: a difference
        by rounding would be an advantage.
        """
        told = dict(zip(known := list(dict.fromkeys(replies)), self._distinct(messages, known), strict=True))
        return [told[reply] for reply in replies]

    def _distinct(self, messages: Sequence[Message], replies: Sequence[str]) -> list[float | str]:
        found: list[float | str] = [""] * len(replies)
        fitting: dict[tuple[int, ...], list[tuple[int, tuple[int, ...]]]] = {}
        most = min(self.facts.max_tokens, self.policy.max_positions or self.facts.max_tokens)
        for i, reply in enumerate(replies):
            prefix, answer = answer_tokens(self.policy.chat.encode_example, messages, reply)
            if len(prefix) + len(answer) > most:
                found[i] = (
                    f"prompt and reply have {len(prefix) + len(answer)} tokens, more than the {most} that the "
                    "preference model was trained on"
                )
            else:
                fitting.setdefault(prefix, []).append((i, answer))
        for prefix, answers in fitting.items():
            for part in _parts(prefix, answers, self.most_tokens):
                tree = closed_tree(prefix, [answer for _, answer in part])
                with torch.no_grad():
                    scores = self.head.scores(closing_states(self.policy, [tree]))
                for (i, _), value in zip(part, scores.tolist(), strict=True):
                    found[i] = value
        return found


def answer_tokens(encode: Any, messages: Sequence[Message], reply: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """(prompt, reply) as tokens: the reply is the last run that the assistant wrote, its closing token included."""
    tokens, written = encode([*messages, {"role": "assistant", "content": reply}])
    end = len(written)
    while end and not written[end - 1]:
        end -= 1  # what the template puts behind the closing token
    first = end
    while first and written[first - 1]:
        first -= 1
    return tokens[:first], tokens[first:end]


def closed_tree(prefix: tuple[int, ...], answers: Sequence[tuple[int, ...]]) -> Tree:
    """A prompt with its replies, laid out so that the closing token goes through the model.

    A packed tree does not forward the last token of a branch, which predicts nothing; here that token is the one that
    is read. So each branch is given one more, which is not forwarded, and only its place has a mask.
    """
    return closing_trees([Tree(prefix=prefix, branches=tuple(_plain(answer) for answer in answers))])[0]


def closing_trees(trees: Sequence[Tree]) -> list[Tree]:
    """The same trees with each branch's mask on the one place that is predicted from its last token."""
    return [
        replace(
            tree,
            branches=tuple(
                replace(
                    branch,
                    tokens=(*branch.tokens, branch.tokens[-1]),
                    mask=(*(False,) * len(branch.tokens), True),
                    reference_logprobs=(),
                )
                for branch in tree.branches
            ),
        )
        for tree in trees
    ]


def closing_states(policy: Policy, trees: Sequence[Tree]) -> Tensor:
    """Last hidden states `[B, D]` at the closing token of every branch of `closing_trees`, in order."""
    packed = PackedTrees.pack(trees, policy.device)
    branches = [branch for tree in trees for branch in tree.branches]
    place = torch.tensor([len(branch.tokens) - 1 for branch in branches], device=packed.source.device)
    source = packed.source.gather(1, place[:, None])[:, 0]
    with policy.arithmetic():
        # index_select, whose backward on CPU adds in a fixed order
        return policy.hidden(packed.tokens, packed.positions, packed.layout()).index_select(0, source)


def save_scorer(folder: Path, policy: Policy, head: ScalarHead, facts: ScoreFacts) -> None:
    """Write the folder. The language model's own output layer stays in it, so that training goes on from it exactly."""
    state = {**policy.module.state_dict(), WEIGHT: head.weight.detach()}
    policy.save(folder, state)
    file = folder / "config.json"
    config = json.loads(file.read_text("utf-8"))
    config["architectures"] = [classifier_of(config["architectures"][0])]
    config["num_labels"], config["id2label"], config["label2id"] = 1, {"0": "score"}, {"score": 0}
    # transformers reads the score at the last token that is no padding: the padding must not be what closes a reply
    pad = config.get("pad_token_id")
    if pad is None or pad in policy.chat.eos_ids:
        special = (*policy.chat.tokenizer.all_special_ids, *range(len(policy.chat.tokenizer)))
        config["pad_token_id"] = next(token for token in special if token not in policy.chat.eos_ids)
    file.write_text(json.dumps(config, indent=2) + "\n", "utf-8")
    (folder / FACTS).write_text(json.dumps({"format": FORMAT, **asdict(facts)}, indent=2) + "\n", "utf-8")


def classifier_of(architecture: str) -> str:
    """`LlamaForSequenceClassification` for `LlamaForCausalLM`; GPT-2 calls its language model otherwise."""
    for ending in ("ForCausalLM", "LMHeadModel"):
        if architecture.endswith(ending):
            return architecture.removesuffix(ending) + "ForSequenceClassification"
    return architecture


def is_preference_model(folder: Path) -> bool:
    """Whether a folder is one that `save_scorer` wrote."""
    return (folder / FACTS).is_file()


def load_scorer(
    folder: str | Path, *, device: str = "auto", dtype: Literal["auto", "float32", "bfloat16"] = "auto"
) -> PreferenceModel:
    """A preference model out of its folder, frozen. Raises ModelError naming what is missing or does not fit."""
    folder = Path(folder)
    facts = read_facts(folder)
    with quiet_loading():
        policy = load_policy(folder, device=device, dtype=dtype)
    policy.module.requires_grad_(False)
    head = ScalarHead(policy)
    load_head(folder, head)
    head.weight.requires_grad_(False)
    return PreferenceModel(policy, head, facts)


def read_facts(folder: Path) -> ScoreFacts:
    """Raises ModelError for a folder that is no preference model."""
    file = folder / FACTS
    try:
        record = json.loads(file.read_text("utf-8"))
        facts = ScoreFacts(
            mean=float(record["mean"]), std=float(record["std"]), replies=int(record["replies"]),
            max_tokens=int(record["max_tokens"]),
        )  # fmt: skip
        if record["format"] != FORMAT or not (math.isfinite(facts.mean) and math.isfinite(facts.std)):
            raise ValueError(f"format {record['format']!r}, mean {facts.mean}, std {facts.std}")
    except OSError as error:
        raise ModelError(
            f"{folder} is no preference model: it has no readable {FACTS}. Give the folder `checkpoints/…/model` of a "
            'run with method = "preference"'
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{file} does not say what it should ({type(error).__name__}: {error})") from error
    return facts


def load_head(folder: Path, head: ScalarHead) -> None:
    """Put a folder's head in place. Raises ModelError where there is none, or one of another width."""
    for file in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(file, framework="pt") as tensors:  # type: ignore[no-untyped-call]
                if WEIGHT in tensors.keys():  # noqa: SIM118 - the file is no dict
                    weight = tensors.get_tensor(WEIGHT)
                    break
        except (OSError, SafetensorError) as error:
            raise ModelError(f"{file} does not read: {error}") from error
    else:
        raise ModelError(f"{folder} has no {WEIGHT!r} in its .safetensors files, so it has no preference to tell")
    if weight.shape != head.weight.shape or not weight.isfinite().all():
        raise ModelError(
            f"{folder}: {WEIGHT} has the shape {list(weight.shape)} or numbers that are not finite; expected finite "
            f"{list(head.weight.shape)}"
        )
    with torch.no_grad():
        head.weight.copy_(weight)


@contextmanager
def quiet_loading(quiet: bool = True) -> Iterator[None]:
    """transformers lists the head among what a language model has no use for; that is no news here."""
    if not quiet:
        yield
        return
    from transformers.utils import logging

    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(before)


def _plain(tokens: tuple[int, ...]) -> Branch:
    return Branch(tokens=tokens, mask=(True,) * len(tokens))


def _parts(
    prefix: tuple[int, ...], answers: Sequence[tuple[int, tuple[int, ...]]], most: int
) -> Iterator[list[tuple[int, tuple[int, ...]]]]:
    """Consecutive answers whose tokens fit into one forward with their prompt; a single one always goes."""
    part: list[tuple[int, tuple[int, ...]]] = []
    room = most - len(prefix)
    for answer in answers:
        size = len(answer[1])
        if part and size > room:
            yield part
            part, room = [], most - len(prefix)
        part.append(answer)
        room -= size
    if part:
        yield part
