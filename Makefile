# Each target does the whole set-up by itself, once: the environment .venv with torch, PyTorch3D and this package.
#
#   make demo       reconstructs a shape from pictures of it, into out/demo
#   make test       runs the tests
#   make figures    runs the paper's experiments, each in its small configuration, into out/figures
#   make docs       builds the documentation, into site/index.html, which needs no server; without torch and PyTorch3D
#
# With an environment of your own: make demo VENV=path/to/it
# With the paper's shapes, from a folder of OBJ files, where there is one: make figures MESHES=path/to/it

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

# PyTorch3D has no official wheel; these two are prebuilt and belong together.
TORCH := torch==2.11.0
PYTORCH3D := easypytorch3d==0.7.9.post1
# What compiles the extension; torch 2.11 wants setuptools below 82.
BUILD := 'setuptools>=77,<82' ninja
SOURCES := $(wildcard csrc/threads/* csrc/dissection/* csrc/structure/* csrc/cpu/* csrc/cuda/* csrc/bindings/*)

FIGURES := $(wildcard experiments/figures/*.py)

.PHONY: demo figures docs test test-all lint format setup clean

demo: setup
	$(BIN)/python -m pt3d_largesteps reconstruct --out out/demo

figures: setup
	set -e; for script in $(FIGURES); do \
	  $(if $(MESHES),PT3D_LARGESTEPS_MESHES="$(abspath $(MESHES))" )$(BIN)/python $$script --out out/figures; \
	done

test: setup
	$(BIN)/python -m pytest

test-all: setup
	$(BIN)/python -m pytest -m "slow or not slow"

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

# The sources are read, not imported.
$(VENV)/.docs: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $$($(BIN)/python -c \
	  "import tomllib; print(*tomllib.load(open('pyproject.toml', 'rb'))['project']['optional-dependencies']['docs'])")
	touch $@

setup: $(READY)

# Made again when the requirements or the sources change.
$(READY): pyproject.toml setup.py $(SOURCES)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11) and "PyTorch3D is prebuilt for Python 3.11; got " + sys.version.split()[0] + "; try make PYTHON=python3.11")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(TORCH) $(PYTORCH3D)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(BUILD)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --editable '.[dev]'
	touch $(READY)

clean:
	rm -rf $(VENV) out site build dist *.egg-info pt3d_largesteps/*.so
