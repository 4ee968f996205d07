# make test | check | docs | demo work on a machine that has Python 3.11 or later and make; docs and check also need npm
.DEFAULT_GOAL := help
.PHONY: help test lessons check prepare outputs docs bench demo clean

# the first interpreter that is new enough; or say which: make PYTHON=python3.13 test
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11 python; do \
	$$p -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && { echo $$p; break; }; done)
PY := .venv/bin/python
PIP := $(PY) -m pip --disable-pip-version-check --quiet
WHAT_IT_NEEDS := settings.ini pyproject.toml setup.py

help:      ## show this list
	@grep -E '^[a-z]+: .*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

# most tests wait most of the time, so there are more at once than this machine has cores; each file stays together,
# for the sake of what its tests share
AT_ONCE := -n 3 --dist loadfile --no-loadscope-reorder

test: .venv/dev          ## run all notebooks and all tests
	@failed=0; $(PY) -m tools.check lessons || failed=1; $(PY) -m pytest $(AT_ONCE) $(ARGS) || failed=1; exit $$failed

lessons: .venv/dev       ## run all notebooks; what they show must be what is saved in them
	$(PY) -m tools.check lessons

check: .venv/dev         ## is everything in step? package, stubs, README, docs, lint, types
	$(PY) -m tools.check

prepare: .venv/dev       ## bring package, stubs, README and the table of faults in step
	.venv/bin/nbdev-export
	$(PY) -m tools.stubs
	.venv/bin/nbdev-clean
	$(PY) -m tools.docs readme
	$(PY) -m tools.faults

outputs: .venv/dev       ## run all notebooks and save what they show
	.venv/bin/nbdev-test --save
	.venv/bin/nbdev-clean

docs: .venv/dev          ## make the site in _docs/
	$(PY) -m tools.docs site

bench: .venv/bench       ## ours beside its peers; ARGS="--only roundtrip --rounds 3" takes a part
	$(PY) -m benchmarks $(ARGS)

demo: .venv/demo         ## serve the demo on this machine
	$(PY) -m demo $(ARGS)

clean:     ## remove everything that was made, the environment too
	rm -rf .venv _docs _site_src _proc build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache docs_assets
	find . -name __pycache__ -prune -exec rm -rf {} +

.venv/made:
	@test -n "$(PYTHON)" || { echo 'Python 3.11 or later, with venv, is needed: none was found'; exit 1; }
	$(PYTHON) -m venv .venv
	@touch $@

.venv/dev: .venv/made $(WHAT_IT_NEEDS)
	$(PIP) install -e '.[dev,demo]'
	@touch $@ .venv/demo

.venv/demo: .venv/made $(WHAT_IT_NEEDS)
	$(PIP) install -e '.[demo]'
	@touch $@

.venv/bench: .venv/made $(WHAT_IT_NEEDS)
	$(PIP) install -e '.[bench]'
	@touch $@
