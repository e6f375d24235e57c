# make run             the workflow on the embedded cells, with its report
# make test            the whole test suite, in CORES (2) processes
# make test-slurm      the workflow on a SLURM that is started for it; needs root, slurmctld, slurmd, slurm-client, munge
# make test-cellrank   whether CellRank 2, in an environment of its own, reads the fates of real cells
# All set up what they need in .venv; PYTHON names the interpreter to start from (3.11 or newer).

PYTHON ?= python3
CORES ?= 2
VENV := .venv
CELLRANK := .venv-cellrank
RESULTS := results/pbmc68k
REPORT := $(RESULTS)/report.html
# The programs of the environment before any others of the same name.
INSIDE := PATH="$(CURDIR)/$(VENV)/bin:$$PATH"
SNAKEMAKE := snakemake --workflow-profile workflow/profiles/default

# Python compiles what it imports when it first does; pip would compile everything.
INSTALL := -m pip install --quiet --disable-pip-version-check --no-compile

.PHONY: run test test-slurm test-cellrank

run: $(VENV)/installed
	@if [ ! -e $(REPORT) ]; then \
		$(INSIDE) $(SNAKEMAKE) -c$(CORES) --report $(REPORT) --report-after-run; \
	else \
		$(INSIDE) $(SNAKEMAKE) -c$(CORES) && \
		if find $(RESULTS) -type f -newer $(REPORT) | grep -q .; then $(INSIDE) $(SNAKEMAKE) --report $(REPORT); fi; \
	fi

test: $(VENV)/installed-for-tests
	$(INSIDE) OMP_NUM_THREADS=1 pytest --numprocesses $(CORES) --dist loadgroup --no-loadscope-reorder

test-slurm: $(VENV)/installed-for-slurm
	$(INSIDE) BRANCHGEN_SLURM=1 pytest tests/slurm

test-cellrank: $(VENV)/installed-for-tests $(CELLRANK)/installed
	$(INSIDE) BRANCHGEN_CELLRANK=$(CURDIR)/$(CELLRANK)/bin/python pytest tests/cellrank

$(VENV)/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("branchgen needs Python 3.11 or newer, but $(PYTHON) is %d.%d: make PYTHON=/path/to/python3.11 ..." % sys.version_info[:2])'
	@test -x $(VENV)/bin/pip || $(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python $(INSTALL) -c constraints.txt -e .
	@touch $@

$(VENV)/installed-for-tests: $(VENV)/installed
	$(VENV)/bin/python $(INSTALL) -c constraints.txt -e '.[test]'
	@touch $@

$(VENV)/installed-for-slurm: $(VENV)/installed-for-tests
	$(VENV)/bin/python $(INSTALL) -c constraints.txt -e '.[test,slurm]'
	@touch $@

$(CELLRANK)/installed:
	$(PYTHON) -m venv $(CELLRANK)
	$(CELLRANK)/bin/python $(INSTALL) 'cellrank>=2.0.7,<3'
	@touch $@
