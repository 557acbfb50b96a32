# Everything a developer does.  `make` lists the targets.
#
# Needed to begin with: Python 3.10 or later with venv, gcc and make.  What a target needs beyond that it installs by
# apt-get when it runs as root, and names otherwise.

PYTHON ?= python3
PY := .venv/bin/python
PG_VERSION ?= 18

# Passed on to the program that a target runs: make test ARGS="-k filter", make demo ARGS="--rows 10000"
ARGS ?=

# The pins are those of the Python that continuous integration runs.
PINS := $(shell $(PYTHON) -c 'import sys; print("-c requirements/ci.txt" if sys.version_info[:2] == (3, 11) else "")')

C_FILES := $(wildcard extension/src/*.[ch] extension/src/*/*.[ch] tests/*/*.c)
KERNEL_FILES := $(wildcard extension/src/core/*.[ch] extension/src/kernels/*.[ch])
# What a change of makes an installed environment stale.  Python files do not: the installation is editable.
INSTALL_FILES := pyproject.toml setup.py requirements/ci.txt $(wildcard pytools/pgwinnow/_kernels_build.py) $(KERNEL_FILES)

.PHONY: help env env-embed build demo test test-all test-15 test-16 nightly lint format asan fuzz bench neon all install uninstall dist clean
.DEFAULT_GOAL := help

help: ## show this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{ printf "  make %-10s %s\n", $$1, $$2 }'

env: .venv/installed-dev ## make .venv: the project (editable) and the tools to develop it

env-embed: .venv/installed-embed ## the same and a local embedding model (about 1 GB)

.venv/created:
	@.ci/need gcc:gcc make:make libc6-dev:/usr/include/stdio.h
	$(PYTHON) -m venv .venv || { rm -rf .venv; .ci/need python3-venv:; $(PYTHON) -m venv .venv; }
	$(PY) -m pip --version || $(PY) -m ensurepip
	touch $@

.venv/installed-dev: .venv/created $(INSTALL_FILES)
	$(PY) -m pip install --quiet $(PINS) --editable '.[dev]'
	touch $@

.venv/installed-embed: .venv/installed-dev
	$(PY) -m pip install --quiet $(PINS) --editable '.[embed]'
	touch $@

build: env ## compile the extension for the embedded server of PG_VERSION (18, 16 or 15)
	$(PY) -c 'from pgwinnow.server import Server; print(Server(version=$(PG_VERSION)).bin_dir)'

demo: env-embed ## start an embedded server and show what winnow does
	.venv/bin/pgwinnow demo $(ARGS)

# As many processes as there are cores, but four, each with a server of its own; WORKERS= for one
WORKERS := --numprocesses=logical --maxprocesses=4 --dist=worksteal

test: env ## run the tests on the embedded server of PG_VERSION
	WINNOW_PG_VERSION=$(PG_VERSION) $(PY) -m pytest $(WORKERS) $(ARGS)

# What hardly depends on the server's version is tested on the newest; 16 is between the two others.
NOT_ON_15 := tests/kernels tests/fuzz tests/server/test_wait_points.py $(wildcard tests/python/test_bench*.py)
NOT_ON_16 := $(NOT_ON_15) tests/python $(patsubst %,tests/server/test_%.py,crash faults corruption rewrites backup)

test-all: env-embed ## run the tests on PostgreSQL 15, 16 and 18
	@.ci/need postgresql-15:/usr/lib/postgresql/15/bin/postgres \
		postgresql-server-dev-15:/usr/include/postgresql/15/server/postgres.h
	$(MAKE) --no-print-directory test-15 test-16
	$(MAKE) --no-print-directory test PG_VERSION=18

test-15 test-16: test-%: env
	$(MAKE) --no-print-directory test PG_VERSION=$* ARGS="$(NOT_ON_$*:%=--ignore=%) $(ARGS)"

nightly: env ## run the tests of faults and of random load at length, on PG_VERSION (two hours and more)
	WINNOW_PG_VERSION=$(PG_VERSION) WINNOW_CRASH_ROUNDS=200 WINNOW_REPLAY_ROUNDS=15 WINNOW_REPLAY_PROMOTIONS=100 \
		WINNOW_FAULT_ROUNDS=300 WINNOW_CORRUPTION_ROUNDS=500 WINNOW_CORRUPTION_FLIPS=0 \
		WINNOW_DIFFERENTIAL_ROUNDS=2000 WINNOW_STRESS_TRANSACTIONS=20000 \
		$(PY) -m pytest tests/server -k 'crash or replay or faults or corruption or differential or concurrency' $(ARGS)

lint: env ## check formatting, types and warnings
	@.ci/need clang-format:clang-format
	$(PYTHON) .ci/c-format --check $(C_FILES)
	$(PY) -m ruff check
	$(PY) -m ruff format --check
	$(PY) -m mypy
	$(MAKE) --no-print-directory -C extension WERROR=1 BUILD=build/lint PG_CONFIG="$$($(PY) -c \
		'from pgwinnow._server.binaries import private_copy; print(private_copy(18).pg_config)')"

format: env ## format all sources
	@.ci/need clang-format:clang-format
	$(PYTHON) .ci/c-format $(C_FILES)
	$(PY) -m ruff check --fix --exit-zero
	$(PY) -m ruff format

asan: env ## run the SQL, the differential and a few other tests with AddressSanitizer and UndefinedBehaviorSanitizer
	WINNOW_SANITIZE=1 WINNOW_PG_VERSION=18 $(PY) -m pytest $(WORKERS) tests/server \
		-k 'regress or differential or imprints' $(ARGS)

fuzz: ## let libFuzzer look for inputs that break the code that needs no server, for a minute
	@.ci/need clang:clang
	@.ci/need "libclang-rt-$$(clang -dumpversion | cut -d. -f1)-dev:$$(clang -print-resource-dir)/lib/linux/libclang_rt.fuzzer-$$(uname -m).a"
	mkdir -p build/fuzz/corpus
	clang -std=gnu99 -g -O1 -Wall -Wextra -Werror -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=undefined \
		-Iextension/src -o build/fuzz/fuzz_core tests/fuzz/fuzz_core.c $(filter %.c,$(KERNEL_FILES)) -lm
	cd build/fuzz && ./fuzz_core -max_len=8000 -max_total_time=60 $(ARGS) corpus

bench: env ## measure recall and speed under filters
	.venv/bin/pgwinnow bench run $(ARGS)

neon: ## compile the kernels for ARM and run their checks in an emulator
	@.ci/need gcc-aarch64-linux-gnu:aarch64-linux-gnu-gcc libc6-dev-arm64-cross:/usr/aarch64-linux-gnu/include/stdio.h \
		qemu-user:qemu-aarch64
	mkdir -p build
	aarch64-linux-gnu-gcc -std=gnu99 -O3 -Wall -Wextra -Werror -static -Iextension/src -o build/check_kernels_neon \
		tests/kernels/check_kernels.c $(filter %.c,$(KERNEL_FILES)) -lm
	qemu-aarch64 build/check_kernels_neon

# What the PGXN client runs in the unpacked archive
PG_CONFIG ?= pg_config

all install uninstall: ## build, install or remove the extension, for the server of PG_CONFIG
	$(MAKE) --no-print-directory -C extension $@ PG_CONFIG="$(PG_CONFIG)"

VERSION = $(shell sed -n "s/^default_version *= *'\(.*\)'/\1/p" extension/winnow.control)

dist: env ## make the archive for PGXN and the Python packages, in dist/
	mkdir -p dist
	git archive --format=zip --prefix=winnow-$(VERSION)/ --output=dist/winnow-$(VERSION).zip HEAD
	$(PY) -m pip wheel --quiet --no-deps --wheel-dir dist .

clean: ## remove what the targets made
	rm -rf build dist extension/build .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis
