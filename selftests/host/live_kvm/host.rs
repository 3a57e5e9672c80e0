// SPDX-License-Identifier: GPL-2.0

//! What is known of the host's KVM, and what its VMs are made with.

use super::guest::Op;
use super::kvm::OnKvm;
use super::step::{default_routes, APIC_ADDRESS, CPUS, MSR_APIC_BASE};
use ferric_model::destination::Policy;
use kvm_ioctls::Kvm;
use std::fs;

/// One vCPU more than run the guest, whose xAPIC ID is not its own: KVM then
/// does without APICv and AVIC, whose APIC is the CPU's rather than KVM's.
pub const PARKED: usize = CPUS;
/// Its ID and the one that it is given.
const PARKED_ID: u32 = 7;
pub const PARKED_REGISTER: u32 = (PARKED_ID + 1) << 24;

/// In what hosts differ.
#[derive(Clone, Copy, Debug, Default)]
pub struct Traits {
    /// It keeps the x2APIC ICR in two registers (AMD).
    pub icr_is_split: bool,
    /// It keeps of TPR what is in CR8, which the CPU handles (SVM).
    pub has_tpr_of_cr8: bool,
    /// It does an EOI as soon as the guest has taken an interrupt. Seen on a KVM
    /// that emulates its guests, without hardware for virtual machines.
    pub ends_at_once: bool,
}

/// What a VM is made with.
#[derive(Clone, Debug)]
pub struct Settings {
    pub ids: [u32; CPUS + 1],
    pub policy: Policy,
    pub host: Traits,
}

impl Settings {
    /// The flags of `KVM_CAP_X2APIC_API`.
    pub fn x2apic_api(&self) -> u64 {
        u64::from(self.policy.x2apic_format) | u64::from(self.policy.broadcast_quirk_disabled) << 1
    }
}

/// The host's KVM, and what is known of it.
pub struct Host {
    pub kvm: Kvm,
    vector_hashing: bool,
    traits: Traits,
}

/// The oldest release of Linux whose KVM the model was seen to equal.
const OLDEST: (u32, u32) = (6, 18);

/// A parameter of the module kvm that is a flag.
fn parameter(name: &str) -> bool {
    let path = format!("/sys/module/kvm/parameters/{name}");
    fs::read_to_string(path).map_or(true, |value| value.trim() != "N")
}

fn release() -> Option<(u32, u32)> {
    let text = fs::read_to_string("/proc/sys/kernel/osrelease").ok()?;
    let mut numbers = text.split(['.', '-']).map_while(|part| part.parse().ok());
    Some((numbers.next()?, numbers.next()?))
}

impl Host {
    /// The host's KVM, or why it cannot be used.
    pub fn find() -> Result<Self, String> {
        match release() {
            Some(release) if release >= OLDEST => {}
            Some((major, minor)) => {
                let (oldest, of_it) = OLDEST;
                return Err(format!(
                    "the host's KVM is of Linux {major}.{minor}, which may differ, \
                     and not of {oldest}.{of_it} or newer"
                ));
            }
            None => return Err("the host's release of Linux cannot be read".into()),
        }
        let kvm = Kvm::new().map_err(|error| format!("/dev/kvm cannot be opened: {error}"))?;
        let mut this = Self {
            kvm,
            vector_hashing: parameter("vector_hashing"),
            traits: Traits::default(),
        };
        this.traits = this.probe()?;
        Ok(this)
    }

    pub fn settings(&self, ids: [u32; CPUS], flags: (bool, bool)) -> Settings {
        Settings {
            ids: [ids[0], ids[1], ids[2], PARKED_ID],
            policy: Policy {
                x2apic_format: flags.0,
                broadcast_quirk_disabled: flags.1,
                vector_hashing: self.vector_hashing,
            },
            host: self.traits,
        }
    }

    /// Runs the guest for the first time, and finds out what the host is like.
    fn probe(&self) -> Result<Traits, String> {
        let settings = self.settings([0, 1, 2], (false, false));
        let mut vm = OnKvm::new(&self.kvm, &settings, &default_routes())
            .map_err(|error| format!("the host's KVM makes no VM for the guest: {error}"))?;
        let cannot = |why| format!("the host's KVM cannot run the guest: {why}");
        vm.arrive(0).map_err(cannot)?;
        let mut call = |op, address, value| vm.call(0, op, address, value).map_err(cannot);
        let version = call(Op::Read32, APIC_ADDRESS + 0x30, 0)?.value;
        if version & 0xff != 0x14 {
            return Err(format!(
                "the guest finds a local APIC of version {version:#x}"
            ));
        }
        let outside = call(Op::Rdmsr, 0x802, 0)?;
        if outside.fault != 13 {
            return Err("the guest can read an MSR that is not there".into());
        }
        call(Op::Wrmsr, MSR_APIC_BASE, 0xfee0_0d00)?;
        call(Op::Wrmsr, 0x83f, 0x31)?;
        call(Op::Wrmsr, 0x80f, 0x1ff)?;
        call(Op::Wrmsr, 0x83f, 0x31)?;
        let taken = call(Op::Take, 0, 0)?.taken;
        if taken != [0x31] {
            return Err(format!(
                "the guest takes {taken:x?} after an IPI of 0x31 to itself"
            ));
        }
        // To nobody.
        call(Op::Wrmsr, 0x830, 0x55_0000_4031)?;
        // CR8 comes back when the guest is left for the next time.
        call(Op::Wrmsr, 0x808, 0x2e)?;
        call(Op::Rdmsr, 0x808, 0)?;
        let look = vm.look().map_err(|error| error.to_string())?;
        let apic = &look.lapics[0];
        Ok(Traits {
            icr_is_split: apic[0x304 / 4] == 0,
            has_tpr_of_cr8: apic[0x80 / 4] == 0x20,
            ends_at_once: apic[0x110 / 4] == 0,
        })
    }
}
