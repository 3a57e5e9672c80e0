// SPDX-License-Identifier: GPL-2.0

//! The model of the 8254 against KVM's own C code: the i8254.c of the kernel
//! source, compiled for user space and driven through the same random steps.
//!
//! After each step all must be equal: what was read, the saved state, the
//! timer, and the interrupts injected.
//!
//! `FERRIC_REFERENCE_CASES` and `FERRIC_REFERENCE_SEED` as for
//! `lapic_reference`.

use ferric_model::pit::{CounterState, Counters, Host, Pit, Port, Reinjection, COUNTERS};
use proptest::collection::vec;
use proptest::prelude::*;
use std::cell::Cell;
use std::ffi::c_void;
use std::path::Path;
use std::process::ExitCode;

#[path = "reference/compiled.rs"]
mod compiled;
#[path = "reference/harness.rs"]
mod harness;

use compiled::{compile, from_source, reference};
use harness::{report, runner};

/// `struct reference_state`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct State {
    counters: Counters,
    flags: u64,
    timer_armed: u64,
    timer_expires: u64,
    work_queued: u64,
    pulses: u64,
}

type Vm = *mut c_void;

reference! {
    set_now: fn(i64);
    create: fn() -> Vm;
    destroy: fn(Vm);
    write: fn(Vm, u64, u32);
    read: fn(Vm, u64, u32, *mut u8);
    expire: fn(Vm) -> u32;
    work: fn(Vm);
    acknowledge: fn(Vm);
    mask: fn(Vm, u32);
    reinject: fn(Vm, u32);
    restore: fn(Vm, *const Counters);
    restore2: fn(Vm, *const Counters, u32);
    look: fn(Vm, *mut State);
}

#[derive(Clone, Debug)]
enum Step {
    Write(u64, u8),
    /// A mode and a count for a counter, as drivers program them.
    Program(u8, u8, u16),
    Read(u64, usize),
    /// So many ns pass. Ticks are injected as they come, or are left to the
    /// next [`Step::Work`].
    Time(i64, bool),
    Work,
    Acknowledge,
    Mask(bool),
    Reinject(bool),
    Restore(Counters, Option<u32>),
    /// Saved and restored as it is, by the old ioctls or the new ones.
    Migration(bool),
}

fn address() -> impl Strategy<Value = u64> {
    prop::sample::select(&[0x40_u64, 0x40, 0x41, 0x42, 0x42, 0x43, 0x61][..])
}

fn counter() -> impl Strategy<Value = CounterState> {
    let byte = || prop_oneof![0..6_u8, any::<u8>()];
    (
        prop_oneof![0..4_u32, 0..0x1_0001_u32, any::<u32>()],
        any::<u16>(),
        [byte(), byte(), byte(), byte(), byte(), byte()],
        [byte(), byte(), byte(), byte()],
        any::<i64>(),
    )
        .prop_map(
            |(count, latched_count, a, b, count_load_time)| CounterState {
                count,
                latched_count,
                count_latched: a[0],
                status_latched: a[1],
                status: a[2],
                read_state: a[3],
                write_state: a[4],
                write_latch: a[5],
                rw_mode: b[0],
                mode: b[1],
                bcd: b[2],
                gate: b[3],
                count_load_time,
            },
        )
}

fn step() -> impl Strategy<Value = Step> {
    let flags = prop_oneof![
        Just(None),
        (0..4_u32).prop_map(Some),
        any::<u32>().prop_map(Some)
    ];
    let time = prop_oneof![
        0..2_000_i64,
        0..2_000_000_i64,
        0..200_000_000_i64,
        // Longer than 2^32 ns.
        0..20_000_000_000_i64
    ];
    prop_oneof![
        6 => (address(), any::<u8>()).prop_map(|(port, value)| Step::Write(port, value)),
        4 => (0..3_u8, 0..8_u8, prop_oneof![any::<u16>(), 0..3_u16])
            .prop_map(|(counter, mode, count)| Step::Program(counter, mode, count)),
        8 => (address(), prop::sample::select(&[1_usize, 1, 1, 2, 4][..]))
            .prop_map(|(port, length)| Step::Read(port, length)),
        6 => (time, any::<bool>()).prop_map(|(ns, inject)| Step::Time(ns, inject)),
        2 => Just(Step::Work),
        4 => Just(Step::Acknowledge),
        1 => any::<bool>().prop_map(Step::Mask),
        1 => any::<bool>().prop_map(Step::Reinject),
        1 => ([counter(), counter(), counter()], flags)
            .prop_map(|(counters, flags)| Step::Restore(counters, flags)),
        1 => any::<bool>().prop_map(Step::Migration),
    ]
}

