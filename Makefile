# Every target does its own set-up. PROFILE is a file of params/, ROOT the folder that holds the images, ONLY one notebook or several.
# LOCK is the file with the exact versions to install; `make test LOCK=` takes the newest that pyproject.toml allows.
PYTHON ?= python3
PROFILE ?= demo
VENV ?= .venv
LOCK ?= $(wildcard locks/$(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])').txt)
BIN := $(VENV)/bin
INSTALLED := $(BIN)/.installed-$(or $(basename $(notdir $(LOCK))),newest)
PATHED := PATH="$(abspath $(BIN)):$$PATH"

# glibc: keep large blocks instead of returning them to the kernel after every layer; training is then faster (benchmarks/training.py)
export MALLOC_MMAP_MAX_ ?= 0
export MALLOC_TRIM_THRESHOLD_ ?= 8589934592

# the tests, spread over the cores: threads of two tests on the same cores would wait for each other
SPREAD := OMP_NUM_THREADS=1 python -m pytest -n auto --maxprocesses 8 --dist worksteal

.PHONY: setup reproduce reference readme summary verify site student-copies instructor-copies slides bundle test pins newest lock lab bench clean

setup: $(INSTALLED)

$(INSTALLED): pyproject.toml $(LOCK)
	$(PYTHON) -c 'import sys; assert (3, 11) <= sys.version_info < (3, 14), "kdig needs Python 3.11 to 3.13: make PYTHON=python3.12"'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet $(if $(LOCK),--constraint "$(LOCK)") --editable '.[test,cluster,edge]'
	rm -f $(BIN)/.installed-*
	touch $@

reproduce: setup
	$(PATHED) python -m kdig --profile $(PROFILE) $(if $(ROOT),--root "$(ROOT)") $(if $(ONLY),--only $(ONLY))

# what a finished profile has to say, in a form to be committed: no networks, no caches; the report's links lead to notebooks
REFERENCE := outputs/reference/$(PROFILE)
reference: reproduce
	mkdir -p $(REFERENCE)
	for part in executed facts measures runs scores splits tables; do \
		rm -rf $(REFERENCE)/$$part; \
		if [ -e outputs/$(PROFILE)/$$part ]; then cp -r outputs/$(PROFILE)/$$part $(REFERENCE); fi; \
	done
	rm $(REFERENCE)/executed/*.html
	$(PATHED) python -m kdig.study.report $(PROFILE) $(REFERENCE)
	$(PATHED) python -m kdig.study.printing $(PROFILE) $(REFERENCE)
	$(PATHED) python -m kdig.study.seal $(REFERENCE)

# two pages about a profile, as HTML and, where chromium is, as PDF
summary: setup
	$(PATHED) python -m kdig.study.printing $(PROFILE)

# every number of the committed pages, back to its source
verify: setup
	$(PATHED) python -m kdig.study.verify

# pages from what a profile has found, its reference if there is one; nothing is executed. SOURCE is the address of the sources on the web
site: PROFILE = lite
site: $(BIN)/.installed-site
	$(PATHED) python -m kdig.study.site --profile $(PROFILE) $(if $(SOURCE),--source "$(SOURCE)")

$(BIN)/.installed-site: $(INSTALLED)
	$(BIN)/python -m pip install --quiet $(if $(LOCK),--constraint "$(LOCK)") --editable '.[site]'
	touch $@

# the results that the README and docs/results.md state, from the committed reference
readme: setup
	$(PATHED) python -m kdig.study.readme
	$(PATHED) python -m kdig.study.index

# the notebooks for a class: without solutions in outputs/classroom/student, with them in outputs/classroom/instructor
student-copies instructor-copies: %-copies: setup
	$(PATHED) python -m kdig.study.classroom $*

# the project with the finished demo in one file, for the computers of a class
bundle: setup
	$(PATHED) python -m kdig.study.bundle --profile $(PROFILE)

# a deck for each lecture from the notebooks as they ran in the profile, each one file that needs no network
slides: $(BIN)/.installed-site
	$(PATHED) python -m kdig.study.slides --profile $(PROFILE)

test: setup
	$(PATHED) ruff check kdig tests notebooks benchmarks docs
	$(PATHED) ruff format --check kdig tests notebooks benchmarks docs
	$(PATHED) mypy
	$(PATHED) $(SPREAD) tests
	$(PATHED) OMP_NUM_THREADS=1 python -m pytest -n 2 --dist loadfile --nbval-lax --nbval-current-env --nbval-cell-timeout=900 -p no:cacheprovider notebooks
	$(PATHED) KDIG_FACTS="$${KDIG_OUTPUTS:-outputs}/demo/facts" python -m pytest tests/test_golden.py

# the tests with the newest versions that pyproject.toml allows, in an environment of their own, and what differs from the lock
newest:
	$(MAKE) setup LOCK= VENV=.venv-newest
	.venv-newest/bin/python -m kdig.core.locked
	$(MAKE) test LOCK= VENV=.venv-newest

# the exact versions for this PYTHON, from what pip would install now
lock:
	$(PYTHON) -m venv .venv-lock
	.venv-lock/bin/python -m pip install --quiet --dry-run --ignore-installed --report .venv-lock/report.json '.[test,cluster,edge]'
	mkdir -p locks
	PYTHONPATH=. .venv-lock/bin/python -m kdig.core.locked .venv-lock/report.json > .venv-lock/lock.txt
	mv .venv-lock/lock.txt locks/$$($(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])').txt
	rm -rf .venv-lock

# numbers that no change may move, and that hold on every processor: try ONEDNN_MAX_CPU_ISA=AVX2 ATEN_CPU_CAPABILITY=avx2 make pins
pins: setup
	$(PATHED) $(SPREAD) tests -m pins

bench: setup
	$(PATHED) python benchmarks/attribution.py
	$(PATHED) python benchmarks/training.py
	$(PATHED) python benchmarks/growth.py
	$(PATHED) python benchmarks/overheads.py

lab: setup
	$(PATHED) jupyter lab --ServerApp.root_dir=. notebooks/index.ipynb

clean:
	rm -rf .venv .venv-newest .venv-lock outputs/demo outputs/site
