//! The functions of C that programs reach through std, or call themselves, and that have large frames.

use std::arch::global_asm;
use std::ffi::{CStr, c_char, c_int, c_long, c_ulong, c_void};
use std::fs;
use std::mem;
use std::net::{SocketAddr, ToSocketAddrs, UdpSocket};
use std::panic;
use std::process::{Command, Stdio};
use std::ptr;
use std::sync::OnceLock;
use std::thread;

/// A function under test: calls C and tells whether the result is right. What the machine lacks, say a
/// locale, is no wrong result.
pub(crate) type Function = fn() -> bool;

/// Every function that is called near the end.
pub(crate) const FUNCTIONS: &[(&str, Function)] = &[
    ("to_socket_addrs of localhost", resolve_localhost),
    ("to_socket_addrs over DNS", resolve_over_dns),
    ("getaddrinfo", resolve_in_c),
    ("getifaddrs", list_interfaces),
    ("getpwnam", find_user),
    ("snprintf of %.400f", print_digits),
    ("snprintf of %a", print_hexadecimal),
    ("snprintf of %.16000g", print_with_precision),
    ("fprintf, unbuffered", print_unbuffered),
    ("fwprintf, unbuffered", print_wide_unbuffered),
    ("sscanf of a double", || scan_number(c"%lf")),
    ("sscanf of a long double", || scan_number(c"%Lf")),
    ("strtod", convert_number),
    ("qsort of 40 bytes", sort::<4, 10>),
    ("qsort of 1000 bytes", sort::<100, 10>),
    ("qsort of 900-byte elements", sort::<900, 4>),
    ("qsort of 1000-byte elements", sort::<1000, 100>),
    ("regcomp, regexec", match_expression),
    ("fnmatch", || match_pattern(ptr::null_mut())),
    ("fnmatch in a locale", || match_pattern(locale())),
    ("strcoll", || collate(locale())),
    ("strxfrm", || transform(locale(), 20_000)),
    ("strxfrm of 4000 bytes", || transform(locale(), 4_000)),
    ("newlocale", make_locale),
    ("setlocale", set_locale),
    ("iconv", convert_text),
    ("localtime, strftime", format_time),
    ("wordexp", expand_words),
    ("glob", list_files),
    ("glob of a long name", list_long_name),
    ("realpath", resolve_path),
    ("tmpfile", make_file),
    ("dlopen", load_library),
    ("strerror", describe_error),
    ("sysconf", count_processors),
    ("setenv of a long value", set_variable),
    ("current_dir", || std::env::current_dir().is_ok()),
    ("canonicalize", || fs::canonicalize("/proc/self/../self/cwd").is_ok()),
    ("read_dir", || fs::read_dir("/").is_ok_and(|entries| entries.count() > 0)),
    ("Command", run_true),
    ("thread::spawn", || thread::spawn(|| 42).join().is_ok_and(|value| value == 42)),
    ("unwinding", unwind),
    // SAFETY: takes nothing and leaves the stack as it was.
    ("a buffer of 64 KiB", || unsafe { coro_test_read_into_64_kib() } == 1),
];

/// These block all signals for a part of their time. If the guard is touched then, the kernel calls no
/// handler and ends the process by SIGSEGV: there is no report.
pub(crate) const BLOCK_SIGNALS: [&str; 2] = ["Command", "thread::spawn"];

/// 65,000 times `a`.
static LONG: [u8; 65_001] = {
    let mut bytes = [b'a'; 65_001];
    bytes[65_000] = 0;
    bytes
};

/// `len` times `a`.
fn long(len: usize) -> *const c_char {
    LONG[LONG.len() - 1 - len..].as_ptr().cast()
}

/// glibc's `struct __res_state`, as far as it is used here.
#[repr(C)]
struct ResolverState {
    retrans: c_int,
    retry: c_int,
    options: c_ulong,
    nscount: c_int,
    nameservers: [libc::sockaddr_in; 3],
}

/// glibc's `wordexp_t`.
#[repr(C)]
struct Words {
    count: usize,
    words: *mut *mut c_char,
    offset: usize,
}

