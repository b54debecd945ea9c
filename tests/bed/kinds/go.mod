// Only the manifests of their kinds are used: kinds.sh takes them out.
module pullpass/bed/kinds

go 1.26.8

require (
	github.com/cert-manager/cert-manager v1.20.0
	github.com/prometheus-operator/prometheus-operator v0.92.1
)
