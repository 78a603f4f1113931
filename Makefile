# `make demo` and `make test` need python3 >= 3.11 and nothing else.

PYTHON ?= python3
BIN := .venv/bin
WORKDIR ?= runs/demo
export JAX_PLATFORMS ?= cpu

.PHONY: demo test check clean

demo: .venv/installed  ## trains the embedded default and shows the result
	$(BIN)/python -m synpo_jax.train --config=configs/vdc.py \
	  --workdir=$(WORKDIR)

test: .venv/installed-test  ## runs every test
	$(BIN)/python -m pytest -n auto

check: .venv/installed-test  ## lint and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

clean:  ## removes the environment and the runs
	rm -rf .venv runs

.venv/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and \
	  "synpo_jax needs Python 3.11 or newer; set PYTHON=python3.x")'
	$(PYTHON) -m venv .venv

.venv/installed: requirements.txt | .venv/bin/python
	$(BIN)/pip install -q -r requirements.txt
	touch $@

.venv/installed-test: requirements.txt requirements-test.txt | .venv/bin/python
	$(BIN)/pip install -q -r requirements-test.txt
	touch $@