// A function as C compilers make it: a buffer of 64 KiB and a few other locals, of which only the
// buffer's first bytes are written.
global_asm!(
    ".globl coro_test_read_into_64_kib",
    "coro_test_read_into_64_kib:",
    "push rbx",
    "sub rsp, 0x10200",
    "lea rdi, [rsp + 0x40]",
    "mov esi, 1",
    "mov edx, 64",
    "call memset@PLT",
    "movzx eax, byte ptr [rsp + 0x40]",
    "add rsp, 0x10200",
    "pop rbx",
    "ret",
);

unsafe extern "C" {
    fn coro_test_read_into_64_kib() -> c_int;
    fn __res_init() -> c_int;
    fn __res_state() -> *mut ResolverState;
    fn wordexp(words: *const c_char, expanded: *mut Words, flags: c_int) -> c_int;
    fn wordfree(expanded: *mut Words);
    fn fwprintf(stream: *mut libc::FILE, format: *const libc::wchar_t, ...) -> c_int;
    fn strcoll_l(a: *const c_char, b: *const c_char, locale: libc::locale_t) -> c_int;
    fn strxfrm_l(to: *mut c_char, from: *const c_char, len: usize, locale: libc::locale_t)
    -> usize;
    fn fnmatch(pattern: *const c_char, text: *const c_char, flags: c_int) -> c_int;
}

const WRDE_NOCMD: c_int = 1 << 2;
const FNM_EXTMATCH: c_int = 1 << 5;

/// A locale that has an order of its own, if there is one, else one of several bytes a character. Null
/// if there is neither.
fn locale() -> libc::locale_t {
    static LOCALE: OnceLock<usize> = OnceLock::new();
    let make = |name: &CStr| {
        // SAFETY: a name that ends.
        unsafe { libc::newlocale(libc::LC_ALL_MASK, name.as_ptr(), ptr::null_mut()) }
    };
    let first = || [c"en_US.UTF-8", c"C.UTF-8"].into_iter().map(make).find(|made| !made.is_null());
    *LOCALE.get_or_init(|| first().unwrap_or(ptr::null_mut()).addr()) as libc::locale_t
}

/// Starts what the functions need. Gives the address of a name server.
pub(crate) fn prepare_process() -> SocketAddr {
    serve_names()
}

/// Has the functions on this thread use it.
pub(crate) fn prepare_thread(name_server: SocketAddr) {
    use_name_server(name_server);
    locale();
}

/// A name server that knows one address for every name. Its thread ends with the process.
fn serve_names() -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    thread::spawn(move || {
        let mut message = [0; 1024];
        loop {
            let (_, sender) = socket.recv_from(&mut message).unwrap();
            // The header is 12 bytes long. Then comes a question: a name, its type and its class.
            let name = message[12..].iter().position(|&byte| byte == 0).unwrap();
            let end = 12 + name + 1 + 4;
            let asks_for_ipv4 = message[end - 3] == 1;
            // An answer, recursive; one question and one resource record, or none.
            message[2..4].copy_from_slice(&[0x81, 0x80]);
            message[4..12].copy_from_slice(&[0, 1, 0, u8::from(asks_for_ipv4), 0, 0, 0, 0]);
            // The name of the question, type A, class IN, a minute, 4 bytes.
            let record = [0xC0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 1];
            message[end..end + record.len()].copy_from_slice(&record);
            let end = if asks_for_ipv4 { end + record.len() } else { end };
            socket.send_to(&message[..end], sender).unwrap();
        }
    });
    address
}

/// Has this thread ask that name server and no other.
fn use_name_server(address: SocketAddr) {
    // SAFETY: the thread's own state; nobody else has it.
    let state = unsafe {
        assert_eq!(__res_init(), 0);
        &mut *__res_state()
    };
    (state.retrans, state.retry, state.nscount) = (1, 1, 1);
    state.nameservers[0] = libc::sockaddr_in {
        sin_family: libc::AF_INET as libc::sa_family_t,
        sin_port: address.port().to_be(),
        sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes([127, 0, 0, 1]) },
        sin_zero: [0; 8],
    };
}

fn resolve_localhost() -> bool {
    ("localhost", 80).to_socket_addrs().is_ok_and(|mut found| found.all(|addr| addr.port() == 80))
}

