# Two commands for a newcomer: `make demo` and `make test`. Both set themselves up.
PYTHON ?= python3
VENV   ?= .venv
TORCH  := $(shell sed -n 's/^torch==\([0-9.]*\).*/\1/p' Testing/constraints.txt)
# make demo VIEW=--no-view leaves the browser alone
VIEW   ?=
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check install --quiet --constraint Testing/constraints.txt
READY  := $(VENV)/.ready-user
TESTED := $(VENV)/.ready-test

.PHONY: help demo test lint bench clean

help:
	@echo "make demo   the whole chain on generated phantoms; shows build/demo/scene.mrb in the browser (VIEW=--no-view: does not)"
	@echo "make test   installs what the tests need and runs them"
	@echo "make lint   ruff over code and tests"
	@echo "make bench  the benchmarks of Testing/benchmarks beside their peers; leaves build/benchmarks.json"
	@echo "make clean  removes .venv and build"

demo: $(READY)
	$(BIN)/xtl demo --out build/demo $(VIEW)

# Files in their own order: those of a few long tests come early, so that none of them is alone at the end.
test: $(TESTED)
	$(BIN)/ruff check XTLTransfer XTLSegment XTLClassify Testing
	QT_QPA_PLATFORM=offscreen XTL_HOME=build/test-home OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --dist loadfile --no-loadscope-reorder

lint: $(TESTED)
	$(BIN)/ruff check XTLTransfer XTLSegment XTLClassify Testing
	$(BIN)/ruff format --check XTLTransfer XTLSegment XTLClassify Testing

bench: $(TESTED)
	$(BIN)/xtl bench --out build/benchmarks.json

clean:
	rm -rf $(VENV) build

# On a machine without a GPU the CPU build of torch is taken where an index offers one; the general
# build, larger, serves otherwise.
$(VENV)/.ready-torch: Testing/constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(None if (3, 10) <= v < (3, 14) else "xtl needs Python 3.10 to 3.13 (slicer-core has no packages for others), this is %d.%d; name one with: make PYTHON=python3.12 ..." % v[:2])'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing PyTorch $(TORCH) (some minutes on a slow line) ..."
	command -v nvidia-smi >/dev/null || $(PIP) "torch==$(TORCH)+cpu" 2>/dev/null || true
	$(BIN)/python -c "import torch" 2>/dev/null || $(PIP) "torch==$(TORCH)"
	@touch $@

$(READY): $(VENV)/.ready-torch pyproject.toml
	@echo "Installing XTL and what it needs ..."
	$(PIP) --editable ".[scene,web]"
	@touch $@

$(TESTED): $(READY)
	$(PIP) --editable ".[scene,web,test]"
	@touch $@
