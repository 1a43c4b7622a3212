# Sourced by .ci/run: the checks, one function each.

check_format() {
    cargo fmt --all --check
}

check_lints() {
    cargo clippy --all-targets -- -D warnings
    cargo clippy --all-targets --no-default-features -- -D warnings
    cargo clippy --all-targets --features check,hyper,tokio,tracing -- -D warnings
}

check_docs() {
    RUSTDOCFLAGS="-D warnings" cargo doc --no-deps
    RUSTDOCFLAGS="-D warnings" cargo doc --no-deps --no-default-features
    RUSTDOCFLAGS="-D warnings" cargo doc --no-deps --features check,hyper,tokio,tracing
}

# The public interface is the one in docs/public-api.txt, so that no change of it goes unseen. Building the tool takes
# minutes, so it is installed by a leg of ci/full.sh alone.
check_api() {
    local listed
    if ! cargo public-api --version; then
        without 'the public interface: there is no cargo-public-api'
    elif ! listed=$(public_api); then
        without 'the public interface: cargo-public-api cannot list it with this nightly toolchain'
    else
        diff -u docs/public-api.txt - <<<"$listed"
    fi
}

# Without blanket impls, and without auto traits, which tests/auto_traits.rs lists.
public_api() {
    CARGO_TARGET_DIR=$(own_target api) cargo +nightly public-api -ss
}

# The oldest compiler builds the library. Its tests are a leg of ci/full.sh.
check_oldest() {
    local oldest
    oldest=$(oldest_toolchain)
    if ! has_toolchain "$oldest"; then
        without "whether Rust $oldest builds the library: there is no such compiler, and rustup cannot install it"
        return
    fi
    RUSTUP_TOOLCHAIN=$oldest CARGO_TARGET_DIR=$(own_target oldest) cargo check --lib --features check,hyper,tokio,tracing
}

# Imports go down the floors of src/, and never in a circle.
check_floors() {
    python3 ci/floors.py
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

# What is plain Rust, under Miri. It has neither mmap nor a switch of stacks, so the rest cannot run there.
test_miri() {
    # Without its sources in place, Miri would ask whether to fetch them.
    if ! rustup component add miri rust-src --toolchain nightly || ! cargo +nightly miri setup; then
        without 'the locals and the list of waiters under Miri: it cannot be had for the nightly toolchain'
        return
    fi
    # A backtrace of each panic that a test causes would take most of the time.
    RUST_BACKTRACE=0 CARGO_TARGET_DIR=$(own_target miri) cargo +nightly miri test --lib -- locals:: wait_list::
}

# The README's command.
test_debug() {
    cargo test
}

# Every mutant compiles, and three are tried, others each day. ci/full.sh tries them all.
test_mutants() {
    bash ci/mutants.sh --compile
    bash ci/mutants.sh --some 3
}

# The tests of what suspends, with the frames of a coroutine looked through at every suspension. In a directory of its
# own, since a feature builds everything anew.
test_nesting() {
    CORO_CHECK=nesting CARGO_TARGET_DIR=$(own_target check) cargo test --features check --lib --test 'check_*' \
        --test chan --test dump --test hook --test sync --test 'fault*' --test 'runtime*' --test 'switch*' --test 'task*' --test 'tls*'
}

# What is for other libraries: streams under their traits, spans under their subscribers.
test_features() {
    CARGO_TARGET_DIR=$(own_target features) cargo test --features hyper,tokio,tracing --test net --test trace
    CARGO_TARGET_DIR=$(own_target features) cargo test --features tracing --doc trace
}

# Without the features that are on by default.
test_bare() {
    CARGO_TARGET_DIR=$(own_target bare) cargo test --no-default-features --lib --test dump_feature
}

# Without optimisation across crates, and with frame pointers, the frames at a switch of stacks are others. Each of
# the two alone, and the rest of the tests under them, are legs of ci/full.sh.
test_frames() {
    CARGO_PROFILE_RELEASE_LTO=off CARGO_TARGET_DIR=$(own_target frames) \
        test_with_flag -Cforce-frame-pointers=yes --release --test 'switch*'
}

# Fewer rounds than by default, but of the full size. It fails by itself if anything is amiss.
run_load() {
    cargo run --release --example gls -- 100000 3
}

# The live view, on a terminal that tmux keeps. A leg of ci/full.sh lints it.
test_top() {
    cargo test -p coro-top
}

# coro beside other people's crates, and those beside the servers and clients that they are for.
test_world() {
    CARGO_TARGET_DIR=$(own_target world) bash ci/world.sh
}

run_tour() {
    cargo run --release --example tour
}

# What the operations that programs use most cost in instructions. It fails where a count has grown by more than 3 %.
count_instructions() {
    cargo bench --bench micro -- --check
}

# A mix of everything at random. It fails by itself if anything is amiss, and prints its seed.
run_soak() {
    cargo run --release --example soak -- 20
}

# Each fuzz target for eight seconds, from the corpus that is kept. ci/full.sh takes longer.
fuzz_briefly() {
    bash ci/fuzz.sh 8
}

# The debug tests once more, with AddressSanitizer, which is told of every switch of stacks.
test_asan() {
    bash ci/asan.sh
}

# Addresses that were kept too long show only where the compiler optimises. Across crates it does so in ci/full.sh: here
# each of the tests would be linked that way.
test_release() {
    CARGO_PROFILE_RELEASE_LTO=false CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 cargo test --release
}
