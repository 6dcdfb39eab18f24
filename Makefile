# make demo   the whole way on a synthetic cohort, about 5 minutes on 2 CPU cores
# make test   ruff, mypy and pytest
# make slow   the tests that take minutes
# make bench  agreement with MONAI, surface-distance and lightly, and speed against the first two
PYTHON ?= python3
BIN := .venv/bin
export RAY_USAGE_STATS_ENABLED := 0

.PHONY: install demo test check slow bench clean

install: .venv/installed

.venv/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		(echo "$(PYTHON) is too old: Python 3.11 or newer is needed; try make PYTHON=python3.11" && exit 1)
	test -d .venv || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	touch $@

.venv/installed-test: .venv/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test]'
	touch $@

demo: .venv/installed
	$(BIN)/pixelglobal demo --out demo

check: .venv/installed-test
	$(BIN)/ruff check .
	$(BIN)/mypy

test: check
	$(BIN)/python -m pytest

slow: .venv/installed-test
	$(BIN)/python -m pytest -m slow

bench: .venv/installed-test
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[bench]'
	$(BIN)/python -m pytest tests/test_peers.py tests/views/test_alignment.py tests/losses/test_contrastive.py tests/methods/test_methods.py
	$(BIN)/python -m experiments bench metrics
	$(BIN)/python -m experiments bench statistics

clean:
	rm -rf .venv demo runs .mypy_cache .ruff_cache .pytest_cache
