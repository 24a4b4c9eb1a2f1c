# Three commands do all the set-up on a fresh machine; a second call installs nothing.
#
#   make demo   compares methods on a posterior of real data and says where the report is
#   make test   runs the whole test suite
#   make docs   builds the documentation site into site/
#
# PYTHON chooses the interpreter: make test PYTHON=python3.12

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

.PHONY: demo test docs clean

demo: $(VENV)/installed
	$(BIN)/steepest compare examples/posteriors/breast_cancer.toml --out runs/breast_cancer

test: $(VENV)/installed-test
	$(BIN)/python -m pytest -n 2 --dist loadfile

docs: $(VENV)/installed-test
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet

clean:
	rm -rf $(VENV)

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "steepest needs Python 3.11 or newer; try: make PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)

# The stamps are written last, so that an interrupted installation is taken up again.
$(VENV)/installed: pyproject.toml | $(BIN)/python
	@echo "installing steepest into $(VENV); this takes about a minute, once"
	$(PIP) install --editable .
	@touch $@

$(VENV)/installed-test: pyproject.toml | $(BIN)/python
	@echo "installing steepest and its test tools into $(VENV); this takes about a minute, once"
	$(PIP) install --editable '.[test,docs]'
	@touch $@ $(VENV)/installed
