# Two commands on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check

.PHONY: demo test long lint check bench detectors gpu clean

demo: $(VENV)/.ready
	@$(BIN)/assaymark demo

# One thread each: small tensors gain nothing from more, and the tests run side by side.
test: $(VENV)/.dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto -m 'not long' --durations=40

long: $(VENV)/.dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto -m long

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	MYPYPATH=tests/typecheck:tests:tests/bias:tests/provenance:tests/reports:tests/robustness $(BIN)/mypy --no-explicit-package-bases $(wildcard tests/*.py tests/*/*.py)

check: test lint

bench: $(VENV)/.dev
	$(BIN)/python tests/bench/startup.py

# Detectors beside their peers, and with whole generators and sources left out; minutes.
DETECT ?= ../shared/data/detect
detectors: $(VENV)/.dev
	OMP_NUM_THREADS=1 $(BIN)/python tests/bench/detectors.py $(DETECT)
	OMP_NUM_THREADS=1 $(BIN)/python tests/bench/held_out.py $(DETECT)/images/matched

gpu: $(VENV)/.dev
	$(BIN)/python -m pytest -m gpu

$(VENV)/.ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "assaymark needs Python 3.11 or newer, $(PYTHON) is " + sys.version.split()[0] + ": name another one, make PYTHON=python3.12")'
	@$(PYTHON) -m venv $(VENV) || { echo "python -m venv does not work here: on Debian and Ubuntu, sudo apt install python3-venv"; exit 1; }
	@echo "installing into $(VENV) (torch is large, this takes a few minutes)"
	@$(PIP) install --quiet --upgrade 'pip>=25.1'
	@$(PIP) install --quiet --constraint constraints.txt --editable '.[all]'
	@touch $@

$(VENV)/.dev: $(VENV)/.ready
	@$(PIP) install --quiet --constraint constraints.txt --group dev
	@touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
