# make demo: environment, install, analyse the bundled smear.   make test: environment, install, all tests.
# uv is used where it is there, else venv and pip. Everything lives in .venv; `make clean` removes it.

PYTHON ?= python3
VENV ?= .venv
# On Windows: in Git's bash, with its make.
ifeq ($(OS),Windows_NT)
SHELL := bash
BIN := $(VENV)/Scripts
EXE := .exe
else
SHELL := /bin/bash
BIN := $(VENV)/bin
EXE :=
endif
UV := $(shell command -v uv 2>/dev/null)
# An environment is made again when what it is made from changes, and not when a checkout touches the files.
KEY := $(shell cat pyproject.toml constraints.txt | cksum | cut -d' ' -f1)

ifneq ($(UV),)
INSTALL = $(UV) pip install --python $(BIN)/python --constraint constraints.txt
else
INSTALL = $(BIN)/python -m pip install --disable-pip-version-check --constraint constraints.txt
endif

.PHONY: demo test lint docs notebooks pages audit sbom coverage benchmarks wheels laboratories red-cells system env env-test env-dev env-docs clean help

help:
	@sed -n '1,2p' Makefile; echo "also: make lint, docs, notebooks, pages, audit, sbom, coverage, benchmarks, clean"

demo: env
	$(BIN)/leukocls demo

# All tests: a few files at a time, those with a window first, each in a process of one thread with a display of its own.
# Tests that are named: one after the other, which WORKERS=2 changes.
WORKERS ?= $(if $(strip $(PYTEST_ARGS)),0,logical)
test: env-test system
	OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} $(BIN)/python -m pytest -n $(WORKERS) --maxprocesses 4 --dist loadfile \
	  --no-loadscope-reorder $(PYTEST_ARGS)

# ruff checks the form of docstrings; tests/unit/test_docstrings.py checks that they name every parameter.
lint: env-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/codespell
	$(BIN)/python -m scripts.audit_licences

# The documentation site, in build/site; a warning is an error. (With --quiet, mkdocs would count none.)
docs: env-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict
	@echo "build/site/index.html"

# The example notebooks, each from its first cell to its last.
notebooks: env-test
	$(BIN)/python -m pytest -n $(WORKERS) --maxprocesses 4 --nbmake --nbmake-timeout=900 notebooks

# The commands of the documentation, block by block, on files as small as they may be.
pages: env-test
	$(BIN)/python -m pytest -m "slow or not slow" tests/integration/test_pages.py

# The licences of all packages of the environment.
audit: env-dev
	$(BIN)/python -m scripts.audit_licences --all

# The packages of the environment with versions and licences, as CycloneDX; from their metadata, without a network.
sbom: env-dev
	@mkdir -p build
	$(BIN)/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible --of JSON \
	  --output-file build/sbom.json $(BIN)/python$(EXE)

# Slower than the tests alone: they run one after the other, and each line is watched. The floors are in pyproject.toml.
coverage: env-dev system
	$(BIN)/python -m coverage erase
	$(BIN)/python -m pytest --cov --cov-report= $(PYTEST_ARGS)
	@mkdir -p build
	$(BIN)/python -m coverage json --quiet -o build/coverage.json
	$(BIN)/python -m scripts.coverage_floors build/coverage.json --badge build/coverage.svg $(COVERAGE_ARGS)

# Wheel and sdist, and the wheel in a new environment with the network off. VERSIONS is pinned, newest or lowest.
VERSIONS ?= pinned
wheels:
	$(PYTHON) -m pip install build uv
	$(PYTHON) -m build
	bash packaging/try_wheel.sh dist/*.whl $(VERSIONS)

# Which there are: python -m benchmarks list. On a machine that does nothing else.
benchmarks: env-dev
	$(BIN)/python -m benchmarks run $(BENCHMARKS)

# Routes of training, compared on laboratories that were left out of it: hours on one core. START must not have learnt
# the classes of any of them.
DATA ?= ../shared/data
LABORATORIES ?= build/laboratories
ROUTES ?= joined mixstyle grain
START ?= $(DATA)/weights/mobilenetv2_100_imagenet1001.safetensors
STEPS ?= 200
laboratories: env-test
	$(BIN)/python -m scripts.pack_crops --data $(DATA) --out $(LABORATORIES)/pack \
	  --sets pbc pbc_full raabin bccd bcisc krd tecom
	for route in $(ROUTES); do for left in "bcisc krd bccd" "raabin bccd"; do \
	  $(BIN)/python -m scripts.train_laboratories --pack $(LABORATORIES)/pack --data $(DATA) --start $(START) --way 1 \
	    --route $$route --leave-out $$left --steps $(STEPS) --out "$(LABORATORIES)/$$route without $$left" || exit 1; \
	done; done
	$(BIN)/python -m scripts.leave_one_laboratory --pack $(LABORATORIES)/pack --data $(DATA) --start $(START) \
	  --run $(LABORATORIES)/*\ without\ * --out $(LABORATORIES)/figures.json

# The network for the shapes of red cells, from Chula-RBC-12: about half an hour on one core.
RED_CELL_PACK ?= build/red_cells.npz
red-cells: env-test
	@mkdir -p build
	$(BIN)/python -m scripts.pack_red_cells --data $(DATA)/chula --out $(RED_CELL_PACK)
	$(BIN)/python -m scripts.train_red_cells --pack $(RED_CELL_PACK) --out models/red_cells

# Xvfb and OpenGL for the tests that open a window.
system:
	@.ci/system-libraries

env: $(VENV)/.installed-$(KEY)
env-test: $(VENV)/.installed-test-$(KEY)
env-dev: $(VENV)/.installed-dev-$(KEY)
env-docs: $(VENV)/.installed-docs-$(KEY)

$(BIN)/python$(EXE):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	  || { echo "Python 3.11 or newer is needed: install it, or name it: make PYTHON=python3.12"; exit 1; }
ifneq ($(UV),)
	$(UV) venv --quiet --seed --allow-existing --python "$$(command -v $(PYTHON))" $(VENV)
else
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null \
	  || { echo "This Python has no venv: run 'apt-get install python3-venv' (as root), then make again."; exit 1; }
	$(PYTHON) -m venv $(VENV)
endif

$(VENV)/.installed-$(KEY): | $(BIN)/python$(EXE)
	$(INSTALL) --editable .
	@rm -f $(VENV)/.installed-[0-9]*; touch $@

$(VENV)/.installed-test-$(KEY): | $(BIN)/python$(EXE)
	$(INSTALL) --editable '.[gui,test]'
	@rm -f $(VENV)/.installed-test-*; touch $@ $(VENV)/.installed-$(KEY)

$(VENV)/.installed-dev-$(KEY): | $(BIN)/python$(EXE)
	$(INSTALL) --editable '.[gui,test,dev]'
	@rm -f $(VENV)/.installed-dev-*; touch $@ $(VENV)/.installed-test-$(KEY) $(VENV)/.installed-$(KEY)

$(VENV)/.installed-docs-$(KEY): | $(BIN)/python$(EXE)
	$(INSTALL) --editable '.[docs]'
	@rm -f $(VENV)/.installed-docs-*; touch $@ $(VENV)/.installed-$(KEY)

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
