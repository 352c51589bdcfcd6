# The commands of this project; `make help` lists them. Everything is installed into .venv in this folder.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.set-up

# Compiled modules are kept: without them every process compiles torch and mlflow again, for 10 seconds and more.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-long check format bench results schemas reference outputs docs ui clean

help:  ## show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /|/' | while IFS='|' read -r name text; do printf '  make %-9s %s\n' "$$name" "$$text"; done

# uv trusts the certificates of the system, as pip does: many institutes re-sign traffic with their own.
setup: $(STAMP)  ## make .venv and install everything into it (once)

$(STAMP): pyproject.toml scripts/constraints.txt
	@command -v "$(PYTHON)" >/dev/null || { echo "expected Python 3.11 or newer as $(PYTHON), but there is no such command; install it, or choose another: make PYTHON=python3.12 setup" >&2; exit 2; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "expected Python 3.11 or newer, got $$($(PYTHON) --version); choose another: make PYTHON=python3.12 setup" >&2; exit 2; }
	@echo "setting up $(VENV) with $$($(PYTHON) --version) ..." >&2
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check "uv>=0.8"
	@UV_SYSTEM_CERTS=1 UV_NATIVE_TLS=1 VIRTUAL_ENV=$(CURDIR)/$(VENV) $(BIN)/uv pip install --quiet --constraint scripts/constraints.txt --editable ".[dev,search,serve,weights,pretrain]"
	@touch $(STAMP)
	@echo "$(VENV) is set up: $(BIN)/lesion-exp --help lists the commands, make demo trains a first network" >&2

demo: setup  ## train on generated lesions, also a probe of ImageNet weights, and say how to look at the results (minutes)
	@echo "== 1 of 2: a small network from scratch ==" >&2 && \
	demo=$$($(BIN)/lesion-exp train experiment=demo) && \
	printf '\n== 2 of 2: a linear head on a frozen EfficientNet-Lite2 with ImageNet weights ==\n' >&2 && \
	probe=$$($(BIN)/lesion-exp train experiment=probe dataset=synthetic image_size=128 tracking.run_name=demo_probe print_config=false) && \
	printf '\ncompare the two:  %s compare %.8s %.8s\n' $(BIN)/lesion-exp $$demo $$probe

test: setup  ## run the tests
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses=2 --dist=worksteal -m "not long" $(PYTEST_ARGS)

test-long: setup  ## run the tests that `make test` leaves out: the benchmarks, one run on two machines, further cases
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m long $(PYTEST_ARGS)

check: setup  ## lint, formatting, types and import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: setup  ## format the code and repair what the linter can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: setup  ## measure training speed against a bare loop and a notebook-style loop
	$(BIN)/python scripts/benchmark.py train

results: setup  ## train the rows of docs/results.md that the store lacks, and write it: DATA=DIR [ROWS="probe scratch_8"]
	@$(BIN)/python scripts/results.py root=$(DATA) $(if $(ROWS),--rows $(ROWS))

schemas: setup  ## write the JSON schemas of presets and options into the package
	@$(BIN)/python scripts/write_schemas.py

reference: setup  ## write what docs/ says of verbs, config, Python and data sets from the code
	@$(BIN)/python scripts/reference.py

outputs: setup  ## run the commands whose output docs/ shows, and write what they print: [PROJECTS="images audit"] (minutes)
	@$(BIN)/python scripts/worked_output.py $(PROJECTS)

docs: setup  ## build the documentation into build/site; open its index.html
	@$(BIN)/python -c 'import mkdocs, material' 2>/dev/null || UV_SYSTEM_CERTS=1 UV_NATIVE_TLS=1 VIRTUAL_ENV=$(CURDIR)/$(VENV) $(BIN)/uv pip install --quiet --constraint scripts/constraints.txt --editable ".[docs]"
	@$(BIN)/python -m mkdocs build --strict --quiet
	@echo "build/site/index.html"

ui: setup  ## open the MLflow UI on the runs of this checkout
	@$(BIN)/lesion-exp ui

clean:  ## remove what tools leave behind; runs in mlruns stay
	rm -rf .pytest_cache .mypy_cache .ruff_cache .import_linter_cache dist build
