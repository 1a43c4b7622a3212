//! Exists because Cargo allows `links` only beside a build script; it has nothing to build.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
}
