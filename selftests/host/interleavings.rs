// SPDX-License-Identifier: GPL-2.0

//! A local APIC whose vCPU takes and ends interrupts while others send to it, in
//! every order in which their accesses can follow each other. Nothing to run but
//! in a loom build:
//!
//! ```text
//! RUSTFLAGS='--cfg loom' cargo test --test interleavings
//! ```

#![cfg(loom)]

use ferric_model::lapic::Vectors;
use ferric_model::message::Trigger;
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
