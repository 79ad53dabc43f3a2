# What scripts/test, scripts/demo and .ci/run share: what must be there, and where it is. Sourced by bash.
# shellcheck shell=bash

root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../.." && pwd)

# Says what is wrong and stops with status 3, as `milepost` does when its environment is at fault.
stop() {
    printf '%s: %s\n' "$(basename -- "$0")" "$1" >&2
    exit 3
}

# Finds cargo, also where rustup puts it when the shell's profile was not read again since.
need_rust() {
    local wanted found
    command -v cargo >/dev/null || PATH=$PATH:${CARGO_HOME:-$HOME/.cargo}/bin
    wanted=$(sed -n 's/^rust-version = "\(.*\)"$/\1/p' "$root/Cargo.toml")
    command -v cargo >/dev/null ||
        stop "cargo is missing: install Rust $wanted or later from https://rustup.rs (Debian's own package is older)"
    found=$(cd "$root" && cargo --version | sed -n 's/^cargo \([0-9]*\.[0-9]*\).*/\1/p')
    [ "$(printf '%s\n' "$wanted" "$found" | sort -V | head -n 1)" = "$wanted" ] ||
        stop "cargo is ${found:-unknown}, and Rust $wanted or later is needed: run \`rustup update stable\`"
    command -v cc >/dev/null ||
        stop "a C compiler is missing, which Rust links with: install it (Debian: apt-get install build-essential)"
}

# The lowest Python is Debian 12's; ensurepip is what Debian keeps in a package of its own.
need_python() {
    command -v python3 >/dev/null ||
        stop "python3 is missing: install it (Debian: apt-get install python3 python3-pip python3-venv)"
    python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
        stop "$(python3 --version) is too old: Python 3.11 or later is needed"
    python3 -c 'import ensurepip, venv' 2>/dev/null ||
        stop "python3 has no venv with pip: install it (Debian: apt-get install python3-pip python3-venv)"
}
