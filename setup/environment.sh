#!/usr/bin/env bash
# Make or refresh the virtual environment .venv. usage: setup/environment.sh [dev]
# Does nothing when pyproject.toml has not changed since the last time.
set -eu
cd "$(dirname "$0")/.."
group=${1:-}
python=${PYTHON:-python3}
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
  { echo "xdnawatch needs Python 3.11 or newer; $python is $("$python" --version 2>&1). Name another: make PYTHON=python3.12 ..." >&2; exit 1; }
stamp=.venv/installed-${group:-base}-$(sha256sum pyproject.toml | cut -c1-16)
[ -e "$stamp" ] && exit 0
[ -x .venv/bin/python ] || "$python" -m venv .venv
echo "setting up .venv (once)" >&2
.venv/bin/pip install -q --disable-pip-version-check --upgrade 'pip>=25.1'
.venv/bin/pip install -q --disable-pip-version-check -e . ${group:+--group "$group"}
rm -f .venv/installed-"${group:-base}"-*
touch "$stamp"
