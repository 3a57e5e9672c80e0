// SPDX-License-Identifier: GPL-2.0

//! Posted interrupts while the vCPU that they go to runs, is preempted, sleeps
//! and moves, in every order in which the accesses of all can follow each other.
//! Nothing to run but in a loom build:
//!
//! ```text
//! RUSTFLAGS='--cfg loom' FULL=1 cargo test --test posted_interleavings -- --nocapture
//! ```
//!
//! With `FULL` one sender is tried in all orders there are, which takes minutes.
//!
//! The machine around the descriptor is a model, too: processors whose notifications
//! are lost if they come while no guest runs there, the wake-up vector's handler,
//! and a scheduler. A vCPU that waits for what nobody tells it of waits for ever,
//! which loom reports as a deadlock. So a test ends only if everything that was
//! posted has been taken; and each vector is posted once, and counted.

#![cfg(loom)]

use ferric_model::posted::{Descriptor, Host, Life, Notification, Phase, Sleepers};
use ferric_model::sync::{fence, AtomicBool, AtomicU64, Ordering};
use loom::model::Builder;
use loom::sync::{Arc, Condvar, Mutex, MutexGuard};
use loom::thread;
use std::sync::atomic::AtomicUsize;

const ACTIVE_VECTOR: u8 = 0xf2;
const WAKEUP_VECTOR: u8 = 0xf1;
const CPUS: usize = 2;

/// The vCPU's number among the sleepers.
const NUMBER: u32 = 5;

/// What processors and scheduler know. The lock stands for what is atomic in
/// them; nobody holds it while the descriptor is accessed.
#[derive(Default)]
struct Processors {
    /// Does the active vector wait in the processor's IRR?
    active: [bool; CPUS],
    /// Does the wake-up vector, since interrupts are off?
    wakeup: [bool; CPUS],
    /// Are they off, for the scheduler takes the vCPU's thread off?
    irqs_off: [bool; CPUS],
    /// Is there an interrupt whose only purpose is an exit?
    kick: [bool; CPUS],
    /// Where the vCPU was loaded last.
    cpu: usize,
    /// Is the vCPU's thread asleep, or about to be?
    asleep: bool,
    /// `KVM_REQ_UNBLOCK`: it is not to sleep.
    unblock: bool,
}

struct Machine {
    life: Life<Box<Descriptor>>,
    sleepers: [Sleepers; CPUS],
    /// `IN_GUEST_MODE`, which software senders look at.
    in_guest: AtomicBool,
    /// Is APICv active, as software senders see it?
    apicv: AtomicBool,
    /// IRR as software senders set it if APICv is inhibited.
    irr: AtomicU64,
    /// May devices post at all?
    devices: AtomicBool,
    processors: Mutex<Processors>,
    changed: Condvar,
}

/// [`Host`] while there is no machine yet.
struct Names;

impl Host for Names {
    fn destination(&self, cpu: u32) -> u32 {
        cpu
    }

    fn active_vector(&self) -> u8 {
        ACTIVE_VECTOR
    }

    fn wakeup_vector(&self) -> u8 {
        WAKEUP_VECTOR
    }

    fn add_sleeper(&self, _: u32) {}

    fn remove_sleeper(&self, _: u32) {}

    fn send_wakeup_to_self(&self) {}
}

impl Host for Machine {
    fn destination(&self, cpu: u32) -> u32 {
        Names.destination(cpu)
    }

    fn active_vector(&self) -> u8 {
        ACTIVE_VECTOR
    }

    fn wakeup_vector(&self) -> u8 {
        WAKEUP_VECTOR
    }

    fn add_sleeper(&self, cpu: u32) {
        self.sleepers[cpu as usize].add(NUMBER);
    }

    fn remove_sleeper(&self, cpu: u32) {
        self.sleepers[cpu as usize].remove(NUMBER);
    }

    fn send_wakeup_to_self(&self) {
        // Interrupts are off there: pending until schedule() is through.
        let mut processors = self.lock();
        let cpu = processors.cpu;
        processors.wakeup[cpu] = true;
    }
}

