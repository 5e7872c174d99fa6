# The two commands that matter need only python3 (3.11 or newer) and make; each does all set-up by itself:
#
#   make demo    trains two small agents to summarize together, on the CPU
#   make test    every check that CI makes
#
# TORCH says what to install when the environment has no torch yet. It is handed to pip as it is, so it may hold
# options; on a machine with a GPU name the build that fits it: TORCH="torch==..." make demo

PYTHON ?= python3
TORCH ?= torch==2.13.0
VENV := .venv
PIP := $(VENV)/bin/python -m pip --disable-pip-version-check
READY := $(VENV)/.ready

# Spinning OpenMP threads make runs on shared cores many times slower.
export OMP_WAIT_POLICY := PASSIVE

.PHONY: demo test test-vllm test-environments test-frameworks docs bench clean

demo: $(READY)
	$(VENV)/bin/madrigal train tldr

test: $(READY)
	scripts/check

# Not part of `make test`: an environment of its own, several GB, a quarter of an hour.
test-vllm:
	scripts/test-vllm

# Not part of `make test`: what TextArena, verifiers and PettingZoo's games bring, half a GB beside .venv.
test-environments: $(READY)
	scripts/test-environments

# Not part of `make test`: teams and clients of LangGraph, LangChain and the Agents SDK, 60 MB more in .venv.
test-frameworks: $(READY)
	$(PIP) install -q -c $(VENV)/constraints.txt -e '.[dev,frameworks]'
	$(VENV)/bin/pytest tests/serving

docs: $(READY)
	$(VENV)/bin/mkdocs build --strict --quiet

bench: $(READY)
	$(VENV)/bin/python benchmarks/sandbox.py
	$(VENV)/bin/python benchmarks/learning.py tldr

clean:
	rm -rf $(VENV) .venv-vllm .venv-environments site build dist .artifacts .coverage .hypothesis .mypy_cache .ruff_cache .pytest_cache .import_linter_cache

# torch goes in first and is then held, whatever its version: no other package can replace it by a bigger build.
$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "expected Python 3.11 or newer, got $$($(PYTHON) --version); set PYTHON=python3.11, say"; exit 1; }
	@test -x $(VENV)/bin/python || { echo "Making $(VENV)"; $(PYTHON) -m venv $(VENV); } || \
	  { rm -rf $(VENV); echo "expected the venv module; install it (python3-venv on Debian and Ubuntu)"; exit 1; }
	@$(VENV)/bin/python -c 'import torch' 2>/dev/null || { echo "Installing $(TORCH)"; $(PIP) install -q $(TORCH); }
	@grep -v '^torch==' constraints.txt > $(VENV)/constraints.txt
	@$(VENV)/bin/python -c 'import importlib.metadata as m; print("torch==" + m.version("torch"))' \
	  >> $(VENV)/constraints.txt
	@echo "Installing Madrigal and its dependencies"
	@$(PIP) install -q -c $(VENV)/constraints.txt -e '.[dev,docs]'
	@touch $@
