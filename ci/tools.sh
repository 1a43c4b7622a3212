# Sourced by .ci/run and by the scripts in ci/: what they need of the machine, and how a step is announced.

host=x86_64-unknown-linux-gnu

# Runs a step under its name, and says how long it took. A step that fails ends the run, so `"$@"`
# stands by itself: as part of a condition it would run with `set -e` switched off.
step() {
    local start=$SECONDS
    printf '\n=== %s\n' "$*" >&2
    "$@" </dev/null
    printf '=== %s: %d s\n' "$*" "$((SECONDS - start))" >&2
}

# Says that a step goes on without a check, and why.
without() {
    printf '=== NOT CHECKED: %s\n' "$1" >&2
}

# A target directory beside the usual one. Other flags or another compiler would build everything there anew.
own_target() {
    printf '%s/%s\n' "${CARGO_TARGET_DIR:-target}" "$1"
}

# Debian's packages of these names.
install_packages() {
    (($# > 0)) || return 0
    local as_root=()
    ((EUID == 0)) || as_root=(sudo)
    "${as_root[@]}" apt-get update -qq
    DEBIAN_FRONTEND=noninteractive "${as_root[@]}" apt-get install -y -qq --no-install-recommends "$@"
}

# curl, gdb, perf, strace, tmux, valgrind and wrk, without which the tests that need them leave that out, and the tool by
# which the sanitizers name functions, without which fuzzing looks for no leaks.
install_tools() {
    local missing=()
    local tool
    for tool in curl gdb strace tmux valgrind wrk; do
        command -v "$tool" >/dev/null || missing+=("$tool")
    done
    command -v llvm-symbolizer >/dev/null || missing+=(llvm)
    command -v perf >/dev/null || missing+=(linux-perf)
    install_packages "${missing[@]}"
    cargo --version
    gdb --version | head -n 1
    valgrind --version
}

# Puts into `nightly` the cargo to call for what stable Rust has but does not promise: sanitizers. It is that of a
# nightly toolchain. Where there is none, it is the usual one, with a compiler that takes itself for a nightly one.
find_nightly() {
    if cargo +nightly --version >&2 2>/dev/null; then
        nightly=(cargo +nightly)
    else
        export RUSTC_BOOTSTRAP=1
        nightly=(cargo)
    fi
}

# Whether there is a toolchain of this name. One that is missing is installed. One that is there is used as it is:
# `rustup update` is for its owner.
has_toolchain() {
    command -v rustup >/dev/null || return
    rustup run "$1" rustc --version || rustup toolchain install "$1" --profile minimal
}

# The oldest compiler that Cargo.toml allows, as rustup calls it.
oldest_toolchain() {
    local version
    version=$(sed -n 's/^rust-version = "\(.*\)"$/\1/p' Cargo.toml)
    [[ $version == *.*.* ]] || version+=.0
    printf '%s\n' "$version"
}

# `cargo test` with a flag for the compiler. Not in RUSTFLAGS: programs that tests build would inherit the flag. With
# --target, because macros cannot be linked statically.
test_with_flag() {
    cargo --config "target.$host.rustflags = ['$1']" test --target "$host" "${@:2}"
}