impl Machine {
    fn new(devices: bool) -> Arc<Self> {
        Arc::new(Self {
            life: Life::new(Box::default(), &Names),
            sleepers: Default::default(),
            in_guest: AtomicBool::new(false),
            apicv: AtomicBool::new(true),
            irr: AtomicU64::new(0),
            devices: AtomicBool::new(devices),
            processors: Mutex::new(Processors::default()),
            changed: Condvar::new(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Processors> {
        self.processors.lock().unwrap()
    }

    /// An interrupt of the host reaches its processor.
    fn interrupt(&self, notification: Notification) {
        let cpu = notification.destination as usize;
        match notification.vector {
            ACTIVE_VECTOR => self.lock().active[cpu] = true,
            WAKEUP_VECTOR => {
                let mut processors = self.lock();
                if processors.irqs_off[cpu] {
                    processors.wakeup[cpu] = true;
                } else {
                    self.handle_wakeup(&mut processors, cpu);
                }
            }
            vector => panic!("nobody sends {vector:#x}"),
        }
        self.changed.notify_all();
    }

    /// The wake-up vector's handler there.
    fn handle_wakeup(&self, processors: &mut Processors, cpu: usize) {
        processors.wakeup[cpu] = false;
        self.sleepers[cpu].for_each(|number| {
            assert_eq!(number, NUMBER);
            if self.life.descriptor().control().is_outstanding() {
                processors.asleep = false;
            }
        });
    }

    /// A sender that asks nobody where the vCPU is.
    fn post_as_hardware(&self, vector: u8) {
        if let Some(notification) = self.life.descriptor().post_as_hardware(vector) {
            self.interrupt(notification);
        }
    }

    /// Makes the vCPU's thread look: if it is in the guest by an interrupt of
    /// that kind, otherwise by waking it.
    fn tell(&self, kind: impl FnOnce(&mut Processors, usize)) {
        let mut processors = self.lock();
        if self.in_guest.load(Ordering::Acquire) {
            let cpu = processors.cpu;
            kind(&mut processors, cpu);
        } else {
            processors.asleep = false;
        }
        drop(processors);
        self.changed.notify_all();
    }

    /// A sender that looks where the vCPU is.
    fn post(&self, vector: u8) {
        if !self.apicv.load(Ordering::Acquire) {
            // Into IRR; the request is a locked operation of its own.
            self.irr.fetch_or(1 << vector, Ordering::SeqCst);
            self.tell(|processors, cpu| processors.kick[cpu] = true);
        } else if self.life.descriptor().post(vector) {
            self.tell(|processors, cpu| processors.active[cpu] = true);
        }
    }

    /// The first device that may post is assigned: whoever sleeps has done so
    /// without the wake-up vector, and is to do it again. Then the device posts.
    fn attach_device_and_post(&self, vector: u8) {
        self.devices.store(true, Ordering::Release);
        fence(Ordering::SeqCst);
        let mut processors = self.lock();
        processors.unblock = true;
        processors.asleep = false;
        drop(processors);
        self.changed.notify_all();
        self.post_as_hardware(vector);
    }
}

/// What the vCPU's thread does, after which all is taken.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// Runs the guest there, which leaves it again at once.
    Visit(usize),
    /// Runs the guest there, which waits for all interrupts without leaving it.
    Stay(usize),
    /// Is preempted.
    Preempt,
    /// Sleeps until it is woken.
    Halt,
    /// Is about to sleep, and preempted before it does.
    PreemptedHalt(usize),
    /// APICv is inhibited from now on.
    Inhibit,
    /// It is not any more.
    Allow,
}

/// The vCPU's thread.
struct Vcpu<'a> {
    machine: &'a Machine,
    /// Of the vectors, a bit each.
    taken: u64,
    expected: u64,
}

impl Vcpu<'_> {
    fn take(&mut self, vectors: u64) {
        assert_eq!(self.taken & vectors, 0, "taken twice");
        self.taken |= vectors;
    }

    /// PIR, by the CPU if it is in the guest.
    fn harvest(&mut self) {
        if let Some(pir) = self.machine.life.descriptor().harvest() {
            self.take(pir[0]);
        }
    }

    fn load(&self, cpu: usize) {
        self.machine.lock().cpu = cpu;
        self.machine.life.activate(self.machine, cpu as u32);
    }

    /// With interrupts off from the first line to the entry, so that what comes
    /// meanwhile comes in the guest. What is in PIR and IRR then is delivered: by
    /// RVI, or injected where APICv is inhibited.
    fn enter(&mut self, cpu: usize) {
        let machine = self.machine;
        let mut processors = machine.lock();
        processors.active[cpu] = false;
        processors.kick[cpu] = false;
        drop(processors);
        machine.in_guest.store(true, Ordering::Release);
        fence(Ordering::SeqCst);
        self.harvest();
        self.take(machine.irr.swap(0, Ordering::SeqCst));
    }

    fn leave(&self, cpu: usize) {
        self.machine.in_guest.store(false, Ordering::Release);
        // To the host's handlers, which do nothing.
        let mut processors = self.machine.lock();
        processors.active[cpu] = false;
        processors.kick[cpu] = false;
    }

    /// In the guest until everything has come: the CPU takes over what it is
    /// notified of. Where APICv is inhibited that is an interrupt of the host, and
    /// as each of them ends in an exit.
    fn stay(&mut self, cpu: usize) {
        while self.taken != self.expected {
            let mut processors = self.machine.lock();
            while !processors.active[cpu] && !processors.kick[cpu] {
                processors = self.machine.changed.wait(processors).unwrap();
            }
            let exits = processors.kick[cpu] || !self.machine.apicv.load(Ordering::Acquire);
            processors.active[cpu] = false;
            drop(processors);
            if exits {
                self.leave(cpu);
                self.enter(cpu);
            } else {
                self.harvest();
            }
        }
    }

    /// The thread says that it will sleep, and looks once more. False if there
    /// is something to do.
    fn prepare_to_sleep(&self) -> bool {
        let machine = self.machine;
        let mut processors = machine.lock();
        processors.asleep = true;
        let unblock = core::mem::take(&mut processors.unblock);
        drop(processors);
        fence(Ordering::SeqCst);
        if unblock
            || machine.life.descriptor().is_pending()
            || machine.irr.load(Ordering::Acquire) != 0
        {
            machine.lock().asleep = false;
            return false;
        }
        true
    }

    /// Without devices nobody looks at the descriptor but software, which wakes
    /// the vCPU itself.
    fn put(&self) {
        let machine = self.machine;
        if !machine.devices.load(Ordering::Acquire) {
            return;
        }
        if machine.lock().asleep {
            machine.life.halt(machine);
        } else {
            // It was woken before: it goes on.
            machine.life.suppress();
        }
    }

    /// The scheduler takes the thread off its processor.
    fn sleep(&self) {
        let machine = self.machine;
        let mut processors = machine.lock();
        let cpu = processors.cpu;
        processors.irqs_off[cpu] = true;
        drop(processors);
        self.put();
        let mut processors = machine.lock();
        processors.irqs_off[cpu] = false;
        if processors.wakeup[cpu] {
            machine.handle_wakeup(&mut processors, cpu);
        }
        while processors.asleep {
            processors = machine.changed.wait(processors).unwrap();
        }
    }

    /// In the vCPU's thread, out of the guest.
    fn set_apicv(&self, active: bool) {
        self.machine.apicv.store(active, Ordering::Release);
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Visit(cpu) => {
                self.load(cpu);
                self.enter(cpu);
                self.leave(cpu);
            }
            Step::Stay(cpu) => {
                self.load(cpu);
                self.enter(cpu);
                self.stay(cpu);
                self.leave(cpu);
            }
            Step::Preempt => self.machine.life.suppress(),
            Step::Halt => {
                if self.taken != self.expected && self.prepare_to_sleep() {
                    self.sleep();
                }
            }
            Step::PreemptedHalt(cpu) => {
                if self.taken != self.expected && self.prepare_to_sleep() {
                    self.machine.life.suppress();
                    self.load(cpu);
                    self.sleep();
                }
            }
            Step::Inhibit => self.set_apicv(false),
            Step::Allow => self.set_apicv(true),
        }
    }

