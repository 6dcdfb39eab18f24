# make demo       run the whole way on a synthetic cohort; about 3 minutes on 2 CPU cores, after its install
# make test       ruff, mypy, and all tests but those of `make slow` and `make gpu`; what CI runs
# make fast       the tests that need no Ray cluster and no real CT either, as `pytest` alone runs them
# make check      ruff and mypy alone
# make slow       the tests that take minutes
# make cluster    the tests that start a Ray cluster of their own on this machine
# make gpu        the tests that need a CUDA device, and what a step takes on it, into gpu.json
# make export     the tests that load exported networks with timm, smp, MONAI, onnxruntime and, if installed, nnU-Net
# make real_data  the tests that need a folder of real CT: PIXELGLOBAL_REAL_DATA=FOLDER make real_data
# make bench      agreement with MONAI, surface-distance and lightly, and speed against the first two
# make docs       the site of the documents, in site/; opens from disk and can be searched there
# make lock       write uv.lock and constraints.txt after a change of pyproject.toml (needs uv); with UPGRADE=--upgrade,
#                 take the newest versions of everything
# make clean      remove everything that the commands above have made
# make help       print these lines
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
export RAY_USAGE_STATS_ENABLED := 0

.PHONY: docs help install install-test demo test fast check slow cluster gpu real_data export bench lock clean

help:
	@sed -n 's/^# //p' Makefile

install: .venv/installed
install-test: .venv/installed-test

.venv/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		(echo "$(PYTHON) is too old: Python 3.11 or newer is needed; try make PYTHON=python3.11" && exit 1)
	test -d .venv || $(PYTHON) -m venv .venv
	$(PIP) -e .
	touch $@

.venv/installed-test: .venv/installed
	$(PIP) -e '.[test,dicom,formats,docs,export]'
	touch $@

demo: .venv/installed
	$(BIN)/python -m experiments demo --out demo

check: .venv/installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: check
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not slow and not gpu"

fast: .venv/installed-test
	$(BIN)/python -m pytest -n 2 --dist loadfile

slow cluster real_data export: .venv/installed-test
	$(BIN)/python -m pytest -m $@

gpu: .venv/installed-test
	$(BIN)/python -m pytest -m gpu
	$(BIN)/python -m experiments bench step --device cuda --precision bf16 --json gpu.json

bench: .venv/installed-test
	$(PIP) -e '.[bench]'
	$(BIN)/python -m pytest tests/test_peers.py tests/views/test_alignment.py tests/losses/test_contrastive.py tests/methods/test_methods.py
	$(BIN)/python -m experiments bench metrics
	$(BIN)/python -m experiments bench statistics

docs: .venv/installed
	$(PIP) -e '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet
	@echo "open site/index.html"

lock:
	uv lock $(UPGRADE)
	uv export --frozen --all-extras --no-hashes --no-emit-project --no-annotate --no-header | sed 's/ ;.*//' > constraints.txt
	@! cut -d= -f1 constraints.txt | sort | uniq -d | grep . || (echo 'constraints.txt has these packages twice' && exit 1)

clean:
	rm -rf .venv demo runs .mypy_cache .ruff_cache .pytest_cache .hypothesis
