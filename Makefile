# What people and .ci/run call: `make help` lists it.

CARGO ?= cargo
.DEFAULT_GOAL := help

include tests/bed/bed.mk

.PHONY: help chart-readme demo demo-down e2e figures fuzz image install-yaml manifests notice soak test test-unit test-bed test-oldest test-cluster lint bench model scale

## help: what can be made
help:
	@sed -n 's/^## //p' $(MAKEFILE_LIST)

## demo: a Pod that pulls a private image on a real cluster, and one that does not; KEEP=1 leaves the cluster up
demo: ready bed-cluster
	@echo "building pullpass (about 3 min the first time) …"
	@$(CARGO) build --locked
	@$(SHOW) $(if $(KEEP),--keep)

SHOW = $(BED_BIN)/bed demo --pullpass target/debug/pullpass

## demo-down: ends what KEEP=1 left up
demo-down:
	@$(BED_BIN)/bed demo --down

# The image's name, which a registry's host and path make one that a cluster can pull.
VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)
IMAGE ?= pullpass:$(VERSION)
IMAGE_FILE := target/image/pullpass.tar

## image: pullpass' image as an OCI layout, target/image/pullpass.tar, without a container engine; IMAGE names it
image: $(BED_BIN)/bed
	@mkdir -p $(dir $(IMAGE_FILE))
	@$(BED_BIN)/bed image --program "$$(image/build.sh)" --version $(VERSION) --name $(IMAGE) --output $(IMAGE_FILE)

## manifests: crd.yaml from the kind, and the plain manifests from the chart
manifests: $(BED_BIN)/helm
	@$(CARGO) run --locked --quiet -- crd >target/crd.yaml && mv target/crd.yaml manifests/crd.yaml
	@cp manifests/crd.yaml manifests/chart/crd.yaml
	@manifests/render.sh $(BED_BIN)/helm manifests

## chart-readme: the charts' READMEs from their values
chart-readme:
	PULLPASS_CHART_README=write $(CARGO) test --locked --test chart readme

## install-yaml: manifests/install.yaml with your image: IMAGE=registry.example.com/pullpass@sha256:…
install-yaml: $(BED_BIN)/helm
	@manifests/render.sh $(BED_BIN)/helm manifests "$(IMAGE)"

## notice: NOTICE and THIRD-PARTY-LICENSES from Cargo.lock
notice:
	PULLPASS_NOTICE=write $(CARGO) test --locked --test dependencies notice

## test: everything that is tested, from lints to a whole cluster
test: ready lint test-unit test-bed test-cluster e2e

# What the machine lacks is said, and installed where that can be done.
.PHONY: ready
ready:
	@tests/bed/doctor.sh --install

## lint: format, lints, documentation; licenses and sources of dependencies where cargo-deny is installed
lint:
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --no-deps --document-private-items
	@if $(CARGO) deny --version >/dev/null 2>&1; \
	then $(CARGO) deny --locked --offline check bans licenses sources; \
	else echo "licenses and sources of dependencies are not checked: cargo install --locked cargo-deny"; fi