fn resolve_over_dns() -> bool {
    // Elsewhere, DNS may not be where names come from.
    ("x.invalid", 80)
        .to_socket_addrs()
        .map_or(true, |mut found| found.all(|addr| addr.port() == 80))
}

fn resolve_in_c() -> bool {
    // SAFETY: strings that end, live locals; all zero is a valid value of the hints.
    unsafe {
        let mut hints: libc::addrinfo = mem::zeroed();
        hints.ai_socktype = libc::SOCK_STREAM;
        hints.ai_flags = libc::AI_CANONNAME;
        let mut found = ptr::null_mut();
        let (node, service) = (c"localhost".as_ptr(), c"http".as_ptr());
        if libc::getaddrinfo(node, service, &raw const hints, &raw mut found) != 0 {
            return true;
        }
        let right = (*found).ai_socktype == libc::SOCK_STREAM;
        libc::freeaddrinfo(found);
        right
    }
}

fn list_interfaces() -> bool {
    let mut interfaces = ptr::null_mut();
    // SAFETY: a live local; what was found is freed once.
    unsafe {
        if libc::getifaddrs(&raw mut interfaces) == 0 {
            libc::freeifaddrs(interfaces);
        }
    }
    true
}

fn find_user() -> bool {
    // SAFETY: a name that ends; no other thread calls this function.
    let user = unsafe { libc::getpwnam(c"root".as_ptr()) };
    // SAFETY: the entry stays as it is until the next call.
    user.is_null() || unsafe { (*user).pw_uid } == 0
}

/// What `snprintf` gives for one number; at most 1024 bytes of it.
fn print(format: &CStr, number: f64) -> (c_int, Vec<u8>) {
    let mut text = vec![0_u8; 1024];
    // SAFETY: a format for one double, and a buffer of that length.
    let len =
        unsafe { libc::snprintf(text.as_mut_ptr().cast(), text.len(), format.as_ptr(), number) };
    (len, text)
}

fn print_digits() -> bool {
    let (len, text) = print(c"%.400f", 1e300);
    len == 301 + 1 + 400 && text.starts_with(b"1000000000000000052504760255204420248")
}

fn print_hexadecimal() -> bool {
    let (len, text) = print(c"%a", 1.0);
    len == 6 && text.starts_with(b"0x1p+0\0")
}

/// glibc (2.36) sets aside 4 bytes for each digit that the precision allows, on the stack if they are
/// less than 64 KiB; and writes the ones there are.
fn print_with_precision() -> bool {
    let (len, text) = print(c"%.16000g", 0.5);
    len == 3 && text.starts_with(b"0.5\0")
}

/// Calls `write` with a stream that has no buffer, so that the function needs one on the stack.
fn with_unbuffered(write: impl FnOnce(*mut libc::FILE) -> bool) -> bool {
    // SAFETY: strings that end, and a stream that is closed once.
    unsafe {
        let stream = libc::fopen(c"/dev/null".as_ptr(), c"w".as_ptr());
        if stream.is_null() {
            return true;
        }
        libc::setvbuf(stream, ptr::null_mut(), libc::_IONBF, 0);
        let right = write(stream);
        libc::fclose(stream);
        right
    }
}

fn print_unbuffered() -> bool {
    // SAFETY: an open stream, and a format for one int.
    with_unbuffered(|stream| unsafe { libc::fprintf(stream, c"%d".as_ptr(), 1234 as c_int) } == 4)
}

fn print_wide_unbuffered() -> bool {
    let format = ['%', 'd', '\0'].map(|char| char as libc::wchar_t);
    // SAFETY: an open stream, and a format for one int.
    with_unbuffered(|stream| unsafe { fwprintf(stream, format.as_ptr(), 1234 as c_int) } == 4)
}

/// A long number, a bit more than 1.5.
static NUMBER: [u8; 2001] = {
    let mut digits = [b'7'; 2001];
    digits[0] = b'1';
    digits[1] = b'.';
    digits[2] = b'5';
    digits[2000] = 0;
    digits
};

fn scan_number(format: &CStr) -> bool {
    // A double, or a long double in 16 bytes.
    let mut number = [0_u64; 2];
    // SAFETY: strings that end, and a local with room for either.
    unsafe { libc::sscanf(NUMBER.as_ptr().cast(), format.as_ptr(), &raw mut number) == 1 }
}

