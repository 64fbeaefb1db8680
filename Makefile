PYTHON ?= python3
BIN := .venv/bin
JOBS ?= 2

# Real data sets beside the repository are used where they exist; nothing needs them.
ifneq ($(wildcard ../shared/data),)
export PROBCLUST_DATA ?= $(abspath ../shared/data)
endif

.PHONY: install demo test test-lowest check lint types package docs bench bench-full
.PHONY: story prior likelihood objective start

install: .venv/installed

.venv/installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -c constraints.txt -e ".[dev]"
	touch $@

demo: install
	$(BIN)/probclust demo --out runs/demo

# One thread for each of the parallel workers: more only compete for the cores.
test: install
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) --dist loadgroup $(ARGS)

# make story NAME=TopicMixture: a file to write in, with a test that passes, and the lines that make it known.
story prior likelihood objective start:
	@$(PYTHON) docs/developer/new.py $@ "$(NAME)"

# The lowest versions that pyproject.toml promises, in an environment of their own; the tests that say soonest what does not work.
LOWEST := build/lowest
QUICK := $(addprefix tests/,house/test_public_names.py data cli/test_main.py evaluation/test_inference_data.py test_estimator.py)

$(LOWEST)/installed: pyproject.toml constraints-lowest.txt
	test -x $(LOWEST)/bin/python || $(PYTHON) -m venv $(LOWEST)
	$(LOWEST)/bin/python -m pip install -c constraints-lowest.txt -e ".[test]"
	touch $@

test-lowest: $(LOWEST)/installed
	OMP_NUM_THREADS=1 SCIPY_ARRAY_API=1 $(LOWEST)/bin/python -m pytest -n $(JOBS) --dist loadgroup \
		-W ignore::DeprecationWarning -W ignore::FutureWarning $(QUICK) $(ARGS)

check: lint types docs package

lint: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports --no-cache

types: install
	$(BIN)/mypy

# Builds the sdist and, from the sdist, the wheel; then imports the installed wheel from another folder.
package: install
	rm -rf build/package
	$(BIN)/python -m build --no-isolation --outdir build/package/dist .
	$(BIN)/python -m pip install --quiet --no-deps --target build/package/site build/package/dist/*.whl
	cd build/package && PYTHONPATH=site ../../$(BIN)/python -c "import probclust, probclust.models as models; \
		print(probclust.__file__, models.__file__, [getattr(models, name) for name in models.__all__]); \
		assert all('/build/package/site/' in module.__file__ for module in (probclust, models))"

# Every warning is an error. The pages lie in build/site.
docs: install
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --site-dir build/site

# ClustPy is measured where it is installed (the extra "bench"), or in the environment of PROBCLUST_PEER_PYTHON.
bench: install
	$(BIN)/python -m benchmarks.step_time
	$(BIN)/python -m benchmarks.speed
	$(BIN)/python -m benchmarks.papers --data digits

bench-full: install
	$(BIN)/python -m benchmarks.speed --full --seeds 0 1 2
	$(BIN)/python -m benchmarks.speed --page