/// A periodic timer runs no more often than this in one step.
const MAX_TICKS: usize = 1000;

/// The machine around the model, as the reference has it.
struct Machine {
    now: i64,
    expires: i64,
    period: Option<i64>,
    armed: bool,
    work_queued: bool,
    pulses: u64,
    reinjection: Reinjection,
}

impl Machine {
    fn work(&mut self) {
        if std::mem::take(&mut self.work_queued) {
            self.pulses += u64::from(self.reinjection.may_inject());
        }
    }
}

impl Host for Machine {
    fn now_ns(&self) -> i64 {
        self.now
    }

    fn timer_remaining_ns(&self) -> i64 {
        self.expires - self.now
    }

    fn stop_timer(&mut self) {
        self.armed = false;
        self.work();
    }

    fn start_timer(&mut self, first: i64, period: Option<i64>) {
        self.armed = true;
        self.expires = self.now + first;
        self.period = period;
    }

    fn min_period_ns(&self) -> i64 {
        200_000
    }

    fn reinjection(&self) -> &Reinjection {
        &self.reinjection
    }
}

struct OnModel {
    pit: Pit,
    machine: Machine,
}

impl OnModel {
    fn new(now: i64) -> Self {
        let reinjection = Reinjection::new();
        reinjection.set_enabled(true);
        Self {
            pit: Pit::new(now),
            machine: Machine {
                now,
                expires: 0,
                period: None,
                armed: false,
                work_queued: false,
                pulses: 0,
                reinjection,
            },
        }
    }

    fn state(&self) -> State {
        State {
            counters: *self.pit.counters(),
            flags: self.pit.flags().into(),
            timer_armed: self.machine.armed.into(),
            timer_expires: self.machine.expires as u64,
            work_queued: self.machine.work_queued.into(),
            pulses: self.machine.pulses,
        }
    }

    fn write(&mut self, address: u64, value: u8) {
        let port = Port::decode(address).expect("a port");
        self.pit.write(port, value, &mut self.machine);
    }

    fn step(&mut self, step: &Step) -> Vec<u8> {
        let machine = &mut self.machine;
        match step {
            Step::Write(address, value) => self.write(*address, *value),
            Step::Program(counter, mode, count) => {
                for (address, value) in program(*counter, *mode, *count) {
                    self.write(address, value);
                }
            }
            Step::Read(address, length) => {
                let port = Port::decode(*address).expect("a port");
                let mut data = vec![0xa5; *length];
                if let Some(value) = self.pit.read(port, machine) {
                    data.fill(0);
                    data[0] = value;
                }
                return data;
            }
            Step::Time(ns, inject) => {
                let end = machine.now + ns;
                for _ in 0..MAX_TICKS {
                    if !machine.armed || machine.expires > end {
                        break;
                    }
                    machine.now = machine.now.max(machine.expires);
                    machine.reinjection.tick();
                    machine.work_queued = true;
                    match machine.period {
                        Some(period) => machine.expires += period,
                        None => machine.armed = false,
                    }
                    if *inject {
                        machine.work();
                    }
                }
                machine.now = end;
            }
            Step::Work => machine.work(),
            Step::Acknowledge => {
                if machine.reinjection.is_enabled() && machine.reinjection.acknowledge() {
                    machine.work_queued = true;
                }
            }
            Step::Mask(masked) => {
                if machine.reinjection.is_enabled() && !masked {
                    machine.reinjection.reset();
                }
            }
            Step::Reinject(on) => {
                if *on && !machine.reinjection.is_enabled() {
                    machine.reinjection.reset();
                }
                machine.reinjection.set_enabled(*on);
            }
            Step::Restore(counters, flags) => self.pit.restore(counters, *flags, machine),
            Step::Migration(with_flags) => {
                let (counters, flags) = (*self.pit.counters(), self.pit.flags());
                let flags = with_flags.then_some(flags);
                self.pit.restore(&counters, flags, machine);
            }
        }
        Vec::new()
    }
}

fn program(counter: u8, mode: u8, count: u16) -> [(u64, u8); 3] {
    let port = 0x40 + u64::from(counter);
    let [low, high] = count.to_le_bytes();
    [
        (0x43, counter << 6 | 0x30 | mode << 1),
        (port, low),
        (port, high),
    ]
}

struct OnC<'a> {
    reference: &'a Reference,
    vm: Vm,
}

