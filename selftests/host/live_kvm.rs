// SPDX-License-Identifier: GPL-2.0

//! The model against the KVM of this machine: a small guest, a VMM and time do
//! the same random steps to a VM of KVM's and to the model, wired as KVM wires
//! it; see `live_kvm/step.rs`.
//!
//! After each step all must be equal: what the guest read, took or faulted
//! with, what the ioctls returned, and the state of the irqchip, the 8254 and
//! the local APICs as the ioctls save it.
//!
//! `FERRIC_REFERENCE_CASES` is the number of sequences and
//! `FERRIC_REFERENCE_SEED` chooses others, as for `lapic_reference`. Without a
//! KVM that can run the guest the test says why and passes.

use ferric_model::destination::Policy;
use ferric_model::{lapic, message, sync};
use kvm_ioctls::Kvm;
use proptest::collection::vec;
use proptest::prelude::*;
use std::cell::Cell;
use std::fmt;
use std::fs;
use std::process::ExitCode;

#[allow(dead_code)]
#[path = "../../src/model/lapic/tests/fake.rs"]
mod fake;
#[path = "live_kvm/guest.rs"]
mod guest;
#[allow(dead_code)]
#[path = "reference/harness.rs"]
mod harness;
#[path = "live_kvm/kvm.rs"]
mod kvm;
#[path = "live_kvm/look.rs"]
mod look;
#[path = "live_kvm/machine.rs"]
mod machine;
#[path = "live_kvm/model.rs"]
mod model;
#[path = "live_kvm/step.rs"]
mod step;

use guest::Op;
use harness::{report, runner, Unavailable};
use kvm::OnKvm;
use look::difference;
use model::OnModel;
use step::{default_routes, set_up, step, Step, CPUS};

/// Sequences, if not `FERRIC_REFERENCE_CASES`, and the longest one's steps.
const CASES: u32 = 25;
const MAX_STEPS: usize = 600;

/// One vCPU more than run the guest, whose xAPIC ID is not its own: KVM then
/// does without APICv and AVIC, whose APIC is the CPU's rather than KVM's.
const PARKED: usize = CPUS;
/// Its ID and the one that it is given.
const PARKED_ID: u32 = 7;
const PARKED_REGISTER: u32 = (PARKED_ID + 1) << 24;

/// Offset of the ID register.
const ID: u16 = 0x20;

/// What a VM is made with, and what its host is like.
#[derive(Clone, Debug)]
pub struct Settings {
    pub ids: [u32; CPUS + 1],
    pub policy: Policy,
    /// The host keeps the x2APIC ICR in two registers.
    pub icr_is_split: bool,
    /// The host does an EOI as soon as the guest has taken an interrupt. Seen on
    /// a KVM that emulates its guests, without hardware for virtual machines.
    pub ends_at_once: bool,
}

impl Settings {
    /// The flags of `KVM_CAP_X2APIC_API`.
    pub fn x2apic_api(&self) -> u64 {
        u64::from(self.policy.x2apic_format) | u64::from(self.policy.broadcast_quirk_disabled) << 1
    }
}

/// The host's KVM, and what is known of it.
struct Host {
    kvm: Kvm,
    vector_hashing: bool,
    icr_is_split: bool,
    ends_at_once: bool,
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
    fn find() -> Result<Self, String> {
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
            icr_is_split: false,
            ends_at_once: false,
        };
        (this.icr_is_split, this.ends_at_once) = this.probe()?;
        Ok(this)
    }

    fn settings(&self, ids: [u32; CPUS], flags: (bool, bool)) -> Settings {
        Settings {
            ids: [ids[0], ids[1], ids[2], PARKED_ID],
            policy: Policy {
                x2apic_format: flags.0,
                broadcast_quirk_disabled: flags.1,
                vector_hashing: self.vector_hashing,
            },
            icr_is_split: self.icr_is_split,
            ends_at_once: self.ends_at_once,
        }
    }

    /// Runs the guest for the first time. It says whether the host keeps the
    /// x2APIC ICR in two registers, and whether it ends interrupts at once.
    fn probe(&self) -> Result<(bool, bool), String> {
        let settings = self.settings([0, 1, 2], (false, false));
        let mut vm = OnKvm::new(&self.kvm, &settings, &default_routes())
            .map_err(|error| format!("the host's KVM makes no VM for the guest: {error}"))?;
        let cannot = |why| format!("the host's KVM cannot run the guest: {why}");
        vm.arrive(0).map_err(cannot)?;
        let mut call = |op, address, value| vm.call(0, op, address, value).map_err(cannot);
        let version = call(Op::Read32, 0xfee0_0030, 0)?.value;
        if version & 0xff != 0x14 {
            return Err(format!(
                "the guest finds a local APIC of version {version:#x}"
            ));
        }
        let outside = call(Op::Rdmsr, 0x802, 0)?;
        if outside.fault != 13 {
            return Err("the guest can read an MSR that is not there".into());
        }
        call(Op::Wrmsr, step::MSR_APIC_BASE, 0xfee0_0d00)?;
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
        let look = vm.look().map_err(|error| error.to_string())?;
        let apic = &look.lapics[0];
        Ok((apic[0x304 / 4] == 0, apic[0x110 / 4] == 0))
    }
}

