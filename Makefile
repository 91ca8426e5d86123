# `make` alone lists the commands. All of them run in .venv, which the first one makes.
PYTHON ?= python3
RUN := .venv/bin/python
DONE := .venv/.complete
# The lock is installed as it stands: nothing is resolved and no build tool fetched, so no later release can break it.
PIP := $(RUN) -m pip install --disable-pip-version-check
DATASETS := mnist fashion_mnist
PROFILE := paper
ENGINE := local
REPORTS := notebooks/00_method.ipynb notebooks/03_tables.ipynb notebooks/04_figures.ipynb
INTERACTIVE := notebooks/05_explore.ipynb
STUDIES := number number_few number_resnet number_noise number_many number_vit stem recipe confirmation constants timing timing_resnet full_size
# Studies on image folders that data/README.md says how to make: left out where the folder is not there.
OF_FOLDERS := full_cifar10/cifar10_jpeg public_code/cifar10_jpeg public_quirks/cifar10_jpeg photographs/caltech101
# The same, and left out where there is no GPU.
ON_GPU := resnet18/cifar10_jpeg photographs_scratch/caltech101
GPU = $(shell nvidia-smi -L 2>/dev/null | grep '^GPU ')
# The second one measures what the first one trains.
STAGES := notebooks/01_train.ipynb notebooks/02_evaluate.ipynb
# The stages' own `python` is the environment's. One thread: the number of threads changes the weights.
ACTIVE := PATH="$(CURDIR)/.venv/bin:$$PATH"
FIXED := $(ACTIVE) OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE
# Freed memory is kept for the next step: with large batches, getting it back page by page costs much of the time.
KEPT := MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=17179869184 THP_MEM_ALLOC_ENABLE=1
# Tests in two processes (another number: make test WORKERS=8); a file's tests stay in one, the longest files come first.
WORKERS ?= 2
PARALLEL := -n $(WORKERS) --dist loadfile --no-loadscope-reorder
# The core's own tests. Only there are lines counted (95 % of the core must run), as counting slows down whatever runs.
CORE := tests/smoot tests/cli
NBVAL := $(FIXED) $(RUN) -m pytest -p no:cacheprovider --nbval-current-env --nbval-cell-timeout=1200 --nbval-kernel-startup-timeout=600

# Where HOME cannot be written, matplotlib and IPython would say so in every process, notebooks' cells among them.
ifneq ($(shell test -w "$$HOME" && echo writable),writable)
export MPLCONFIGDIR := $(CURDIR)/scratch/home
export IPYTHONDIR := $(CURDIR)/scratch/home
endif

.PHONY: help environment repro test faults verify notebooks bench studies docs gpu grid lock audit clean repository moved
.DEFAULT_GOAL := help

help:
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' Makefile
	@echo "Another Python than python3 for .venv: make environment PYTHON=python3.12"

environment: $(DONE) ## set up .venv from requirements.lock (once; 6.6 GB)

# The last line of a complete environment says where it was made: in a moved or copied folder it is made again.
ifneq "$(shell test -x $(RUN) && cat $(DONE) 2>/dev/null)" "$(CURDIR)"
$(DONE): moved
endif
define CHECK_PYTHON
import sys; v = sys.version.split()[0]
(3, 11) <= sys.version_info < (3, 14) or sys.exit("Python 3.11, 3.12 or 3.13 is needed; $(PYTHON) is " + v + ". Name another: make PYTHON=python3.12 environment")
endef
export CHECK_PYTHON

$(DONE): requirements.lock pyproject.toml
	@if [ "$$(cat $@ 2>/dev/null)" = "$(CURDIR)" ] && $(RUN) -c ""; then \
	    echo "Updating .venv"; \
	else \
	    command -v $(PYTHON) >/dev/null || { echo "No $(PYTHON) found: Python 3.11, 3.12 or 3.13 is needed. Name one: make PYTHON=python3.12 environment" >&2; exit 1; }; \
	    $(PYTHON) -c "$$CHECK_PYTHON" && echo "Making .venv (a few minutes, 6.6 GB)" && $(PYTHON) -m venv --clear .venv; \
	fi
	@rm -f $@
	@sed -n '/^setuptools==/,/[^\\]$$/p' requirements.lock > .venv/build.lock
	$(PIP) --require-hashes --no-deps --requirement .venv/build.lock
	$(PIP) --require-hashes --no-deps --no-build-isolation --requirement requirements.lock
	$(PIP) --no-deps --no-build-isolation --config-settings editable_mode=compat --editable .
	$(RUN) -m pip check
	@echo "$(CURDIR)" > $@

repository:
	@git rev-parse --git-dir >/dev/null || { echo "DVC works in a git repository, and this folder is none (a downloaded archive?). Clone the project, or run: git init" >&2; exit 1; }

