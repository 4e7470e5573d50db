# make mini     set up .venv and run the mini study (a few minutes, no download of data or weights)
# make test     set up .venv and run the tests
# make help     all targets

PYTHON ?= python3
VENV := .venv
CORES ?= all
READY := $(VENV)/.ready
DEVELOPS := $(VENV)/.develops
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)

.DEFAULT_GOAL := help
.PHONY: help mini test test-slow lint format site lock report clean

help:  ## list targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1|\2/' | column -t -s '|'

$(READY): pyproject.toml requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit("ademvl needs Python 3.11 or newer, found " + sys.version) if sys.version_info < (3, 11) else None'
	@echo "installing the packages into $(VENV): several GB, some minutes; only errors are printed"
	@$(PYTHON) -m venv $(VENV)
	@$(VENV)/bin/python -m pip install -qq --no-compile --constraint requirements.lock --editable .
	@touch $@

$(DEVELOPS): $(READY)
	@echo "installing the packages of tests and checks into $(VENV): some minutes"
	@$(VENV)/bin/python -m pip install -qq --no-compile --constraint requirements.lock --editable '.[dev]'
	@touch $@

mini: $(READY)  ## run the mini study: data, features, training, evaluation, tables
	ademvl run --cores $(CORES)

test: $(DEVELOPS)  ## run the fast tests, on all cores
	pytest -n auto --maxprocesses 8

test-slow: $(DEVELOPS)  ## run the tests that take minutes, too
	pytest -m 'slow or not slow'

lint: $(DEVELOPS)  ## check format, style, types and the workflow
	ruff format --check .
	ruff check .
	mypy
	snakefmt --check Snakefile workflow
	snakemake --lint

format: $(DEVELOPS)  ## format Python and Snakemake files
	ruff format .
	ruff check --fix .
	snakefmt Snakefile workflow

site: $(DEVELOPS)  ## build the docs as a site, site/index.html
	zensical build --strict

report: $(READY)  ## Snakemake's own report of the mini study, results/mini/snakemake-report.zip
	snakemake --report results/mini/snakemake-report.zip

lock: $(DEVELOPS)  ## resolve requirements.lock anew (needs uv)
	uv pip compile --universal --python-version 3.11 --extra dev pyproject.toml --output-file requirements.lock --no-header --no-annotate --no-emit-index-url

clean:  ## remove results of the mini study; data, features and .venv stay
	rm -rf results/mini
