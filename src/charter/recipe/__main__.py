"""`python -m charter.recipe` prints docs/recipe.md; `python -m charter.recipe schema` the JSON schema."""

import json
import sys

from charter.recipe import json_schema, recipe_reference

if sys.argv[1:] == ["schema"]:
    print(json.dumps(json_schema(), indent=2, ensure_ascii=False))
else:
    print(recipe_reference(), end="")
