#!/usr/bin/env bash
# Packs the crate, and builds and runs a program that depends on the packed files:
#
#     bash ci/package.sh
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
home=$target/package-user
# Crates of other versions may lie there.
rm -rf "$home" "$target/package"
mkdir -p "$home/src"

# Changes that are not committed are packed as well. What is packed is built below, by the program.
cargo package --allow-dirty --no-verify --quiet
tar -C "$home" -xf "$target"/package/goexit-*.crate

cat >"$home/Cargo.toml" <<END
[package]
name = "package-user"
edition = "2024"

[dependencies]
goexit = { path = "$(basename "$home"/goexit-*)" }

[workspace]
END
cat >"$home/src/main.rs" <<'END'
fn main() {
    let handle = coro::go(|| {
        coro::tls::set("key", 41);
        *coro::tls::get::<i32>("key").unwrap() + 1
    });
    assert_eq!(handle.join().unwrap(), 42);
    println!("the packed crate works");
}
END
# The same versions as here, so that nothing new is downloaded.
cp Cargo.lock "$home/Cargo.lock"
CARGO_TARGET_DIR=$home/target cargo run --quiet --manifest-path "$home/Cargo.toml"
