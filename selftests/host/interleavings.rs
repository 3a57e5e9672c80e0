// SPDX-License-Identifier: GPL-2.0

//! A local APIC whose vCPU takes and ends interrupts while others send to it, in
//! every order in which their accesses can follow each other. Nothing to run but
//! in a loom build:
//!
//! ```text
//! RUSTFLAGS='--cfg loom' cargo test --test interleavings
//! ```

#![cfg(loom)]

use ferric_model::lapic::asking::Asking;
use ferric_model::lapic::Vectors;
use ferric_model::message::Trigger;
use ferric_model::sync::{fence, AtomicU32, AtomicU64};
use ferric_model::{lapic, message, sync};
use loom::model::Builder;
use loom::sync::Arc;
use loom::thread;
use std::ops::Deref;
use std::sync::atomic::Ordering;

#[allow(dead_code)]
#[path = "../../src/model/lapic/tests/fake.rs"]
mod fake;

use fake::{Event, Machine};

/// A machine for several threads.
struct Shared(Machine);

// SAFETY: loom's threads take turns, and change only at accesses to atomics, so
// that none is ever within an access to the machine's cells.
unsafe impl Send for Shared {}
// SAFETY: As above.
unsafe impl Sync for Shared {}

impl Deref for Shared {
    type Target = Machine;

    fn deref(&self) -> &Machine {
        &self.0
    }
}

/// An enabled APIC. A reset would take loom a thousand steps.
fn machine() -> Arc<Shared> {
    let machine = Machine::created(0);
    machine.software_enabled.store(true, Ordering::Relaxed);
    machine.apic().update_receives();
    Arc::new(Shared(machine))
}

/// Tries `test` in all orders with so many changes of the thread where none has
/// to be.
fn in_every_order(changes: usize, test: impl Fn() + Send + Sync + 'static) {
    let mut builder = Builder::new();
    builder.max_branches = 10_000;
    builder.preemption_bound = Some(changes);
    builder.check(test);
}

fn send(machine: &Arc<Shared>, vector: u8) -> thread::JoinHandle<()> {
    let machine = machine.clone();
    thread::spawn(move || assert!(machine.interrupt(vector)))
}

/// What the vCPU takes, until there is no more.
fn take_all(machine: &Machine) -> Vec<u8> {
    let mut taken = Vec::new();
    while let Some(vector) = machine.take() {
        taken.push(vector);
        machine.apic().eoi();
    }
    taken
}

#[test]
fn what_comes_while_another_is_taken_is_taken_too() {
    // Of a lower and of a higher priority, and in the same word of IRR.
    for second in [0x31, 0x91, 0x5f] {
        in_every_order(4, move || {
            let machine = machine();
            machine.interrupt(0x51);
            let sender = send(&machine, second);
            let mut taken = take_all(&machine);
            sender.join().unwrap();
            taken.append(&mut take_all(&machine));
            taken.sort_unstable();
            let mut all = [0x51, second];
            all.sort_unstable();
            assert_eq!(taken, all);
        });
    }
}

#[test]
fn of_two_senders_none_is_forgotten() {
    in_every_order(2, || {
        let machine = machine();
        let senders = [send(&machine, 0x31), send(&machine, 0x91)];
        let mut taken = take_all(&machine);
        for sender in senders {
            sender.join().unwrap();
        }
        taken.append(&mut take_all(&machine));
        taken.sort_unstable();
        assert_eq!(taken, [0x31, 0x91]);
    });
}

#[test]
fn a_vector_that_comes_while_it_is_taken_comes_once_or_twice() {
    in_every_order(4, || {
        let machine = machine();
        machine.interrupt(0x51);
        let sender = send(&machine, 0x51);
        let mut taken = take_all(&machine);
        sender.join().unwrap();
        let late = machine.regs.test(Vectors::Irr, 0x51);
        taken.append(&mut take_all(&machine));
        assert!(taken == [0x51] || taken == [0x51, 0x51]);
        assert!(!late || taken.len() == 2);
    });
}

/// The EOI of a level-triggered interrupt and the next assertion of its line.
#[test]
fn an_eoi_leaves_the_trigger_mode_of_what_comes_meanwhile() {
    in_every_order(4, || {
        let machine = machine();
        machine.handle_by_ioapic(0x51);
        machine.level_interrupt(0x51);
        assert_eq!(machine.take(), Some(0x51));
        let again = machine.clone();
        let sender = thread::spawn(move || assert!(again.level_interrupt(0x51)));
        machine.apic().eoi();
        sender.join().unwrap();
        assert_eq!(machine.take(), Some(0x51));
        machine.apic().eoi();
        let events = machine.events.borrow();
        let ended = |trigger| {
            let end = Event::IoapicEoi(0x51, trigger);
            events.iter().filter(|event| **event == end).count()
        };
        assert_eq!((ended(Trigger::Level), ended(Trigger::Edge)), (2, 0));
    });
}

const OUTSIDE: u32 = 0;
const IN_GUEST: u32 = 1;
const EVENT: u64 = 1 << 14;

/// A vCPU as KVM runs it, that looks at what is pending only if it is asked to.
struct Vcpu {
    machine: Shared,
    requests: AtomicU64,
    sleeper: AtomicU64,
    mode: AtomicU32,
    /// What each sender has stored for the handler to see, before it sent.
    notes: [AtomicU64; 2],
    told: loom::sync::Mutex<bool>,
    changed: loom::sync::Condvar,
}

impl Vcpu {
    fn new() -> Arc<Self> {
        let machine = Machine::created(0);
        machine.software_enabled.store(true, Ordering::Relaxed);
        machine.apic().update_receives();
        Arc::new(Self {
            machine: Shared(machine),
            requests: AtomicU64::new(0),
            sleeper: AtomicU64::new(0),
            mode: AtomicU32::new(OUTSIDE),
            notes: std::array::from_fn(|_| AtomicU64::new(0)),
            told: loom::sync::Mutex::new(false),
            changed: loom::sync::Condvar::new(),
        })
    }

