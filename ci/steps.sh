# Sourced by .ci/run: the checks, one function each.

check_format() {
    cargo fmt --check
}

check_lints() {
    cargo clippy --all-targets -- -D warnings
    cargo clippy --all-targets --features check -- -D warnings
}

check_docs() {
    RUSTDOCFLAGS="-D warnings" cargo doc --no-deps
}

# What SAFETY.md promises exists.
check_names() {
    bash ci/names.sh
}

# The package holds what it needs: it is built from the packed files alone, and a program outside the repository uses
# it as a dependency.
check_package() {
    bash ci/package.sh
}

# The lock-free parts in every interleaving.
check_models() {
    bash ci/loom.sh
}

# The README's command.
test_debug() {
    cargo test
}

# Another five mutants each day. ci/full.sh runs them all.
test_mutants() {
    bash ci/mutants.sh --some 5
}

# The same tests, with the frames of a coroutine looked through at every suspension. In a directory of its own, since
# a feature builds everything anew.
test_nesting() {
    CORO_CHECK=nesting CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-target}/check" \
        cargo test --features check --lib --tests
}

# Between debug and release the compiler inlines other code, and its unwind tables differ. The other levels
# are legs of ci/full.sh.
test_small() {
    CARGO_PROFILE_DEV_OPT_LEVEL=s CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-target}/opt-s" \
        cargo test --test 'switch_*' --test 'task_*'
}

# Fewer rounds than by default, but of the full size. It fails by itself if anything is amiss.
run_load() {
    cargo run --release --example gls -- 100000 3
}

run_tour() {
    cargo run --release --example tour
}

# A mix of everything at random. It fails by itself if anything is amiss, and prints its seed.
run_soak() {
    cargo run --release --example soak -- 20
}

# Each fuzz target for a minute, from the corpus that is kept.
fuzz_briefly() {
    bash ci/fuzz.sh 60
}

# The debug tests once more, with AddressSanitizer, which is told of every switch of stacks.
test_asan() {
    bash ci/asan.sh
}

# Addresses that were kept too long show only where the compiler optimises.
test_release() {
    cargo test --release
}
