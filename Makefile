# One command list for people and CI. Needs only make and Python >= 3.11; everything goes into .venv.
#
#   make demo     plan, check, run and report the digits example (runs/demo/report.html)
#   make test     lint, types, import layers, the built wheel without PyTorch, then all tests
#   make docs     build the documentation into site/
#   make bench    the planner beside its peers: benchmarks/results.json and docs/benchmarks.md
#   make study    the numerical study: runs/study, experiments/study/results and docs/study.md; hours, resumable
#   make picture  the README's picture, from the demo's report
#   make clean    remove what the above made (not runs/)

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check -q
WHEEL := $(VENV)/wheel
DEMO := $(VENV)/.ready-demo
DEV := $(VENV)/.ready-dev
# Two test workers share the machine's cores: one thread each keeps them from fighting.
TEST_WORKERS ?= 2

.PHONY: demo test lint types wheel tests docs bench study picture constraints clean

demo: $(DEMO)
	rm -rf runs/demo
	mkdir -p runs
	$(BIN)/pretune plan examples/digits.yaml -o runs/demo-plan.json --force
	$(BIN)/pretune check runs/demo-plan.json examples/digits.yaml
	$(BIN)/pretune run runs/demo-plan.json examples/digits.yaml -o runs/demo
	$(BIN)/pretune report runs/demo --force

test: lint types docs wheel tests

lint: $(DEV)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types: $(DEV)
	$(BIN)/mypy

# The wheel must plan without PyTorch, Flower or a web stack, so it gets an environment of its own.
wheel: $(DEV)
	rm -rf dist
	$(BIN)/python -m build -q
	test -x $(WHEEL)/bin/python || $(PYTHON) -m venv $(WHEEL)
	$(WHEEL)/bin/python -m pip --disable-pip-version-check -q install -c constraints.txt dist/*.whl
	$(WHEEL)/bin/python -m pip --disable-pip-version-check -q install --force-reinstall --no-deps dist/*.whl
	$(WHEEL)/bin/python .ci/wheel_check.py
	$(WHEEL)/bin/pretune plan examples/digits.yaml

tests: $(DEV)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(TEST_WORKERS) --dist loadfile

docs: $(DEV)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

bench: $(DEV)
	$(BIN)/python benchmarks/run.py

study: $(DEV)
	OMP_NUM_THREADS=1 $(BIN)/pretune-experiments run all
	$(BIN)/pretune-experiments page runs/study

# The README's picture: the top of the demo's report, as a browser shows it. Needs Chromium.
CHROMIUM ?= chromium
picture: demo
	mkdir -p docs/images
	profile=$$(mktemp -d) && $(CHROMIUM) --headless --no-sandbox --disable-gpu --disable-quic --no-first-run \
	  --disable-background-networking --disable-component-update --disable-sync --hide-scrollbars \
	  --user-data-dir=$$profile --window-size=1180,1240 --screenshot=$(CURDIR)/docs/images/report.png \
	  file://$(CURDIR)/runs/demo/report.html; rm -rf $$profile

# Resolve all extras afresh and pin what came out. PyTorch is named, because newer ones bring gigabytes of CUDA, and
# click, because from 8.5 on it warns about what the newest typer that Flower allows still does.
constraints: $(BIN)/python
	$(PIP) install --dry-run --ignore-installed --report $(VENV)/report.json \
	  '.[train,parallel,privacy,ray,flower,energy,mlflow,tensorboard,studio,browser,reference,bench,docs,dev]' 'torch==2.13.0' 'click<8.5'
	$(BIN)/python .ci/pins.py $(VENV)/report.json > constraints.txt

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit("pretune needs Python >= 3.11; try: make PYTHON=python3.11") if sys.version_info < (3, 11) else 0'
	$(PYTHON) -m venv $(VENV)

$(DEMO): pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) install -c constraints.txt -e '.[train]'
	touch $@

$(DEV): pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) install -c constraints.txt -e '.[train,parallel,privacy,flower,studio,browser,mlflow,tensorboard,reference,bench,docs,dev]'
	touch $@ $(DEMO)

clean:
	rm -rf $(VENV) dist site .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis .benchmarks
