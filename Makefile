# Two commands for a fresh machine with Python ≥ 3.11: `make quickstart` and `make test`.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
WORKERS ?= 2

.PHONY: install quickstart cai test test-slow lint docs bench clean

install: $(READY)

# A stamp, so that a second `make` installs nothing; pyproject.toml or the pin changing installs anew.
$(READY): pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Charter needs Python 3.11 or newer; this is `$(PYTHON) --version`. Try: make PYTHON=python3.12" >&2; exit 1; }
	@echo "Installing Charter and its dependencies into $(VENV) (a few minutes the first time) …"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

quickstart: $(READY)
	@$(BIN)/charter assets get smollm2-135m
	@echo
	@echo "What to expect: 8 prompts × 8 completions a step, for 21 steps. The reward is the share of right sums: it starts"
	@echo "near 0.05 and passes 0.6. Two evaluations on 128 held-out sums frame the training. About 6 minutes in all on"
	@echo "2 CPU cores; Ctrl-C once saves and prints how to go on."
	@echo
	@$(BIN)/charter train recipes/quickstart.toml --replace

cai: $(READY)
	@$(BIN)/charter assets get smollm2-135m
	@$(BIN)/charter assets get do-not-answer
	@$(BIN)/charter assets get harm-ratings
	@$(BIN)/charter cai recipes/cai-quick.toml --replace

# Two workers of one thread each: most tests are a process that waits for another, and threads beyond the cores wait too.
test: $(READY)
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n $(WORKERS) --dist worksteal

test-slow: $(READY)
	@$(BIN)/python -m pytest -q -m slow

lint: $(READY)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/lint-imports
	@$(BIN)/pyright --pythonpath $(BIN)/python

docs: $(READY)
	@$(BIN)/python -m charter.recipe > docs/recipe.md
	@$(BIN)/python -m charter.run.metrics > docs/metrics.md

bench: $(READY)
	@$(BIN)/python benchmarks/step_parts.py

clean:
	rm -rf $(VENV) build dist .pytest_cache .ruff_cache .hypothesis
