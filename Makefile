# `make demo` and `make test` do all set-up themselves: a virtual environment of their own, built once and rebuilt when
# pyproject.toml or the kernels change. PYTHON chooses the interpreter, VENV the place.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
KERNELS := $(shell find kernels -type f 2>/dev/null)

.PHONY: demo test lint format fuzz clean

demo: $(READY)
	$(BIN)/tledge demo -o demo --force

test: $(READY) lint
	$(BIN)/python -m pytest -n auto --dist worksteal

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Needs Clang with libFuzzer and libjpeg-turbo's development files. What is found stays in build/fuzz/.
CLANG ?= clang++
FUZZ_SECONDS ?= 3600
fuzz:
	cmake -S kernels -B build/fuzz -DCMAKE_CXX_COMPILER=$(CLANG) -DTLEDGE_OUTPUT=$(CURDIR)/build/fuzz
	cmake --build build/fuzz --target fuzz
	mkdir -p build/fuzz/corpus
	build/fuzz/fuzz -max_total_time=$(FUZZ_SECONDS) -max_len=4096 -timeout=20 -artifact_prefix=build/fuzz/ -print_final_stats=1 \
	  build/fuzz/corpus tests/preprocess/corpus

$(READY): pyproject.toml $(KERNELS)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -e '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) build demo .pytest_cache .mypy_cache .ruff_cache .hypothesis