impl Drop for OnC<'_> {
    fn drop(&mut self) {
        // SAFETY: `new` has created it, and it is not used any more.
        unsafe { (self.reference.destroy)(self.vm) };
    }
}

impl<'a> OnC<'a> {
    fn new(reference: &'a Reference, now: i64) -> Self {
        // SAFETY: The two take any number.
        let vm = unsafe {
            (reference.set_now)(now);
            (reference.create)()
        };
        Self { reference, vm }
    }

    fn state(&self) -> State {
        let mut state = State::default();
        // SAFETY: The VM lives, and `State` is the C side's structure.
        unsafe { (self.reference.look)(self.vm, &mut state) };
        state
    }

    fn write(&self, address: u64, value: u8) {
        // SAFETY: The VM lives, and the port is one of the 8254's.
        unsafe { (self.reference.write)(self.vm, address, value.into()) };
    }

    /// Does a step as [`OnModel::step`] does it, from the time `now` on.
    fn step(&self, step: &Step, now: i64) -> Vec<u8> {
        let (reference, vm) = (self.reference, self.vm);
        match step {
            Step::Write(address, value) => self.write(*address, *value),
            Step::Program(counter, mode, count) => {
                for (address, value) in program(*counter, *mode, *count) {
                    self.write(address, value);
                }
            }
            Step::Read(address, length) => {
                let mut data = vec![0xa5; *length];
                let length = *length as u32;
                // SAFETY: As in `write`; the buffer has that length.
                unsafe { (reference.read)(vm, *address, length, data.as_mut_ptr()) };
                return data;
            }
            Step::Time(ns, inject) => {
                let end = now + ns;
                let mut now = now;
                for _ in 0..MAX_TICKS {
                    let state = self.state();
                    let expires = state.timer_expires as i64;
                    if state.timer_armed == 0 || expires > end {
                        break;
                    }
                    now = now.max(expires);
                    // SAFETY: The VM lives.
                    unsafe {
                        (reference.set_now)(now);
                        (reference.expire)(vm);
                        if *inject {
                            (reference.work)(vm);
                        }
                    }
                }
                // SAFETY: It takes any number.
                unsafe { (reference.set_now)(end) };
            }
            // SAFETY: The VM lives; so in the following.
            Step::Work => unsafe { (reference.work)(vm) },
            Step::Acknowledge => unsafe { (reference.acknowledge)(vm) },
            Step::Mask(masked) => unsafe { (reference.mask)(vm, (*masked).into()) },
            Step::Reinject(on) => unsafe { (reference.reinject)(vm, (*on).into()) },
            Step::Restore(counters, flags) => self.restore(counters, *flags),
            Step::Migration(with_flags) => {
                let state = self.state();
                self.restore(&state.counters, with_flags.then_some(state.flags as u32));
            }
        }
        Vec::new()
    }

    fn restore(&self, counters: &Counters, flags: Option<u32>) {
        // SAFETY: The VM lives; the layout of `Counters` is the uAPI's.
        unsafe {
            match flags {
                Some(flags) => (self.reference.restore2)(self.vm, counters, flags),
                None => (self.reference.restore)(self.vm, counters),
            }
        }
    }
}

const _: () = assert!(size_of::<Counters>() == COUNTERS * 24);

fn compare(reference: &Reference, steps: &[Step]) -> Result<(), TestCaseError> {
    const START: i64 = 10_000_000_000;
    let c = OnC::new(reference, START);
    let mut model = OnModel::new(START);
    prop_assert_eq!(c.state(), model.state(), "after creation");
    for step in steps {
        let answer = c.step(step, model.machine.now);
        prop_assert_eq!(answer, model.step(step), "answer to {:?}", step);
        prop_assert_eq!(c.state(), model.state(), "state after {:?}", step);
    }
    Ok(())
}

fn load(tree: &Path) -> Result<Reference, String> {
    const FILES: [(&str, &str); 2] = [
        ("arch/x86/kvm/i8254.c", "kvm-i8254.c"),
        ("arch/x86/kvm/i8254.h", "kvm-i8254.h"),
    ];
    Reference::load(&compile(tree, "pit", &FILES, |_, text| Ok(text))?)
}

fn main() -> ExitCode {
    harness::run("pit_reference", 1, from_source(load), |reference| {
        let count = Cell::new(0);
        let result = runner(1000).run(&vec(step(), 1..200), |steps| {
            count.set(count.get() + steps.len());
            compare(reference, &steps)
        });
        vec![report("steps_of_the_8254", count.take(), result)]
    })
}
