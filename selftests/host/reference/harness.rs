// SPDX-License-Identifier: GPL-2.0

//! KVM's C code as a library for a test: found, compiled for user space, and
//! loaded; and how the comparison with it is run and reported.

use proptest::test_runner::{Config, RngAlgorithm, TestError, TestRng, TestRunner};
use std::env;
use std::ffi::{c_char, c_int, c_void, CString};
use std::fmt::Debug;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

/// The kernel's source tree, or why there is none to use.
fn source() -> Result<PathBuf, String> {
    let tree = match env::var_os("LINUX_SRC") {
        Some(tree) => PathBuf::from(tree),
        None => {
            let cache = match (env::var_os("FERRIC_CACHE"), env::var_os("HOME")) {
                (Some(cache), _) => PathBuf::from(cache),
                _ if Path::new("/var/cache/ferric").exists() => "/var/cache/ferric".into(),
                (None, home) => Path::new(&home.unwrap_or_default()).join(".cache/ferric"),
            };
            let linux = cache.join("linux");
            let current = fs::read_to_string(linux.join("current"))
                .map_err(|_| "there is no kernel source; run scripts/setup or set LINUX_SRC")?;
            linux.join(current.trim())
        }
    };
    if tree.join("arch/x86/kvm/irqchip_ops.h").exists() {
        return Err(format!("{} has ferric's patches", tree.display()));
    }
    Ok(tree)
}

/// Compiles `reference/NAME.c` for user space, with files of the kernel's
/// beside it: each `(from, to)` is copied without its `#include` lines, and as
/// `edit` changes it.
pub fn compile(
    tree: &Path,
    name: &str,
    files: &[(&str, &str)],
    edit: impl Fn(&str, String) -> Result<String, String>,
) -> Result<PathBuf, String> {
    let out = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}_reference"));
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("selftests/host/reference");
    fs::create_dir_all(&out).map_err(|error| error.to_string())?;

    for (from, to) in files {
        let path = tree.join(from);
        let text =
            fs::read_to_string(&path).map_err(|_| format!("{} is missing", path.display()))?;
        let lines = text.lines().filter(|line| !line.starts_with("#include"));
        let text = lines.flat_map(|line| [line, "\n"]).collect();
        let text = edit(to, text).map_err(|why| format!("{} {why}", path.display()))?;
        fs::write(out.join(to), text).map_err(|error| error.to_string())?;
    }

    let library = out.join(format!("{name}.so"));
    let compiler = env::var("CC").unwrap_or_else(|_| "cc".into());
    let flags = "-shared -fPIC -O1 -w -fwrapv -fno-strict-aliasing";
    let output = Command::new(&compiler)
        .args(flags.split(' '))
        .arg("-I")
        .arg(&out)
        .arg("-I")
        .arg(&here)
        .arg(here.join(format!("{name}.c")))
        .arg("-o")
        .arg(&library)
        .output()
        .map_err(|_| format!("there is no C compiler {compiler}; set CC"))?;
    if output.status.success() {
        Ok(library)
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

extern "C" {
    fn dlopen(path: *const c_char, flags: c_int) -> *mut c_void;
    fn dlsym(handle: *mut c_void, name: *const c_char) -> *mut c_void;
}

/// A shared library, loaded until the process ends.
pub struct Library(*mut c_void);

impl Library {
    pub fn open(library: &Path) -> Result<Self, String> {
        let path = CString::new(library.to_str().ok_or("path")?).map_err(|_| "path")?;
        const RTLD_NOW: c_int = 2;
        // SAFETY: A C string; the library is our own and runs nothing.
        let handle = unsafe { dlopen(path.as_ptr(), RTLD_NOW) };
        if handle.is_null() {
            return Err(format!("{} cannot be loaded", library.display()));
        }
        Ok(Self(handle))
    }

    /// `name` ends with a NUL.
    pub fn symbol(&self, name: &str) -> Result<*mut c_void, String> {
        assert!(name.ends_with('\0'));
        // SAFETY: A handle and a C string.
        let symbol = unsafe { dlsym(self.0, name.as_ptr().cast()) };
        if symbol.is_null() {
            return Err(format!("{name} is missing"));
        }
        Ok(symbol)
    }
}

macro_rules! reference {
    ($($name:ident: fn($($arg:ty),*) $(-> $result:ty)?;)*) => {
        /// The functions that the C side exports.
        pub struct Reference {
            $(pub $name: unsafe extern "C" fn($($arg),*) $(-> $result)?,)*
        }

        impl Reference {
            pub fn load(library: &std::path::Path) -> Result<Self, String> {
                let library = $crate::harness::Library::open(library)?;
                Ok(Self {
                    $($name: {
                        let name = concat!("reference_", stringify!($name), "\0");
                        let symbol = library.symbol(name)?;
                        // SAFETY: The C side declares it so.
                        unsafe { std::mem::transmute::<*mut std::ffi::c_void, unsafe extern "C" fn($($arg),*) $(-> $result)?>(symbol) }
                    },)*
                })
            }
        }
    };
}

pub(crate) use reference;

/// A runner for `FERRIC_REFERENCE_CASES` sequences.
pub fn runner() -> TestRunner {
    let number = |name: &str, default: u32| {
        let value = env::var(name).ok().and_then(|value| value.parse().ok());
        value.unwrap_or(default)
    };
    let config = Config {
        cases: number("FERRIC_REFERENCE_CASES", 1000),
        failure_persistence: None,
        max_shrink_iters: 100_000,
        ..Config::default()
    };
    let seed = number("FERRIC_REFERENCE_SEED", 0);
    let mut bytes = [0; 32];
    bytes[..4].copy_from_slice(&seed.to_le_bytes());
    TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes))
}

/// Runs `compare`, which gives the outcome of each of its `tests` tests, with
/// the library that `load` makes of the kernel's source; says so if there is no
/// source.
pub fn run<L>(
    name: &str,
    tests: u32,
    load: impl FnOnce(&Path) -> Result<L, String>,
    compare: impl FnOnce(&L) -> Vec<bool>,
) -> ExitCode {
    let tree = match source() {
        Ok(tree) => tree,
        Err(reason) => {
            println!("test {name} ... ignored, {reason}");
            return finish(0, 0, tests);
        }
    };
    let reference = match load(&tree) {
        Ok(reference) => reference,
        Err(reason) => {
            println!("test {name} ... FAILED\n{reason}");
            return finish(0, tests, 0);
        }
    };
    let outcomes = compare(&reference);
    let passed = outcomes.iter().map(|&passed| u32::from(passed)).sum();
    finish(passed, tests - passed, 0)
}

/// Says how a comparison of `count` ended, as Cargo's own tests say it.
pub fn report<T: Debug>(what: &str, count: usize, result: Result<(), TestError<T>>) -> bool {
    match &result {
        Ok(()) => println!("test {what}_are_those_of_kvm ... ok, {count} compared"),
        Err(error) => println!("test {what}_are_those_of_kvm ... FAILED\n{error}"),
    }
    result.is_ok()
}

/// Sums up, likewise.
fn finish(passed: u32, failed: u32, ignored: u32) -> ExitCode {
    let verdict = if failed == 0 { "ok" } else { "FAILED" };
    println!("test result: {verdict}. {passed} passed; {failed} failed; {ignored} ignored");
    if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
