#!/bin/sh
# Writes the kinds of other projects that the chart has objects of, as those projects ship them.
#
#   kinds.sh OUTPUT
#
# example: tests/bed/kinds/kinds.sh "$PWD/.bed/kinds.yaml"
set -eu
output=$1
cd "$(dirname "$0")"

# The folder of a module, whose content go.sum vouches for.
find_module() {
    version=$(sed -n "s|^\t$1 ||p" go.mod)
    go mod download "$1@$version" >&2
    go mod download -json "$1@$version" | sed -n 's/^\t"Dir": "\(.*\)",$/\1/p'
}

echo "fetching kinds of cert-manager and the Prometheus operator …"
certificates=$(find_module github.com/cert-manager/cert-manager)
monitoring=$(find_module github.com/prometheus-operator/prometheus-operator)
for file in \
    "$certificates/deploy/crds/cert-manager.io_certificates.yaml" \
    "$certificates/deploy/crds/cert-manager.io_issuers.yaml" \
    "$monitoring/example/prometheus-operator-crd/monitoring.coreos.com_prometheusrules.yaml" \
    "$monitoring/example/prometheus-operator-crd/monitoring.coreos.com_servicemonitors.yaml"; do
    echo ---
    cat "$file"
done >"$output.new"
mv "$output.new" "$output"
