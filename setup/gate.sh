#!/usr/bin/env bash
# The one gate. Every step runs, each with its own bit in the exit status:
# 1 format, 2 lint, 4 types, 8 doors, 16 tests. usage: setup/gate.sh [--no-tests]
set -u
cd "$(dirname "$0")/.."
status=0
step() { # bit, name, command...
  local bit=$1 name=$2 started=$SECONDS
  shift 2
  if "$@"; then
    echo "gate: $name ok ($((SECONDS - started)) s)"
  else
    echo "gate: $name FAILED ($((SECONDS - started)) s)"
    status=$((status | bit))
  fi
}
bin=.venv/bin
step 1 format "$bin/ruff" format --check --quiet .
step 2 lint "$bin/ruff" check --quiet .
step 4 types "$bin/mypy" --no-error-summary db harness lab reports tracker xdnawatch
step 8 doors "$bin/lint-imports" --no-logo --config pyproject.toml
[ "${1:-}" = --no-tests ] || step 16 tests setup/tests.sh
exit "$status"
