# make demo: the main job on data/testbids. make test: the suite. Both need Python 3.11 and nothing else.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo test docs linkcheck figures testbids clean

$(STAMP): setup.cfg pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test]'
	touch $@

demo: $(STAMP)
	$(BIN)/qsmbids data/testbids build/demo participant --participant-label 01 02 03 -w build/work
	$(BIN)/qsmbids data/testbids build/demo group
	@echo 'Open build/demo/sub-01.html and build/demo/group.html'

# On all cores, each file of tests on one.
test: $(STAMP)
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile

# The site, with warnings as errors; open build/docs/index.html.
docs: $(VENV)/.docs
	$(BIN)/python -m sphinx -q -W --keep-going -b html docs build/docs

# Asks every address that the site names.
linkcheck: $(VENV)/.docs
	$(BIN)/python -m sphinx -q -b linkcheck docs build/linkcheck

$(VENV)/.docs: $(STAMP)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	touch $@

# Every picture and every output of the site, made again.
figures: $(STAMP)
	$(BIN)/python benchmarks/figures.py

testbids: $(STAMP)
	$(BIN)/python -m qsmbids.simulation.testbids data/testbids

clean:
	rm -rf build
