# What people and .ci/run call: `make help` lists it.

CARGO ?= cargo
.DEFAULT_GOAL := help

include tests/bed/bed.mk

.PHONY: help test test-unit test-bed lint

## help: what can be made
help:
	@sed -n 's/^## //p' $(MAKEFILE_LIST)

## test: everything that is tested, from lints to real clusters
test: lint test-unit test-bed

## lint: format, lints, documentation
lint:
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --no-deps --document-private-items

# Tests that need nothing but this repository; every other one needs the test bed.
UNIT := dependencies explain hosts layering registries
BED_TESTS = $(filter-out $(UNIT),$(patsubst tests/%.rs,%,$(wildcard tests/*.rs)))

## test-unit: the tests that need nothing but this repository
test-unit:
	$(CARGO) test --locked --lib --bins $(addprefix --test ,$(UNIT))

## test-bed: the tests against real parts, which it builds first
test-bed: bed
	$(CARGO) test --locked $(addprefix --test ,$(BED_TESTS))
