#!/bin/sh
# Builds the program that the image holds and prints its path: linked statically, so that it runs where there is nothing else, and
# with no path of this machine in it, so that the same sources give the same bytes.
#
#   image/build.sh [ARCHITECTURE]           amd64 or arm64; this machine's without it
#   image/build.sh --missing ARCHITECTURE   prints what this machine lacks for it; nothing where it lacks nothing
#
# Of the environment: PULLPASS_COMMIT and SOURCE_DATE_EPOCH, which `pullpass version` tells of; PULLPASS_DEPENDENCIES, a file that is put
# into the section .dep-v0, where scanners look (`bed sbom` writes it).
set -eu
cd "$(dirname "$0")/.."
only_missing=
if [ "${1:-}" = --missing ]; then
    only_missing=yes
    shift
fi
host=$(rustc -vV | sed -n 's/^host: //p')
case ${1:-} in
'') target=$host ;;
amd64) target=x86_64-unknown-linux-gnu ;;
arm64) target=aarch64-unknown-linux-gnu ;;
*)
    echo "image/build.sh: $1 is no architecture of the image: amd64, arm64" >&2
    exit 2
    ;;
esac
case $target in
*-linux-gnu) ;;
*)
    echo "image/build.sh: the image is for Linux with glibc's static libraries, this is $target: use the Dockerfile" >&2
    exit 1
    ;;
esac

# The C compiler for another architecture, as Debian names it: aarch64-linux-gnu-gcc.
compiler=cc
if [ "$target" != "$host" ]; then
    compiler=$(echo "$target" | sed 's/-unknown//')-gcc
fi
missing=
if [ ! -e "$(rustc --print target-libdir --target "$target")" ]; then
    missing="Rust's standard library for $target: rustup target add $target"
fi
if ! command -v "$compiler" >/dev/null; then
    missing="${missing:+$missing; }the C compiler $compiler: apt-get install gcc-${compiler%-gcc} libc6-dev-arm64-cross"
fi
if [ -n "$only_missing" ]; then
    echo "$missing"
    exit
fi
if [ -n "$missing" ]; then
    echo "image/build.sh: missing: $missing" >&2
    exit 1
fi

build=${CARGO_TARGET_DIR:-target}
home=${CARGO_HOME:-$HOME/.cargo}
flags="-C target-feature=+crt-static --remap-path-prefix=$PWD=/src --remap-path-prefix=$home=/cargo"
name=$(echo "$target" | tr 'a-z-' 'A-Z_')
export "CARGO_TARGET_${name}_LINKER=$compiler" "CC_$(echo "$target" | tr - _)=$compiler"
# The C parts name their files in messages.
export "CFLAGS_$(echo "$target" | tr - _)=-ffile-prefix-map=$PWD=/src -ffile-prefix-map=$home=/cargo"
export PULLPASS_TARGET="$target" PULLPASS_RUSTC="$(rustc -V)"

set --
if [ -n "${PULLPASS_DEPENDENCIES:-}" ]; then
    mkdir -p "$build"
    object=$build/dependencies-$target.o
    image/section.sh "$compiler" "$PULLPASS_DEPENDENCIES" "$object"
    set -- -C "link-arg=$object"
fi
RUSTFLAGS=$flags ${CARGO:-cargo} rustc --locked --release --target "$target" --bin pullpass -- "$@" >&2
echo "$build/$target/release/pullpass"
