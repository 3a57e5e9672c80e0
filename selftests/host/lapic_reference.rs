// SPDX-License-Identifier: GPL-2.0

//! The model against KVM's own C code: the lapic.c of the kernel source that
//! `make setup` has fetched (or `LINUX_SRC`), compiled for user space and
//! driven through the same random steps as the model, in the same process.
//!
//! After each step all must be equal: what the step returned, every word of
//! the register page, the rest of the state, and all that the APIC asked of its
//! surroundings, in order. The same for destinations: the map, the slow path
//! and the delivery, for random populations of APICs.
//!
//! `FERRIC_REFERENCE_CASES` is the number of sequences, `FERRIC_REFERENCE_SEED`
//! chooses others. Without source or compiler the test says so and passes.

use ferric_model::lapic::register::LVT;
use ferric_model::lapic::{Offset, SavedRegisters, SuppressEoiBroadcast, Vectors};
use ferric_model::message::{DestinationMode, Message};
use ferric_model::{lapic, message, sync};
use proptest::collection::vec;
use proptest::prelude::*;
use std::cell::Cell;
use std::process::ExitCode;
use std::sync::atomic::Ordering::Relaxed;

#[path = "reference/compiled.rs"]
mod compiled;
#[path = "reference/destinations.rs"]
mod destinations;
#[allow(dead_code)]
#[path = "../../src/model/lapic/tests/fake.rs"]
mod fake;
#[path = "reference/harness.rs"]
mod harness;
#[path = "reference/library.rs"]
mod library;
#[allow(dead_code)]
#[path = "lapic_steps.rs"]
mod steps;

use compiled::from_source;
use fake::{Event, Machine};
use harness::{report, runner};
use library::{Entry, Op, Reference, Settings, State, Vcpu, Vm, MAX_EVENTS};
use steps::{on_model, step, Answer, Knob, Step};

/// The message as an ICR's lower half.
fn icr_low(message: &Message) -> u32 {
    u32::from(message.vector)
        | (message.delivery_mode as u32) << 8
        | u32::from(message.destination_mode == DestinationMode::Logical) << 11
        | u32::from(message.assert) << 14
        | u32::from(message.trigger.is_level()) << 15
        | (message.shorthand as u32) << 18
}

/// One vCPU on the C side.
struct OnC<'a> {
    reference: &'a Reference,
    vm: Vm,
    vcpu: Vcpu,
}

impl Drop for OnC<'_> {
    fn drop(&mut self) {
        // SAFETY: Made by `create_vm`, and not used any more.
        unsafe { (self.reference.destroy_vm)(self.vm) };
    }
}

