# Everything a newcomer needs: `make demo` (no torch) and `make test`. Both set themselves up.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: help demo test test-long lint format bench clean

help:
	@echo "make demo    the main job on real text: the shipped model, search, matching (no torch)"
	@echo "make test    all tests (installs torch and sentence-transformers)"
	@echo "make test-long  the long forms of some tests: kills, faults, lost nodes, many more times"
	@echo "make lint    ruff and mypy"
	@echo "make format  lets ruff rewrite the code"
	@echo "make bench   the benchmarks: ours and a rival in one run"

demo: $(VENV)/core.installed
	$(BIN)/modernpubmed demo

test: $(VENV)/dev.installed
	$(BIN)/python -m pytest

test-long: $(VENV)/dev.installed
	$(BIN)/python -m pytest -m long

lint: $(VENV)/dev.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/dev.installed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(VENV)/dev.installed
	@$(PIP) --editable '.[dev,bench]'
	@for file in benchmarks/[a-z]*.py; do $(BIN)/python $$file || exit 1; done

$(VENV)/created:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Python 3.11 or newer is needed: make PYTHON=python3.12 …"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/core.installed: $(VENV)/created pyproject.toml constraints.txt
	@echo "installing the core and the demo's extras into $(VENV) …"
	@$(PIP) --editable '.[demo]'
	@touch $@

$(VENV)/dev.installed: $(VENV)/created pyproject.toml constraints.txt
	@echo "installing everything the tests need into $(VENV) (torch among it: some minutes) …"
	@$(PIP) --editable '.[dev]'
	@touch $@ $(VENV)/core.installed

clean:
	rm -rf $(VENV) dist .mypy_cache .pytest_cache .ruff_cache
