# The commands for developers of aiofs; `make` alone prints them. Variables:
#
#   PYTHON=python3.12         the interpreter; the virtual environment is then .venv-3.12, not .venv
#   TESTS=tests/aio           the tests that `test` and `asan` run
#   PYTEST_ARGS="-x -k lock"  more arguments of pytest
#   ENGINES=threads           the engines on which the tests run
#   SERIAL=1                  `test` runs its rounds one after the other, not side by side
#   TREE=/some/folder         the directory that `demo` copies
#   ONLY=8                    the number of mutants that `mutants` runs, or their names
#   SECONDS=3600              how long `fuzz` runs on each engine
#   ROUNDS=100                how often `crash` kills processes, on each engine

PYTHON ?= python3
PYTHON_VERSION := import sys; print("%d.%d" % sys.version_info[:2])
ifeq ($(origin PYTHON),file)
VENV ?= .venv
else
VENV ?= .venv-$(shell $(PYTHON) -c '$(PYTHON_VERSION)' 2>/dev/null)
endif
VENV := $(VENV)
TESTS ?= tests
PYTEST_ARGS ?=
ENGINES ?= io_uring threads
TREE ?=
ONLY ?=
SECONDS ?= 300
ROUNDS ?= 1000

# A plugin of pytest imports numpy before any code of aiofs runs. numpy's threads would receive signals of the tests.
export OPENBLAS_NUM_THREADS = 1

PY := $(VENV)/bin/python
PIP := $(PY) -m pip --disable-pip-version-check --quiet
PYTEST := $(PY) -m pytest

ENGINE_C := $(wildcard aiofs/sys/*.c aiofs/entries/*.c aiofs/engine/*.c aiofs/posix/*.c)
PRELOAD_C := $(wildcard aiofs/preload/*.c)
CORE_C := $(wildcard aiofs/core/*.c)
INCLUDES := -Iaiofs -Iaiofs/sys -Iaiofs/entries -Iaiofs/engine -Iaiofs/posix
WARNINGS := -Wall -Wextra -Wshadow -Wpointer-arith -Wstrict-prototypes -Wmissing-prototypes \
            -Wold-style-definition -Wwrite-strings -Wundef -Wvla -Werror
C_TESTS := $(wildcard tests/c/*.c)
C_USERS := $(wildcard examples/*.c aiofs/demo/*.c tests/linking/*.c) benchmarks/native/hand_round.c
CYTHON_USERS := $(wildcard examples/cython/*.pyx tests/linking/*.pyx)
C_PROGRAMS := $(wildcard tests/programs/*.c tests/run/*.c) benchmarks/native/crowd.c \
              benchmarks/native/futex_round.c benchmarks/native/save_tree.c $(wildcard aiofs/bench/measuring/*.c)
POSIX_TESTS := $(wildcard tests/posix/*.c)

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: help demo test test-all fio-all lint bench bench-quick bench-fio docs dist wheels coverage debug asan tsan \
        valgrind mutants fuzz crash peers clean build

help: ## print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s%s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(VENV)/.with-demo build ## run the demonstration, on real files
	@$(VENV)/bin/aiofs demo $(TREE)

# Tests that do not depend on the engine run once, and the last round runs only tests that use a loop (see
# tests/conftest.py and tools/rounds.py).
test: $(VENV)/.with-test build ## run all tests on each engine, and those that use a loop in asyncio's debug mode
	@$(find-engines); \
	$(PY) tools/rounds.py $(if $(SERIAL),--serial) $$engines -- $(PYTEST_ARGS) $(TESTS)

test-all: ## run the tests on every CPython from 3.10 on that this machine has
	@seen=; failed=; \
	for python in python3.10 python3.11 python3.12 python3.13 python3.14 python3.15 \
	              $$HOME/.pyenv/versions/3.*/bin/python; do \
	    v=$$($$python -c '$(PYTHON_VERSION); $(IS_OURS)' 2>/dev/null) || continue; \
	    case " $$seen " in *" $$v "*) continue;; esac; \
	    seen="$$seen $$v"; \
	    echo "=== CPython $$v"; \
	    $(MAKE) --no-print-directory test PYTHON=$$python || failed="$$failed $$v"; \
	done; \
	echo "=== tested on:$$seen"; \
	[ -z "$$failed" ] || { echo "=== failed on:$$failed"; exit 1; }

