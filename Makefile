# One short command per job; `make help` lists them. Nothing here needs root or a model hub.
#   PYTHON=python3.12   which Python builds the environment (3.11 or newer)
#   TORCH=cpu           which build of torch: cpu, cu128, ... from PyTorch's own index; empty: whatever pip finds
#   NB=book/.../x.ipynb which notebook `make notebooks` runs (empty: all)
#   INSTRUCTOR=1        let `make book` show the hidden checks of the exercises, for your own machine
#   WORKERS=1           how many tests run side by side (default 2, what the book is measured on)
PYTHON ?= python3
TORCH ?=
NB ?=
INSTRUCTOR ?=
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
TORCH_INDEX := $(if $(TORCH),--extra-index-url https://download.pytorch.org/whl/$(TORCH))
# Two cores is what the book is measured on; more threads than cores make small models slower
export OMP_NUM_THREADS ?= 2
# Two workers of one thread each are faster than one of two. A file stays with one worker, in the order given below: the
# long ones come first, so that no worker waits for the other at the end.
WORKERS ?= 2
PARALLEL := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder
.DEFAULT_GOAL := help
.PHONY: help book pdf serve slides lab fast test notebooks bench check clean distclean results classroom

help:  ## list the commands
	@grep -hE '^[a-z]+:.*##' Makefile | sed -E 's/:.*## /\t/' | expand -t 12
	@echo "Variables: PYTHON=python3.12  TORCH=cpu  NB=path/to/notebook.ipynb  INSTRUCTOR=1"

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "mmtutor needs Python 3.11 or newer, this is " + sys.version)'
	$(PYTHON) -m venv $(VENV)

# The site is built from stored outputs, so reading it needs no torch: the extra "book" is installed for it, and the
# package itself without its dependencies.
$(VENV)/.book: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "Installing what the site is built with ..."
	$(PIP) $$($(BIN)/python -m mmbook.environment extra book)
	$(PIP) --no-deps --editable .
	@touch $@

$(VENV)/.all: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "Installing the package, its tests and the notebooks' kernel ..."
	$(PIP) $(TORCH_INDEX) --editable '.[book,test,lab]'
	@touch $@ $(VENV)/.book $(VENV)/.classroom

book: $(VENV)/.book  ## build the site from stored outputs into _build/html
	MMTUTOR_INSTRUCTOR=$(INSTRUCTOR) $(BIN)/jupyter-book build --all -n -W --keep-going .

$(VENV)/.pdf: pyproject.toml constraints.txt | $(VENV)/.book
	$(PIP) $$($(BIN)/python -m mmbook.environment extra pdf)
	@touch $@

pdf: book $(VENV)/.pdf  ## print the book into _build/mmtutor.pdf (needs a Chromium on this machine)
	$(BIN)/python -m mmbook.site.pdf

serve: book  ## build, then serve the site on localhost and say where
	$(BIN)/python -m mmbook.site serve

slides: book  ## build, then make slides of each chapter from the site into _build/slides
	$(BIN)/python -m mmbook.slides

lab: $(VENV)/.all  ## start JupyterLab in book/
	$(BIN)/jupyter lab --notebook-dir=book

check: $(VENV)/.all  ## lint, format, types, layers, sizes and the laws of the book; nothing is run
	$(BIN)/ruff check mmtutor mmbook tests benchmarks book
	$(BIN)/ruff format --check mmtutor mmbook tests benchmarks
	$(BIN)/lint-imports
	$(BIN)/mypy
	$(BIN)/python -m mmbook.notebooks check

fast: $(VENV)/.all  ## unit, contract and oracle tests: no kernel, browser, server or site; under two minutes
	$(PARALLEL) -m 'not processes' tests/fast

test: $(VENV)/.all check  ## every test, then every notebook is run again and compared, on all cores
	$(PARALLEL) -p tests.nbval_plugin --nbval tests/book book tests/fast

notebooks: $(VENV)/.all  ## run every notebook (or NB=path) from a fresh kernel and store its outputs
	$(BIN)/python -m mmbook.notebooks run $(NB)

results: $(VENV)/.all  ## measure again what is too long for a notebook (each chapter's study.py writes its results)
	for study in book/*/study.py; do $(BIN)/python $$study || exit 1; done

bench: $(VENV)/.all  ## print speed and memory as ratios to a peer or a limit
	$(BIN)/python -m benchmarks

# Nothing is run here, so no torch: the extra "classroom" is installed, as for the site.
$(VENV)/.classroom: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) $$($(BIN)/python -m mmbook.environment extra classroom)
	$(PIP) --no-deps --editable .
	@touch $@

classroom: $(VENV)/.classroom  ## build student and instructor editions, zips and an nbgrader course into _build/classroom
	$(BIN)/python -m mmbook.classroom

clean:  ## remove what was built, keep the environment, downloads and cached features
	rm -rf _build .pytest_cache .hypothesis .ruff_cache build *.egg-info
	find . -name __pycache__ -type d -not -path './$(VENV)/*' -prune -exec rm -rf {} +

distclean: clean  ## also remove the environment
	rm -rf $(VENV)
