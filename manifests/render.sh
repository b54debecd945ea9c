#!/bin/sh
# Renders the plain manifests from the chart.
#
#   manifests/render.sh HELM FOLDER [IMAGE]
#
# example: manifests/render.sh .bed/bin/helm manifests registry.example.com/pullpass@sha256:…
set -eu
helm=$1 folder=$2 image=${3:-registry.example.com/pullpass:0.1.0}
chart=$(dirname "$0")/chart
repository=$image digest='' tag=''
case $image in
*@*)
    repository=${image%@*}
    digest=${image#*@}
    ;;
*)
    case ${image##*/} in
    *:*)
        repository=${image%:*}
        tag=${image##*:}
        ;;
    esac
    ;;
esac
mkdir -p "$folder/base" "$folder/components/cert-manager"

# render FILE COMMENT [FLAGS]…: without what is Helm's alone: blank lines, names of templates, labels.
render() {
    file=$1 comment=$2
    shift 2
    "$helm" template pullpass "$chart" --namespace pullpass --skip-tests --set namespace.create=true \
        --set "image.repository=$repository,image.digest=$digest,image.tag=$tag" "$@" >"$folder/rendered"
    {
        printf '%s\n' "$comment" "# Rendered from the chart: \`make manifests\`."
        sed -e '/^# Source: /d' -e '/^[[:space:]]*$/d' -e '/^ *app.kubernetes.io\/managed-by: Helm$/d' -e '/^ *helm.sh\/chart: /d' "$folder/rendered"
    } >"$folder/$file.new"
    rm "$folder/rendered"
    mv "$folder/$file.new" "$folder/$file"
}

render base/install.yaml '# pullpass, whole: kubectl apply --server-side -f manifests/install.yaml'
# Kustomize takes files below its folder alone, and a link is lost where manifests are packed (Flux) or checked out on Windows.
cp "$folder/base/install.yaml" "$folder/install.yaml"
render rbac.yaml "# pullpass' namespace, its ServiceAccount and all that it may do" \
    -s templates/namespace.yaml -s templates/serviceaccount.yaml -s templates/rbac.yaml -s templates/policies.yaml \
    --set certificates.mode=secret,certificates.caBundle=none
render webhook.yaml "# How the API server calls a pullpass that runs as a process beside the cluster, by URL: manifests/README.md" \
    -s templates/webhook.yaml --set webhook.url=https://127.0.0.1:8443/mutate
render components/cert-manager/certificate.yaml "# The serving certificate, by an own CA of cert-manager." \
    -s templates/certificate.yaml --set certificates.mode=cert-manager
