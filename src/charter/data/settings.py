"""What a recipe's [data] table tells this room."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol


class DataSettings(Protocol):
    """A recipe's [data] table, or anything with these attributes; docs/recipe.md says what each means."""

    @property
    def prompts(self) -> str | None: ...
    @property
    def examples(self) -> str | None: ...
    @property
    def pairs(self) -> str | None: ...
    @property
    def template(self) -> str | None: ...
    @property
    def system(self) -> str | None: ...
    @property
    def size(self) -> int | None: ...
    @property
    def held_out(self) -> int | None: ...
    @property
    def options(self) -> Mapping[str, Any]: ...
