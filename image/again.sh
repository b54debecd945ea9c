#!/bin/sh
# Makes a release again, of a clone in another folder with another home, umask, time zone and language, and compares checksums:
# `make release-again`.
#
#   image/again.sh VERSION REPOSITORY BED HELM FIRST
set -eu
cd "$(dirname "$0")/.."
first=$PWD/$5/SHA256SUMS
[ -e "$first" ] || {
    echo "make release-again: make release first: there is no $5" >&2
    exit 1
}
again=$(mktemp -d)
trap 'rm -rf "$again"' EXIT
git clone --quiet . "$again/elsewhere"
mkdir "$again/home"
# What is only read: the toolchains and the crates.
export CARGO_HOME="${CARGO_HOME:-$HOME/.cargo}" RUSTUP_HOME="${RUSTUP_HOME:-$HOME/.rustup}" HOME="$again/home"
umask 077
(cd "$again/elsewhere" && TZ=Asia/Kathmandu LANG=tr_TR.UTF-8 LC_ALL= CARGO_TARGET_DIR=target/release-build \
    image/release.sh "$1" "$2" "$3" "$4" "$again/artifacts") >/dev/null
diff "$first" "$again/artifacts/SHA256SUMS"
echo "the same bytes, twice"
