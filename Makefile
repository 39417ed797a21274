# Two commands on a fresh machine: `make demo` and `make test`. Each makes .venv first if it is not there.
PYTHON ?= python3
# The versions that were tried, on Python 3.11. Newer ones: make PYTHON=python3.13 CONSTRAINTS=constraints-jax0.12.txt demo
CONSTRAINTS ?= constraints.txt
# Other versions have an environment of their own.
VENV := $(if $(filter constraints.txt,$(CONSTRAINTS)),.venv,.venv-$(basename $(CONSTRAINTS)))
BIN := $(VENV)/bin

.PHONY: demo test test-all parity faults plan-test lint docs clean
.DELETE_ON_ERROR:

demo: $(VENV)/.installed
	$(BIN)/arena-jax train joint-synthetic

PYTEST := $(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder -rs

# Programs that run for milliseconds need no optimisation: without it they compile in a quarter of the time.
QUICK = $(shell $(BIN)/python tests/quick_flags.py)

test: $(VENV)/.installed-dev
	XLA_FLAGS="$(QUICK)" $(PYTEST) -m "not slow"

# Beside those: the slow proofs, and once more what all numbers stand on, compiled as a run does.
test-all: test
	$(PYTEST) -m slow
	$(PYTEST) -m "not slow" tests/transforms tests/models tests/training/test_step.py tests/training/test_objectives.py

parity: $(VENV)/.installed-dev
	$(BIN)/python -m parity

# Every deliberate fault is noticed: a question of large differences, so compiled quickly.
faults: $(VENV)/.installed-dev
	XLA_FLAGS="$(QUICK)" $(BIN)/python -m pytest parity/test_mutants.py --quiet --numprocesses 2

# Downloads 1.7 GB into an environment of its own, compiles for GPUs that are not here; Linux, some 10 minutes.
plan-test: pyproject.toml $(CONSTRAINTS)
	test -x .venv-plan/bin/python || $(PYTHON) -m venv .venv-plan
	.venv-plan/bin/python -m pip install --quiet --constraint $(CONSTRAINTS) --editable '.[plan]'
	JAX_PLATFORMS=cpu .venv-plan/bin/python -m benchmarks.plan

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/python .ci/names.py

# The site, into .venv/site; a warning is an error. To read and search it: python3 -m http.server --directory .venv/site
docs: $(VENV)/.installed-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "arena_jax needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version 2>&1). Give another: make PYTHON=python3.12 demo" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml $(CONSTRAINTS) | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --constraint $(CONSTRAINTS) --editable '.[train]'
	@touch $@

$(VENV)/.installed-dev: pyproject.toml $(CONSTRAINTS) | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --constraint $(CONSTRAINTS) --editable '.[parity,dev,game]'
	@touch $@ $(VENV)/.installed

$(VENV)/.installed-docs: pyproject.toml $(CONSTRAINTS) | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --constraint $(CONSTRAINTS) --editable '.[docs]'
	@touch $@

clean:
	rm -rf .venv .venv-*
