#!/bin/sh
# Builds the program that the image holds and prints its path: linked statically, so that it runs where there is nothing else, and
# with no path of this machine in it, so that the same sources give the same bytes.
set -eu
cd "$(dirname "$0")/.."
target=$(rustc -vV | sed -n 's/^host: //p')
case $target in
*-linux-gnu) ;;
*)
    echo "image/build.sh: the image is for Linux with glibc's static libraries, this is $target: use the Dockerfile" >&2
    exit 1
    ;;
esac
home=${CARGO_HOME:-$HOME/.cargo}
RUSTFLAGS="-C target-feature=+crt-static --remap-path-prefix=$PWD=/src --remap-path-prefix=$home=/cargo" \
    ${CARGO:-cargo} build --locked --release --target "$target" --bin pullpass >&2
echo "${CARGO_TARGET_DIR:-target}/$target/release/pullpass"