IS_OURS := sys.exit(sys.version_info < (3, 10) or sys.implementation.name != "cpython")

fio-all: $(VENV)/.with-test build ## run fio with every combination of its settings, on each engine
	@$(find-engines); \
	for engine in $$engines; do \
	    echo "== engine $$engine"; \
	    AIOFS_ENGINE=$$engine $(PYTEST) -m soak $(PYTEST_ARGS) tests/test_programs.py || exit 1; \
	done

lint: $(VENV)/.with-dev build ## check style, types, floors and the compilers' warnings
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/ruff format --check .
	@$(PY) -m mypy aiofs tests/typing
	@$(PY) -m mypy.stubtest --ignore-disjoint-bases --allowlist tools/stubtest-allowed.txt aiofs._core
	@$(PY) tools/floors.py
	@! command -v $(VENV)/bin/clang-tidy >/dev/null \
	    || $(VENV)/bin/clang-tidy --quiet $(ENGINE_C) $(PRELOAD_C) -- -std=gnu11 $(INCLUDES) 2>/dev/null
	@mkdir -p build/lint
	@for source in $(ENGINE_C) $(PRELOAD_C) $(C_TESTS) $(POSIX_TESTS) $(C_PROGRAMS); do \
	    $(CC) -std=gnu11 -O2 -pthread $(WARNINGS) $(INCLUDES) -c $$source -o build/lint/out.o || exit 1; \
	done
	@python=$$($(PY) -c 'import sysconfig as s; print(s.get_paths()["include"])'); \
	! command -v $(VENV)/bin/clang-tidy >/dev/null \
	    || $(VENV)/bin/clang-tidy --quiet $(CORE_C) -- -std=gnu11 $(INCLUDES) -isystem $$python 2>/dev/null || exit 1; \
	for source in $(CORE_C); do \
	    $(CC) -std=gnu11 -O2 $(WARNINGS) $(INCLUDES) -isystem $$python -c $$source -o build/lint/out.o || exit 1; \
	done; \
	for source in $(C_USERS); do \
	    $(CC) -std=gnu11 -O2 $(WARNINGS) -Iaiofs/include -isystem $$python -c $$source -o build/lint/out.o || exit 1; \
	done
	@for source in aiofs/_core.pyx $(CYTHON_USERS); do \
	    $(PY) -m cython -3 -Wextra -Werror -I. $(INCLUDES) $$source -o build/lint/out.c || exit 1; \
	done

bench: $(VENV)/.with-bench build ## compare the speed of aiofs with C and its peers
	@$(PY) -m benchmarks

bench-quick: $(VENV)/.with-bench build ## a first look at all goals of speed, in under two minutes
	@$(PY) -m benchmarks --brief

bench-fio: $(VENV)/.with-bench build ## compare fio with aiofs to fio with its own engines
	@$(PY) -m benchmarks --only P7

docs: $(VENV)/.with-docs build ## write the reference of the public names to build/docs
	@$(VENV)/bin/pdoc --output-directory build/docs aiofs

