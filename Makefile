# make run    the workflow on the embedded cells, with its report
# make test   the whole test suite
# Both set up all they need in .venv; PYTHON names the interpreter to start from (3.11 or newer).

PYTHON ?= python3
CORES ?= 2
VENV := .venv
RESULTS := results/pbmc68k
REPORT := $(RESULTS)/report.html
# The programs of the environment before any others of the same name.
INSIDE := PATH="$(CURDIR)/$(VENV)/bin:$$PATH"

.PHONY: run test

run: $(VENV)/installed
	$(INSIDE) snakemake --workflow-profile workflow/profiles/default -c$(CORES)
	@if [ ! -e $(REPORT) ] || find $(RESULTS) -type f -newer $(REPORT) | grep -q .; then \
		$(INSIDE) snakemake --workflow-profile workflow/profiles/default --report $(REPORT); \
	fi

test: $(VENV)/installed
	$(INSIDE) pytest

$(VENV)/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("branchgen needs Python 3.11 or newer, but $(PYTHON) is %d.%d: make PYTHON=/path/to/python3.11 ..." % sys.version_info[:2])'
	@test -x $(VENV)/bin/pip || $(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test]'
	@touch $@
