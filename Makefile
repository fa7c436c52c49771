# Needs Python 3.11 or newer (with venv) and make. Everything is made under .cache/; `make clean` removes it.
#
#   make demo        two services talking, live      (AMQP_URI=amqp://... runs it on RabbitMQ)
#   make cluster     Nameko of both versions and micro_framework on one RabbitMQ  (ARGS="--seconds 60")
#   make test        everything                      (ARGS="tests/wire -k naming" chooses; AMQP_URI=... uses that broker)
#   make test-all    the same on every Python from 3.11 up that is installed
#   make test-rabbitmq SUITE=trixie  the same on the RabbitMQ of another Debian release (as root)
#   make soak        the fault tests at full size, then an hour's messages at the highest rate
#                    (MF_SOAK=20 is how many times the usual size; MF_SOAK_SECONDS=3600, 0 leaves the hour out)
#   make lint        ruff and mypy alone
#   make bench       every benchmark, every peer     (ARGS="--only 10 --rounds 3" chooses; about two hours in all)
#   make bench-quick a first comparison with Nameko and raw clients, three minutes
#   make nameko-tests  the tests of Nameko and of its extensions, against nameko_compat (half an hour)
#   make docs        the documentation as HTML, in .cache/docs
#
# PYTHON=/path/to/python3 chooses the interpreter.

.DEFAULT_GOAL := help
.PHONY: nameko-tests help demo cluster test test-all test-rabbitmq soak lint format bench bench-quick docs clean

FIND_PYTHON := sh scripts/find_python.sh
MF_SOAK_FULL := $(or $(MF_SOAK),20)

help:
	@sed -n 's/^# \{0,1\}//p' Makefile

demo:
	@python=$$($(FIND_PYTHON)) && python=$$($$python scripts/environments.py run) && exec $$python -m micro_framework demo $(ARGS)

cluster:
	@python=$$($(FIND_PYTHON)) && exec $$python examples/mixed_cluster/run.py $(ARGS)

test:
	@python=$$($(FIND_PYTHON)) && exec $$python scripts/run_tests.py $(ARGS)

test-all:
	@pythons=$$($(FIND_PYTHON) --all) && for python in $$pythons; do $$python scripts/run_tests.py $(ARGS) || exit 1; done

test-rabbitmq:
	@python=$$($(FIND_PYTHON)) && home=$$($$python scripts/debian_rabbitmq.py $(SUITE)) && \
	    MF_RABBITMQ_HOME=$$home exec $$python scripts/run_tests.py $(ARGS)

soak:
	@python=$$($(FIND_PYTHON)) && MF_SOAK=$(MF_SOAK_FULL) MF_TEST_WORKERS=0 exec $$python scripts/run_soak.py $(ARGS)

lint:
	@python=$$($(FIND_PYTHON)) && exec $$python scripts/run_tests.py --lint

format:
	@python=$$($(FIND_PYTHON)) && python=$$($$python scripts/environments.py test) && $$python -m ruff check --fix . && $$python -m ruff format .

bench:
	@python=$$($(FIND_PYTHON)) && exec $$python scripts/run_benchmarks.py $(ARGS)

docs:
	@python=$$($(FIND_PYTHON)) && python=$$($$python scripts/environments.py test) && \
	    $$python -m sphinx -q -W --keep-going -b html -c docs . .cache/docs && echo "open .cache/docs/docs/index.html"

nameko-tests:
	@python=$$($(FIND_PYTHON)) && exec $$python scripts/run_nameko_tests.py $(ARGS)

bench-quick:
	@python=$$($(FIND_PYTHON)) && exec $$python scripts/run_benchmarks.py --quick $(ARGS)

clean:
	rm -rf .cache .pytest_cache .mypy_cache .ruff_cache
