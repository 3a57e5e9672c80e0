// SPDX-License-Identifier: GPL-2.0

//! KVM's C code as a library for a test: found, compiled for user space, and
//! loaded.

use super::harness::Unavailable;
use std::env;
use std::ffi::{c_char, c_int, c_void, CString};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

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
                let library = $crate::compiled::Library::open(library)?;
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

/// The library that `load` makes of the kernel's source, if there is any.
pub fn from_source<L>(load: impl FnOnce(&Path) -> Result<L, String>) -> Result<L, Unavailable> {
    let tree = source().map_err(Unavailable::Here)?;
    load(&tree).map_err(Unavailable::Broken)
}
