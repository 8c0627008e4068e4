# The commands of this project. CI runs the same targets, through .ci/run.
# To use another Python: make demo PYTHON=python3.12

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# In folder order: by default, files with many tests come first, and the slow ones, which have few, all at the end.
# Three processes on two cores: the slow tests mostly wait, for the full minute or for Dagster's daemon.
PYTEST_FLAGS ?= -n 3 --dist loadfile --no-loadscope-reorder
# Tests that depend on Dagster: on its private modules, runs, schedules, the code location, its configuration files.
NEWEST_TESTS ?= $(addprefix export_pipeline_tests/,orchestration integration cli test_definitions.py test_project_files.py documents/test_deployments.py)
FUZZ_SECONDS ?= 600
# Strict: a broken link or anchor is an error. A test checks that every page is in the menu.
DOCS_BUILD := $(BIN)/zensical build --strict --clean

# As in pyproject.toml: if it were missing in requirements.lock, pip would download it without verifying a hash.
BUILD_BACKEND := setuptools>=77
# What deployments on one or many machines need, including alerts. Users add the extras of their destinations.
LOCKED_EXTRAS := alerts otlp postgres celery docker k8s
PIP_AUDIT := pip-audit==2.10.1
RELEASE_TOOLS := build==1.6.1 cyclonedx-bom==7.5.0 twine==7.0.0

# Dagster's commands read dagster.yaml from here, and keep their data in .dagster/
export DAGSTER_HOME := $(CURDIR)

# If it were set, each of the tests' many processes would compile every module again, and take twice as long to start.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help install demo dev test test-thorough test-newest fuzz chaos simulate check format docs docs-generate screenshots bench bench-scale bench-warehouse bench-destinations bench-millions bench-ledger bench-latency bench-ranges bench-spread lock audit dist clean

help:  ## List the targets
	@grep -E '^[a-z-]+:.*## ' $(firstword $(MAKEFILE_LIST)) | sed -E 's/:.*## /\t/' | expand -t 16

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 14))' 2>/dev/null || { \
		echo "Python 3.10, 3.11, 3.12 or 3.13 is needed; $(PYTHON) is: $$($(PYTHON) --version 2>&1)."; \
		echo "Name another one: make $(MAKECMDGOALS) PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'

