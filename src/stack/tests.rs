//! Tests of the stacks' memory: what they share.
//!
//! Much of it is about signals, limits and the whole process' mappings, so it runs in a **child**:
//! the test binary executes itself again for this one test, and the parent looks at how the child
//! ended and what it wrote. A child that hangs is ended by its own `alarm`.
//!
//! What each file covers: `arithmetic` (sizes, addresses, colours), `guards`, `limits` (refusals of
//! the kernel, mappings), `idle` (pools and shelves), `faults` (the report, earlier and later
//! handlers, the alternate stack). `stack_passes_with_mprotect_guards` runs all of them a second
//! time with the other kind of guard.

mod arithmetic;
mod cold;
mod faults;
mod guards;
mod idle;
mod limits;

use std::any::type_name_of_val;
use std::arch::asm;
use std::env;
use std::io::Read as _;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::os::unix::process::ExitStatusExt;
use std::process::{self, Command, Output};

use super::pool::Usage;
use super::*;

/// Names the test whose body the child is to run.
const CHILD: &str = "CORO_STACK_TEST_CHILD";

const WATCHDOG_SECONDS: u32 = 120;

/// In the parent: runs `test`, a test function, alone in a new process and gives back how it ended.
/// In that process: runs `body` and exits with 0.
fn in_child<T: Fn()>(test: T, body: impl FnOnce()) -> Output {
    in_child_with(test, &[], body)
}

/// The same with variables added to the child's environment.
fn in_child_with<T: Fn()>(test: T, variables: &[(&str, &str)], body: impl FnOnce()) -> Output {
    let path = type_name_of_val(&test);
    let (_crate_name, name) = path.split_once("::").unwrap();
    if env::var_os(CHILD).is_some_and(|child| child == name) {
        // SAFETY: alarm takes a number and touches no memory.
        unsafe { libc::alarm(WATCHDOG_SECONDS) };
        body();
        process::exit(0);
    }
    let mut command = Command::new(env::current_exe().unwrap());
    command.args([name, "--exact", "--nocapture"]).env(CHILD, name);
    command.envs(variables.iter().copied()).output().unwrap()
}

#[track_caller]
fn assert_success(output: &Output) {
    assert!(output.status.success(), "{}\n{}", output.status, stderr_of(output));
}

#[track_caller]
fn assert_signal(output: &Output, signal: i32) {
    assert_eq!(output.status.signal(), Some(signal), "{}", stderr_of(output));
}

