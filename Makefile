# What people and .ci/run call: `make help` lists it.

CARGO ?= cargo
.DEFAULT_GOAL := help

include tests/bed/bed.mk

.PHONY: help dashboard demo demo-down e2e figures fuzz image install-yaml manifests notice reference release release-again soak test test-unit test-bed test-oldest test-cluster test-consumers lint bench model scale

## help: what can be made
help:
	@sed -n 's/^## //p' $(MAKEFILE_LIST)

## demo: a Pod that pulls a private image on a real cluster, and one that does not; KEEP=1 leaves the cluster up
demo: ready bed-demo
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
# What `pullpass version` says; a build for tests leaves it out, which would build the program anew after each commit.
COMMIT = $(shell git describe --always --dirty --abbrev=40 --exclude '*' 2>/dev/null || echo unknown)

## image: pullpass' image as an OCI layout, target/image/pullpass.tar, without a container engine; IMAGE names it
image: $(BED_BIN)/bed
	@mkdir -p $(dir $(IMAGE_FILE))
	@$(BED_BIN)/bed image --program "$$(PULLPASS_COMMIT="$(COMMIT)" image/build.sh)" --version $(VERSION) --name $(IMAGE) --output $(IMAGE_FILE)

# Everything of it is in .gitignore's /target.
RELEASE_FILES := target/release-artifacts

## release: what a release consists of, the same bytes wherever it is built: VERSION=x.y.z, IMAGE_REPOSITORY; ARCHITECTURES="amd64 arm64" fails where one cannot be built (docs/RELEASING.md)
release: $(BED_BIN)/bed $(BED_BIN)/helm
	@CARGO_TARGET_DIR=target/release-build image/release.sh "$(VERSION:v%=%)" "$(IMAGE_REPOSITORY)" $(BED_BIN)/bed $(BED_BIN)/helm $(RELEASE_FILES)

## release-again: a release once more, in another folder and under other settings, compared with the first
release-again: $(BED_BIN)/bed $(BED_BIN)/helm
	@image/again.sh "$(VERSION:v%=%)" "$(IMAGE_REPOSITORY)" $(BED_BIN)/bed $(BED_BIN)/helm $(RELEASE_FILES)

IMAGE_REPOSITORY ?= registry.example.com/pullpass

## manifests: crd.yaml from the kind, and the plain manifests from the chart
manifests: $(BED_BIN)/helm
	@$(CARGO) run --locked --quiet -- crd >target/crd.yaml && mv target/crd.yaml manifests/crd.yaml
	@cp manifests/crd.yaml manifests/chart/crd.yaml
	@manifests/render.sh $(BED_BIN)/helm manifests

## reference: the parts of docs/reference/ and of the charts' READMEs that are made from the code, the chart and the kind
reference:
	PULLPASS_REFERENCE=write $(CARGO) test --locked --test unit reference::

## install-yaml: manifests/install.yaml with your image: IMAGE=registry.example.com/pullpass@sha256:…
install-yaml: $(BED_BIN)/helm
	@manifests/render.sh $(BED_BIN)/helm manifests "$(IMAGE)"

## notice: NOTICE and THIRD-PARTY-LICENSES from Cargo.lock
notice:
	PULLPASS_NOTICE=write $(CARGO) test --locked --test unit dependencies::notice

## test: everything that is tested, from lints to a whole cluster
test: ready lint test-unit test-bed test-cluster

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

