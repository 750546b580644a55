# Two commands set up from nothing: `make reproduce` and `make test`; `make check` is for every edit. They need Python 3.11 or newer and a package index.
# The environment lives in .venv and is rebuilt when what it is made from changes: the interpreter, the declared
# dependencies or the pinned versions. That is decided by content, not by dates. A folder that is something else is never
# replaced.

PYTHON ?= python3
VENV ?= .venv
OUT ?= out
CONSTRAINTS ?= constraints.txt
BIN := $(VENV)/bin
PARALLEL := -n auto --maxprocesses 4 --dist worksteal

define FINGERPRINT
import hashlib, pathlib, sys
if sys.version_info < (3, 11):
    sys.exit("this needs Python 3.11 or newer, found " + sys.version.split()[0] + "; try: make PYTHON=python3.12")
inputs = [pathlib.Path(name).read_bytes() for name in ("pyproject.toml", sys.argv[1])]
print(hashlib.sha256(repr((sys.version, inputs)).encode()).hexdigest()[:16])
endef
export FINGERPRINT

.PHONY: reproduce test check proof lint docs environment clean

reproduce: environment ## run the main job on the embedded digits
	$(BIN)/python -m experiments fig10 --preset default --out $(OUT)

test: environment ## run the tests
	$(BIN)/python -m pytest $(PARALLEL)

check: lint ## lint, types, and the tests that need no training
	$(BIN)/python -m pytest $(PARALLEL) -m "not (training or endurance)"

proof: ## have Coq check the proof of the theorem; it must be installed
	$(PYTHON) -m proof.check

lint: environment ## style, types and the import contract
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: environment ## build the documentation site, warnings are errors
	$(BIN)/python -m website "$(abspath $(OUT))/site"

environment:
	@fingerprint=$$($(PYTHON) -c "$$FINGERPRINT" "$(CONSTRAINTS)") && \
	if [ ! -e "$(VENV)/.built-$$fingerprint" ]; then \
		if [ -e "$(VENV)" ] && ! ls "$(VENV)"/.built-* > /dev/null 2>&1; then \
			echo "$(VENV) is there and is not of this Makefile: it would be replaced; choose another VENV" >&2; exit 2; \
		fi && \
		echo "building the environment in $(VENV) (a minute or two)" && \
		rm -rf "$(VENV)" && \
		$(PYTHON) -m venv "$(VENV)" && touch "$(VENV)/.built-in-part" && \
		"$(BIN)/python" -m pip install -qq --disable-pip-version-check \
			--constraint $(CONSTRAINTS) --editable '.[dev]' && \
		touch "$(VENV)/.built-$$fingerprint"; \
	fi

clean: ## remove the environment
	@if [ -e "$(VENV)" ] && ! ls "$(VENV)"/.built-* > /dev/null 2>&1; then \
		echo "$(VENV) is not of this Makefile and is left alone" >&2; exit 2; \
	fi
	rm -rf "$(VENV)"
