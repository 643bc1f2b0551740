# make demo [IMAGE=photo.jpg]   segment and complete example pictures with the bundled model
# make test                     the fast tests;  make slow, make long: the slow ones;  make check: ruff and mypy;  make docs: the site
# make package                  wheel and source archive in dist/
# make figures                  redraw the paper's figures (docs/figures.md); an hour on two cores
# Everything runs in .venv, which the first call creates.

VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DEMO ?= demo
IMAGE ?=

# The first Python that is new enough; PYTHON=... chooses another.
PYTHON ?= $(shell for p in python3 python3.11 python3.12 python3.13 python3.14 python; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$$p" && break; done)

# One thread per test worker, so that two workers do not fight for two cores. A file's tests go to one worker, which makes its models once.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest

.PHONY: help env demo figures test slow long browser ray oracles check docs package clean
.DELETE_ON_ERROR:

help:
	@sed -n '1,5s/^# //p' Makefile

env: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "make: Python 3.11 or newer was not found; name it with PYTHON=/path/to/python" >&2; exit 1; }
	test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV); the first time this takes some minutes"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev,docs]' --constraint constraints.txt
	@touch $@

demo: $(STAMP)
	$(BIN)/ldmseg data scenes --count 4 --seed 10000000 -o $(DEMO)/scenes
	$(BIN)/ldmseg data partial --data coco-panoptic:$(DEMO)/scenes --seed 1 -o $(DEMO)/partial
	$(BIN)/python examples/demo_photos.py --folder $(DEMO)
	$(BIN)/ldmseg segment $(DEMO)/photos $(DEMO)/scenes/images -o $(DEMO)/segmented
	$(BIN)/ldmseg inpaint $(DEMO)/photos $(DEMO)/scenes/images --partial $(DEMO)/partial -o $(DEMO)/completed
	$(BIN)/python examples/sheet.py --folder $(DEMO)
	$(if $(IMAGE),$(BIN)/ldmseg segment "$(IMAGE)" -o $(DEMO)/yours)
	@echo
	@echo "The pictures are in $(DEMO)/:"
	@echo "  $(DEMO)/sheet.png       photo, segmentation, what was given, completion, side by side"
	@echo "  $(DEMO)/segmented/      <photo>_overlay.png to look at, <photo>.png and panoptic.json to work with"
	@echo "  $(DEMO)/completed/      the same for the completed partial maps (given: $(DEMO)/partial/)"
	@$(if $(IMAGE),echo "  $(DEMO)/yours/          your photo: $(notdir $(IMAGE))",echo "Your own photo: make demo IMAGE=photo.jpg")

figures: $(STAMP)
	$(BIN)/python benchmarks/figures.py

test: $(STAMP)
	$(PYTEST) -n 2 --dist loadfile

slow: $(STAMP)
	$(PYTEST) -m "slow and not long" -n 2 --dist loadfile

long: $(STAMP)
	LDMSEG_BROWSER=1 $(PYTEST) -m long -p no:xdist

browser: $(STAMP)
	LDMSEG_BROWSER=1 $(PYTEST) -m slow -p no:xdist tests/test_annotate_browser.py

ray: $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev,ray]' --constraint constraints.txt
	$(PYTEST) -m '' -p no:xdist tests/test_archive_cluster.py

# Other people's programs that judge the connectors and figures; each has an environment of its own.
ORACLES := label-studio cvat-cli datumaro supervision pycocotools
ORACLE_NEEDS_cvat-cli := 'cvat-sdk[masks]' numpy
ORACLE_NEEDS_pycocotools := panopticapi-lite

oracles: $(STAMP)
	for name in $(ORACLES); do test -x .oracles/$$name/bin/python || $(PYTHON) -m venv .oracles/$$name || exit; done
	$(foreach name,$(ORACLES),.oracles/$(name)/bin/pip install --quiet --disable-pip-version-check $(name) $(ORACLE_NEEDS_$(name)) &&) true
	LDMSEG_ORACLE_PYTHONS=$(subst $() $(),:,$(foreach name,$(ORACLES),$(CURDIR)/.oracles/$(name)/bin/python)) $(PYTEST) -m "not long" -p no:xdist \
		$$(grep -l "^from oracle import" tests/test_*.py)

package: $(STAMP)
	rm -rf dist
	$(BIN)/python -m build --outdir dist . > /dev/null
	$(BIN)/python tests/check_wheel.py dist

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/mypy

docs: $(STAMP)
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet

clean:
	rm -rf $(VENV) $(DEMO) build dist site