    fn asking(&self) -> Asking<'_> {
        Asking {
            requests: &self.requests,
            event: EVENT,
            sleeper: &self.sleeper,
            mode: &self.mode,
            in_guest_mode: IN_GUEST,
        }
    }

    /// What the glue does for a single destination, or for one of many.
    fn send(&self, vector: u8, is_multicast: bool) {
        let apic = self.machine.apic();
        let ask = if is_multicast {
            fence(Ordering::SeqCst);
            apic.mark(vector)
        } else {
            apic.set_irr(vector)
        };
        if ask && self.asking().ask() {
            *self.told.lock().unwrap() = true;
            self.changed.notify_all();
        }
    }

    fn wait(&self) {
        let mut told = self.told.lock().unwrap();
        while !*told {
            told = self.changed.wait(told).unwrap();
        }
        *told = false;
    }

    fn is_asked(&self) -> bool {
        self.requests.load(Ordering::Relaxed) & EVENT != 0
    }

    /// Runs until the handlers have seen all notes.
    fn run(&self, halts: bool) {
        let mut seen = [false; 2];
        loop {
            // After an exit, as on SVM.
            self.machine.apic().sync_tpr(0);
            if self.is_asked() {
                self.requests.fetch_and(!EVENT, Ordering::SeqCst);
                fence(Ordering::SeqCst);
                while self.machine.take().is_some() {
                    for (seen, note) in seen.iter_mut().zip(&self.notes) {
                        *seen |= note.load(Ordering::Relaxed) != 0;
                    }
                    self.machine.apic().eoi();
                }
            }
            if seen == [true; 2] {
                return;
            }
            self.mode.store(IN_GUEST, Ordering::Relaxed);
            fence(Ordering::SeqCst);
            if self.is_asked() {
                self.mode.store(OUTSIDE, Ordering::Relaxed);
                continue;
            }
            if !halts {
                self.wait();
                self.mode.store(OUTSIDE, Ordering::Relaxed);
                continue;
            }
            self.mode.store(OUTSIDE, Ordering::Relaxed);
            self.sleeper.store(1, Ordering::Relaxed);
            fence(Ordering::SeqCst);
            if self.machine.apic().has_interrupt().is_none() && !self.is_asked() {
                self.wait();
            }
            self.sleeper.store(0, Ordering::Relaxed);
            // Who wakes up looks for events.
            self.requests.fetch_or(EVENT, Ordering::SeqCst);
        }
    }
}

/// If one of them is not seen, the vCPU waits for ever, which loom finds.
#[test]
fn what_is_sent_while_it_is_pending_is_taken_after_that() {
    for (halts, is_multicast, is_restored, vectors) in [
        (false, false, false, [0x51, 0x51]),
        (false, true, false, [0x51, 0x51]),
        (true, false, false, [0x51, 0x51]),
        (true, true, false, [0x51, 0x51]),
        (true, true, false, [0x51, 0x91]),
        (false, false, true, [0x51, 0x51]),
        (false, true, true, [0x51, 0x91]),
        (true, true, true, [0x51, 0x51]),
    ] {
        in_every_order(2, move || {
            let vcpu = Vcpu::new();
            if is_restored {
                vcpu.machine.apic().update_apicv();
                vcpu.requests.store(EVENT, Ordering::Relaxed);
            }
            let senders: Vec<_> = (0..2)
                .map(|sender: usize| {
                    let vcpu = vcpu.clone();
                    thread::spawn(move || {
                        vcpu.notes[sender].store(1, Ordering::Relaxed);
                        vcpu.send(vectors[sender], is_multicast);
                    })
                })
                .collect();
            vcpu.run(halts);
            for sender in senders {
                sender.join().unwrap();
            }
        });
    }
}

const OLD: i64 = 1_000_500_000;
const NEW: i64 = 1_000_700_000;

/// The guest sets another deadline while the callback for the last one comes, or
/// has come, or that for the new one does.
#[test]
fn a_deadline_is_set_while_the_one_before_expires() {
    for comes in [&[OLD][..], &[NEW], &[OLD, NEW]] {
        in_every_order(4, move || {
            let machine = machine();
            machine.yields.set(Some(thread::yield_now));
            machine.now.set(1_000_000_000);
            machine.write(lapic::Offset::LVT_TIMER, 0x4_0040);
            let tsc = machine.tsc();
            machine.apic().set_tscdeadline(tsc + 1_000_000);
            assert_eq!(machine.hrtimer.get(), Some(OLD));

            let other = machine.clone();
            let interrupts = thread::spawn(move || {
                let mut came = Vec::new();
                for &at in comes {
                    // As __run_hrtimer().
                    other.lock_queue();
                    if other.hrtimer.get() == Some(at) {
                        other.hrtimer.set(None);
                        other.callback_runs.set(true);
                        assert_eq!(other.apic().timer_expired(), None);
                        other.lock_queue();
                        other.callback_runs.set(false);
                        came.push(at);
                    }
                }
                came
            });
            machine.apic().set_tscdeadline(tsc + 1_400_000);
            let came = interrupts.join().unwrap();

            let pending = machine.timer_pending.load(Ordering::Relaxed);
            if came.contains(&NEW) {
                assert_eq!((pending, machine.hrtimer.get()), (1, None));
            } else {
                assert_eq!((pending, machine.hrtimer.get()), (0, Some(NEW)));
                assert_eq!(machine.apic().tscdeadline(), tsc + 1_400_000);
            }
        });
    }
}
