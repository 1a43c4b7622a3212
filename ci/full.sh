#!/usr/bin/env bash
# What takes too long for .ci/run: the tests under other compilers and other flags, and the long scripts.
#
#     bash ci/full.sh           # every leg
#     bash ci/full.sh LEG..     # these
#     bash ci/full.sh --list    # the names of the legs
#
# A leg that fails does not stop the others. At the end a table says of each leg whether it passed, failed or
# was skipped, and why. Exits with 1 if a leg failed. target/full/LEG.log keeps what a leg printed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source ci/tools.sh
source ci/steps.sh

home=$(realpath -m "${CARGO_TARGET_DIR:-target}/full")
legs=(
    opt-0 opt-s opt-z opt-3 release no-lto
    oldest stable beta nightly
    abort frame-pointers crt-static
    asan signals loom mutants fuzz api deny side-by-side top
)

# A level of optimisation with debug assertions. The profile `test` inherits it, and so do all dependencies.
opt-0() { CARGO_PROFILE_DEV_OPT_LEVEL=0 suite; }
opt-s() { CARGO_PROFILE_DEV_OPT_LEVEL=s suite; }
opt-z() { CARGO_PROFILE_DEV_OPT_LEVEL=z suite; }
opt-3() { CARGO_PROFILE_DEV_OPT_LEVEL=3 suite; }

# Level 3 with and without optimisation across crates; Cargo.toml switches that on.
release() { suite --release; }
no-lto() { CARGO_PROFILE_RELEASE_LTO=off suite --release; }

# Cargo.toml names the oldest compiler. It builds every dev-dependency in Cargo.lock as well.
oldest() { compiler "$(oldest_toolchain)"; }
stable() { compiler stable; }
beta() { compiler beta; }
nightly() { compiler nightly; }

# The harness cannot test with `panic = "abort"`, so tests/fault_abort.rs builds a program. The load, which
# checks itself, is built with the profile of this crate.
abort() {
    own_directory
    cargo test --test fault_abort
    cargo test --release --test fault_abort
    CARGO_PROFILE_DEV_PANIC=abort cargo run --example gls -- 10000 3
    CARGO_PROFILE_RELEASE_PANIC=abort cargo run --release --example gls -- 100000 3
}

# Frames and stacks differ under these, so the tests of frames and stacks run.
frame-pointers() {
    flags -Cforce-frame-pointers=yes
    flags -Cforce-frame-pointers=yes --release
}
crt-static() {
    # Valgrind does not know a static program's malloc. And a static std destroys no thread-locals at `exit`.
    local without=(
        --skip stack_valgrind
        --skip switch_a_coroutine_that_ends_the_process_is_dropped_while_it_runs
    )
    flags -Ctarget-feature=+crt-static -- "${without[@]}"
    flags -Ctarget-feature=+crt-static --release -- "${without[@]}"
}

# Each of these has directories of its own.
asan() {
    bash ci/asan.sh
    bash ci/asan.sh soak 60
}
signals() { bash ci/signals.sh; }
loom() { bash ci/loom.sh; }
mutants() { bash ci/mutants.sh; }
fuzz() { bash ci/fuzz.sh 1800 hijack tasks; }
api() {
    cargo public-api --version || cargo install --locked cargo-public-api || skip 'there is no cargo-public-api'
    check_api
}
deny() {
    cargo deny --version || skip 'there is no cargo-deny'
    cargo deny check
}

# Every row of the comparison with peers runs, those included that ci/peers.sh has installed.
side-by-side() {
    own_directory
    cargo clippy -p side-by-side --all-targets -- -D warnings
    cargo test -p side-by-side
    cargo run --release -p side-by-side -- --quick
}

# The live view, which its users build optimised.
top() {
    own_directory
    cargo clippy -p coro-top --all-targets -- -D warnings
    cargo test --release -p coro-top
}

# A directory for the leg alone, or a change of flags would build everything again.
own_directory() { export CARGO_TARGET_DIR=$home/$leg; }

suite() {
    own_directory
    cargo test --no-fail-fast "$@"
}

compiler() {
    has_toolchain "$1" || skip "there is no compiler $1, and rustup cannot install it"
    RUSTUP_TOOLCHAIN=$1 suite
}

flags() {
    own_directory
    # Building is most of the time otherwise.
    export CARGO_PROFILE_RELEASE_LTO=off
    test_with_flag "$1" --no-fail-fast \
        --lib --test 'switch*' --test 'stack*' --test 'fault*' --test 'tls*' --test 'task_join*' "${@:2}"
}

skip() {
    printf '%s\n' "$1" >"$home/$leg.skipped"
    exit 77
}

# Why a leg failed: the targets whose tests failed, or the last line that it printed.
reason() {
    local targets
    targets=$(sed -nE 's/^    `(.*)`$/\1/p' "$home/$leg.log" | sort -u | paste -sd, | sed 's/,/, /g')
    if [[ -n $targets ]]; then
        printf '%s\n' "$targets"
    else
        grep . "$home/$leg.log" | tail -n 1
    fi
}

if [[ ${1-} == --list ]]; then
    printf '%s\n' "${legs[@]}"
    exit
fi
chosen=("$@")
((${#chosen[@]} > 0)) || chosen=("${legs[@]}")
for leg in "${chosen[@]}"; do
    if [[ " ${legs[*]} " != *" $leg "* ]]; then
        echo "full.sh: there is no leg $leg; see --list" >&2
        exit 2
    fi
done

mkdir -p "$home"
step install_tools

failed=0
rows=()
for leg in "${chosen[@]}"; do
    printf '\n=== %s\n' "$leg" >&2
    rm -f "$home/$leg.skipped"
    start=$SECONDS
    # The leg stands by itself in a subshell: as part of a condition it would run with `set -e` switched off.
    set +e
    (
        set -e
        "$leg" </dev/null
    ) 2>&1 | tee "$home/$leg.log"
    status=${PIPESTATUS[0]}
    set -e
    took=$((SECONDS - start))
    if ((status == 0)); then
        how=passed why=
        # A few gigabytes. If a leg failed, they stay for whoever looks into it.
        rm -rf "${home:?}/$leg"
    elif ((status == 77)) && [[ -f $home/$leg.skipped ]]; then
        how=skipped why=$(<"$home/$leg.skipped")
    else
        how=failed why=$(reason)
        failed=1
    fi
    printf '=== %s: %s, %d s\n' "$leg" "$how" "$took" >&2
    rows+=("$(printf '%-15s %-8s %6d s  %s' "$leg" "$how" "$took" "$why")")
done

printf '\n%-15s %-8s %8s\n' leg result time
printf '%s\n' "${rows[@]}"
exit "$failed"
