# make demo    print the scaling table of the example GPT
# make test    run all tests
# make slow    run the tests that take longer, and try the fixes of every report (minutes)
# make check   style and types (ruff, mypy)
# make schema  write the JSON Schemas of the documents from their models
# make transfer       does a learning rate carry over? a small sweep, drawn (minutes)
# make transfer-full  the searches and sweeps of docs/transfer.md, on two processes (about two hours)
# make docs    build the site from docs/ into build/site; a warning is an error
# make docs-check   follow its links, and look for what keeps people out (axe-core; needs a Chromium)
# make figures draw docs/figures from their data
# make pages   run the commands of docs/transfer.md again and paste what they print (minutes)
# make matrix  run the fast part of the suite on the oldest and the newest versions (docs/versions.md)
# make mutants change every law, one term at a time: does a test notice? (minutes)
#
# They need only Python 3.10 or newer: the first run builds .venv.  To use another Python or another torch:
#   make test PYTHON=python3.12 TORCH="torch==2.8.0"

PYTHON ?= python3
TORCH ?= torch==2.13.0
VENV := .venv
READY := $(VENV)/.ready
PIP := $(VENV)/bin/python -m pip --quiet --disable-pip-version-check

.PHONY: demo test slow check docs docs-check figures schema transfer transfer-full matrix mutants readme pages clean
.DEFAULT_GOAL := demo

demo: $(READY)
	$(VENV)/bin/tpcalc table examples/gpt.py:gpt --widths 128,256,512

# Two workers, a whole file each, one thread each: as fast as two cores are.  What was compiled once is kept, whatever the
# environment says: to make the asserts of all tests anew takes each worker ten seconds.
test: $(READY)
	PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest -n 2 --dist loadfile

slow: $(READY)
	OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest -n 2 --dist loadfile -m slow
	OMP_NUM_THREADS=1 TRY_FIXES=1 $(VENV)/bin/python -m pytest -n 2 --dist loadfile tests/verify

check: $(READY)
	$(VENV)/bin/ruff check tpcalc tests benchmarks examples docs/conf.py docs/_ext
	$(VENV)/bin/ruff format --check tpcalc tests benchmarks examples docs/conf.py docs/_ext
	$(VENV)/bin/mypy

schema: $(READY)
	for document in table scales multipliers scaled-multipliers verify check scaled-check transfer recipe drawing page; do \
	    $(VENV)/bin/tpcalc schema $$document -o tpcalc/document/schemas/$$document.json || exit 1; \
	done

# Runs are noted in runs.log of each directory: what was interrupted goes on.
EXAMPLES := examples/transfer
LANGUAGE := $(EXAMPLES)/language.py
TRAINED := docs/transfer
SWEEP = OMP_NUM_THREADS=1 $(VENV)/bin/tpcalc transfer $(LANGUAGE):$(1) --train $(LANGUAGE):train --processes 2
TUNE = OMP_NUM_THREADS=1 $(VENV)/bin/tpcalc tune $(LANGUAGE):$(1) --train $(LANGUAGE):train --processes 2
DRIFT := --scale width=32,64,128 --lr 2e-3:6.4e-2 --points 6 --seeds 3 --steps 128

transfer: $(READY)
	$(call SWEEP,gpt_tied) --scale width=32,64,128 --lr 2e-3:3.2e-2 --points 5 --seeds 1 --steps 100 -o build/transfer

