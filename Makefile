# Two commands do everything on a fresh machine:  make demo   and   make test
#   make demo [MAIL=archive.mbox] [GIT=linux.git]   track, boot two kernels, compare, publish
#   make test                                       the test suite, real kernel boots included
#   make check                                      the gate: format, lint, types, doors, tests
#   make bench                                      the benchmarks
#   make fuzz [SEED=1] [COUNT=1000000] [FROM=0]     mutated mails through the parser, in two processes
MAIL ?=
GIT ?=
PYTHON ?= python3
export PYTHON

.PHONY: demo test check bench fuzz clean
.DEFAULT_GOAL := help

.PHONY: help
help:
	@sed -n '1,7s/^# \{0,1\}//p' Makefile

demo:
	@setup/tools.sh demo
	@setup/environment.sh
	@.venv/bin/xdnawatch demo $(if $(MAIL),--mail '$(MAIL)') $(if $(GIT),--git '$(GIT)')

test:
	@setup/tools.sh test
	@setup/environment.sh dev
	@setup/tests.sh

check:
	@setup/tools.sh test
	@setup/environment.sh dev
	@setup/gate.sh

bench:
	@setup/tools.sh test
	@setup/environment.sh dev
	@for each in benchmarks/*.py; do echo "== $$each"; .venv/bin/python $$each || exit 1; done

SEED ?= 1
COUNT ?= 1000000
FROM ?= 0
fuzz:
	@setup/environment.sh dev
	@.venv/bin/python -m tests.mail_fuzz --growth
	@.venv/bin/python -m tests.mail_fuzz --seed $(SEED) --count $(COUNT) --from $(FROM)

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
