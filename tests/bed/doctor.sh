#!/bin/sh
# Says what this machine lacks for `make test` and `make demo`: one line per
# missing thing, with the exact command that installs it, then one line on
# whether it can run a Kubernetes node, and one where there is little room.
#
#   doctor.sh            looks only
#   doctor.sh --install  as root on Debian, installs what Debian has first
#
# Exit code: 0 nothing is missing, 1 something is, 2 wrong use.
set -u

case "${1:-}" in
'') install= ;;
--install) install=yes ;;
-h | --help)
    sed -n '2,9s/^# \{0,1\}//p' "$0"
    echo "example: sh tests/bed/doctor.sh --install"
    exit 0
    ;;
*)
    echo "doctor: does not know $1: see --help" >&2
    exit 2
    ;;
esac

rust=1.95
rust_exact=$(sed -n 's/^channel = "\(.*\)"/\1/p' "$(dirname "$0")/../../rust-toolchain.toml" 2>/dev/null)
go=1.26
go_exact=$(sed -n 's/^go //p' "$(dirname "$0")/go.mod" 2>/dev/null)
python=3.11
# Where package managers put the CNI plugins.
cni_folders="/usr/lib/cni /opt/cni/bin /usr/libexec/cni /usr/lib/cni/bin"
# Debian's tools for root are not in everyone's PATH.
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

# In MB: what target/, .bed/ and Go's build cache take in the end.
first_build=12288
free=$(df -Pm . | awk 'NR == 2 { print $4 }')

has() { command -v "$1" >/dev/null 2>&1; }

# at_least WANTED FOUND: both as 1.2 or 1.2.3.
at_least() {
    [ "$(printf '%s\n%s\n' "$1" "$2" | sort -V | head -n 1)" = "$1" ]
}

rust_is_there() {
    has cargo && has rustc && at_least $rust "$(rustc --version 2>/dev/null | cut -d ' ' -f 2)"
}

# From 1.21 on, Go fetches the toolchain that go.mod names, unless told not to.
go_is_there() {
    has go || return 1
    found=$(cd / && go env GOVERSION 2>/dev/null | sed 's/^go//; s/[^0-9.].*//')
    at_least $go "$found" && return 0
    at_least 1.21 "$found" && [ "$(cd / && go env GOTOOLCHAIN 2>/dev/null)" != local ]
}

python_is_there() {
    has python3 && python3 - "$python" <<'PYTHON' >/dev/null 2>&1
import ensurepip, sys, venv
sys.exit(sys.version_info[:2] < tuple(map(int, sys.argv[1].split("."))))
PYTHON
}

cni_is_there() {
    for folder in $cni_folders; do
        if [ -x "$folder/ptp" ] && [ -x "$folder/host-local" ] && [ -x "$folder/loopback" ]; then return 0; fi
    done
    return 1
}

cc_is_there() {
    has cc && printf '#include <stdio.h>\nint main(void){return 0;}\n' | cc -x c -o /dev/null - >/dev/null 2>&1
}

# node_refusal prints why this machine cannot run a node, nothing when it can.
node_refusal() {
    if [ "$(uname -s)" != Linux ]; then
        echo "this is not Linux"
    elif [ "$(id -u)" != 0 ]; then
        echo "that needs root"
    elif ! grep -q -e ' - cgroup2\{0,1\} ' /proc/self/mountinfo 2>/dev/null; then
        echo "no cgroups are mounted"
    elif ! has unshare; then
        echo "unshare (util-linux) is not there"
    elif ! unshare --net --mount --pid --fork --mount-proc mount -t tmpfs none /run >/dev/null 2>&1; then
        echo "it may not make network, mount and process namespaces of its own"
    fi
}

# need THING PRESENT DEBIAN-PACKAGES OTHER-COMMAND: notes what is missing.
missing=
need() {
    if $2; then return; fi
    if [ -n "$3" ] && has apt-get; then
        packages="$packages $3"
        missing="$missing
missing: $1: $([ "$(id -u)" = 0 ] || echo 'sudo ')apt-get install -y $3"
    else
        missing="$missing
missing: $1: $4"
    fi
}

has_make() { has make; }
has_runc() { has runc; }
has_iptables() { has iptables && has iptables-save && has iptables-restore; }

look() {
    missing='' packages=''
    need "make" has_make make "install make with your package manager"
    need "a C compiler" cc_is_there "gcc libc6-dev" "install gcc or clang, and the C library's headers, with your package manager"
    need "Rust $rust" rust_is_there "" "$(has rustup && echo "rustup toolchain install ${rust_exact:-$rust} --component clippy --component rustfmt" ||
        echo "curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y --default-toolchain ${rust_exact:-$rust}")"
    need "Go $go" go_is_there "" "curl -fsSL https://go.dev/dl/go${go_exact:-$go.0}.linux-$(uname -m | sed 's/x86_64/amd64/; s/aarch64/arm64/').tar.gz | tar -C /usr/local -xz && export PATH=/usr/local/go/bin:\$PATH"
    need "Python $python with venv" python_is_there python3-venv "install python3 ($python or later) and its venv module with your package manager"
    refusal=$(node_refusal)
    if [ -z "$refusal" ]; then
        need "runc" has_runc runc "install runc with your package manager"
        need "the CNI plugins" cni_is_there containernetworking-plugins "install the CNI plugins (ptp, host-local, loopback) with your package manager, below one of: $cni_folders"
        need "iptables" has_iptables iptables "install iptables with your package manager"
    fi
}

look
if [ -n "$install" ] && [ -n "$packages" ]; then
    if [ "$(id -u)" = 0 ]; then
        echo "installing:$packages"
        log=$(mktemp)
        # shellcheck disable=SC2086 # the packages are words
        if ! { apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends $packages; } >"$log" 2>&1; then
            tail -n 5 "$log" >&2
        fi
        rm -f "$log"
        look
    else
        echo "not installing: that needs root" >&2
    fi
fi

if [ -z "$missing" ]; then
    echo "everything that the build and the tests need is here"
else
    echo "${missing#?}"
fi
if [ -n "$refusal" ]; then
    echo "a Kubernetes node cannot run here: $refusal; the tests and the demo do without one"
else
    echo "a Kubernetes node can run here"
fi
if [ ! -e target ] && [ "$free" -lt $first_build ]; then
    echo "little room: $((free / 1024)) GB are free here, and what is built the first time takes about $((first_build / 1024)) GB"
fi
[ -z "$missing" ]
