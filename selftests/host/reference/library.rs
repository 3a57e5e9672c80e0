// SPDX-License-Identifier: GPL-2.0

//! What `reference/lapic.c` exports, and how it is compiled.

use super::compiled::{compile, reference};
use super::steps::Knob;
use std::ffi::c_void;
use std::path::Path;

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
    pub shadows_tpr: u32,
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
    ComputePpr,
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

/// Compiles and loads KVM's lapic.c. Where it sends an IPI, the test listens.
pub fn load(tree: &Path) -> Result<Reference, String> {
    const FILES: [(&str, &str); 3] = [
        ("arch/x86/kvm/lapic.c", "kvm-lapic.c"),
        ("arch/x86/kvm/lapic.h", "kvm-lapic.h"),
        ("arch/x86/include/asm/apicdef.h", "apicdef.h"),
    ];
    let library = compile(tree, "lapic", &FILES, |file, mut text| {
        if file != "kvm-lapic.c" {
            return Ok(text);
        }
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
                return Err("sends in another way".into());
            }
            text = text.replace(call, replacement);
        }
        Ok(text)
    })?;
    Reference::load(&library)
}
