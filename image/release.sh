#!/bin/sh
# Makes a release's files, with no network: `make release`. The same commit gives the same bytes, wherever and by whomever it is built.
#
#   image/release.sh VERSION REPOSITORY BED HELM OUTPUT
#
# REPOSITORY is where the image will be, as in registry.example.com/pullpass. Of the environment: ARCHITECTURES, all of which must be
# built (without it: those that this machine can build); PULLPASS_COMMIT and SOURCE_DATE_EPOCH, where the sources are no git repository.
set -eu
cd "$(dirname "$0")/.."
version=$1 repository=$2 bed=$3 helm=$4 output=$5
export LC_ALL=C TZ=UTC CARGO_NET_OFFLINE=true
unset CARGO_ENCODED_RUSTFLAGS CARGO_BUILD_TARGET

fail() {
    echo "make release: $*" >&2
    exit 1
}

for file in Cargo.toml manifests/chart/Chart.yaml manifests/chart-registries/Chart.yaml; do
    grep -qxE "(version = \"$version\"|version: $version)" "$file" || fail "$file has another version than $version: write it there, and commit it"
done
if [ -z "${PULLPASS_COMMIT:-}" ]; then
    [ -z "$(git status --porcelain)" ] || fail "there are changes that are not committed: nobody could build the same"
    PULLPASS_COMMIT=$(git rev-parse HEAD)
    SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
fi
export PULLPASS_COMMIT SOURCE_DATE_EPOCH="${SOURCE_DATE_EPOCH:?when the sources are from, in seconds since 1970}"

architectures=${ARCHITECTURES:-}
for architecture in amd64 arm64; do
    missing=$(image/build.sh --missing "$architecture")
    case " ${ARCHITECTURES:-$architecture} " in
    *" $architecture "*) ;;
    *) continue ;;
    esac
    if [ -z "$missing" ]; then
        [ -n "${ARCHITECTURES:-}" ] || architectures="$architectures $architecture"
    elif [ -n "${ARCHITECTURES:-}" ]; then
        fail "$architecture cannot be built here: missing: $missing"
    else
        echo "make release: WITHOUT $architecture, which cannot be built here: missing: $missing" >&2
    fi
done

work=$(dirname "$output")/release-work
rm -rf "$output" "$work"
mkdir -p "$output" "$work/extras/man" "$work/extras/completions" "$work/manifests"
sources="--version $version --commit $PULLPASS_COMMIT --time $SOURCE_DATE_EPOCH"

programs='' own=''
for architecture in $architectures; do
    case $architecture in
    amd64) machine=x86_64 ;;
    arm64) machine=aarch64 ;;
    *) fail "$architecture is no architecture: amd64, arm64" ;;
    esac
    name=pullpass-$version-linux-$architecture
    # shellcheck disable=SC2086 # words
    "$bed" sbom $sources --target "$machine-unknown-linux-gnu" --name "$name" --output "$work"
    mv "$work/$name.cdx.json" "$work/$name.spdx.json" "$output/"
    program=$(PULLPASS_DEPENDENCIES="$work/$name.dep-v0" image/build.sh "$architecture")
    programs="$programs --program $program"
    [ "$machine" != "$(uname -m)" ] || own=$program
done
[ -n "$own" ] || fail "nothing is built that runs here: man pages and completions are what the program prints"

"$own" man --folder "$work/extras/man"
for shell in bash elvish fish powershell zsh; do
    "$own" completion "$shell" >"$work/extras/completions/pullpass.$shell"
done
# shellcheck disable=SC2086 # words
image=$("$bed" image $programs --index $sources --name "$repository:$version" --output "$output/pullpass-$version-image.oci.tar")
digest=$(echo "$image" | sed -n 's/.*"digest":"\([^"]*\)".*/\1/p')
manifests/render.sh "$helm" "$work/manifests" "$repository@$digest"
mv "$work/manifests/install.yaml" "$output/"
# shellcheck disable=SC2086 # words
"$bed" pack $programs $sources --extras "$work/extras" --output "$output"
rm -rf "$work"
cat "$output/SHA256SUMS"
