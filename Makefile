# The commands of the project. `make demo` and `make test` need nothing but Python 3.11 or newer and make.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Further interpreters that the tests run under, where they are found: on the PATH, or among pyenv's.
found = $(firstword $(foreach candidate,\
	python$(1) $(lastword $(sort $(wildcard $(or $(PYENV_ROOT),$(HOME)/.pyenv)/versions/$(1).*/bin/python))),\
	$(shell $(candidate) -c 'import sys; print(sys.executable)' 2>/dev/null)))
PYTHON_3_12 := $(call found,3.12)
PYTHON_3_13 := $(call found,3.13)
PYTHON_OTHERS := $(PYTHON_3_12) $(PYTHON_3_13) $(call found,3.14) $(call found,3.15)
# Most tests wait for something most of the time, so two processes for each core keep it busy.
PARALLEL := --numprocesses $(shell $(PYTHON) -c 'import os; print(2 * len(os.sched_getaffinity(0)))')
# How often `make guide` runs the project of the guide.
ROUNDS := 5
# The tests start hundreds of interpreters, which would all compile the library where nobody keeps what comes of it.
unexport PYTHONDONTWRITEBYTECODE
PIP := -m pip install --quiet --disable-pip-version-check

.PHONY: demo test test-others test-floors conformance stress soak matrix coverage portability mutants fuzz check lint types wheel guide docs release-check bench profile bench-cluster bench-downloads bench-libraries instructions clean

demo: $(VENV)/demo.stamp
	$(BIN)/iointerrupt demo

test: $(VENV)/test.stamp
	$(BIN)/python -m pytest $(PARALLEL)

# One environment and one run for each further interpreter.
test-others:
	@$(if $(strip $(PYTHON_OTHERS)),,echo "no Python 3.12, 3.13, 3.14 or 3.15 was found")
	set -e; for python in $(PYTHON_OTHERS); do \
		env=$(VENV)-$$($$python -c 'import sys; print("%d.%d" % sys.version_info[:2])'); \
		test -e $$env || $$python -m venv $$env; \
		$$env/bin/python $(PIP) --editable '.[test]'; \
		$$env/bin/python -m pytest $(PARALLEL); \
	done

# The oldest dependencies that pyproject.toml admits; under Python 3.12 where that is found, which `make test` leaves out.
test-floors:
	test -e $(VENV)-floors || $(or $(PYTHON_3_12),$(PYTHON)) -m venv $(VENV)-floors
	$(VENV)-floors/bin/python $(PIP) --editable '.[test]' --constraint tests/floors.txt
	$(VENV)-floors/bin/python -m pytest $(PARALLEL)

# A hundred times as many random examples as `make test` tries, and others each time.
fuzz: $(VENV)/test.stamp
	FUZZ=100 $(BIN)/python -m pytest --timeout 0 tests/test_fuzz_*.py tests/test_state_machines*.py

# CPython's own tests, with our classes in place of the standard ones, and patched; SUITES="test_queue test_select" for some.
conformance: $(VENV)/test.stamp
	$(BIN)/python tests/conformance/run.py $(SUITES)

# Stops at random moments, and a count at the end: 120,000 of calls (STRESS=--stops=1000 for fewer); downloads that are killed
# 200 times and go on (KILLS=--kills=20); then of every operation on sockets, TLS, files, HTTP, asyncio and threads for MINUTES.
stress: $(VENV)/test.stamp
	$(BIN)/python -m tests.stress.calls $(STRESS)
	$(BIN)/python -m tests.stress.downloads $(KILLS)
	$(BIN)/python -m tests.stress.transfers --minutes $(or $(MINUTES),10)

# Two hundred transfers at a time for MINUTES: does what they take grow? SOAK="--plot FILE.svg" draws it, with matplotlib.
soak: $(VENV)/test.stamp
	$(BIN)/python -m tests.stress.soak --minutes $(or $(MINUTES),10) $(SOAK)

# The tests once more, and which lines and branches of the library they reach, also in the processes that they start: too few
# of them fail it. Under Python 3.13 where that is found.
coverage:
	test -e $(VENV)-coverage || $(or $(PYTHON_3_13),$(PYTHON)) -m venv $(VENV)-coverage
	$(VENV)-coverage/bin/python $(PIP) --editable '.[test,coverage]'
	rm -rf build/coverage
	mkdir -p build/coverage
	$(VENV)-coverage/bin/python -m pytest $(PARALLEL) --cov --cov-report=term-missing:skip-covered

# The tests as on other systems: without what those lack. WITHOUT=macos for one run, or any parts of it.
portability: $(VENV)/test.stamp
	$(BIN)/python -m tests.portability $(WITHOUT)

# Each line of _stop.py and _wait.py changed in every way; a change that no test notices has to be argued. MUTANTS='--only park'.
mutants:
	test -e $(VENV)-mutants || $(PYTHON) -m venv $(VENV)-mutants
	$(VENV)-mutants/bin/python $(PIP) --editable '.[mutants]'
	$(VENV)-mutants/bin/python -m tests.mutation.run $(MUTANTS)