fn convert_number() -> bool {
    // SAFETY: a string that ends.
    let number = unsafe { libc::strtod(NUMBER.as_ptr().cast(), ptr::null_mut()) };
    (1.577..1.578).contains(&number)
}

/// Sorts `COUNT` elements of `SIZE` bytes.
fn sort<const SIZE: usize, const COUNT: usize>() -> bool {
    unsafe extern "C" fn compare(a: *const c_void, b: *const c_void) -> c_int {
        // SAFETY: called with elements, which have a first byte.
        unsafe { c_int::from(*a.cast::<u8>()) - c_int::from(*b.cast::<u8>()) }
    }
    let mut elements = vec![[0_u8; SIZE]; COUNT];
    for (index, element) in elements.iter_mut().enumerate() {
        element.fill((COUNT - index) as u8);
    }
    // SAFETY: so many elements of this size.
    unsafe { libc::qsort(elements.as_mut_ptr().cast(), COUNT, SIZE, Some(compare)) };
    elements.iter().enumerate().all(|(index, element)| {
        let expected = (index + 1) as u8;
        element.iter().all(|&byte| byte == expected)
    })
}

fn match_expression() -> bool {
    let pattern = c"^((a|b)*c+)(([[:alpha:]]|[0-9_]){2,8}(x|y)?)+$";
    // SAFETY: strings that end, live locals; all zero is a value that regcomp may find.
    unsafe {
        let mut compiled: libc::regex_t = mem::zeroed();
        if libc::regcomp(&raw mut compiled, pattern.as_ptr(), libc::REG_EXTENDED) != 0 {
            return false;
        }
        let mut groups: [libc::regmatch_t; 2] = mem::zeroed();
        let text = c"ababcchello_42xworldy".as_ptr();
        let found = libc::regexec(&raw const compiled, text, 2, groups.as_mut_ptr(), 0);
        libc::regfree(&raw mut compiled);
        found == 0 && (groups[1].rm_so, groups[1].rm_eo) == (0, 6)
    }
}

fn match_pattern(locale: libc::locale_t) -> bool {
    let pattern = c"[[:alpha:]][a-m]*[!b-y]??+([a-c])@(foo|aaa)*(x)[a]*";
    // SAFETY: strings that end; the thread gets back the locale that it has.
    unsafe {
        let before = if locale.is_null() { locale } else { libc::uselocale(locale) };
        let matches = fnmatch(pattern.as_ptr(), long(2000), FNM_EXTMATCH);
        if !before.is_null() {
            libc::uselocale(before);
        }
        matches == 0
    }
}

fn collate(locale: libc::locale_t) -> bool {
    // SAFETY: strings that end, and a locale.
    locale.is_null() || unsafe { strcoll_l(long(20_000), long(20_001), locale) } < 0
}

fn transform(locale: libc::locale_t, len: usize) -> bool {
    // SAFETY: a string that ends, no buffer, and a locale.
    locale.is_null() || unsafe { strxfrm_l(ptr::null_mut(), long(len), 0, locale) } >= len
}

fn make_locale() -> bool {
    // SAFETY: a name that ends, and what is made is freed once.
    unsafe {
        let made = libc::newlocale(libc::LC_ALL_MASK, c"C.UTF-8".as_ptr(), ptr::null_mut());
        if !made.is_null() {
            libc::freelocale(made);
        }
    }
    true
}

fn set_locale() -> bool {
    // SAFETY: names that end. No other thread uses the locale, which is C again after that.
    unsafe {
        libc::setlocale(libc::LC_ALL, c"C.UTF-8".as_ptr());
        !libc::setlocale(libc::LC_ALL, c"C".as_ptr()).is_null()
    }
}