# Tests that need nothing but this repository; every other one needs the test bed.
UNIT := acr admission bad_inputs client_auth check_azure command_line dependencies docs explain hosts reconciler layering model patch_properties policy registries serve server
# Those that take longest begin first.
LONG := controller_faults api_controller api_removal api_kill drain leader platforms
BED_TESTS := $(LONG) $(filter-out e2e rotation scale $(LONG) $(UNIT),$(patsubst tests/%.rs,%,$(wildcard tests/*.rs)))

## test-unit: the tests that need nothing but this repository
test-unit:
	$(CARGO) test --locked --lib --bins $(addprefix --test ,$(UNIT))

## test-bed: the tests against real parts, which it builds first
test-bed: bed bed-test check-moto
	$(CARGO) test --locked --no-run $(addprefix --test ,$(BED_TESTS))
	@$(MAKE) --no-print-directory --keep-going --jobs=$(SIDE_BY_SIDE) --output-sync=target $(addprefix run/,$(BED_TESTS))

# They wait most of the time; what each prints comes in one piece when it has ended.
SIDE_BY_SIDE := 3
.PHONY: $(addprefix run/,$(BED_TESTS))
$(addprefix run/,$(BED_TESTS)): run/%:
	$(CARGO) test --locked --test $*

OLDEST_TESTS := bed api_rights api_owned api_policy api_admission api_patch crd api_validate api_certificates chart api_controller

## test-oldest: what an API server decides, on the oldest Kubernetes that is supported; not part of `make test` (builds that API server first)
test-oldest: bed bed-oldest
	BED_KUBERNETES=$(BED_OLDEST) $(CARGO) test --locked --no-fail-fast $(addprefix --test ,$(OLDEST_TESTS))

## test-cluster: a whole cluster in which a Pod really pulls, in the demo's steps; and one that pulls across rotations
test-cluster: bed-cluster
	$(CARGO) test --locked --no-run --test serve
	$(SHOW)
	$(CARGO) test --locked --test rotation -- --nocapture

## e2e: pullpass as it is installed: its image, the chart by Helm, Pods that pull through it on a whole cluster
e2e: bed-cluster
	@mkdir -p target/image
	@$(BED_BIN)/bed image --program "$$(image/build.sh)" --version $(VERSION) --name pullpass.bed/pullpass:e2e --output target/image/e2e.tar
	$(CARGO) test --locked --test e2e -- --nocapture

## model: the controller over ten thousand random histories of a simulated cluster; PULLPASS_MODEL_SEED=N replays one (some minutes)
model:
	PULLPASS_MODEL_HISTORIES=10000 $(CARGO) test --locked --test model -- --nocapture

# The targets of fuzz/targets/.
FUZZ_TARGETS := answers claims kind patterns references review source_logins tenant_logins

## fuzz: each reader of what others write, by libFuzzer, RUNS times (2,000,000 unless given); TARGET for one; what it finds is in target/fuzz (an hour)
fuzz:
	@mkdir -p target/fuzz
	cd fuzz && CARGO_TARGET_DIR=../target/fuzz/build $(CARGO) build --release --locked
	@for target in $(or $(TARGET),$(FUZZ_TARGETS)); do \
	  mkdir -p target/fuzz/$$target fuzz/corpus/$$target && echo "fuzzing $$target …" && \
	  PULLPASS_FUZZ_TARGET=$$target PULLPASS_FUZZ_SEEDS=target/fuzz/$$target target/fuzz/build/*/release/fuzz -runs=$(or $(RUNS),2000000) -max_len=8192 -timeout=10 -rss_limit_mb=1024 \
	    -print_final_stats=1 -artifact_prefix=target/fuzz/$$target- target/fuzz/$$target fuzz/corpus/$$target || exit 1; \
	done

## scale: 10,000 namespaces on counting doubles: memory, start-up, writes, calls (some minutes)
scale:
	$(CARGO) test --locked --release --test scale -- --ignored --nocapture --test-threads 1

# The tests that hold a figure by tests/support/figure.rs.
FIGURES := acr api_certificates controller_faults credential_cache ecr_moto leader

## figures: how long recoveries take, each test alone, held to its bound (ten minutes); `make test` shows the same figures
figures: bed
	PULLPASS_FIGURES=strict $(CARGO) test --locked --no-fail-fast $(addprefix --test ,$(FIGURES)) -- --nocapture --test-threads 1

## bench: what a review costs, beside a floor and beside typed structs: in memory, and under load over TLS (some minutes)
bench:
	$(CARGO) bench --locked --bench admission --bench resolve --bench load

## soak: 20 rolling restarts, kills and rotations of certificates under load, shown as a table (half an hour, as it is released); ROUNDS=3 for less
soak: bed
	@mkdir -p target/soak
	@PULLPASS_ROUNDS=$(or $(ROUNDS),20) $(CARGO) test --locked --release --no-fail-fast --test drain --test api_kill --test api_certificates -- --nocapture 2>&1 | tee target/soak/log
	@echo; echo '| what | times | Pods | a second | refused | without reference |'; echo '|---|---|---|---|---|---|'; grep '^| ' target/soak/log
	@! grep -q -e '^test result: FAILED' -e '^error' target/soak/log
	@awk -F'|' '/^\| r/ && $$5 < 200 { slow = 1 } END { if (slow) print "fewer than 200 Pods a second: the machine is too slow to show it"; exit slow }' target/soak/log
