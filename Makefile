# On a machine with nothing but Debian 12 and CPython 3.11: `make demo` or `make test`.
SHELL := bash
SKILL ?= $(if $(wildcard src/humanx_policy/policies/football.onnx),football,stand)
MODE ?= mocap
SEED ?= 1

.PHONY: help setup build test bench demo lint clean

help:  ## Show this list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup:  ## Environment and colcon build; does nothing where nothing changed
	@scripts/setup

build: setup  ## The same: colcon build is part of the setup
	@scripts/build

test: setup  ## Lint, and all tests but the slow ones
	@scripts/test

bench: setup  ## Benchmarks: tables here, figures in out/bench/
	@scripts/bench

demo: setup  ## One judged, recorded trial of the whole graph (SKILL=, MODE=, SEED=), and its bag judged again
	@scripts/demo "$(MODE)" "$(SKILL)" "$(SEED)"

lint: setup  ## ruff and mypy
	@. scripts/env.sh && ruff check . && mypy launch/humanx src/*/humanx_*/

clean:  ## Remove what colcon built; the environment stays
	rm -rf build install log