/// Monotonic time in ns, by the clock that KVM's 8254 uses.
fn now() -> i64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: The function writes to `time`.
    let result = unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut time) };
    assert_eq!(result, 0);
    time.tv_sec * 1_000_000_000 + time.tv_nsec
}

/// Steps, of which one is written in a line.
#[derive(Clone)]
struct Sequence(Vec<Step>);

impl fmt::Debug for Sequence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0
            .iter()
            .try_for_each(|step| write!(f, "\n    {step:x?}"))
    }
}

fn compare(host: &Host, settings: &Settings, steps: &[Step]) -> Result<(), TestCaseError> {
    let failed = |what: &str, why: String| TestCaseError::fail(format!("{what}: {why}"));
    let on_kvm = |error: kvm_ioctls::Error| failed("KVM", error.to_string());

    let routes = default_routes();
    let begin = now();
    let mut kvm = OnKvm::new(&host.kvm, settings, &routes).map_err(on_kvm)?;
    for cpu in 0..CPUS {
        kvm.arrive(cpu).map_err(|why| failed("the guest", why))?;
    }
    kvm.set_lapic_register(PARKED, ID, PARKED_REGISTER)
        .map_err(on_kvm)?;
    let mut look = kvm.look().map_err(on_kvm)?;

    let mut model = OnModel::new(settings, &routes, begin);
    model.set_lapic_register(PARKED, ID, PARKED_REGISTER);
    model.created((begin, now()), &look);
    if let Some(difference) = difference(&look, &model.look()) {
        return Err(failed("KVM and the model after creation", difference));
    }

    for step in set_up().iter().chain(steps) {
        let makes_sense = match *step {
            Step::Take(cpu) => model.machine.may_take(cpu),
            Step::Timer(cpu, ..) => model.machine.may_time(cpu),
            _ => true,
        };
        if !makes_sense {
            continue;
        }
        let from = now();
        let answer = kvm
            .step(step)
            .map_err(|why| failed(&format!("{step:x?}"), why))?;
        let to = now();
        look = kvm.look().map_err(on_kvm)?;
        let by_model = model.step(step, (from, to), (&answer, &look));
        prop_assert_eq!(&answer, &by_model, "answer to {:x?}", step);
        if let Some(difference) = difference(&look, &model.look()) {
            let after = format!("KVM and the model after {step:x?}");
            return Err(failed(&after, difference));
        }
    }
    Ok(())
}

fn main() -> ExitCode {
    let host = Host::find().map_err(Unavailable::Here);
    harness::run("live_kvm", 1, host, |host| {
        let count = Cell::new(0);
        let ids = prop::sample::select(&[[0_u32, 1, 2], [0, 5, 0x12], [0, 1, 0x123]][..]);
        let steps = vec(step(), 1..MAX_STEPS).prop_map(Sequence);
        let result = runner(CASES).run(&(ids, any::<(bool, bool)>(), steps), |case| {
            let (ids, flags, Sequence(steps)) = case;
            count.set(count.get() + steps.len());
            compare(host, &host.settings(ids, flags), &steps)
        });
        vec![report("steps_of_a_machine", count.take(), result)]
    })
}
