#!/usr/bin/env bash
# The debug suite while every thread gets a signal each millisecond, so that every system call which
# blocks is told EINTR sooner or later: see ci/signals/storm.rs.
#
#     bash ci/signals.sh                       # all tests, those in the documentation included
#     bash ci/signals.sh --test runtime        # whatever `cargo test` understands before a `--`
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
export CARGO_TARGET_DIR=$target
mkdir -p "$target/signals"
storm=$target/signals/libstorm.so
rustc --edition 2024 --crate-type cdylib -C opt-level=2 -C panic=abort -o "$storm" ci/signals/storm.rs
rustc --edition 2024 -o "$target/signals/noticed" ci/signals/noticed.rs

# A storm that does not blow would prove nothing. Without one the same calls are interrupted by nobody.
if timeout 1 "$target/signals/noticed" >/dev/null || (($? != 124)); then
    echo "signals: interrupted without a storm" >&2
    exit 1
fi
LD_PRELOAD=$storm "$target/signals/noticed"

# Not for cargo and rustc themselves: only what they run. A list, as the path may contain a space.
host=x86_64-unknown-linux-gnu
config=("--config=target.$host.runner = ['env', 'LD_PRELOAD=$storm']")
# That an idle runtime takes no CPU time cannot be seen while its threads are woken all the time.
harness=(--skip runtime_idle_costs_nothing)
cargo "${config[@]}" test "$@" -- "${harness[@]}"