# Every fault, every client: the page docs/matrix.md, on stdout.
matrix: $(VENV)/test.stamp
	@$(BIN)/python -m tests.matrix

check: lint types wheel guide docs release-check

lint: $(VENV)/dev.stamp
	$(BIN)/ruff check
	$(BIN)/ruff format --check

# pyright finds what is installed by the PATH when it verifies a package.
types: $(VENV)/dev.stamp
	$(BIN)/mypy
	$(BIN)/pyright --pythonpath $(BIN)/python tests/typing_examples.py
	PATH="$(CURDIR)/$(BIN):$$PATH" pyright --verifytypes iointerrupt --ignoreexternal
	$(BIN)/python -m pytest --quiet tests/test_layers.py

# Built, installed into an environment of its own, and imported from outside the tree.
wheel: $(VENV)/dev.stamp
	rm -rf build/wheel
	$(BIN)/python -m build --quiet --wheel --outdir build/wheel
	$(PYTHON) -m venv --clear build/wheel/env
	build/wheel/env/bin/python $(PIP) build/wheel/iointerrupt-*.whl
	cd / && $(CURDIR)/build/wheel/env/bin/python -I $(CURDIR)/tests/wheel_check.py

# What would be published: whole, with nothing else in it, and its tests pass where the source is not.
release-check: $(VENV)/dev.stamp
	$(BIN)/python tests/release_check.py build/release
	$(BIN)/python tests/release_check.py --unpack build/release
	$(PYTHON) -m venv --clear build/release/env
	build/release/env/bin/python $(PIP) "$$(ls build/release/*.whl)[test]"
	cd build/release/tests && ../env/bin/python -m pytest $(PARALLEL) tests/test_stop.py tests/test_files.py tests/test_sockets.py tests/test_http.py tests/test_downloads_plan.py tests/test_cli.py

# The site of the documentation, in build/site; a warning fails it.
docs:
	test -e $(VENV)-docs || $(PYTHON) -m venv $(VENV)-docs
	$(VENV)-docs/bin/python $(PIP) --editable '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(VENV)-docs/bin/mkdocs build --strict

# The project of docs/testing.md, outside the tree: with nothing but the wheel and pytest, then at random and in parallel.
guide: wheel
	build/wheel/env/bin/python $(PIP) pytest
	cd / && $(CURDIR)/build/wheel/env/bin/python $(CURDIR)/tests/guide_check.py test_downloader.py
	build/wheel/env/bin/python $(PIP) pytest-randomly pytest-xdist responses
	cd / && $(CURDIR)/build/wheel/env/bin/python $(CURDIR)/tests/guide_check.py --rounds $(ROUNDS) --numprocesses 2

# What has to be there for the benchmarks: all that they compare with. BENCH=--help tells the options of each.
$(VENV)-bench/stamp: pyproject.toml
	test -e $(VENV)-bench || $(PYTHON) -m venv $(VENV)-bench
	$(VENV)-bench/bin/python $(PIP) --editable '.[test,bench]'
	touch $@

# Ours beside what one would take instead; ten minutes, or one with BENCH=--quick. It writes docs/benchmarks.md with its
# pictures, and the table of the README.
bench: $(VENV)-bench/stamp
	$(VENV)-bench/bin/python -m benchmarks $(or $(BENCH),--docs docs --readme README.md)

# Where the time goes of what takes longer in ours. It writes docs/profile.md.
profile: $(VENV)-bench/stamp
	$(VENV)-bench/bin/python -m benchmarks.profile $(or $(BENCH),--docs docs)

# Do the hot paths execute more instructions than they did? It takes valgrind, which CI has.
instructions: $(VENV)/test.stamp
	$(BIN)/python -m benchmarks.instructions $(if $(CI),,--may-lack valgrind) $(BENCH)

# Other people's libraries, patched and unpatched, against servers of their own.
bench-libraries: $(VENV)-bench/stamp
	$(VENV)-bench/bin/python -m benchmarks.libraries $(BENCH)

# One stop for a cluster, and downloads over its workers, beside what Dask has by itself.
bench-cluster: $(VENV)-bench/stamp
	$(VENV)-bench/bin/python -m benchmarks.cluster $(BENCH)

# `downloads` beside curl, wget, aria2c, pycurl, aiohttp and others, on one nginx, in more detail.
bench-downloads: $(VENV)-bench/stamp
	$(VENV)-bench/bin/python -m benchmarks.downloads $(BENCH)

clean:
	rm -rf $(VENV) $(VENV)-* build

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "iointerrupt needs Python 3.11 or newer, and $(PYTHON) is " + sys.version.split()[0] + "; name another with: make PYTHON=...")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/demo.stamp: $(VENV)/bin/python pyproject.toml
	$(BIN)/python $(PIP) --editable '.[cli]'
	touch $@

$(VENV)/%.stamp: $(VENV)/bin/python pyproject.toml
	$(BIN)/python $(PIP) --editable '.[$*]'
	touch $@
