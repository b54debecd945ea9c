# The test bed's programs, made from Go modules alone. Included by the
# Makefile at the root of the repository; everything lands in .bed.
#
#   make bed            API server with etcd, kubectl, registry, oracles, moto, Azure's SDK
#   make bed-oldest     kube-apiserver of the oldest Kubernetes that pullpass supports
#   make bed-demo       what the demo runs: API server, registry, moto, the node's programs (kubelet, containerd, …)
#   make bed-cluster    both
#   make bed-consumers  all, and who reads the Secrets: the clients' libraries, kaniko with its image
#   make bed-test       the test bed's own tests
#   make doctor         what this machine lacks, and whether it can run a node
#   make clean-bed      removes all of it

BED := tests/bed
BED_DIR ?= .bed
override BED_DIR := $(abspath $(BED_DIR))
BED_BIN := $(BED_DIR)/bin
export BED_DIR

BED_INTERNAL := $(shell find $(BED)/internal -name '*.go' -not -name '*_test.go')
BED_MODULES := $(BED)/go.mod $(BED)/go.sum $(BED)/build.sh
BED_NODE := kubelet kube-controller-manager kube-scheduler kube-proxy
BED_CONTAINERD := containerd containerd-shim-runc-v2 ctr

# The version of oldest/go.mod, which BED_KUBERNETES asks the bed for.
BED_OLDEST := $(shell sed -n 's/^\tk8s.io\/kubernetes v\([0-9]*\.[0-9]*\)\..*/\1/p' $(BED)/oldest/go.mod)

.PHONY: bed bed-oldest bed-demo bed-cluster bed-consumers bed-test doctor clean-bed

# What the API server alone and a whole cluster are made of.
BED_BASE := $(addprefix $(BED_BIN)/,kube-apiserver kubectl bed hello)

bed: $(BED_BASE) $(addprefix $(BED_BIN)/,helm helm3 kubeconform kube-score dockerfile actionlint sbom promql azure-workload-identity) $(BED_DIR)/kinds.yaml

bed-oldest: $(BED_BIN)/kube-apiserver-$(BED_OLDEST)

bed-demo: $(BED_BASE) $(addprefix $(BED_BIN)/,pause $(BED_NODE) $(BED_CONTAINERD)) bed-moto

bed-cluster: bed bed-demo

bed-consumers: bed-cluster $(BED_BIN)/consumers $(BED_DIR)/kaniko.tar

