"""`python -m charter.recipe` prints docs/recipe.md; `python -m charter.recipe schema [KIND]` a JSON schema.

KIND: train (when left out), cai, pipeline or compare.
"""

import json
import sys

from charter.recipe import json_schema, recipe_reference
from charter.recipe.roots import ROOTS

if sys.argv[1:2] == ["schema"]:
    kind = sys.argv[2] if len(sys.argv) > 2 else "train"
    if kind not in ROOTS:
        sys.exit(f"no kind of recipe is called {kind!r}: {', '.join(ROOTS)}")
    print(json.dumps(json_schema(ROOTS[kind]), indent=2, ensure_ascii=False))
else:
    print(recipe_reference(), end="")
