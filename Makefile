# Everything runs in .venv, made on first use. `make help` lists the targets.
VENV  := .venv
BIN   := $(VENV)/bin
# The first Python that the SIP library has wheels for; `make PYTHON=/usr/bin/python3.12 test` takes another.
FITS  := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))
PYTHON ?= $(shell for p in python3 python3.12 python3.11; do $$p -c '$(FITS)' 2>/dev/null && echo $$p && break; done)
# RUNLEVEL=1: a package that brings a server must not start it.
ROOT  := $(shell test "$$(id -u)" = 0 || echo sudo) env RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive
# A fresh machine has no package lists yet: where the package is not found, fetch them and try again.
apt    = { $(ROOT) apt-get install -y -qq $(1) || { $(ROOT) apt-get update -qq && $(ROOT) apt-get install -y -qq $(1); }; }

.PHONY: help run demo test test-docker test-ipv6 check bench soak fuzz memory many format clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

run: $(VENV)/lab ## answer calls on port 5060 (needs OPENAI_API_KEY; without one: make run ARGS=--simulate)
	$(BIN)/gateway serve $(ARGS)

demo: $(VENV)/lab ## one real SIP call against the simulator, shown as a table; leaves out/demo.wav and out/demo.png
	$(BIN)/gateway demo

test: check /usr/bin/sipp /usr/bin/redis-server /usr/bin/baresip /usr/sbin/kamailio /usr/share/doc/kamailio-tls-modules /usr/bin/tcpdump /usr/bin/openssl /usr/bin/prometheus /usr/bin/promtool /usr/bin/chromium ## all checks and all tests
	$(BIN)/python -m pytest -m "unit or integration" -n 6 --dist worksteal --cov --cov-report=term:skip-covered --cov-fail-under=85
	$(BIN)/python -m pytest -m "e2e and not docker" -n 4 --dist loadgroup

test-docker: $(VENV)/dev /usr/bin/sipp /usr/bin/buildah /usr/sbin/debootstrap ## builds the container image, as root, and runs its processes
	$(ROOT) $(BIN)/python -m pytest tests/e2e/test_image.py -p no:cacheprovider

test-ipv6: $(VENV)/dev /usr/sbin/kamailio /usr/bin/rtpengine ## calls over IPv6, with rtpengine for their sound
	$(BIN)/python -m pytest tests/integration/test_edge_ipv6.py

check: $(VENV)/dev ## format, lint, types, import contracts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/lab /usr/sbin/kamailio ## CPU, memory and latency of 40 calls, about five minutes; also in out/bench.json
	$(BIN)/gateway bench $(or $(ARGS),--calls 40)

soak: $(VENV)/dev /usr/bin/sipp ## 30 minutes of calls with random faults upstream, watched for leaks
	$(BIN)/python -m tests.soak $(ARGS)

fuzz: $(VENV)/dev ## mutated SIP, SDP, RTP and TCP against the SIP side; findings go to tests/fuzz/corpus
	$(BIN)/python -m tests.fuzz $(ARGS)

memory: $(VENV)/dev ## 3000 short calls against one worker: its memory each 250, the longest gap in the audio
	$(BIN)/python -m tests.short_calls $(ARGS)

many: $(VENV)/dev /usr/bin/redis-server /usr/sbin/kamailio ## a fleet under load while workers, edge or Redis are killed: what callers notice
	$(BIN)/python -m tests.many_calls $(ARGS)

format: $(VENV)/dev ## put the code into shape
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean: ## forget what was built and left behind
	rm -rf $(VENV) out .coverage* .*_cache .hypothesis

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "No Python 3.11 or 3.12 found: install one (apt-get install python3) or name it: make PYTHON=..."; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || $(call apt,python3-venv)
	$(PYTHON) -m venv $(VENV)

$(VENV)/lab: pyproject.toml | $(BIN)/python
	$(BIN)/pip install -q --disable-pip-version-check -e '.[lab]'
	@touch $@

$(VENV)/dev: pyproject.toml | $(BIN)/python
	$(BIN)/pip install -q --disable-pip-version-check -e '.[dev]'
	@touch $@ $(VENV)/lab

/usr/bin/sipp:
	$(call apt,sip-tester)

/usr/bin/redis-server:
	$(call apt,redis-server)

/usr/bin/baresip:
	$(call apt,baresip-core)

/usr/sbin/kamailio:
	$(call apt,kamailio)

/usr/share/doc/kamailio-tls-modules:
	$(call apt,kamailio-tls-modules)

/usr/bin/rtpengine:
	$(call apt,rtpengine-daemon)

/usr/bin/tcpdump:
	$(call apt,tcpdump)

/usr/bin/chromium:
	$(call apt,chromium fonts-dejavu-core)

/usr/bin/openssl:
	$(call apt,openssl)

/usr/bin/prometheus:
	$(call apt,prometheus)

/usr/bin/promtool: /usr/bin/prometheus ;

/usr/bin/buildah:
	$(call apt,buildah)

/usr/sbin/debootstrap:
	$(call apt,debootstrap)
