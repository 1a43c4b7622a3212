# Sourced by the scripts that use sanitizers, which stable Rust has but does not promise: `nightly` is the
# cargo to call. That of a nightly toolchain, or, where there is none, the usual one with a compiler that
# takes itself for one.
if cargo +nightly --version >&2 2>/dev/null; then
    nightly=(cargo +nightly)
else
    export RUSTC_BOOTSTRAP=1
    nightly=(cargo)
fi
