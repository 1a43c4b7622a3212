//! Programs that must be compiled in another way than the tests are (frame pointers, a sanitizer)
//! or that need a `main` of their own. Each is one file below `tests/`, built by the `cargo` that
//! runs the tests, as a package of its own, in a target directory of its own.

#![allow(dead_code)]

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What to build, and how.
pub(crate) struct Program {
    /// Names the package and its directory.
    pub(crate) name: &'static str,
    /// The file with its `main`, or with what it exports, seen from the root of the repository.
    pub(crate) source: &'static str,
    /// `+nightly`, or nothing for the toolchain that runs the tests.
    pub(crate) toolchain: Option<&'static str>,
    /// Flags for the compiler, in place of those from the environment.
    pub(crate) rustflags: &'static str,
    /// Of this crate.
    pub(crate) features: &'static str,
    /// Arguments of `cargo build`.
    pub(crate) arguments: &'static [&'static str],
}

/// Builds `program`; the path of its executable, or why it could not be built.
pub(crate) fn build(program: &Program) -> Result<PathBuf, String> {
    build_as(program, "[[bin]]", "").map(|place| place.join(program.name))
}

/// Builds a library that C programs can load; the path of its file, or why it could not be built.
pub(crate) fn build_library(library: &Program) -> Result<PathBuf, String> {
    let place = build_as(library, "[lib]", "crate-type = [\"cdylib\"]\n")?;
    Ok(place.join(format!("lib{}.so", library.name)))
}

/// Builds a package with this one target, and gives the directory of what was built.
fn build_as(program: &Program, kind: &str, more: &str) -> Result<PathBuf, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join(program.name);
    let target = place.join("target");
    fs::create_dir_all(&place).expect("a directory in the target directory");
    let manifest = format!(
        "[package]\nname = \"{}\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\n\
         {kind}\nname = \"{}\"\npath = {:?}\n{more}\n\
         [dependencies]\ngoexit = {{ path = {root:?}, features = [{}] }}\nlibc = \"0.2\"\n\n\
         [workspace]\n",
        program.name,
        program.name,
        root.join(program.source),
        program.features,
    );
    write_if_changed(&place.join("Cargo.toml"), manifest.as_bytes());
    // The same versions as here; so nothing has to be fetched. Cargo drops what is not needed.
    if !place.join("Cargo.lock").exists()
        && let Ok(lock) = fs::read(root.join("Cargo.lock"))
    {
        fs::write(place.join("Cargo.lock"), lock).expect("a file in the target directory");
    }
    let mut cargo = match program.toolchain {
        // Through rustup, which takes the toolchain's name, and not the one that runs the tests.
        Some(toolchain) => {
            let mut cargo = Command::new("cargo");
            cargo.arg(toolchain).env_remove("RUSTUP_TOOLCHAIN");
            cargo
        }
        // The compiler that this one calls is rustup's too, and has to belong to the same toolchain.
        None => Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into())),
    };
    // What the cargo that runs us has set for its own toolchain is not for this one. Nor is what is
    // loaded into the tests (`ci/signals.sh`): a linker fails where a system call is interrupted.
    for variable in ["RUSTC", "RUSTDOC", "CARGO_ENCODED_RUSTFLAGS", "LD_PRELOAD"] {
        cargo.env_remove(variable);
    }
    let output = cargo
        .args(["build", "--quiet", "--offline"])
        .args(program.arguments)
        .arg("--target-dir")
        .arg(&target)
        .current_dir(&place)
        .env("RUSTFLAGS", program.rustflags)
        .output()
        .map_err(|error| format!("cargo: {error}"))?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    let by_triple = target.join("x86_64-unknown-linux-gnu");
    let base = if by_triple.exists() { by_triple } else { target };
    let profile = if program.arguments.contains(&"--release") { "release" } else { "debug" };
    Ok(base.join(profile))
}

/// Leaves the file's time alone when nothing changes, so that nothing is built again.
fn write_if_changed(path: &Path, content: &[u8]) {
    if fs::read(path).is_ok_and(|before| before == content) {
        return;
    }
    fs::write(path, content).expect("a file in the target directory");
}