    /// All steps, and then the guest halts until it has everything.
    fn run(&mut self, steps: &[Step]) {
        for &step in steps {
            self.step(step);
        }
        while self.taken != self.expected {
            self.step(Step::Visit(1));
            self.step(Step::Halt);
        }
        self.load(1);
        self.enter(1);
        self.leave(1);
        assert_eq!(self.taken, self.expected);
        assert_eq!(self.machine.life.phase(), Phase::Active(1));
    }
}

#[derive(Clone, Copy)]
enum Sender {
    Hardware,
    Software,
    /// A device, and the first that may post.
    FirstDevice,
}

/// How many changes of the thread, where none has to be, are tried at most. With
/// `FULL` set it is all of them, or a bound where they would take days.
fn bound(senders: &[Sender]) -> Option<usize> {
    let is_full = std::env::var("FULL").is_ok_and(|full| !full.is_empty());
    let is_one = senders.len() == 1 && !matches!(senders[0], FirstDevice);
    match (is_one, is_full) {
        (true, true) => None,
        (true, false) | (false, true) => Some(3),
        (false, false) => Some(2),
    }
}

/// Each sender posts one vector while the vCPU makes its steps.
fn check(name: &str, senders: &'static [Sender], steps: &'static [Step]) {
    // Not loom's: it is no part of what is tried.
    let orders = std::sync::Arc::new(AtomicUsize::new(0));
    let counter = orders.clone();
    let mut builder = Builder::new();
    builder.max_branches = 100_000;
    let bound = bound(senders);
    builder.preemption_bound = bound;
    builder.check(move || {
        counter.fetch_add(1, Ordering::Relaxed);
        let with_devices = senders.iter().any(|sender| matches!(sender, Hardware));
        let machine = Machine::new(with_devices);
        let threads: Vec<_> = senders
            .iter()
            .enumerate()
            .map(|(number, &sender)| {
                let machine = machine.clone();
                let vector = number as u8;
                thread::spawn(move || match sender {
                    Hardware => machine.post_as_hardware(vector),
                    Software => machine.post(vector),
                    FirstDevice => machine.attach_device_and_post(vector),
                })
            })
            .collect();
        let mut vcpu = Vcpu {
            machine: &machine,
            taken: 0,
            expected: (1 << senders.len()) - 1,
        };
        vcpu.run(steps);
        for thread in threads {
            thread.join().unwrap();
        }
    });
    let orders = orders.load(Ordering::Relaxed);
    match bound {
        None => println!("{name}: {orders} orders, all there are, of {steps:?}"),
        Some(bound) => println!("{name}: {orders} orders, {bound} changes in each, of {steps:?}"),
    }
}