# A test program is a folder of tests/; a module of one is run alone by `make run/PROGRAM/MODULE`, in a process of its own.
modules = $(patsubst tests/%.rs,%,$(filter-out %/main.rs,$(wildcard tests/$(1)/*.rs)))
# Those that take longest begin first.
LONG := $(addprefix api/,controller_faults api_controller api_removal api_kill drain leader platforms)
BED_TESTS := $(LONG) $(filter-out $(LONG),$(call modules,api) $(call modules,clouds))

## test-unit: the tests that need nothing but this repository
test-unit:
	$(CARGO) test --locked --lib --bins --test unit

## test-bed: the tests against real parts, which it builds first
test-bed: bed bed-test check-moto
	$(CARGO) test --locked --no-run --test api --test clouds
	@$(MAKE) $(ALL) --jobs=$(SIDE_BY_SIDE) --output-sync=target $(addprefix run/,$(BED_TESTS))

# So many keep two cores busy; what each prints comes in one piece when it has ended.
SIDE_BY_SIDE := 3
ALL := --no-print-directory --keep-going
RUNS := $(addprefix run/,$(BED_TESTS) $(call modules,unit) $(call modules,cluster))
.PHONY: $(RUNS)
# An API server lives for a minute here, of which collecting its garbage took a twelfth.
$(RUNS): export GOGC := 400
$(RUNS): run/%:
	$(CARGO) test --locked $(TEST_PROFILE) --test $(*D) -- $(*F):: $(TEST_ARGUMENTS)

OLDEST_TESTS := $(addprefix run/api/,bed api_rights api_owned api_policy api_admission api_patch crd api_validate api_certificates chart api_controller)

## test-oldest: what an API server decides, on the oldest Kubernetes that is supported; not part of `make test` (builds that API server first)
test-oldest: bed bed-oldest
	$(CARGO) test --locked --no-run --test api
	@BED_KUBERNETES=$(BED_OLDEST) $(MAKE) $(ALL) --jobs=1 $(OLDEST_TESTS)

# Modules that each have a whole cluster of their own.
clusters = @$(MAKE) $(ALL) --jobs=2 --output-sync=target TEST_ARGUMENTS="--nocapture --test-threads 1" $(addprefix run/cluster/,$(1))

## test-cluster: whole clusters in which Pods really pull: in the demo's steps, across rotations, by a kubelet that asks, and all of `make e2e`
test-cluster: bed-cluster e2e-image
	$(CARGO) test --locked --no-run --test cluster
	$(SHOW)
	$(call clusters,quick_start e2e nodes rotation)

## test-consumers: what clients find in the Secrets, kaniko with one of them on a whole cluster, docs/MIGRATE.md both ways; not part of `make test` (builds clients and kaniko first)
test-consumers: bed-consumers e2e-image
	$(CARGO) test --locked --no-run --test cluster
	$(CARGO) test --locked --test cluster -- consumers:: migrate:: --nocapture --test-threads 1

## e2e: pullpass as it is installed: its image, the chart by Helm, Pods that pull through it on a whole cluster; the guides' commands
e2e: bed-cluster e2e-image
	$(CARGO) test --locked --no-run --test cluster
	$(call clusters,quick_start e2e)

# pullpass' image as the guides name it. Not optimized: what is tried is whether it works, and that takes minutes less.
.PHONY: e2e-image
e2e-image: export CARGO_PROFILE_RELEASE_OPT_LEVEL := 0
e2e-image: export CARGO_PROFILE_RELEASE_LTO := off
e2e-image: $(BED_BIN)/bed
	@mkdir -p target/image
	@$(BED_BIN)/bed image --program "$$(image/build.sh)" --version $(VERSION) --name registry.example.com/pullpass:$(VERSION) --output target/image/e2e.tar

## model: the controller over ten thousand random histories of a simulated cluster; PULLPASS_MODEL_SEED=N replays one (some minutes)
model:
	PULLPASS_MODEL_HISTORIES=10000 $(CARGO) test --locked --test unit -- model:: --nocapture

# The targets of fuzz/targets/.
FUZZ_TARGETS := answers claims kind patterns references review source_logins tenant_exports tenant_logins

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
FIGURES := $(addprefix run/,unit/acr api/api_certificates api/controller_faults clouds/credential_cache clouds/ecr_moto api/leader)

## dashboard: what a run of two replicas shows, recorded, and the dashboard's picture in docs/images
dashboard: bed
	PULLPASS_RECORD_DASHBOARD=1 $(CARGO) test --locked --test api -- dashboard::draws_every_panel

## figures: how long recoveries take, each test alone, held to its bound (ten minutes); `make test` shows the same figures
figures: bed
	@PULLPASS_FIGURES=strict $(MAKE) $(ALL) --jobs=1 TEST_ARGUMENTS="--nocapture --test-threads 1" $(FIGURES)

## bench: what a review costs, beside a floor and beside typed structs: in memory, and under load over TLS (some minutes)
bench:
	$(CARGO) bench --locked --bench admission --bench resolve --bench load

## soak: 20 rolling restarts, kills and rotations of certificates under load, shown as a table (half an hour, as it is released); ROUNDS=3 for less
soak: bed
	@mkdir -p target/soak
	@PULLPASS_ROUNDS=$(or $(ROUNDS),20) $(MAKE) $(ALL) --jobs=1 TEST_PROFILE=--release TEST_ARGUMENTS=--nocapture $(addprefix run/api/,drain api_kill api_certificates) 2>&1 | tee target/soak/log
	@echo; echo '| what | times | Pods | a second | refused | without reference |'; echo '|---|---|---|---|---|---|'; grep '^| ' target/soak/log
	@! grep -q -e '^test result: FAILED' -e '^error' target/soak/log
	@awk -F'|' '/^\| r/ && $$5 < 200 { slow = 1 } END { if (slow) print "fewer than 200 Pods a second: the machine is too slow to show it"; exit slow }' target/soak/log