impl OnC<'_> {
    fn op(&self, op: Op, a: u64, b: u64) -> i64 {
        self.op_data(op, a, b, &mut [])
    }

    fn op_data(&self, op: Op, a: u64, b: u64, data: &mut [u8]) -> i64 {
        // SAFETY: The vCPU lives, and each op writes what `data` has room for.
        let result =
            unsafe { (self.reference.step)(self.vcpu, op, a, b, data.as_mut_ptr().cast()) };
        i64::from(result as i32)
    }

    fn look(&self) -> (State, Vec<u32>) {
        let mut state = State::default();
        // SAFETY: The vCPU lives, and its register page is 4 KiB.
        let page = unsafe {
            let page = (self.reference.look)(self.vcpu, &mut state);
            std::slice::from_raw_parts(page, 1024)
        };
        (state, page.to_vec())
    }

    fn events(&self) -> Vec<Entry> {
        let mut log = vec![[0; 3]; MAX_EVENTS];
        // SAFETY: The C side keeps no more than `MAX_EVENTS`.
        let count = unsafe { (self.reference.events)(log.as_mut_ptr()) };
        log.truncate(count as usize);
        log
    }

    /// Does a step as [`on_model`] does it to `machine`, whose clock it uses. KVM saves
    /// PPR as it was when it last looked, the model what it is if TPR has changed.
    fn step(&self, step: &Step, now: i64, responds: bool, is_ppr_of_tpr: bool) -> Answer {
        let set_now = |now: i64| self.op(Op::Now, now as u64, 0);
        let mut data = Vec::new();
        set_now(now);
        let value = match step {
            Step::MmioRead(offset, length) => {
                data = vec![0xa5; *length];
                if responds {
                    let length = *length as u64;
                    self.op_data(Op::MmioRead, (*offset).into(), length, &mut data);
                }
                0
            }
            Step::MmioWrite(offset, bytes) => {
                if responds {
                    let length = bytes.len() as u64;
                    self.op_data(Op::MmioWrite, (*offset).into(), length, &mut bytes.clone());
                }
                0
            }
            Step::MsrRead(offset) => {
                let mut value = [0; 8];
                let error = self.op_data(Op::MsrRead, (*offset).into(), 0, &mut value);
                if error == 0 {
                    data = value.to_vec();
                }
                error
            }
            Step::MsrWrite(offset, value) => self.op(Op::MsrWrite, (*offset).into(), *value),
            Step::Trap(offset, value) => self.op(Op::Trap, (*offset).into(), (*value).into()),
            Step::IcrFast(value) => self.op(Op::IcrFast, *value, 0),
            Step::Tpr(tpr) => self.op(Op::Tpr, (*tpr).into(), 0),
            Step::Accept(icr) => self.op(Op::Accept, (*icr).into(), 0),
            Step::Lvt(index) => self.op(Op::Lvt, LVT[*index].0.into(), 0),
            Step::Take => {
                let vector = self.op(Op::HasInterrupt, 0, 0);
                if vector >= 0 {
                    self.op(Op::Ack, vector as u64, 0);
                }
                vector
            }
            Step::AcceleratedEoi(vector) => self.op(Op::EoiAccelerated, (*vector).into(), 0),
            Step::Time(ns) => {
                let end = now + ns;
                let mut now = now;
                let mut runs = 0;
                loop {
                    let (state, _) = self.look();
                    let expires = state.hrtimer as i64;
                    if state.hrtimer_armed == 0 || expires > end {
                        break runs;
                    }
                    now = now.max(expires);
                    set_now(now);
                    self.op(Op::TimerFn, 0, 0);
                    runs += 1;
                }
            }
            Step::Sleep(_) => 0,
            Step::Deadline(cycles) => {
                let tsc = (now as u64).wrapping_mul(2).wrapping_add(77);
                self.op(Op::Deadline, tsc.wrapping_add(*cycles as u64), 0)
            }
            Step::InjectTimer => {
                let pending = self.op(Op::PendingTimer, 0, 0);
                self.op(Op::InjectTimer, 0, 0);
                pending
            }
            Step::ExpiredHv => self.op(Op::ExpiredHv, 0, 0),
            Step::ToHv => self.op(Op::ToHv, 0, 0),
            Step::ToSw => self.op(Op::ToSw, 0, 0),
            Step::Migrate => self.op(Op::Migrate, 0, 0),
            Step::Wait => self.op(Op::Wait, 0, 0),
            Step::Base(base, host) => self.op(Op::Base, *base, (*host).into()),
            Step::ApicV(active) => self.op(Op::UpdateApicv, (*active).into(), 0),
            Step::FromVapic => self.op(Op::FromVapic, 0, 0),
            Step::ToVapic => self.op(Op::ToVapic, 0, 0),
            Step::Migration => {
                let mut state = [0; 1024];
                if !is_ppr_of_tpr {
                    self.op(Op::ComputePpr, 0, 0);
                }
                let saved = self.op_data(Op::Save, 0, 0, &mut state) != 0;
                data = state.to_vec();
                let restored = self.op_data(Op::Restore, 0, 0, &mut state) != 0;
                data.extend(state);
                i64::from(saved) << 1 | i64::from(restored)
            }
            Step::Restore(state) => {
                data = state.iter().flat_map(|word| word.to_le_bytes()).collect();
                i64::from(self.op_data(Op::Restore, 0, 0, &mut data) != 0)
            }
            Step::Reset(init) => self.op(Op::Reset, (*init).into(), 0),
            Step::Set(knob, value) => {
                let value = match knob {
                    Knob::VapicAddress => value << 12,
                    _ => *value,
                };
                // SAFETY: The vCPU lives.
                unsafe { (self.reference.set)(self.vcpu, *knob, value) };
                0
            }
        };
        (value, data)
    }
}

