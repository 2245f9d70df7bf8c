# SPDX-License-Identifier: GPL-3.0-or-later
SHELL := /bin/bash
# The tools of .venv first; no shims of a version manager, which answer for versions that are not active.
export PATH := $(CURDIR)/.venv/bin:$(shell tr : '\n' <<<"$$PATH" | grep -v '/shims$$' | paste -sd:)
export PYTHONDONTWRITEBYTECODE := 1
# molecule and ansible-lint print for people, not for a screen.
export NO_COLOR := 1
export MOLECULE_COMMAND_BORDERS := false
export ANSIBLE_COLLECTIONS_PATH := $(CURDIR)/playbooks/collections
PYTEST := python -m pytest -o faulthandler_timeout=300

.PHONY: venv link packages engine \
	lint lint-python lint-types lint-ansible lint-changelog sanity \
	test unit pythons service browser molecule \
	demo demo-clean trouble bench torture laboratory docs

venv: .venv/complete link
.venv/complete: tests/requirements.txt tests/testbench/venv.sh files/exporter/pyproject.toml
	tests/testbench/venv.sh

# ansible-playbook in this checkout finds the collection njord.telemetry by this link, whatever the folder is called.
link:
	@mkdir -p playbooks/collections/ansible_collections/njord
	@ln -sfn ../../../.. playbooks/collections/ansible_collections/njord/telemetry

packages: venv
	python -m tests.testbench.packages

engine: venv
	python -m tests.testbench.engine start

lint: lint-python lint-types lint-ansible lint-changelog sanity

lint-python: venv
	ruff check .
	ruff format --check .

lint-types: venv
	cd playbooks/collections && mypy --config-file ../../pyproject.toml -p ansible_collections.njord.telemetry.plugins
	mypy files/exporter
	mypy tests

lint-ansible: venv
	ansible-lint --offline

lint-changelog: venv
	antsibull-changelog lint

sanity: venv
	python -m tests.testbench.sanity

# What waits for servers and hosts goes beside what counts; each part's output comes in one piece, at its end.
test:
	$(MAKE) --jobs=2 --output-sync=target service lint unit pythons browser molecule

unit: venv
	$(PYTEST) tests/unit

pythons: venv
	python -m tests.testbench.interpreters

service: packages
	tests/testbench/debian.sh zstd
	$(PYTEST) tests --ignore=tests/unit --ignore=tests/browser

browser: packages
	tests/testbench/debian.sh chromium fonts-dejavu-core
	$(PYTEST) tests/browser

molecule: engine
	tests/testbench/molecule.sh

demo: venv
	python -m tests.demo up

demo-clean: venv
	python -m tests.demo down
	python -m tests.testbench.engine remove
	rm -rf .cache/images .cache/apt-archives

# FAULT is one of exporter, disk, labels, alert, memory, lag; none takes all of it back.
trouble: venv
	python -m tests.demo trouble $(or $(FAULT),none)

bench: packages
	python -m tests.bench

# Every fault at every point; make test takes a sample of them.
torture: venv
	python -m tests.torture

# Every fault, every pair of faults whose order is defined, and an hour of a healthy stack; make test takes a sample.
laboratory: packages
	python -m tests.laboratory

docs: venv
	antsibull-docs lint-collection-docs --plugin-docs --skip-rstcheck .
