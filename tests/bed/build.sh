#!/bin/sh
# Builds one program of the test bed and says every few seconds how far it is.
#
#   build.sh OUTPUT HINT MODULE PACKAGE [go build flags]…
#
# example: tests/bed/build.sh "$PWD/.bed/bin/hello" seconds tests/bed ./cmd/hello
set -eu
output=$1 hint=$2 module=$3 package=$4
shift 4
name=$(basename "$output")
bin=$(dirname "$output")
mkdir -p "$bin"
log=$(mktemp)
trap 'rm -f "$log"; [ -z "${building:-}" ] || kill "$building" 2>/dev/null || :' EXIT
trap 'exit 130' INT TERM HUP

# Each build uses all cores and up to 4 GB: one at a time, whatever make -j says.
exec 9>"$bin/.lock"
flock 9

cd "$module"
# The release builds stamp their version in, and clients look at it.
kubernetes=$(sed -n 's/^\tk8s.io\/kubernetes //p' go.mod)
containerd=$(sed -n 's/^\tgithub.com\/containerd\/containerd\/v2 \([^ ]*\).*/\1/p' go.mod)
minor=${kubernetes#v1.}
minor=${minor%%.*}
stamp="-X github.com/containerd/containerd/v2/version.Version=$containerd"
for place in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
    stamp="$stamp -X $place.gitVersion=$kubernetes -X $place.gitMajor=1 -X $place.gitMinor=$minor"
done

start=$(date +%s)
echo "building $name ($hint the first time) …"
CGO_ENABLED=0 GOFLAGS=-buildvcs=false go build -v -trimpath -ldflags "-s -w $stamp" "$@" -o "$output" "$package" >"$log" 2>&1 9>&- &
building=$!
ticks=0
while kill -0 "$building" 2>/dev/null; do
    sleep 0.2
    ticks=$((ticks + 1))
    if [ $((ticks % 75)) -eq 0 ]; then
        downloads=$(grep -c '^go: downloading' "$log" || :)
        packages=$(grep -vc '^go: ' "$log" || :)
        echo "  $name: $downloads modules downloaded, $packages packages compiled, $(($(date +%s) - start)) s"
    fi
done
if ! wait "$building"; then
    building=
    echo "building $name failed:" >&2
    # -v prints one bare import path per package; the rest is what went wrong.
    grep -v -e '^go: downloading' -e '^[A-Za-z0-9._/~-]*$' "$log" >&2 || tail -n 20 "$log" >&2
    exit 1
fi
building=
