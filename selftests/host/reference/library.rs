// SPDX-License-Identifier: GPL-2.0

//! KVM's lapic.c as a library: found, compiled for user space, and loaded.

use super::steps::Knob;
use std::env;
use std::ffi::{c_char, c_int, c_void, CString};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

pub type Vm = *mut c_void;
pub type Vcpu = *mut c_void;

/// `struct reference_config`
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Settings {
    pub x2apic_format: u32,
    pub broadcast_quirk_disabled: u32,
    pub vector_hashing: u32,
    pub is_split: u32,
    pub suppress_eoi_broadcast: u32,
    pub lint0_quirk: u32,
    pub icr_is_split: u32,
    pub min_timer_period_us: u32,
    pub bus_cycle_ns: u64,
}

/// `struct reference_state`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct State {
    pub base: u64,
    pub base_address: u64,
    pub base_inhibited: u64,
    pub software_enabled: u64,
    pub irr_pending: u64,
    pub nmi_watchdogs: u64,
    pub arbitration_priority: u64,
    pub hrtimer_armed: u64,
    pub hrtimer: u64,
    pub hv_timer_in_use: u64,
    pub hv_timer_armed: u64,
    pub hv_timer: u64,
    pub tscdeadline: u64,
    pub advance_ns: u64,
    pub attention: u64,
    pub pv_eoi_byte: u64,
    pub vapic_word: u64,
}

/// `struct reference_message`
#[repr(C)]
pub struct Icr {
    pub low: u32,
    pub destination: u32,
    pub redirection_hint: u32,
}

/// `struct reference_targets`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Targets {
    pub is_fast: u64,
    pub by_map: u64,
    pub by_match: u64,
    pub delivered: u64,
    pub single: u64,
}

/// `enum op`
#[derive(Clone, Copy)]
#[repr(u32)]
pub enum Op {
    Now,
    MmioRead,
    MmioWrite,
    MsrRead,
    MsrWrite,
    Trap,
    IcrFast,
    Tpr,
    Accept,
    Lvt,
    HasInterrupt,
    Ack,
    EoiAccelerated,
    TimerFn,
    Deadline,
    PendingTimer,
    InjectTimer,
    ExpiredHv,
    ToHv,
    ToSw,
    Migrate,
    Wait,
    Base,
    UpdateApicv,
    FromVapic,
    ToVapic,
    Save,
    Restore,
    Reset,
    AcceptsPic,
    Readable,
    PendingEoi,
    SuppressesEoi,
}

/// `struct event`: a number of `enum reference_event`, and two values.
pub type Entry = [u64; 3];

/// As many entries as the C side keeps.
pub const MAX_EVENTS: usize = 4096;

macro_rules! reference {
    ($($name:ident: fn($($arg:ty),*) $(-> $result:ty)?;)*) => {
        /// The functions of `reference/lapic.c`.
        pub struct Reference {
            $(pub $name: unsafe extern "C" fn($($arg),*) $(-> $result)?,)*
        }

        impl Reference {
            pub fn load(library: &Path) -> Result<Self, String> {
                let path = CString::new(library.to_str().ok_or("path")?).map_err(|_| "path")?;
                const RTLD_NOW: c_int = 2;
                // SAFETY: A C string; the library is our own and runs nothing.
                let handle = unsafe { dlopen(path.as_ptr(), RTLD_NOW) };
                if handle.is_null() {
                    return Err(format!("{} cannot be loaded", library.display()));
                }
                Ok(Self {
                    $($name: {
                        let name = concat!("reference_", stringify!($name), "\0");
                        // SAFETY: A handle and a C string.
                        let symbol = unsafe { dlsym(handle, name.as_ptr().cast()) };
                        if symbol.is_null() {
                            return Err(format!("{name} is missing"));
                        }
                        // SAFETY: reference/lapic.c declares it so.
                        unsafe { std::mem::transmute::<*mut c_void, unsafe extern "C" fn($($arg),*) $(-> $result)?>(symbol) }
                    },)*
                })
            }
        }
    };
}

reference! {
    create_vm: fn(*const Settings) -> Vm;
    create_vcpu: fn(Vm, u32, u32, u32) -> Vcpu;
    destroy_vm: fn(Vm);
    step: fn(Vcpu, Op, u64, u64, *mut c_void) -> u64;
    set: fn(Vcpu, Knob, u64);
    events: fn(*mut Entry) -> u32;
    look: fn(Vcpu, *mut State) -> *const u32;
    set_identity: fn(Vcpu, u64, u32, u32, u32, u32);
    build_map: fn(Vm, *mut u64) -> i64;
    resolve: fn(Vm, Vcpu, *const Icr, *mut Targets);
    pv_ipi: fn(Vm, u64, u64, u32) -> u64;
}

extern "C" {
    fn dlopen(path: *const c_char, flags: c_int) -> *mut c_void;
    fn dlsym(handle: *mut c_void, name: *const c_char) -> *mut c_void;
}

/// The kernel's source tree, or why there is none to use.
pub fn source() -> Result<PathBuf, String> {
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

/// Compiles KVM's lapic.c for user space.
pub fn compile(tree: &Path) -> Result<PathBuf, String> {
    let out = Path::new(env!("CARGO_TARGET_TMPDIR")).join("lapic_reference");
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("selftests/host/reference");
    fs::create_dir_all(&out).map_err(|error| error.to_string())?;

    for (from, to) in [
        ("arch/x86/kvm/lapic.c", "kvm-lapic.c"),
        ("arch/x86/kvm/lapic.h", "kvm-lapic.h"),
        ("arch/x86/include/asm/apicdef.h", "apicdef.h"),
    ] {
        let path = tree.join(from);
        let text =
            fs::read_to_string(&path).map_err(|_| format!("{} is missing", path.display()))?;
        let lines = text.lines().filter(|line| !line.starts_with("#include"));
        let mut text: String = lines.flat_map(|line| [line, "\n"]).collect();
        if to == "kvm-lapic.c" {
            for (call, replacement) in [
                (
                    "kvm_irq_delivery_to_apic(apic->vcpu->kvm, apic, &irq);",
                    "reference_send(apic, &irq, false);",
                ),
                (
                    "kvm_irq_delivery_to_apic_fast(apic->vcpu->kvm, apic, &irq,\n\
                     \t\t\t\t\t\t   &ignored)",
                    "reference_send(apic, &irq, true)",
                ),
            ] {
                if text.matches(call).count() != 1 {
                    return Err(format!("{} sends in another way", path.display()));
                }
                text = text.replace(call, replacement);
            }
        }
        fs::write(out.join(to), text).map_err(|error| error.to_string())?;
    }

    let library = out.join("lapic.so");
    let compiler = env::var("CC").unwrap_or_else(|_| "cc".into());
    let flags = "-shared -fPIC -O1 -w -fwrapv -fno-strict-aliasing";
    let output = Command::new(&compiler)
        .args(flags.split(' '))
        .arg("-I")
        .arg(&out)
        .arg("-I")
        .arg(&here)
        .arg(here.join("lapic.c"))
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