# A stamp is newer than pyproject.toml if everything listed there is installed.
$(VENV)/.installed: pyproject.toml constraints.txt | $(BIN)/python
	@# setuptools warns about folders with the name of a package; here they are the package itself.
	PYTHONWARNINGS='ignore:Editable installation' $(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[postgres]'
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --group dev
	@touch $@

$(VENV)/.installed-docs: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --group docs
	@touch $@

# Dagster would make it readable for all users, but it contains file keys and responses of destinations.
.dagster:
	mkdir -m 700 $@

install: $(VENV)/.installed-dev  ## Create .venv with everything that development needs

demo: $(VENV)/.installed | .dagster  ## Create a sample bucket under .demo/, export it once, and print a report
	@$(BIN)/python -m export_pipeline.demo

# Reachable only from this machine. Another port: make dev PORT=3001
dev: $(VENV)/.installed | .dagster  ## Open Dagster's UI on http://127.0.0.1:3000
	@$(BIN)/python -m export_pipeline.cli dev $(if $(PORT),--port $(PORT))

test: $(VENV)/.installed-dev  ## Run the tests
	$(BIN)/python -m pytest $(PYTEST_FLAGS) -m "not thorough"

test-thorough: $(VENV)/.installed-dev  ## Run the slow tests, which CI runs every night
	$(BIN)/python -m pytest $(PYTEST_FLAGS) -m thorough

# In a separate environment, without constraints.txt: the newest Dagster, and the newest of everything else.
test-newest: | $(BIN)/python  ## Run the tests that depend on Dagster with the newest release of every dependency
	$(BIN)/python -m venv $(VENV)/newest
	$(VENV)/newest/bin/python -m pip install --quiet --upgrade 'pip>=25.1'
	PYTHONWARNINGS='ignore:Editable installation' $(VENV)/newest/bin/python -m pip install --quiet --upgrade --upgrade-strategy eager --editable '.[postgres]' --group dev
	@# Dagster's integrations pin the dagster they were released with; a newer one is tested anyway.
	$(VENV)/newest/bin/python -m pip install --quiet --upgrade --no-deps $$($(VENV)/newest/bin/python -m pip list --format=freeze | sed -n 's/^\(dagster[a-z-]*\)==.*/\1/p')
	$(VENV)/newest/bin/python -m pip list --format=freeze | grep '^dagster'
	$(VENV)/newest/bin/python -m pytest $(PYTEST_FLAGS) -W "ignore:Found version mismatch" -m "not thorough" $(NEWEST_TESTS)

fuzz: $(VENV)/.installed-dev  ## Fuzz the file readers for FUZZ_SECONDS (600); inputs that reach new code are kept in .fuzz/
	mkdir -p .fuzz/inputs
	$(BIN)/python -m export_pipeline_tests.fuzz -max_total_time=$(FUZZ_SECONDS) -artifact_prefix=.fuzz/ .fuzz/inputs

chaos: $(VENV)/.installed-dev  ## Inject faults everywhere for CHAOS_SECONDS (900), seeded by CHAOS_SEED, and write docs/reliability.md
	$(BIN)/python -m export_pipeline_tests.chaos

simulate: $(VENV)/.installed-dev  ## Simulate crashes and schedules for SIMULATE_SECONDS (1800), and write docs/reliability.md
	$(BIN)/python -m export_pipeline_tests.simulation

check: $(VENV)/.installed-dev  ## Check lint, types, definitions and documentation
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy export_pipeline export_pipeline_tests $(if $(wildcard benchmarks/*.py),benchmarks)
	EXPORT_DEPLOYMENT=local $(BIN)/dg check defs
	$(BIN)/python -m export_pipeline.configuration.documentation --check
	$(BIN)/python -m export_pipeline.subscribers.documentation --check
	$(DOCS_BUILD)

format: $(VENV)/.installed-dev  ## Format the code and fix what the linter can fix
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(VENV)/.installed-docs  ## Build the documentation into site/; open site/index.html
	$(DOCS_BUILD)

docs-generate: $(VENV)/.installed  ## Regenerate the reference pages under docs/
	$(BIN)/python -m export_pipeline.configuration.documentation
	$(BIN)/python -m export_pipeline.subscribers.documentation

screenshots: $(VENV)/.installed-dev  ## Retake the screenshots of README and docs, from the browser tests
	SCREENSHOTS=docs/images $(BIN)/python -m pytest export_pipeline_tests/browser

bench: $(VENV)/.installed  ## Benchmark speed and memory against other tools, and write docs/benchmarks.md
	$(BIN)/python -m benchmarks.compare $(BENCH_FLAGS)
	$(BIN)/python -m benchmarks.targets $(BENCH_TARGETS_FLAGS)
	$(BIN)/python -m benchmarks.page bench

bench-scale: $(VENV)/.installed  ## Measure how cost grows with files, subscribers and file sizes
	$(BIN)/python -m benchmarks.scale $(BENCH_SCALE_FLAGS)
	$(BIN)/python -m benchmarks.page bench-scale

bench-warehouse: $(VENV)/.installed  ## Measure the cost of a batch in a warehouse
	$(BIN)/python -m benchmarks.warehouse

bench-destinations: $(VENV)/.installed-dev  ## Measure the cost of each destination, compared with other tools
	$(BIN)/python -m benchmarks.destinations $(BENCH_DESTINATIONS_FLAGS)

bench-millions: $(VENV)/.installed-dev  ## Simulate an hour of a million files, and write docs/scale.md
	$(BIN)/python -m benchmarks.millions $(BENCH_MILLIONS_FLAGS)

bench-ledger: $(VENV)/.installed-dev  ## Measure the cost of a tick with ten thousand and with ten million files in the ledger
	mkdir -p .bench
	$(BIN)/python -m benchmarks.ledger --folder .bench --postgres-files 10_000 10_000_000 --page $(BENCH_LEDGER_FLAGS)

bench-latency: $(VENV)/.installed-dev  ## Measure how long a file waits for its delivery: by schedule, sensor, notifications, run and follow
	$(BIN)/python -m benchmarks.latency $(BENCH_LATENCY_FLAGS)

bench-ranges: $(VENV)/.installed-dev  ## Measure a replay of 1,095 days that is launched in the browser
	$(BIN)/python -m benchmarks.ranges $(BENCH_RANGES_FLAGS)

bench-spread: $(VENV)/.installed-dev  ## Measure the speedup of a second Celery worker, and write it into docs/deployment.md
	$(BIN)/python -m benchmarks.spread $(BENCH_SPREAD_FLAGS)

lock: $(VENV)/.installed-dev  ## Resolve the newest versions into constraints.txt and requirements.lock
	$(BIN)/python -m pip install --quiet uv
	echo '# The versions that the tests run with, for Python 3.10 to 3.13. Written by `make lock`; pip reads it as --constraint.' > constraints.new
	$(BIN)/uv pip compile --quiet --universal --python-version 3.10 --no-header --no-annotate --extra postgres --group dev pyproject.toml >> constraints.new
	mv constraints.new constraints.txt
	echo '# What a deployment installs, by version and hash. Written by `make lock`: pip install --require-hashes -r requirements.lock' > requirements.new
	echo '$(BUILD_BACKEND)' | $(BIN)/uv pip compile --quiet --universal --python-version 3.10 --no-header --no-annotate --no-strip-extras --generate-hashes --constraint constraints.txt $(foreach extra,$(LOCKED_EXTRAS),--extra $(extra)) pyproject.toml - >> requirements.new
	mv requirements.new requirements.lock

# In a separate environment, so that their dependencies do not influence what the tests run with.
audit: | $(BIN)/python  ## Check everything that is locked for known vulnerabilities
	$(BIN)/python -m venv $(VENV)/audit
	$(VENV)/audit/bin/python -m pip install --quiet $(PIP_AUDIT)
	$(VENV)/audit/bin/pip-audit --strict --disable-pip --require-hashes -r requirements.lock
	$(VENV)/audit/bin/pip-audit --strict --disable-pip --no-deps -r constraints.txt

dist: | $(BIN)/python  ## Build the package and its SBOM (CycloneDX) into dist/
	@# Otherwise files that git does not track, such as your own deployment, would be published.
	@test -z "$$(git ls-files --others --exclude-standard)" || { \
		echo 'these files are not in git:'; git ls-files --others --exclude-standard; exit 1; }
	@# On GitHub, only if the project's Source URL is the repository that it is built in.
	@test -z "$(GITHUB_REPOSITORY)" || grep -qx 'Source = "$(GITHUB_SERVER_URL)/$(GITHUB_REPOSITORY)"' pyproject.toml || { \
		echo 'project.urls of pyproject.toml is not $(GITHUB_SERVER_URL)/$(GITHUB_REPOSITORY)'; exit 1; }
	rm -rf dist
	$(BIN)/python -m venv $(VENV)/release
	$(VENV)/release/bin/python -m pip install --quiet $(RELEASE_TOOLS)
	$(VENV)/release/bin/python -m build
	$(VENV)/release/bin/twine check --strict dist/*
	$(VENV)/release/bin/cyclonedx-py requirements requirements.lock --pyproject pyproject.toml --output-reproducible --of JSON -o dist/sbom.cdx.json

clean:  ## Remove the demo, Dagster's data and caches; .venv stays
	rm -rf site .cache .dagster .bench .hypothesis .mypy_cache .pytest_cache .ruff_cache build dist logs .logs_queue .tmp_dagster_home_*
	find .demo -mindepth 1 -not -path .demo/bucket -not -path .demo/bucket/.gitkeep -delete
