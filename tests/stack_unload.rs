//! A library that has used coroutines, and is then unloaded: what it has given to the process still works.
//! The library is `tests/unload/library.rs`. The cases run in children, which use no coroutines of their own.

mod common;
#[path = "common/nested.rs"]
mod nested;

use std::env;
use std::ffi::{CStr, CString, c_int, c_void};
use std::fs;
use std::mem;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{self, Output};
use std::ptr;
use std::sync::OnceLock;
use std::thread;
use std::time::Duration;

use common::{is_child, stderr, watchdog_for};

/// Long, because the library has to be built.
const LIMIT: Duration = Duration::from_secs(180);

/// The library, built once for all tests of this file.
fn library() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        let library = nested::Program {
            name: "unload",
            source: "tests/unload/library.rs",
            toolchain: None,
            rustflags: "",
            features: "",
            arguments: if cfg!(debug_assertions) { &[] } else { &["--release"] },
        };
        nested::build_library(&library).unwrap_or_else(|error| panic!("{error}"))
    })
}

/// Where a child finds the path of the library.
const LIBRARY: &str = "CORO_TEST_LIBRARY";

/// Runs a case of `test` in a child, with the library built.
fn run(test: &str, case: &str) -> Output {
    common::child_command(test, case)
        .env(LIBRARY, library())
        // The library is built without the checker.
        .env_remove("CORO_CHECK")
        .output()
        .unwrap()
}

/// The path of the library; in a child.
fn path() -> CString {
    CString::new(env::var_os(LIBRARY).unwrap().as_bytes()).unwrap()
}

/// Loads the library, calls its `function` on a thread of its own, and unloads it. The thread has ended
/// before that: its thread-locals would keep the library loaded.
fn load_call_unload(function: &CStr) {
    // SAFETY: the library's constructors are std's.
    let handle = unsafe { libc::dlopen(path().as_ptr(), libc::RTLD_NOW) };
    assert!(!handle.is_null(), "the library is loaded");
    // SAFETY: an open handle.
    let function = unsafe { libc::dlsym(handle, function.as_ptr()) };
    assert!(!function.is_null(), "the library has this function");
    // SAFETY: both functions of the library are of this type.
    let function = unsafe { mem::transmute::<*mut c_void, extern "C" fn() -> u32>(function) };
    assert_eq!(thread::spawn(move || function()).join().unwrap(), 42);
    // SAFETY: opened above, and nothing of it is used any more.
    assert_eq!(unsafe { libc::dlclose(handle) }, 0);
}

fn is_loaded() -> bool {
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    maps.contains(path().to_str().unwrap())
}

fn read_from_nowhere() {
    // SAFETY: there is nothing at this address, and the fault is what the test is about.
    unsafe { ptr::without_provenance::<u8>(8).read_volatile() };
}

const HANDLED: c_int = 7;

/// The program's own handler, which was there before the library's.
fn handle_faults() {
    extern "C" fn handler(_: c_int) {
        // SAFETY: takes a number, and is allowed in a handler.
        unsafe { libc::_exit(HANDLED) };
    }

    // SAFETY: a handler of the right type, and all else zero.
    unsafe {
        let mut action: libc::sigaction = mem::zeroed();
        action.sa_sigaction = handler as *const () as usize;
        assert_eq!(libc::sigaction(libc::SIGSEGV, &raw const action, ptr::null_mut()), 0);
    }
}

#[test]
#[cfg_attr(target_feature = "crt-static", ignore = "a static program loads no libraries")]
fn stack_library_that_is_unloaded_leaves_faults_to_the_program() {
    let _watchdog = watchdog_for(LIMIT);
    if is_child("fault") {
        handle_faults();
        load_call_unload(c"run_raw");
        read_from_nowhere();
        unreachable!("the process has ended");
    }
    let name = "stack_library_that_is_unloaded_leaves_faults_to_the_program";
    let output = run(name, "fault");
    assert_eq!(output.status.code(), Some(HANDLED), "{output:?}");
}

/// Its code stays where it is, and serves whoever loads it again.
#[test]
#[cfg_attr(target_feature = "crt-static", ignore = "a static program loads no libraries")]
fn stack_library_that_is_unloaded_can_be_loaded_again() {
    let _watchdog = watchdog_for(LIMIT);
    if is_child("again") {
        for _ in 0..3 {
            load_call_unload(c"run_raw");
            assert!(is_loaded(), "what the process still refers to");
        }
        for _ in 0..3 {
            load_call_unload(c"run_on_worker");
        }
        // SAFETY: the new process leaves at once.
        let forked = unsafe { libc::fork() };
        if forked == 0 {
            // SAFETY: takes a number.
            unsafe { libc::_exit(HANDLED) };
        }
        let status = common::wait_for_forked(forked);
        assert!(libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == HANDLED, "{status:#x}");
        process::exit(0);
    }
    let output = run("stack_library_that_is_unloaded_can_be_loaded_again", "again");
    assert!(output.status.success(), "{}\n{}", output.status, stderr(&output));
}