repro: environment repository ## data, training, evaluation, tables, figures, notebooks, README
	$(RUN) -m workbench check
	$(RUN) -m workbench data fetch $(DATASETS)
	$(FIXED) $(RUN) -m dvc repro
	$(FIXED) $(RUN) -m workbench notebook refresh $(REPORTS)
	$(FIXED) $(RUN) -m dvc repro --quiet code  # the notebooks have other outputs: the lock hears of it
	$(RUN) -m workbench readme
	@echo "Tables:  figures/laptop/tables/"
	@echo "Figures: figures/laptop/plots/   Report: figures/laptop/report.html"

# What only `make faults` runs is at least checked by its types.
test: environment ## lint, types, tests, notebooks
	$(RUN) -m ruff check
	$(RUN) -m ruff format --check
	$(RUN) -m mypy
	MYPYPATH=tests:tests/workbench $(RUN) -m mypy tests/faults
	$(FIXED) $(RUN) -m pytest --cov $(PARALLEL) $(CORE)
	$(FIXED) $(RUN) -m pytest $(PARALLEL) $(addprefix --ignore=,$(CORE))
	$(NBVAL) --nbval $(PARALLEL) $(REPORTS)
	$(NBVAL) --nbval-lax $(PARALLEL) $(firstword $(STAGES)) $(INTERACTIVE)
	$(NBVAL) --nbval-lax $(lastword $(STAGES))

# FUZZ_SECONDS: of each of five readers.
faults: export FUZZ_SECONDS ?= 120
faults: environment ## try damage, kills, full disks and hostile input at length (an hour)
	$(FIXED) $(RUN) -m pytest -m faults tests/faults

verify: environment repository ## run the pipeline and compare its results with the committed ones
	$(RUN) -m workbench check
	$(FIXED) $(RUN) -m dvc repro
	$(RUN) -m workbench verify

notebooks: environment repository ## run the report notebooks in place
	$(FIXED) $(RUN) -m workbench notebook refresh $(REPORTS)

bench: environment ## measure what a training step costs and how it grows, on an idle machine
	$(FIXED) $(RUN) benchmarks/step_cost.py
	$(FIXED) $(RUN) benchmarks/growth.py

studies: environment repository ## run all studies (hours on a CPU; finished runs are kept)
	$(RUN) -m workbench data fetch $(DATASETS)
	$(FIXED) $(KEPT) sh -c 'for study in $(STUDIES) $(foreach pair,$(OF_FOLDERS) $(if $(GPU),$(ON_GPU)),$(if $(wildcard data/raw/$(notdir $(pair))),$(patsubst %/,%,$(dir $(pair))))); do $(RUN) -m workbench check --profile $$study && $(RUN) -m dvc repro studies/$$study/dvc.yaml || exit; done'
	$(RUN) -m workbench readme

docs: environment ## the documents and the reference as a web site, runs/site/index.html
	$(RUN) -m workbench site
	NO_MKDOCS_2_WARNING=1 $(RUN) -m mkdocs build --strict --quiet
	@echo "Open runs/site/index.html (with its search: $(RUN) -m http.server -d runs/site)"

gpu: environment ## train and evaluate the paper profile on this machine's accelerator
	$(ACTIVE) $(RUN) -m workbench grid --profile paper

# make grid PROFILE=paper ENGINE=slurm GRID="--partition gpu --minutes 240"
grid: environment ## train and measure a whole profile (PROFILE) on this machine or on Slurm (ENGINE): docs/scale.md
	$(ACTIVE) $(RUN) -m workbench grid --profile $(PROFILE) --engine $(ENGINE) $(GRID)

lock: environment ## pin what .venv holds, with hashes, for every platform and Python
	$(RUN) -m pip freeze --all --exclude-editable --exclude pip | grep == > .venv/requirements.lock
	$(RUN) -m uv pip compile pyproject.toml --all-extras --universal --python-version 3.11 --generate-hashes \
	    --no-strip-extras --no-annotate --no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" \
	    --quiet --output-file .venv/requirements.lock
	mv .venv/requirements.lock requirements.lock

# pip-audit is not in the lock: it gets an environment that goes afterwards. Without --strict it would call clean what it
# could not look up; where it writes no list, nothing was.
audit: ## look for known vulnerabilities of what the lock pins (needs PyPI's advisories)
	@folder=$$(mktemp -d) && trap 'rm -rf "$$folder"' EXIT; code=0; \
	{ $(PYTHON) -m venv "$$folder" && \
	    "$$folder/bin/python" -m pip install --disable-pip-version-check --quiet pip-audit && \
	    "$$folder/bin/pip-audit" --strict --disable-pip --progress-spinner off --output "$$folder/found" \
	        --requirement requirements.lock; } > "$$folder/told" 2>&1 || code=$$?; \
	last=$$(tail -n 1 "$$folder/told" | sed 's/^ERROR:[^:]*://'); \
	if [ $$code = 0 ]; then echo "$$last"; \
	elif [ -s "$$folder/found" ]; then cat "$$folder/found"; \
	else echo "No advisory was looked up ($$last): run make audit where PyPI can be reached" >&2; fi; exit $$code

clean: ## delete weights, logs, checkpoints and finished seeds (not .venv, not data/raw)
	rm -rf runs scratch logs
