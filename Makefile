# The developer commands. `make check` before each commit: under a minute once .venv is there.
BIN = .venv/bin
FAST = tests/test_layers.py tests/test_docs.py tests/core tests/planning --ignore=tests/core/test_adapter_info.py --ignore=tests/core/test_core.py \
       --ignore=tests/core/test_startup.py
# What loads models or starts programs is left to tests/run.

.PHONY: check test map venv
check: venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --strict llm_installer handlers tools
	$(BIN)/python -m pytest -q -n 2 $(FAST)

test:
	tests/run

map: venv
	$(BIN)/python tools/map.py --files

venv:
	LLM_INSTALLER_SETUP_ONLY=1 LLM_INSTALLER_EXTRAS=dev ./llm-installer