dist: $(VENV)/.with-dist ## build the source archive and the wheel in dist/, and check them
	@rm -rf dist
	@$(PY) -m build --no-isolation --outdir dist . >/dev/null
	@$(VENV)/bin/twine check --strict dist/*
	@$(VENV)/bin/auditwheel show dist/*.whl
	@PATH="$(abspath $(VENV)/bin):$$PATH" $(VENV)/bin/auditwheel repair --wheel-dir dist dist/*-linux_*.whl \
	    && rm dist/*-linux_*.whl && ls dist

wheels: $(VENV)/.with-dist ## build and test wheels for every Python, by cibuildwheel in containers
	@$(VENV)/bin/cibuildwheel --output-dir dist

debug: $(VENV)/.with-test ## build in place without optimisation, with assertions; `make build` undoes it
	@AIOFS_DEBUG=1 $(PY) setup.py -q build_ext --inplace

# It builds and runs in a copy of the tree. gcc writes its counters beside the objects, coverage.py into .coverage.
coverage: $(VENV)/.with-coverage ## run the tests and print what they cover, of Python and of C
	@$(call copy-tree,build/coverage)
	@cd build/coverage && AIOFS_COVERAGE=1 CC=gcc $(abspath $(PY)) setup.py -q build_ext --inplace
	@find build/coverage -name '*.gcda' -delete
	@$(find-engines); cd build/coverage; export PYTHONPATH="$$PWD"; \
	for engine in $$engines; do \
	    echo "== engine $$engine"; \
	    AIOFS_ENGINE=$$engine $(abspath $(PY)) -m coverage run --source=aiofs --parallel-mode \
	        -m pytest -m "not soak and not packaging" $(PYTEST_ARGS) $(TESTS) || exit 1; \
	done; \
	$(abspath $(PY)) -m coverage combine -q && $(abspath $(PY)) -m coverage report --skip-covered; \
	$(abspath $(VENV)/bin/gcovr) --root . --filter 'aiofs/[a-z]+/.*\.[ch]' --gcov-executable gcov

# The libraries with sanitizers are built in a copy of the tree, so they do not replace the normal build. The interpreter
# ends a thread that wants the GIL at exit by pthread_exit. The marks of the frames that this skips stay on the stack,
# and AddressSanitizer would report its own sigaltstack, which it needs for stack overflows only.
asan: $(VENV)/.with-test ## run the tests under AddressSanitizer and UndefinedBehaviorSanitizer
	@$(call copy-tree,build/asan)
	@cd build/asan && AIOFS_SANITIZE=$(ASAN) CC=gcc $(abspath $(PY)) setup.py -q build_ext --inplace
	@$(find-engines); cd build/asan; \
	for engine in $$engines; do \
	    echo "== engine $$engine"; \
	    LD_PRELOAD="$$(gcc -print-file-name=libasan.so)" PYTHONPATH="$$PWD" PYTHONMALLOC=malloc \
	    ASAN_OPTIONS=detect_leaks=0:use_sigaltstack=0 UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1 \
	    AIOFS_SANITIZE=$(ASAN) AIOFS_ENGINE=$$engine \
	        $(abspath $(PY)) -m pytest -m "not soak and not packaging" $(PYTEST_ARGS) $(TESTS) || exit 1; \
	done

ASAN := address,undefined

tsan: ## run the C tests, of the engine and of <aio.h>, under ThreadSanitizer
	@mkdir -p build/tsan/c build/tsan/posix
	@$(TSAN_CC) -r -nostdlib $(ENGINE_C) -o build/tsan/engine.o
	@for test in $(C_TESTS) $(POSIX_TESTS); do \
	    program=build/tsan/$$(basename $$(dirname $$test))/$$(basename $$test .c); \
	    $(TSAN_CC) $$test build/tsan/engine.o -o $$program -ldl -lutil || exit 1; \
	    for engine in $(ENGINES); do \
	        echo "== $$program, $$engine"; AIOFS_ENGINE=$$engine $$program; \
	        case $$? in 0) ;; 77) echo "refused by this kernel, left out" ;; *) exit 1 ;; esac; \
	    done; \
	done

TSAN_CC := gcc -std=gnu11 -O1 -g -pthread -fsanitize=thread $(INCLUDES)

# Only on the threads engine: memcheck does not see what the kernel writes to memory by io_uring.
valgrind: ## run some of the <aio.h> programs under valgrind's memcheck
	@command -v valgrind >/dev/null || { echo "valgrind is not installed, nothing was run"; exit 0; }; \
	mkdir -p build/valgrind; \
	for name in $(VALGRIND_TESTS); do \
	    program=build/valgrind/$$name; \
	    $(CC) -std=gnu11 -O1 -g -pthread $(INCLUDES) tests/posix/$$name.c $(ENGINE_C) -o $$program -ldl \
	        && echo "== $$program" \
	        && SHORT=1 AIOFS_ENGINE=threads valgrind --quiet --error-exitcode=1 --fair-sched=yes \
	            --errors-for-leak-kinds=definite --leak-check=full --show-leak-kinds=definite \
	            $$program || exit 1; \
	done

VALGRIND_TESTS := submission outcome cancel listio notification

mutants: $(VENV)/.with-test ## break each rule of POSIX AIO in turn, and check that its test fails; ONLY=8 takes eight
	@$(PY) tests/mutants/run.py $(ONLY)

# `test` runs a short form of it.
fuzz: $(VENV)/.with-test build ## compare random operations with models, for five minutes on each engine
	@$(find-engines); $(PY) tests/fuzz/run.py $(SECONDS) $$engines

# `test` runs a short form of all three.
crash: $(VENV)/.with-test build ## kill processes that save files, 1,000 times on each engine, and cut the power
	@$(find-engines); \
	for engine in $$engines; do \
	    echo "== engine $$engine"; \
	    AIOFS_ENGINE=$$engine PYTHONPATH=$(CURDIR) $(PY) tests/crash/kill.py $(ROUNDS) || exit 1; \
	    AIOFS_ENGINE=$$engine AIOFS_POWER_CUTS=500 AIOFS_KILL_STEP=1 $(PYTEST) -q \
	        tests/crash/test_power_cut.py tests/handles/test_killed_commit.py || exit 1; \
	done

peers: $(VENV)/.with-test build ## run the tests of aiofiles and anyio, of files and paths, against aiofs.files
	@$(PY) tools/peers/run.py

clean: ## remove all files that these commands made
	rm -rf .venv .venv-* build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .benchmarks
	rm -f aiofs/*.so aiofs/_core.c
	find . -name __pycache__ -prune -exec rm -rf {} +

# ---- prerequisites of the commands --------------------------------------------------------------

build:
	@$(PY) setup.py -q build_ext --inplace

# A stamp file for each installed extra of pyproject.toml.
$(VENV)/.with-%: pyproject.toml setup.py | $(VENV)/.made
	@echo "installing what \`$*\` needs, and building aiofs"
	@$(PIP) install --no-build-isolation --editable '.[$*]'
	@touch $@

$(VENV)/.made: pyproject.toml
	@$(PY) -m pip --version >/dev/null 2>&1 \
	    || { $(check-tools); echo "making $(VENV)"; $(PYTHON) -m venv --clear $(VENV); }
	@sed -n 's/^requires = \[\(.*\)\]$$/\1/p' pyproject.toml | sed 's/", "/\n/g; s/"//g' \
	    > $(VENV)/build-requires.txt
	@$(PIP) install --requirement $(VENV)/build-requires.txt
	@touch $@

define check-tools
need() { echo "aiofs needs $$1" >&2; exit 1; }; \
has() { $(PYTHON) -c "$$1" 2>/dev/null; }; \
has '' || need "Python 3.10 or newer, and there is no $(PYTHON): name one by make PYTHON=..."; \
has 'import sys; sys.exit(sys.version_info < (3, 10))' \
    || need "Python 3.10 or newer, and $(PYTHON) is older: name one by make PYTHON=..."; \
has 'import os, sysconfig as s; os.stat(s.get_paths()["include"] + "/Python.h")' \
    || need "Python's headers: install the package python3-dev, or what your system calls it"; \
has 'import ensurepip, venv' \
    || need "Python's venv: install the package python3-venv, or what your system calls it"; \
cc=$${CC:-$$($(PYTHON) -c 'import sysconfig as s; print(s.get_config_var("CC").split()[0])')}; \
command -v "$$cc" >/dev/null \
    || need "a C compiler, and there is no $$cc: install gcc, or name one by make CC=..."
endef

# Sets `engines` to those that this kernel allows, and prints the others.
define find-engines
engines=; \
for engine in $(ENGINES); do \
    if AIOFS_ENGINE=$$engine $(PY) -c $(ENGINE_STARTS); then engines="$$engines $$engine"; \
    else echo "== engine $$engine: refused by this kernel, left out"; fi; \
done
endef
ENGINE_STARTS := 'import ctypes, sys; \
    sys.exit(ctypes.CDLL("aiofs/libaiofs.so").aiofs_engine_start() < 0)'

define copy-tree
mkdir -p $(1); \
find $(1) -mindepth 1 -path '$(1)/build' -prune -o -type f ! -name '*.so' -exec rm -f {} +; \
tar -c --exclude=./build --exclude=./dist --exclude='./.venv*' --exclude=./.git --exclude=__pycache__ \
    --exclude='*.so' . | tar -x -C $(1)
endef
