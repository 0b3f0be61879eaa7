#!/usr/bin/env bash
# Fill the lab's cache (QEMU, guest, kernels), then run the tests. usage: setup/tests.sh [pytest arguments]
# What cannot be fetched is said here and again by the tests that it leaves out: that run is a partial one.
set -u
cd "$(dirname "$0")/.."
kernels=(7.0.13 7.3.4)
export XDNAWATCH_TEST_CACHE=${XDNAWATCH_TEST_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/xdnawatch}
fetch=(--layer xrt)
for kernel in "${kernels[@]}"; do fetch+=(--kernel "$kernel"); done
export XDNAWATCH_CACHE=$XDNAWATCH_TEST_CACHE
if ! .venv/bin/xdnawatch lab fetch "${fetch[@]}"; then
  echo "tests: the lab could not be fetched (see above); tests that boot a kernel will be left out" >&2
elif ! .venv/bin/xdnawatch bisect fetch --kernel "${kernels[-1]}"; then
  echo "tests: the compiler could not be fetched (see above); tests that build a module will be left out" >&2
fi
unset XDNAWATCH_CACHE
# One process a processor. Tests are handed out one by one in their order, fast ones first, and those that share
# an expensive fixture stay in one process (tests/conftest.py). `setup/tests.sh -n 0` runs all in one.
exec .venv/bin/pytest -n logical --maxprocesses 4 --dist loadgroup --no-loadscope-reorder "$@"
