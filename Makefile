# Every target does its own set-up. PROFILE is a folder of params/, ROOT the folder that holds the pictures, ONLY one notebook.
PYTHON ?= python3
PROFILE ?= demo
BIN := .venv/bin
PATHED := PATH="$(CURDIR)/$(BIN):$$PATH"

# glibc: keep large blocks instead of returning them to the kernel after every layer; training is then faster (benchmarks/training.py)
export MALLOC_MMAP_MAX_ ?= 0
export MALLOC_TRIM_THRESHOLD_ ?= 8589934592

.PHONY: setup reproduce reference test lab bench clean

setup: $(BIN)/.installed

$(BIN)/.installed: pyproject.toml
	$(PYTHON) -c 'import sys; assert (3, 11) <= sys.version_info < (3, 14), "kdig needs Python 3.11 to 3.13: make PYTHON=python3.12"'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --editable '.[test,cluster]'
	touch $@

reproduce: setup
	$(PATHED) python -m kdig.reproduce --profile $(PROFILE) $(if $(ROOT),--root "$(ROOT)") $(if $(ONLY),--only $(ONLY))

# what a finished profile has to say, in a form to be committed: no networks, no caches; the report's links lead to notebooks
REFERENCE := outputs/reference/$(PROFILE)
reference: reproduce
	rm -rf $(REFERENCE) && mkdir -p $(REFERENCE)
	cd outputs/$(PROFILE) && cp -r executed facts runs splits tables ../reference/$(PROFILE)
	rm $(REFERENCE)/executed/*.html
	sed -E 's|executed/([0-9a-z_]+)\.html(#cell-id=[^"]*)?|executed/\1.ipynb|g' outputs/$(PROFILE)/report.html > $(REFERENCE)/report.html

test: setup
	$(PATHED) ruff check kdig tests notebooks benchmarks
	$(PATHED) ruff format --check kdig tests notebooks benchmarks
	$(PATHED) mypy
	$(PATHED) python -m pytest tests
	$(PATHED) python -m pytest --nbval-lax --nbval-current-env --nbval-cell-timeout=900 -p no:cacheprovider notebooks

bench: setup
	$(PATHED) python benchmarks/attribution.py
	$(PATHED) python benchmarks/training.py
	$(PATHED) python benchmarks/growth.py
	$(PATHED) python benchmarks/overheads.py

lab: setup
	$(PATHED) jupyter lab notebooks

clean:
	rm -rf .venv outputs/demo
