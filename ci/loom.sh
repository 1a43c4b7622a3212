#!/usr/bin/env bash
# The models of the lock-free parts, in every interleaving: see src/base/atomics.rs. It fails if a model
# does, and if there is none to run.
#
#     bash ci/loom.sh                     # all of them
#     bash ci/loom.sh loom_unpark         # those whose name contains this
#
# A directory of its own, so that the other builds are not thrown away for the sake of a cfg.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

export RUSTFLAGS="--cfg coro_loom"
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-target}/loom"
models=$(cargo test --release --lib -- --list "${1:-loom_}" | grep -c ': test$' || true)
if [ "$models" -eq 0 ]; then
    printf 'no model has a name with %s in it\n' "${1:-loom_}" >&2
    exit 1
fi
cargo test --release --lib -- "${1:-loom_}"
