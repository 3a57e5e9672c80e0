// SPDX-License-Identifier: GPL-2.0

//! The PIC and the I/O APIC. Whoever they ask does nothing.

use super::rounds;
use criterion::Criterion;
use ferric_model::ioapic::{self, Eoi, IoApic, Rescan, RtcStatus, DEFAULT_BASE, PINS};
use ferric_model::line::source::USERSPACE;
use ferric_model::message::{Message, Trigger};
use ferric_model::pic::{self, Pic, Port, Step};
use std::cell::RefCell;
use std::hint::black_box;
use std::ops::ControlFlow;

struct Nobody;

impl pic::Host for Nobody {
    fn accepts_interrupts(&self) -> bool {
        true
    }
    fn mask_changed(&mut self, _pin: u8, _masked: bool) {}
}

impl ioapic::Host for Nobody {
    fn deliver(&mut self, message: &Message, _rtc: Option<&mut RtcStatus>) -> i32 {
        black_box(message);
        1
    }
    fn eoi_is_accelerated(&self) -> bool {
        false
    }
    fn for_each_target(
        &self,
        _message: &Message,
        _visit: impl FnMut(u32, bool) -> ControlFlow<()>,
    ) {
    }
    fn has_ack_notifier(&self, _pin: usize) -> bool {
        false
    }
    fn resample(&mut self, _pin: usize) -> bool {
        false
    }
    fn mask_changed(&mut self, _pin: usize, _masked: bool) {}
    fn rescan(&mut self, _rescan: Rescan) {}
    fn delay_injection(&mut self) {}
}

/// With all that its notifiers would be called for.
fn finish(pic: &mut Pic, mut step: Step) -> u8 {
    loop {
        match step {
            Step::Done(value) => return value,
            Step::Acknowledge { then, .. } => step = pic.resume(then),
        }
    }
}

fn write(pic: &mut Pic, address: u64, value: u8) {
    let port = Port::decode(address).expect("a port of the pair");
    let step = pic.write(port, &[value], &mut Nobody);
    finish(pic, step);
}

fn initialized() -> Pic {
    let mut pic = Pic::new();
    for (command, base) in [(0x20, 0x08), (0xa0, 0x70)] {
        write(&mut pic, command, 0x11);
        for value in [base, 0x04, 0x01, 0x00] {
            write(&mut pic, command + 1, value);
        }
    }
    pic
}

/// INTA, and the vector.
fn acknowledge(pic: &mut Pic) -> u8 {
    let step = pic.acknowledge();
    finish(pic, step)
}

fn pics(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("pic");
    let mut pic = initialized();
    // One line of the master, or of the slave.
    for (chip, pin, vector) in [("master", 4, 0x0c), ("slave", 12, 0x74)] {
        group.bench_function(format!("raise_lower_{chip}"), |b| {
            b.iter(|| {
                pic.set_line(black_box(pin), USERSPACE, true, &mut Nobody);
                pic.set_line(black_box(pin), USERSPACE, false, &mut Nobody)
            });
        });
        group.bench_function(format!("raise_ack_eoi_{chip}"), |b| {
            let mut interrupt = || {
                pic.set_line(black_box(pin), USERSPACE, true, &mut Nobody);
                let vector = acknowledge(&mut pic);
                if pin >= 8 {
                    write(&mut pic, 0xa0, 0x20);
                }
                write(&mut pic, 0x20, 0x20);
                pic.set_line(black_box(pin), USERSPACE, false, &mut Nobody);
                vector
            };
            assert_eq!(interrupt(), vector);
            b.iter(interrupt);
        });
    }
    group.finish();
}

const PIN: u32 = 20;
const FIRST_VECTOR: u8 = 0x60;
const LEVEL: u32 = 1 << 15;

fn write_register(chip: &mut IoApic, index: u32, value: u32) {
    chip.write(DEFAULT_BASE, &[index as u8], &mut Nobody);
    chip.write(DEFAULT_BASE + 0x10, &value.to_le_bytes(), &mut Nobody);
}

/// Each pin has a vector of its own.
fn programmed(trigger: u32) -> IoApic {
    let mut chip = IoApic::new();
    for pin in 0..PINS as u32 {
        let entry = (u32::from(FIRST_VECTOR) + pin) | trigger;
        write_register(&mut chip, 0x10 + 2 * pin, entry);
    }
    chip
}

fn pulse(chip: &mut IoApic, pin: u32) -> i32 {
    let result = chip.set_line(pin, USERSPACE, true, false, &mut Nobody);
    chip.set_line(pin, USERSPACE, false, false, &mut Nobody);
    result
}

fn ioapics(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("ioapic");
    group.bench_function("raise_lower_edge", |b| {
        let mut chip = programmed(0);
        assert_eq!(pulse(&mut chip, PIN), 1);
        b.iter(|| pulse(&mut chip, black_box(PIN)));
    });
    group.bench_function("raise_lower_eoi_level", |b| {
        let mut chip = programmed(LEVEL);
        let mut interrupt = || {
            pulse(&mut chip, black_box(PIN));
            end(&mut chip, PIN.into())
        };
        assert_eq!(interrupt(), 1);
        b.iter(interrupt);
    });
    group.bench_function("eoi_level", |b| {
        let chip = RefCell::new(programmed(LEVEL));
        let prepare = || {
            let chip = &mut *chip.borrow_mut();
            for pin in 0..PINS as u32 {
                end(chip, pin.into());
                assert_eq!(pulse(chip, pin), 1);
            }
        };
        rounds(b, PINS as u64, prepare, |i| end(&mut chip.borrow_mut(), i));
    });
    group.finish();
}

/// The EOI of that pin's vector, and how many pins have it.
fn end(chip: &mut IoApic, pin: u64) -> u32 {
    let eoi = Eoi {
        vcpu_id: 0,
        vector: FIRST_VECTOR + pin as u8,
        trigger: Trigger::Level,
        suppressed: false,
    };
    let mut pins = 0;
    let mut next = chip.begin_eoi(&eoi, &mut Nobody);
    while let Some(pin) = next {
        pins += 1;
        next = chip.continue_eoi(&eoi, pin, &mut Nobody);
    }
    pins
}

pub fn costs(criterion: &mut Criterion) {
    pics(criterion);
    ioapics(criterion);
}