/// A machine, and what its events have added up to.
struct OnModel {
    machine: Machine,
    nmi_watchdogs: Cell<u64>,
    base_address: Cell<u64>,
    base_inhibited: Cell<bool>,
}

impl OnModel {
    fn state(&self) -> State {
        let machine = &self.machine;
        State {
            base: machine.apic_base.load(Relaxed),
            base_address: self.base_address.get(),
            base_inhibited: self.base_inhibited.get().into(),
            software_enabled: machine.software_enabled.load(Relaxed).into(),
            irr_pending: machine.irr_pending.load(Relaxed).into(),
            nmi_watchdogs: self.nmi_watchdogs.get(),
            arbitration_priority: machine.arbitration_priority.load(Relaxed).into(),
            hrtimer_armed: machine.hrtimer.get().is_some().into(),
            hrtimer: machine.hrtimer.get().unwrap_or(0) as u64,
            hv_timer_in_use: machine.hv_timer_in_use.load(Relaxed).into(),
            hv_timer_armed: machine.hv_timer.get().is_some().into(),
            hv_timer: machine.hv_timer.get().unwrap_or(0),
            tscdeadline: machine.apic().tscdeadline(),
            advance_ns: machine.timer_advance_ns.load(Relaxed).into(),
            attention: machine.attention.load(Relaxed),
            pv_eoi_byte: machine.pv_eoi.get().into(),
            vapic_word: machine.vapic.get().unwrap_or(0).into(),
        }
    }

    fn page(&self) -> Vec<u32> {
        let words = (0..0x1000).step_by(4);
        words
            .map(|offset| self.machine.regs.read(Offset(offset)))
            .collect()
    }

    /// What happened, in the C side's numbers; those that have none there are
    /// added up.
    fn events(&self) -> Vec<Entry> {
        let events = self.machine.events.take();
        events
            .into_iter()
            .filter_map(|event| self.entry(event))
            .collect()
    }

    fn entry(&self, event: Event) -> Option<Entry> {
        let vector_or_none = |vector: Option<u8>| vector.map_or(u64::MAX, u64::from);
        let sent = |message: Message| -> (u64, u64) {
            let icr = icr_low(&message);
            (icr.into(), message.destination.into())
        };
        let (number, a, b) = match event {
            Event::InjectionRequest => (0, 0, 0),
            Event::UnblockRequest => (1, 0, 0),
            Event::ScanRequest => (2, 0, 0),
            Event::EoiExit(vector) => (3, vector.into(), 0),
            Event::SoftwareEnableWritten | Event::HardwareEnable(true) => (4, 0, 0),
            Event::TprAccess(_) => (5, 0, 0),
            Event::ModeChanged => (6, 0, 0),
            Event::Kick => (7, 0, 0),
            Event::Deliver(mode, trigger, vector) => {
                let mode = mode as u64 | u64::from(trigger.is_level()) << 3;
                (8, mode, vector.into())
            }
            Event::HighestInService(vector) => (9, vector_or_none(vector), 0),
            Event::Cr8(tpr, irr) => (10, tpr.into(), vector_or_none(irr)),
            Event::PreRestore => (11, 0, 0),
            Event::PostRestore => (12, 0, 0),
            Event::Nmi => (13, 0, 0),
            Event::Smi => (14, 0, 0),
            Event::SynicEoi(vector) => (15, vector.into(), 0),
            Event::IoapicEoi(vector, trigger) => (16, vector.into(), trigger.is_level().into()),
            // The glue asks whether there is an I/O APIC; KVM's lapic.c does.
            Event::RtcRestore { id_changed } if id_changed || self.machine.is_split.get() => {
                return None
            }
            Event::RtcRestore { .. } => (17, 0, 0),
            Event::DelayCycles(cycles) => (18, cycles, 0),
            Event::DelayNs(ns) => (19, ns.into(), 0),
            Event::Sent(message) => {
                let (icr, destination) = sent(message);
                (20, icr, destination)
            }
            Event::SentFast(message) => {
                let (icr, destination) = sent(message);
                (21, icr, destination)
            }
            Event::NmiWatchdog(active) => {
                let count = self.nmi_watchdogs.get();
                let count = if active { count + 1 } else { count - 1 };
                self.nmi_watchdogs.set(count);
                return None;
            }
            Event::BaseAddress(address) => {
                self.base_address.set(address);
                return None;
            }
            Event::BaseInhibited => {
                self.base_inhibited.set(true);
                return None;
            }
            // What lapic.c does to its own fields, which are looked at; or
            // does to the map, which has a test of its own.
            _ => return None,
        };
        Some([number, a, b])
    }
}

