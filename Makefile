# Each target does the whole set-up by itself, once: the environment .venv with torch, PyTorch3D and this package.
#
#   make demo       reconstructs a shape from pictures of it, into out/demo
#   make test       runs the tests
#   make figures    runs the paper's experiments, each in its small configuration, into out/figures
#   make docs       builds the documentation, into site/index.html, which needs no server; without torch and PyTorch3D
#
# With another Python, from 3.10 to 3.14: make demo PYTHON=python3.12
# With an environment of your own: make demo VENV=path/to/it
# With another number of processes than one for each core, at most four: make test JOBS=1
# With the paper's shapes, from a folder of OBJ files, where there is one: make figures MESHES=path/to/it

VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# Unless one is named: that of the environment, where it is there already.
PYTHON ?= $(or $(wildcard $(BIN)/python),python3)

# PyTorch3D has no official wheel; these two are prebuilt and belong together.
TORCH := torch==2.11.0
PYTORCH3D := easypytorch3d==0.7.9.post1
# What compiles the extension; torch 2.11 wants setuptools below 82.
BUILD := 'setuptools>=77,<82' ninja
SOURCES := $(wildcard csrc/threads/* csrc/dissection/* csrc/structure/* csrc/cpu/* csrc/renderer/* csrc/cuda/* csrc/bindings/*)

# Each process has one thread: together they are faster than one process with many.
JOBS ?= $(shell n=$$(env -u OMP_NUM_THREADS nproc 2>/dev/null || echo 2); echo $$((n < 4 ? n : 4)))
PYTEST = OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS)

FIGURES := $(wildcard experiments/figures/*.py)

.PHONY: demo figures docs test test-slow test-all lint format setup same-python clean

demo: setup
	$(BIN)/python -m pt3d_largesteps reconstruct --out out/demo

figures: setup
	set -e; for script in $(FIGURES); do \
	  $(if $(MESHES),PT3D_LARGESTEPS_MESHES="$(abspath $(MESHES))" )$(BIN)/python $$script --out out/figures; \
	done

test: setup
	$(PYTEST) --dist worksteal

# Slow tests that share what they compile stay in one process.
test-slow: setup
	$(PYTEST) --dist loadgroup -m slow

test-all: setup
	$(PYTEST) --dist loadgroup -m "slow or not slow"

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/mypy

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Not --quiet: MkDocs counts only the warnings that it prints, so --strict would let every one pass.
docs: $(VENV)/.docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	@echo "built: site/index.html"

# The reader of TOML came with Python 3.11; pip has one for 3.10.
define READ_DOCS
import importlib, sys
toml = importlib.import_module('tomllib' if sys.version_info >= (3, 11) else 'pip._vendor.tomli')
print(*toml.load(open('pyproject.toml', 'rb'))['project']['optional-dependencies']['docs'])
endef
export READ_DOCS

# The sources are read, not imported.
$(VENV)/.docs: pyproject.toml | same-python
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $$($(BIN)/python -c "$$READ_DOCS")
	touch $@

setup: $(READY)

# An environment keeps the Python that made it.
same-python:
	@test ! -x $(BIN)/python || \
	  { want=$$($(PYTHON) --version) && have=$$($(BIN)/python --version) && test "$$want" = "$$have"; } || \
	  { echo "$(VENV) was made by $$have, but PYTHON=$(PYTHON) is $$want: name another environment, such as VENV=.venv-other," \
	    "or remove this one: rm -rf $(VENV)" >&2; exit 1; }

define CHECK_RANGE
import sys
if not (3, 10) <= sys.version_info[:2] <= (3, 14):
    sys.exit('PyTorch3D is prebuilt for Python 3.10 to 3.14; got ' + sys.version.split()[0] + '; try make PYTHON=python3.12')
endef
export CHECK_RANGE

# Made again when the requirements or the sources change.
$(READY): pyproject.toml setup.py $(SOURCES) | same-python
	@$(PYTHON) -c "$$CHECK_RANGE"
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(TORCH) $(PYTORCH3D)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(BUILD)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --editable '.[dev]'
	touch $(READY)

clean:
	rm -rf $(VENV) out site build dist *.egg-info pt3d_largesteps/*.so
