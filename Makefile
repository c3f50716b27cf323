# make demo   plant a backdoor in a small CLIP, find it, remove it; write the report
# make test   lint, types, tests
# Both set up .venv by themselves. PYTHON=... and DEMO=... choose another Python and other overrides.
PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3; do \
	command -v $$p >/dev/null 2>&1 && $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	2>/dev/null && { command -v $$p; break; }; done)
BIN := .venv/bin
DEMO ?= attack=badnet
WORKERS ?= 2

.PHONY: demo test lint types unit clean
.DELETE_ON_ERROR:

demo: .venv
	$(BIN)/invertune run $(DEMO)
	$(BIN)/invertune table runs
	$(BIN)/invertune report runs

test: lint types unit

lint: .venv
	$(BIN)/ruff check .
	$(BIN)/lint-imports --no-cache

types: .venv
	$(BIN)/mypy

unit: .venv
	$(BIN)/pytest -n $(WORKERS) --dist worksteal

# The stamp is written last: an interrupted installation is stale and done again.
.venv: .venv/installed
.venv/installed: pyproject.toml
	@test -n "$(PYTHON)" || { echo "error: no Python of at least 3.11 found;" \
		"try: sudo apt-get install -y python3 python3-venv python3-pip" >&2; exit 1; }
	@rm -f $@
	@if command -v uv >/dev/null 2>&1; then \
		uv venv --quiet --allow-existing --python $(PYTHON) .venv && \
		uv pip install --quiet --python $(BIN)/python -e '.[dev]'; \
	else \
		{ test -x $(BIN)/pip || $(PYTHON) -m venv .venv || { echo "error: $(PYTHON) has no venv;" \
			"try: sudo apt-get install -y python3-venv" >&2; exit 1; }; } && \
		$(BIN)/pip install --quiet --disable-pip-version-check -e '.[dev]'; \
	fi
	@touch $@

clean:
	rm -rf .venv runs