/// A vCPU's ID, whether it has the CMCI entry, and its timer's modes.
type Identification = (u32, bool, u32);

fn settings() -> impl Strategy<Value = (Settings, Identification)> {
    let flag = || 0..2_u32;
    let settings = (
        (
            flag(),
            flag(),
            flag(),
            flag(),
            0..3_u32,
            flag(),
            flag(),
            flag(),
        ),
        prop::sample::select(&[1_u64, 1, 25, 100][..]),
    )
        .prop_map(|(flags, bus_cycle_ns)| Settings {
            x2apic_format: flags.0,
            broadcast_quirk_disabled: flags.1,
            vector_hashing: flags.2,
            is_split: flags.3,
            suppress_eoi_broadcast: flags.4,
            lint0_quirk: flags.5,
            icr_is_split: flags.6,
            shadows_tpr: flags.7,
            min_timer_period_us: 200,
            bus_cycle_ns,
        });
    let id = prop::sample::select(&[0_u32, 1, 5, 0x12, 0x123][..]);
    let modes = prop::sample::select(&[3_u32 << 17, 3 << 17, 1 << 17][..]);
    (settings, (id, any::<bool>(), modes))
}

fn pair<'a>(
    reference: &'a Reference,
    settings: &Settings,
    (id, has_cmci, modes): Identification,
) -> (OnC<'a>, OnModel) {
    let machine = Machine::created(id);
    machine.x2apic_format.set(settings.x2apic_format != 0);
    machine.is_split.set(settings.is_split != 0);
    machine.suppress.set(match settings.suppress_eoi_broadcast {
        0 => SuppressEoiBroadcast::Quirked,
        1 => SuppressEoiBroadcast::Enabled,
        _ => SuppressEoiBroadcast::Disabled,
    });
    machine.lint0_quirk.set(settings.lint0_quirk != 0);
    machine.icr_is_split.set(settings.icr_is_split != 0);
    machine.shadows_tpr.set(settings.shadows_tpr != 0);
    machine.min_period_us.set(settings.min_timer_period_us);
    machine.bus_cycle_ns.set(settings.bus_cycle_ns);
    machine.lvt_entries.store(6 + u32::from(has_cmci), Relaxed);
    machine.timer_mode_mask.store(modes, Relaxed);
    machine.apic().reset(false);
    // What the guest's TSC is that timers follow.
    machine.apic().begin_run();
    machine.forget();
    let on_model = OnModel {
        machine,
        nmi_watchdogs: Cell::new(0),
        base_address: Cell::new(0xfee0_0000),
        base_inhibited: Cell::new(false),
    };

    // SAFETY: Valid settings, and a VM that was just made.
    let (vm, vcpu) = unsafe {
        let vm = (reference.create_vm)(settings);
        let vcpu = (reference.create_vcpu)(vm, id, has_cmci.into(), modes);
        (vm, vcpu)
    };
    let on_c = OnC {
        reference,
        vm,
        vcpu,
    };
    (on_c, on_model)
}

