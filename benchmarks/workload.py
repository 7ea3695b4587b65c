"""Prompts of exactly so many tokens, and the cases that are measured; nothing here imports torch.

A prompt is plain text that the model's tokenizer turns into the asked number of ids, so that any side can be given the
text or the ids and works on the same.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

TEXT = (
    "the sea was calm and a small boat went out before the sun had risen while on the shore an old man and his two "
    "children stood to count the waves that broke upon the white sand in the first light of a cold winter day and "
    "nobody spoke of the long road home or of what they would eat when the night came down over the hills again"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A step of a fixed size. prompt: tokens of each prompt. tokens: of each completion."""

    prompts: int
    prompt: int
    group: int
    tokens: int

    @property
    def rows(self) -> int:
        return self.prompts * self.group


CASES = {
    "S": Case(prompts=4, prompt=65, group=8, tokens=64),
    "M": Case(prompts=2, prompt=512, group=8, tokens=64),
    "L": Case(prompts=1, prompt=1024, group=16, tokens=128),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """A prompt as text and as the ids that a tokenizer makes of it."""

    text: str
    ids: tuple[int, ...]


def model_folder(model: str) -> Path:
    """The folder of an asset, a `random:` model (see `random_models.py`) or a path; what is not there yet is made."""
    from random_models import PREFIX, random_folder

    from charter import assets

    if model.startswith(PREFIX):
        return random_folder(model.removeprefix(PREFIX))
    return Path(assets.get(model)) if assets.is_asset(model) else Path(model).resolve()


def exact_prompts(folder: Path, lengths: Sequence[int], *, seed: int = 0, tries: int = 200) -> list[Given]:
    """Different texts of these token counts under the tokenizer in `folder`.

    A text is cut after the n-th id and read again, since the tokenizer may join what the cut took apart; the next is
    tried until the count holds. Exits with a sentence where none does.
    """
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    found: list[Given] = []
    for number, length in enumerate(lengths):
        for attempt in range(tries):
            draw = random.Random(f"{seed} {number} {attempt}")
            text = " ".join(draw.choices(TEXT.split(), k=max(4, 2 * length)))
            text = tokenizer.decode(tokenizer.encode(text).ids[:length])
            ids = tuple(tokenizer.encode(text).ids)
            if len(ids) == length and text.strip():
                found.append(Given(text=text, ids=ids))
                break
        else:
            raise SystemExit(f"found no text of exactly {length} tokens under the tokenizer in {folder}")
    return found
