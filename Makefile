# One Input, Many Answers.  `make book` and `make test` set up whatever they need; `make help` lists the rest.
# Needs Python 3.11 or newer (another one: `make book PYTHON=python3.12`) and about 8 GB of disk.

SHELL := /bin/bash
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

VENV := .venv
BIN := $(VENV)/bin
NPM := _build/npm
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
CHAPTER ?=
PRESET ?= toy
ARGS ?=
TESTS ?=

export PATH := $(abspath $(BIN)):$(PATH)

.PHONY: help setup newest assets book test lab run links sources lint format clean distclean check-python

help:
	@echo 'make book                          execute the chapters at "toy", render to _build/html'
	@echo 'make test                          run the tests        (some of them: TESTS=tests/test_book.py)'
	@echo 'make lab                           JupyterLab; chapters open as notebooks'
	@echo 'make run CHAPTER=cinn PRESET=toy   run one chapter      (more arguments: ARGS="--resume")'
	@echo 'make lint                          ruff over library and chapters, mypy'
	@echo 'make format                        rewrite code and chapters in the form that lint wants'
	@echo 'make newest                        the newest packages that pyproject.toml allows, not the locked ones'
	@echo 'make links                         ask every link of the book whether it still leads anywhere'
	@echo 'make sources                       ask every publisher whether the data sets are still served'
	@echo 'make clean                         remove pages and caches; make distclean: .venv as well'

# --- set-up, once --------------------------------------------------------------------------------

setup: $(VENV)/.ready

check-python:
	@if [ -z "$(PYTHON)" ]; then echo 'This book needs Python 3.11 or newer, and found none' \
		"($$(python3 --version 2>&1 || echo no python3)). Point to one: make book PYTHON=/path/to/python3.12" >&2; exit 1; fi
	@$(PYTHON) -c 'import sys; v = sys.version_info; v < (3, 11) and sys.exit("This book needs Python 3.11 or newer; " \
		"$(PYTHON) is %d.%d. Point to another: make book PYTHON=/path/to/python3.12" % v[:2])'
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo 'Python cannot make virtual environments here;' \
		"on Debian or Ubuntu: apt-get install python3-venv" >&2; exit 1; }

$(VENV)/.ready: requirements.lock pyproject.toml | check-python
	@echo 'Setting up $(VENV) from requirements.lock (once; about 5 GB) ...'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(BIN)/python -m ensurepip --upgrade >/dev/null
	@test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet uv
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes --compile-bytecode -r requirements.lock
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e .
	@touch $@

newest: | check-python
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet uv
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --upgrade --compile-bytecode -e '.[book,dev]'
	@touch $(VENV)/.ready

assets: $(NPM)/.ready

$(NPM)/.ready: book/assets/package.json book/assets/package-lock.json | $(VENV)/.ready
	@echo 'Fetching the JavaScript that the pages need (once) ...'
	@mkdir -p $(NPM) && cp book/assets/package.json book/assets/package-lock.json $(NPM)
	@cd $(NPM) && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error
	@touch $@

# --- the two commands ----------------------------------------------------------------------------

book: $(VENV)/.ready $(NPM)/.ready
	@$(BIN)/python -m minilib.explore.build
	@$(BIN)/python book/tools/build_book.py
	@echo; echo 'The book is built. Open _build/html/index.html, or serve it:'
	@echo '  $(BIN)/python -m http.server --bind 127.0.0.1 --directory _build/html 8000'

test: $(VENV)/.ready $(NPM)/.ready
	@$(BIN)/python -m minilib.explore.build
	@$(BIN)/python -m pytest -n auto --dist loadgroup --durations 40 $(TESTS)

# --- everything else -----------------------------------------------------------------------------

lab: $(VENV)/.ready $(NPM)/.ready
	@$(BIN)/python -m minilib.explore.build
	@JUPYTER_CONFIG_PATH="$(CURDIR)/book/lab" $(BIN)/jupyter lab $(ARGS)

run: $(VENV)/.ready
	@test -n "$(CHAPTER)" || { echo 'Which chapter? For example: make run CHAPTER=cinn PRESET=toy. They are:' >&2; \
		$(BIN)/python -m minilib list >&2; exit 2; }
	@$(BIN)/python -m minilib run $(CHAPTER) -p preset $(PRESET) $(ARGS)

links: book
	@$(BIN)/jupyter-book build . --toc book/_toc.yml --builder linkcheck --quiet

sources: $(VENV)/.ready
	@$(BIN)/python data_scripts/all.py --online

lint: $(VENV)/.ready
	@$(BIN)/ruff check minilib tests data_scripts book
	@$(BIN)/ruff format --check minilib tests data_scripts book
	@$(BIN)/python book/tools/lint_chapters.py
	@$(BIN)/python book/tools/format_chapters.py --check
	@$(BIN)/mypy

format: $(VENV)/.ready
	@$(BIN)/ruff format minilib tests data_scripts book
	@$(BIN)/python book/tools/format_chapters.py

clean:
	@rm -rf _build/html _build/web _build/.cache _build/.doctrees _build/jupyter_execute _build/ipython _build/runs
	@rm -rf .pytest_cache .mypy_cache .ruff_cache

distclean: clean
	@rm -rf _build .venv *.egg-info