/// The events but for what is told the vendor code of CR8 in vain: where the
/// next entry says it anew, since a look for events was asked for and the APIC is
/// enabled; and where it has not changed, since TPR has not. And but for a request
/// for a look after an EOI that leaves nothing to be found.
fn lasting(mut events: Vec<Entry>, enabled: bool, same_tpr: bool, is_last_eoi: bool) -> Vec<Entry> {
    const REQUEST: u64 = 0;
    const CR8: u64 = 10;
    let asked = events.iter().any(|event| event[0] == REQUEST);
    if asked && enabled || same_tpr {
        events.retain(|event| event[0] != CR8);
    }
    if is_last_eoi {
        events.retain(|event| event[0] != REQUEST);
    }
    // To ask twice is to ask once, and when does not matter: the next entry looks.
    let requests = events.iter().position(|event| event[0] == REQUEST);
    let request = requests.map(|first| events[first]);
    events.retain(|event| event[0] != REQUEST);
    events.extend(request);
    events
}

fn count(machine: &Machine, vectors: Vectors) -> usize {
    let vectors = (0..=255).filter(|&vector| machine.regs.test(vectors, vector));
    vectors.count()
}

fn compare_steps(
    reference: &Reference,
    settings: &Settings,
    id: Identification,
    steps: &[Step],
) -> Result<(), TestCaseError> {
    let (c, model) = pair(reference, settings, id);
    let machine = &model.machine;
    for step in steps {
        let responds = machine.apic().responds_to_mmio();
        let same_tpr = matches!(step, Step::Tpr(tpr)
            if u32::from(*tpr) == machine.regs.read(Offset::TPR));
        let in_service = count(machine, Vectors::Isr);
        let is_ppr_of_tpr = machine.apic().is_ppr_of_tpr();
        let answer = c.step(step, machine.now.get(), responds, is_ppr_of_tpr);
        prop_assert_eq!(answer, on_model(machine, step), "answer to {:?}", step);
        c.op(Op::Now, machine.now.get() as u64, 0);

        let (state, page) = c.look();
        for (word, (c, model)) in page.iter().zip(model.page()).enumerate() {
            prop_assert_eq!(*c, model, "register {:#x} after {:?}", word * 4, step);
        }
        let enabled = machine.apic().is_software_enabled();
        let is_last_eoi = count(machine, Vectors::Irr) == 0
            && count(machine, Vectors::Isr) < in_service
            && machine.vapic_address.load(Relaxed) == 0;
        prop_assert_eq!(
            lasting(c.events(), enabled, same_tpr, is_last_eoi),
            lasting(model.events(), enabled, same_tpr, is_last_eoi),
            "events of {:?}",
            step
        );
        prop_assert_eq!(state, model.state(), "state after {:?}", step);

        let apic = machine.apic();
        for (op, argument, model) in [
            (Op::AcceptsPic, 0, apic.accepts_pic_interrupt()),
            (Op::PendingEoi, 0x40, apic.is_eoi_pending(0x40)),
            (Op::SuppressesEoi, 0, apic.suppresses_eoi_broadcast()),
        ] {
            prop_assert_eq!(c.op(op, argument, 0) != 0, model, "after {:?}", step);
        }
        prop_assert_eq!(
            c.op(Op::Readable, 0, 0),
            i64::from(apic.readable_mask() as i32)
        );
    }
    Ok(())
}

fn main() -> ExitCode {
    harness::run(
        "lapic_reference",
        2,
        from_source(library::load),
        |reference| {
            let count = Cell::new(0);

            let sequences = (settings(), vec(step(), 1..200));
            let result = runner(1000).run(&sequences, |((settings, id), steps)| {
                count.set(count.get() + steps.len());
                compare_steps(reference, &settings, id, &steps)
            });
            let steps_equal = report("steps", count.take(), result);

            let range = (
                prop_oneof![0..400_u32, any::<u32>()],
                any::<u64>(),
                any::<u64>(),
            );
            let populations = (
                settings(),
                destinations::population(),
                vec(destinations::sending(), 30),
                vec(range, 3),
            );
            let result = runner(1000).run(
                &populations,
                |((settings, _), members, messages, ranges)| {
                    count.set(count.get() + messages.len());
                    destinations::compare(reference, &settings, members, &messages, &ranges)
                },
            );
            vec![steps_equal, report("messages", count.take(), result)]
        },
    )
}
