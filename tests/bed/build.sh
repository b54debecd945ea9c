#!/bin/sh
# Builds one program of the test bed and says every few seconds how far it is.
#
#   build.sh OUTPUT HINT PACKAGE [go build flags]…
#
# example: tests/bed/build.sh .bed/bin/hello seconds ./cmd/hello
set -eu
output=$1 hint=$2 package=$3
shift 3
name=$(basename "$output")
folder=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$(dirname "$output")"
log=$(mktemp)
trap 'rm -f "$log"; [ -z "${building:-}" ] || kill "$building" 2>/dev/null || :' EXIT
trap 'exit 130' INT TERM HUP

# Each build uses all cores and up to 4 GB: one at a time, whatever make -j says.
exec 9>"$(dirname "$output")/.lock"
flock 9

start=$(date +%s)
echo "building $name ($hint the first time) …"
(cd "$folder" && CGO_ENABLED=0 GOFLAGS=-buildvcs=false exec go build -v -trimpath -ldflags "-s -w" "$@" -o "$output" "$package") >"$log" 2>&1 9>&- &
building=$!
ticks=0
while kill -0 "$building" 2>/dev/null; do
    sleep 0.2
    ticks=$((ticks + 1))
    if [ $((ticks % 75)) -eq 0 ]; then
        modules=$(grep -c '^go: downloading' "$log" || :)
        packages=$(grep -vc '^go: ' "$log" || :)
        echo "  $name: $modules modules downloaded, $packages packages compiled, $(($(date +%s) - start)) s"
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