fn convert_text() -> bool {
    let text = "Grüße: „Zitat“ – 1 €";
    let mut converted = vec![0_u8; 100];
    // SAFETY: strings that end, live locals with the lengths that are told.
    unsafe {
        let conversion = libc::iconv_open(c"ISO-8859-1//TRANSLIT".as_ptr(), c"UTF-8".as_ptr());
        if conversion.addr() == usize::MAX {
            return true;
        }
        let (mut from, mut from_len) = (text.as_ptr().cast_mut().cast(), text.len());
        let (mut to, mut to_len) = (converted.as_mut_ptr().cast(), converted.len());
        libc::iconv(conversion, &raw mut from, &raw mut from_len, &raw mut to, &raw mut to_len);
        libc::iconv_close(conversion);
    }
    converted.starts_with(b"Gr\xFC\xDFe: ")
}

fn format_time() -> bool {
    // SAFETY: strings that end, live locals, a buffer of that length; all zero is a valid time.
    unsafe {
        let (time, mut local) = (0, mem::zeroed());
        libc::localtime_r(&raw const time, &raw mut local);
        let mut text = vec![0_u8; 1024];
        let format = c"%c %x %X %Z %z %Ec %EY %Od %A %B %U %V %p %r %s %+ %100Y %F";
        libc::strftime(text.as_mut_ptr().cast(), text.len(), format.as_ptr(), &raw const local)
            > 100
    }
}

fn expand_words() -> bool {
    let words = c"~/x ~root/y $HOME \"${HOME:-quoted *}\" /et[c] $((1 + 2 * 3))";
    // SAFETY: a string that ends, and a live local that is freed once.
    unsafe {
        let mut expanded = mem::zeroed::<Words>();
        let right = wordexp(words.as_ptr(), &raw mut expanded, WRDE_NOCMD) == 0
            && CStr::from_ptr(*expanded.words.add(expanded.count - 1)) == c"7";
        wordfree(&raw mut expanded);
        right
    }
}

/// Whether there are files of that name, or none.
fn list(pattern: *const c_char) -> bool {
    // SAFETY: a string that ends, and a live local that is freed once.
    unsafe {
        let mut found = mem::zeroed();
        let status = libc::glob(pattern, 0, None, &raw mut found);
        libc::globfree(&raw mut found);
        status == 0 || status == libc::GLOB_NOMATCH
    }
}

fn list_files() -> bool {
    list(c"/[a-m]*/[n-z]*".as_ptr())
}

/// glibc (2.36) copies a directory's name to the stack, if it has less than 64 KiB.
fn list_long_name() -> bool {
    let mut pattern = vec![b'd'; 65_500];
    pattern.extend_from_slice(b"/*\0");
    list(pattern.as_ptr().cast())
}

fn resolve_path() -> bool {
    // SAFETY: a string that ends; what is found is freed once.
    unsafe {
        let found = libc::realpath(c"/proc/self/../self/cwd".as_ptr(), ptr::null_mut());
        libc::free(found.cast());
        !found.is_null()
    }
}

fn make_file() -> bool {
    // SAFETY: a stream that is closed once.
    unsafe {
        let file = libc::tmpfile();
        file.is_null() || libc::fclose(file) == 0
    }
}

fn load_library() -> bool {
    // SAFETY: names that end; the library has no bad effects.
    unsafe {
        let library = libc::dlopen(c"libm.so.6".as_ptr(), libc::RTLD_NOW);
        library.is_null() || !libc::dlsym(library, c"cos".as_ptr()).is_null()
    }
}

fn describe_error() -> bool {
    // SAFETY: gives a string that ends, and no other thread calls it.
    unsafe { CStr::from_ptr(libc::strerror(4711)) == c"Unknown error 4711" }
}

fn count_processors() -> bool {
    // SAFETY: takes a number.
    unsafe { libc::sysconf(libc::_SC_NPROCESSORS_ONLN) >= 1 as c_long }
}

/// glibc (2.36) builds the variable on the stack, if it has less than 64 KiB.
fn set_variable() -> bool {
    // SAFETY: strings that end. No other thread reads the environment.
    unsafe { libc::setenv(c"CORO_TEST_LONG".as_ptr(), long(65_000), 1) == 0 }
}

fn run_true() -> bool {
    Command::new("true").stdin(Stdio::null()).status().map_or(true, |status| status.success())
}

/// The unwinder is C code too.
fn unwind() -> bool {
    panic::catch_unwind(|| panic::resume_unwind(Box::new(42))).is_err()
}