fn stderr_of(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The environment forces guards by `mprotect`.
fn mprotect_forced() -> bool {
    env::var_os("CORO_GUARD").is_some_and(|value| value == "mprotect")
}

/// This kernel has guard markers and the environment allows them.
fn markers_work() -> bool {
    const MADV_GUARD_INSTALL: i32 = 102;
    let page = Mapping::new(4096);
    // SAFETY: a page of our own.
    let result = unsafe { libc::madvise(page.0 as *mut _, page.1, MADV_GUARD_INSTALL) };
    result == 0 && !mprotect_forced()
}

/// Some memory outside the region.
struct Mapping(usize, usize);

impl Mapping {
    fn new(length: usize) -> Mapping {
        let access = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // SAFETY: a new mapping at an address of the kernel's choice harms nobody.
        let start = unsafe { libc::mmap(std::ptr::null_mut(), length, access, flags, -1, 0) };
        assert_ne!(start, libc::MAP_FAILED);
        Mapping(start as usize, length)
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: mapped in `new`.
        unsafe { libc::munmap(self.0 as *mut _, self.1) };
    }
}

fn write_byte(addr: usize, value: u8) {
    // SAFETY: tests pass addresses of their own slots, or mean to fault.
    unsafe { (addr as *mut u8).write_volatile(value) };
}

fn read_byte(addr: usize) -> u8 {
    // SAFETY: as in `write_byte`.
    unsafe { (addr as *const u8).read_volatile() }
}

/// Asks the kernel, without a fault, whether a byte can be written.
fn is_writable(addr: usize) -> bool {
    let mut ends = [0; 2];
    // SAFETY: two file descriptors and one byte of our own; the kernel checks `addr` itself.
    unsafe {
        assert_eq!(libc::pipe(ends.as_mut_ptr()), 0);
        let byte = 7_u8;
        assert_eq!(libc::write(ends[1], (&raw const byte).cast(), 1), 1);
        let result = libc::read(ends[0], addr as *mut _, 1);
        let errno = *libc::__errno_location();
        libc::close(ends[0]);
        libc::close(ends[1]);
        assert!(result == 1 || errno == libc::EFAULT, "read: errno {errno}");
        result == 1
    }
}

/// The whole guard is closed, and the byte above it is not.
#[track_caller]
fn assert_guarded(slot: &Slot) {
    for page in (slot.start()..slot.limit()).step_by(4096) {
        assert!(!is_writable(page) && !is_writable(page + 4095), "{page:#x} of {slot:x?}");
    }
    assert!(is_writable(slot.limit()) && is_writable(slot.end() - 1), "{slot:x?}");
}

/// Calls `f(argument)` with the stack pointer on the slot.
fn call_on(slot: &Slot, f: extern "C" fn(usize), argument: usize) {
    // SAFETY: the slot is ours and idle; r12 is kept by the callee.
    unsafe {
        asm!(
            "mov r12, rsp",
            "mov rsp, {top}",
            "call {f}",
            "mov rsp, r12",
            top = in(reg) slot.ceiling(),
            f = in(reg) f,
            in("rdi") argument,
            out("r12") _,
            clobber_abi("C"),
        );
    }
}

/// Uses at least `bytes` of stack, by recursion.
#[inline(never)]
extern "C" fn use_stack(bytes: usize) {
    let frame = std::hint::black_box([0_u8; 512]);
    if bytes > frame.len() {
        use_stack(bytes - frame.len());
    }
    std::hint::black_box(&frame);
}

extern "C" fn overflow(_: usize) {
    use_stack(usize::MAX);
}

/// A value from a line of `/proc/self/status`, in KiB.
fn status_kib(key: &str) -> usize {
    let text = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find(|line| line.starts_with(key)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Sets a soft limit and tells the one before.
fn set_limit(resource: libc::__rlimit_resource_t, bytes: u64) -> u64 {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: a live local of the right type.
    unsafe {
        assert_eq!(libc::getrlimit(resource, &mut limit), 0);
        let before = limit.rlim_cur;
        limit.rlim_cur = bytes;
        assert_eq!(libc::setrlimit(resource, &limit), 0);
        before
    }
}

/// The next of a sequence of numbers that look random, and are the same in each run.
fn next_random(state: &mut u64) -> usize {
    *state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
    (*state >> 33) as usize
}

/// The lines of `/proc/self/maps`: how many there are, and how many are about the region.
///
/// It takes no memory, so that looking changes nothing and works where no mapping is left. What is outside
/// of the region is the allocator's and the threads'.
fn count_mappings() -> (usize, usize) {
    init().unwrap();
    let start = slot::start_of(Class::all().next().unwrap(), 0);
    let region = start..start + slot::region_length();
    let mut maps = std::fs::File::open("/proc/self/maps").unwrap();
    let (mut all, mut inside) = (0, 0);
    // A line begins with its addresses, "start-end "; the rest is skipped.
    let (mut buffer, mut numbers, mut current, mut skip) = ([0; 4096], [0; 2], 0, false);
    loop {
        let length = maps.read(&mut buffer).unwrap();
        if length == 0 {
            return (all, inside);
        }
        for &byte in &buffer[..length] {
            match byte {
                b'\n' => {
                    all += 1;
                    let [start, end] = numbers;
                    inside += usize::from(start < region.end && region.start < end);
                    (numbers, current, skip) = ([0; 2], 0, false);
                }
                _ if skip => {}
                b'-' => current = 1,
                b' ' => skip = true,
                digit => {
                    let digit = char::from(digit).to_digit(16).unwrap() as usize;
                    numbers[current] = numbers[current] << 4 | digit;
                }
            }
        }
    }
}

/// How many of the stacks, by their limits and ends, have a page of memory, present or swapped.
fn count_with_pages(stacks: impl Iterator<Item = Range<usize>>) -> usize {
    // One word for each page of the address space; its highest bits say "present" and "swapped".
    const HAS_MEMORY: u64 = 0b11 << 62;
    let pagemap = std::fs::File::open("/proc/self/pagemap").unwrap();
    let mut words = Vec::new();
    let has_pages = |stack: &Range<usize>| {
        let (first, last) = (stack.start / 4096, stack.end / 4096);
        words.resize((last - first) * size_of::<u64>(), 0);
        pagemap.read_exact_at(&mut words, (first * size_of::<u64>()) as u64).unwrap();
        let mut words = words.chunks_exact(size_of::<u64>());
        words.any(|word| u64::from_ne_bytes(word.try_into().unwrap()) & HAS_MEMORY != 0)
    };
    stacks.filter(has_pages).count()
}

#[test]
fn stack_passes_with_mprotect_guards() {
    if mprotect_forced() || env::var_os(CHILD).is_some() {
        return;
    }
    let mut command = Command::new(env::current_exe().unwrap());
    let module = module_path!().split_once("::").unwrap().1;
    let output = command.arg(module).env("CORO_GUARD", "mprotect").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}