transfer-full: $(READY)
	for model in gpt_tied gpt; do \
	    $(call TUNE,$$model) --base 32 --target 256 --steps 200 -o $(TRAINED)/$$model/recipe && \
	    $(call SWEEP,$$model) --scale width=32,256 --lr 1e-3:3.2e-2 --points 6 --seeds 3 --steps 200 \
	        --recipe $(TRAINED)/$$model/recipe -o $(TRAINED)/$$model/target || exit 1; \
	done
	for model in gpt_tied gpt gpt_heads gpt_moe; do \
	    $(call SWEEP,$$model) $(DRIFT) -o $(TRAINED)/$$model/drift || exit 1; \
	done
	OMP_NUM_THREADS=1 $(VENV)/bin/tpcalc transfer $(EXAMPLES)/images.py:resnet --train $(EXAMPLES)/images.py:train \
	    --optimizer $(EXAMPLES)/images.py:sgd --scale width=32,64,128 --lr 1e-2:1 --points 6 --seeds 3 --steps 128 \
	    --processes 2 -o $(TRAINED)/resnet/drift
	$(call SWEEP,gpt_deep) --scale width=64 --scale depth=2,16 --lr 2e-3:3.2e-2 --points 5 --seeds 3 --steps 200 \
	    -o $(TRAINED)/gpt_deep/deeper
	$(call TUNE,gpt_deep) --base width=32,depth=2 --target width=256,depth=16 --steps 100 -o $(TRAINED)/gpt_deep/recipe
	OMP_NUM_THREADS=1 $(VENV)/bin/python -m benchmarks.recipe_at_target $(LANGUAGE):gpt_deep --train $(LANGUAGE):train \
	    --recipe $(TRAINED)/gpt_deep/recipe --rates 5e-4,1e-3,2e-3,4e-3 --seeds 3 -o $(TRAINED)/gpt_deep/target
	$(call TUNE,gpt_deep) --base width=64,depth=2 --target width=64,depth=16 --steps 200 --target-steps 800 \
	    -o $(TRAINED)/gpt_deep/deeper_recipe
	OMP_NUM_THREADS=1 $(VENV)/bin/python -m benchmarks.recipe_at_target $(LANGUAGE):gpt_deep --train $(LANGUAGE):train \
	    --recipe $(TRAINED)/gpt_deep/deeper_recipe --rates 1.5e-3,3e-3,6e-3 --seeds 3 -o $(TRAINED)/gpt_deep/deeper_target

# make matrix SETS=newest: one of the two.  Each set has an environment of its own, under build/matrix.
matrix:
	SETS="$(SETS)" .ci/matrix

mutants: $(READY)
	OMP_NUM_THREADS=1 $(VENV)/bin/python -m tests.house.mutate

docs: $(VENV)/.docs
	$(VENV)/bin/python -m sphinx -W --keep-going -q -b html docs build/site
	@echo "the site is at build/site/index.html"

docs-check: $(VENV)/.docs
	OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest -m slow tests/house/test_site.py

figures: $(READY)
	$(VENV)/bin/python -m benchmarks.figures

# Run the commands in README.md again and paste what they print.
readme: $(READY)
	$(VENV)/bin/python tests/house/test_readme.py

pages: $(READY)
	OMP_NUM_THREADS=1 $(VENV)/bin/python tests/house/test_transfer_docs.py

# torch comes first, alone, so that nothing else chooses its build.  mup comes without its dependencies, among
# which is a torchvision that may not match that build (transformers imports torchvision where it finds it).  Of
# axe-playwright-python, too, one file is wanted: axe-core, which looks at how accessible a page is.
$(READY): pyproject.toml constraints.txt Makefile
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
	    { echo "error: $(PYTHON) is older than Python 3.10; run make with PYTHON=<a newer one>" >&2; exit 1; }
	@test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV) || \
	    { echo "error: $(PYTHON) cannot make virtual environments; install its venv module" >&2; exit 1; }
	@echo "installing into $(VENV) (a few minutes, once)"
	@$(PIP) install "$(TORCH)"
	@$(PIP) install --constraint constraints.txt --editable ".[test,bench,dev]"
	@$(PIP) install --no-deps mup==1.0.0
	@$(PIP) install --no-deps axe-playwright-python==0.1.8
	@touch $@

$(VENV)/.docs: $(READY)
	@$(PIP) install --constraint constraints.txt --editable ".[docs]"
	@touch $@

clean:
	rm -rf $(VENV) build *.egg-info