use Sender::{FirstDevice, Hardware, Software};
use Step::{Allow, Halt, Inhibit, Preempt, PreemptedHalt, Stay, Visit};

const BOTH: &[Sender] = &[Hardware, Software];

#[test]
fn the_guest_is_told_while_it_runs() {
    check("a device", &[Hardware], &[Stay(0)]);
    // R8: the look at whether it is in the guest, against the entry.
    check("software", &[Software], &[Stay(0)]);
    check("both", BOTH, &[Stay(0)]);
}

// R3: SN is cleared before PIR is read.
#[test]
fn what_suppression_held_back_is_taken_at_the_next_entry() {
    check("a device", &[Hardware], &[Visit(0), Preempt, Stay(0)]);
    check("elsewhere", &[Hardware], &[Visit(0), Preempt, Stay(1)]);
    check("both", BOTH, &[Visit(0), Preempt, Stay(1)]);
}

// R1: ON changes under whoever changes the rest. R4: the set of sleepers that a
// vCPU leaves is another processor's. R5: ON is set before NV becomes the wake-up
// vector.
#[test]
fn who_sleeps_is_woken() {
    check("a device", &[Hardware], &[Visit(0), Halt]);
    check("software", &[Software], &[Visit(0), Halt]);
    check("devices", &[Hardware, Hardware], &[Visit(0), Halt]);
    check("both", BOTH, &[Visit(0), Halt]);
}

// R6: it is runnable, though it has said that it will sleep.
#[test]
fn who_is_preempted_on_the_way_to_sleep_is_woken() {
    check("there", &[Hardware], &[Visit(0), PreemptedHalt(0)]);
    check("elsewhere", &[Hardware], &[Visit(0), PreemptedHalt(1)]);
    check("both", BOTH, &[Visit(0), PreemptedHalt(1)]);
}

#[test]
fn who_wakes_elsewhere_is_told_there() {
    check("a device", &[Hardware], &[Visit(0), Halt, Stay(1)]);
    check("both", BOTH, &[Visit(0), Halt, Stay(1)]);
}

// R7: nobody has told the one that sleeps that devices may post.
#[test]
fn who_sleeps_before_the_first_device_comes_is_woken() {
    check("a device", &[FirstDevice], &[Visit(0), Halt]);
    check("it stays", &[FirstDevice], &[Visit(0), Preempt, Stay(1)]);
    check("both", &[FirstDevice, Software], &[Visit(0), Halt]);
}

// R2: the descriptor is kept up to date though APICv is inhibited. R9: devices go
// on posting. R10: a sender uses what has just changed.
#[test]
fn inhibiting_loses_nothing() {
    check("a device", &[Hardware], &[Visit(0), Inhibit, Stay(0)]);
    check("software", &[Software], &[Visit(0), Inhibit, Stay(0)]);
    check("it sleeps", &[Hardware], &[Visit(0), Inhibit, Halt]);
    check(
        "it moves",
        &[Hardware],
        &[Inhibit, Visit(0), Preempt, Stay(1)],
    );
    check("both", BOTH, &[Visit(0), Inhibit, Halt]);
}

#[test]
fn allowing_loses_nothing() {
    check(
        "a device",
        &[Hardware],
        &[Inhibit, Visit(0), Allow, Stay(0)],
    );
    check(
        "software",
        &[Software],
        &[Inhibit, Visit(0), Allow, Stay(0)],
    );
    check("it sleeps", &[Software], &[Inhibit, Visit(0), Allow, Halt]);
    check("both", BOTH, &[Inhibit, Visit(0), Allow, Stay(1)]);
}