$(BED_BIN)/kube-apiserver: $(wildcard $(BED)/cmd/kube-apiserver/*.go) $(BED_MODULES)
	@$(BED)/build.sh $@ "about 5 min" $(BED) ./cmd/kube-apiserver

$(BED_BIN)/kube-apiserver-$(BED_OLDEST): $(wildcard $(BED)/cmd/kube-apiserver/*.go $(BED)/oldest/go.*) $(BED)/build.sh
	@$(BED)/build.sh $@ "about 5 min" $(BED)/oldest .

$(BED_BIN)/kubectl: $(wildcard $(BED)/cmd/kubectl/*.go) $(BED_MODULES)
	@$(BED)/build.sh $@ "about 1 min" $(BED) ./cmd/kubectl

$(BED_BIN)/bed: $(wildcard $(BED)/cmd/bed/*.go) $(BED_INTERNAL) $(BED_MODULES)
	@$(BED)/build.sh $@ "about 1 min" $(BED) ./cmd/bed

$(BED_BIN)/kube-node: $(wildcard $(BED)/cmd/kube-node/*.go) $(BED_MODULES)
	@$(BED)/build.sh $@ "about 2 min" $(BED) ./cmd/kube-node

$(BED_BIN)/hello: $(wildcard $(BED)/cmd/hello/*.go) $(BED_MODULES)
	@$(BED)/build.sh $@ seconds $(BED) ./cmd/hello

$(BED_BIN)/pause: $(wildcard $(BED)/cmd/pause/*.go) $(BED_MODULES)
	@$(BED)/build.sh $@ seconds $(BED) ./cmd/pause

$(addprefix $(BED_BIN)/,$(BED_NODE)): $(BED_BIN)/kube-node
	@ln -sf kube-node $@

# These snapshotters need C libraries or devices that no test needs.
$(addprefix $(BED_BIN)/,$(BED_CONTAINERD)): $(BED)/containerd/go.mod $(BED)/containerd/go.sum $(BED)/build.sh
	@$(BED)/build.sh $@ "about 1 min" $(BED)/containerd github.com/containerd/containerd/v2/cmd/$(@F) -tags no_btrfs,no_devmapper,no_zfs

$(BED_BIN)/helm: $(BED)/helm/go.mod $(BED)/helm/go.sum $(BED)/build.sh
	@$(BED)/build.sh $@ "about 2 min" $(BED)/helm helm.sh/helm/v4/cmd/helm

# The version before, which many still use.
$(BED_BIN)/helm3: $(BED)/helm3/go.mod $(BED)/helm3/go.sum $(BED)/build.sh
	@$(BED)/build.sh $@ "about 2 min" $(BED)/helm3 helm.sh/helm/v3/cmd/helm

$(BED_BIN)/kubeconform: $(BED)/lint/go.mod $(BED)/lint/go.sum $(BED)/build.sh
	@$(BED)/build.sh $@ seconds $(BED)/lint github.com/yannh/kubeconform/cmd/kubeconform

$(BED_BIN)/kube-score: $(BED)/lint/go.mod $(BED)/lint/go.sum $(BED)/build.sh
	@$(BED)/build.sh $@ "about 1 min" $(BED)/lint github.com/zegl/kube-score/cmd/kube-score

$(BED_BIN)/dockerfile: $(wildcard $(BED)/lint/dockerfile/*.go) $(BED)/lint/go.mod $(BED)/lint/go.sum $(BED)/build.sh
	@$(BED)/build.sh $@ seconds $(BED)/lint ./dockerfile

$(BED_BIN)/actionlint: $(BED)/lint/go.mod $(BED)/lint/go.sum $(BED)/build.sh
	@$(BED)/build.sh $@ seconds $(BED)/lint github.com/rhysd/actionlint/cmd/actionlint

$(BED_BIN)/sbom: $(wildcard $(BED)/lint/sbom/*.go) $(BED)/lint/go.mod $(BED)/lint/go.sum $(BED)/build.sh
	@$(BED)/build.sh $@ seconds $(BED)/lint ./sbom

$(BED_BIN)/promql: $(wildcard $(BED)/promql/*) $(BED)/build.sh
	@$(BED)/build.sh $@ "about 1 min" $(BED)/promql .

$(BED_BIN)/azure-workload-identity: $(wildcard $(BED)/azwi/*.go $(BED)/azwi/go.* $(BED)/azwi/mlog/*) $(BED)/build.sh
	@$(BED)/build.sh $@ "about 1 min" $(BED)/azwi .

# Signatures, which no test makes, by Go's own code instead of a C library.
$(BED_BIN)/consumers: $(wildcard $(BED)/consumers/*) $(BED)/build.sh
	@$(BED)/build.sh $@ "about 3 min" $(BED)/consumers . -tags containers_image_openpgp

$(BED_BIN)/kaniko: $(wildcard $(BED)/kaniko/*) $(BED)/build.sh
	@$(BED)/build.sh $@ "about 3 min" $(BED)/kaniko github.com/GoogleContainerTools/kaniko/cmd/executor

$(BED_DIR)/kaniko.tar: $(BED_BIN)/kaniko $(BED_BIN)/bed
	@$(BED_BIN)/bed kaniko --output $@ >/dev/null

$(BED_DIR)/kinds.yaml: $(wildcard $(BED)/kinds/*)
	@$(BED)/kinds/kinds.sh $@

# The flags of the builds, so that nothing is compiled twice.
bed-test:
	cd $(BED) && CGO_ENABLED=0 go test -trimpath ./internal/...

-include $(BED)/moto/moto.mk
-include $(BED)/azure/azure.mk

doctor:
	@$(BED)/doctor.sh

clean-bed:
	@if [ -e $(BED_DIR)/demo.json ]; then $(BED_BIN)/bed demo --down; fi
	rm -rf --one-file-system $(BED_DIR)
