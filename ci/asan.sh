#!/usr/bin/env bash
# The debug suite, or the soak, under AddressSanitizer:
#
#     bash ci/asan.sh                          # all tests, those in the documentation included
#     bash ci/asan.sh --test fault             # whatever `cargo test` understands
#     bash ci/asan.sh soak SECONDS [SEED]      # examples/soak
#
# The feature `sanitizer` tells AddressSanitizer of each switch of stacks. That this works is shown by
# tests/fault/sanitizer.rs, which writes past an array on a coroutine's stack and has to be found out.
#
# A test that is about something which AddressSanitizer changes itself is ignored in this build and says
# why: `grep -rn coro_asan src tests`.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source ci/tools.sh
find_nightly

# A directory of its own, so that the other builds are not thrown away for the sake of the flags.
CARGO_TARGET_DIR=$(own_target asan)
export CARGO_TARGET_DIR

options=(
    # A fault is ours to report, or the kernel's to punish: tests look at the signal that ends a child.
    # AddressSanitizer leaves a handler of the program's in place, but would take what that passes on.
    handle_segv=0
    handle_sigbus=0
    # For this it moves locals to a second stack for each coroutine, where tests do not expect them. And the
    # switch of corosensei 0.3.4 never says that a coroutine has ended, so those stacks stay: gigabytes
    # after some 100,000 coroutines.
    detect_stack_use_after_return=0
    # LeakSanitizer takes no coroutine's stack for a root, so what only a parked coroutine holds is a leak
    # to it; named as a root, the region kills it at the first guard, as it reads every page. And some
    # tests leak on purpose. Drops and blocks are counted instead, by the tests and by examples/soak.
    detect_leaks=0
)
command=(test)
if [[ ${1-} == soak ]]; then
    shift
    command=(run --example soak --)
    # The soak's books show mappings and pages that are leaked, so the sanitizer's own have to stay few.
    options+=(
        # It gives each thread a signal stack, and at the thread's end unmaps the one that is in force. A worker's
        # is the library's by then, so its own would stay.
        use_sigaltstack=0
        # Freed memory waits there for a use, 256 MiB by default.
        quarantine_size_mb=16
    )
fi
printf -v ASAN_OPTIONS '%s:' "${options[@]}"
export ASAN_OPTIONS

# Not in RUSTFLAGS: the programs that tests build for themselves would inherit them. And with --target,
# or build scripts and macros would get the flags too.
flags="['-Zsanitizer=address', '--cfg=coro_asan']"
config=(
    "target.$host.rustflags = $flags"
    "target.$host.rustdocflags = $flags"
    # All that corosensei compiles to by itself is its assembly; the rest is generic. AddressSanitizer adds
    # a constructor to it, one without unwind tables, and if there is debug information then LLVM puts
    # the unwind table of the *assembly* into .debug_frame, where no unwinder but gdb looks.
    "profile.dev.package.corosensei.debug = false"
)
"${nightly[@]}" --version
"${nightly[@]}" "${config[@]/#/--config=}" "${command[0]}" \
    --target "$host" --features sanitizer "${command[@]:1}" "$@"
