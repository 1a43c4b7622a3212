#!/usr/bin/env bash
# Runs every fuzz target for so many seconds, one after another:
#
#     bash ci/fuzz.sh SECONDS [TARGET..]
#
# Installs cargo-fuzz if it is missing. Each run starts from the corpus in
# fuzz/corpus and leaves it as it is: what a run finds goes to a directory of its own, which is thrown
# away. An input that fails stays in fuzz/artifacts. Ends with 1 if any target has found something, after
# all of them have run and what they said of it is printed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

if (($# == 0)) || ! [[ $1 =~ ^[1-9][0-9]*$ ]]; then
    echo "usage: ci/fuzz.sh SECONDS [TARGET..]" >&2
    exit 2
fi
seconds=$1
shift

# A leak that is none is known by the function that allocates (`__lsan_default_suppressions`), and it is
# llvm-symbolizer that names functions.
if [[ -z ${ASAN_SYMBOLIZER_PATH-} ]] && ! command -v llvm-symbolizer >/dev/null; then
    echo "ci/fuzz.sh: llvm-symbolizer is missing, so leaks are not looked for" >&2
    export ASAN_OPTIONS="${ASAN_OPTIONS:+$ASAN_OPTIONS:}detect_leaks=0"
fi

source ci/tools.sh
find_nightly
cargo fuzz --version 2>/dev/null || cargo install --locked cargo-fuzz

targets=("$@")
if ((${#targets[@]} == 0)); then
    mapfile -t targets < <("${nightly[@]}" fuzz list)
fi

found=$(mktemp -d)
trap 'rm -rf "$found"' EXIT

# All are built before the first runs, so that one that does not build is noticed at once.
"${nightly[@]}" fuzz build

failed=()
for target in "${targets[@]}"; do
    printf '\n=== fuzz %s: %d s\n' "$target" "$seconds" >&2
    mkdir -p "$found/$target"
    options=(-max_total_time="$seconds" -max_len=600 -timeout=60 -rss_limit_mb=4096)
    case $target in
        hijack | tls_model) options+=(-dict=fuzz/steps.dict) ;;
        tasks) options+=(-dict=fuzz/tree.dict) ;;
    esac
    # libFuzzer writes to the first directory and only reads the others.
    if "${nightly[@]}" fuzz run "$target" "$found/$target" "fuzz/corpus/$target" \
        -- "${options[@]}" </dev/null >"$found/$target.log" 2>&1; then
        tail -n 1 "$found/$target.log"
    else
        failed+=("$target")
    fi
done

if ((${#failed[@]} > 0)); then
    for target in "${failed[@]}"; do
        printf '\n=== fuzz %s: failed\n' "$target" >&2
        # Without the news of each new input, and the dictionary that it recommends.
        grep -Ev '^(#[0-9]|\s+NEW_FUNC|")' "$found/$target.log" | tail -n 100 >&2
    done
    echo "=== fuzz: failed: ${failed[*]}; the inputs are in fuzz/artifacts" >&2
    exit 1
fi
echo "=== fuzz: ${targets[*]}: nothing found in $seconds s each" >&2
