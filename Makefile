# Everything happens in .venv; nothing is installed outside it.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Processes that run tests at the same time: one per core, at most 4, since each takes up to 2 GB. WORKERS=0 is one.
WORKERS ?= logical

.PHONY: install demo test test-slow integrations lint docs clean

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	# torch first and by its exact version: pip then takes the CPU build where one is offered
	$(BIN)/pip install --quiet "$$(grep '^torch==' constraints.txt)"
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	$(BIN)/simenv fetch-weights
	touch $@

demo: install
	$(BIN)/simenv demo

test: install
	$(BIN)/python -m pytest -n $(WORKERS) --maxprocesses 4 --dist worksteal

test-slow: install
	$(BIN)/python -m pytest -m slow -s

# Frameworks that are not installed beside ours, each in an environment of its own. Minutes.
integrations: install
	.ci/frameworks

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache --no-logo

# Strict: a warning, and so a broken link or anchor, is an error. -E: pages come from the code too. Needs no network.
docs: install
	$(BIN)/sphinx-build -E -W -n --keep-going docs docs/_build/html

clean:
	rm -rf docs/_build $(VENV) .mypy_cache .ruff_cache .pytest_cache
