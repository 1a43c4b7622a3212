//! Whether there is a storm (`storm.rs`): system calls that would block for half a minute are told
//! EINTR instead, on the main thread, on a thread that was started later, and in a process that was
//! executed. Ends with 1 if one is not.

use std::env;
use std::ffi::{c_int, c_ulong, c_void};
use std::io::{Error, ErrorKind};
use std::process::{Command, ExitCode};
use std::ptr;
use std::thread;

unsafe extern "C" {
    fn poll(files: *mut c_void, count: c_ulong, milliseconds: c_int) -> c_int;
}

fn is_interrupted() -> bool {
    // SAFETY: no file at all, only the time.
    let result = unsafe { poll(ptr::null_mut(), 0, 30_000) };
    result == -1 && Error::last_os_error().kind() == ErrorKind::Interrupted
}

fn main() -> ExitCode {
    let here = is_interrupted();
    let beside = thread::spawn(is_interrupted).join().expect("it does not panic");
    let below = env::args().nth(1).as_deref() == Some("executed") || {
        let program = env::current_exe().expect("this program");
        Command::new(program).arg("executed").status().expect("it can be run").success()
    };
    println!("interrupted: main thread {here}, other thread {beside}, executed process {below}");
    ExitCode::from(u8::from(!(here && beside && below)))
}
