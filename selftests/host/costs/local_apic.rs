// SPDX-License-Identifier: GPL-2.0

//! The local APIC: its registers, and an interrupt from its acceptance to its EOI.

use super::fake::{message, Machine};
use super::rounds;
use criterion::Criterion;
use ferric_model::lapic::{Offset, Vectors};
use ferric_model::message::DeliveryMode;
use ferric_model::posted::Descriptor;
use std::hint::black_box;
use std::sync::atomic::Ordering;

/// The vectors that interrupts have.
const FIRST: u8 = 0x20;
const NUMBER: u64 = 0xe0;

fn vector(i: u64) -> u8 {
    FIRST + (i % NUMBER) as u8
}

fn machine() -> Machine {
    let machine = Machine::enabled();
    machine.forgetful.set(true);
    machine
}

fn x2apic() -> Machine {
    let machine = Machine::x2apic(1);
    machine.forgetful.set(true);
    machine
}

/// Nothing is pending.
fn empty(machine: &Machine) {
    machine.regs.clear_all(Vectors::Irr);
    machine.irr_pending.store(false, Ordering::Relaxed);
}

/// The CPU takes an interrupt, whatever is in service: its EOI is due.
fn take(machine: &Machine, vector: u8) {
    machine.apic().set_irr(vector);
    machine.apic().ack_interrupt(vector);
}

fn unnest(machine: &Machine) {
    while machine.apic().eoi().is_some() {}
}

fn registers(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("lapic");
    let (by_memory, by_msr) = (machine(), x2apic());
    let (timer, error) = (Offset::LVT_TIMER, Offset::LVT_ERROR);
    let masked = 1_u32 << 16;
    group.bench_function("mmio_read", |b| {
        let mut data = [0; 4];
        b.iter(|| {
            let offset = black_box(timer.0.into());
            by_memory.apic().mmio_read(offset, &mut data);
            black_box(data)
        });
        assert_eq!(u32::from_le_bytes(data), masked);
    });
    group.bench_function("mmio_write", |b| {
        let data = (masked | 0x31).to_le_bytes();
        b.iter(|| {
            let offset = black_box(error.0.into());
            by_memory.apic().mmio_write(offset, black_box(&data));
        });
        assert_eq!(by_memory.read(error), masked | 0x31);
    });
    group.bench_function("msr_read", |b| {
        b.iter(|| by_msr.apic().msr_read(black_box(timer.0.into())));
    });
    group.bench_function("msr_write", |b| {
        let data = u64::from(masked | 0x31);
        b.iter(|| {
            let offset = black_box(error.0.into());
            by_msr.apic().msr_write(offset, black_box(data))
        });
        assert_eq!(by_msr.apic().msr_read(error.0.into()), Ok(data));
    });
    group.bench_function("tpr_write", |b| {
        let mut tpr = 0x10_u64;
        b.iter(|| {
            // Up and down.
            tpr ^= 0x30;
            by_msr.apic().msr_write(Offset::TPR.0.into(), tpr)
        });
        assert_eq!(u64::from(by_msr.regs.read(Offset::PPR)), tpr);
    });
    group.finish();
}

fn acceptance(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("lapic");
    let machine = machine();
    group.bench_function("accept_edge", |b| {
        let message = |i| message(DeliveryMode::Fixed, vector(i));
        let accept = |i| machine.apic().accept(&message(i));
        rounds(b, NUMBER, || empty(&machine), accept);
        assert!(machine.regs.test(Vectors::Irr, FIRST));
    });
    group.bench_function("accept_coalesced", |b| {
        let message = message(DeliveryMode::Fixed, FIRST);
        assert!(machine.interrupt(FIRST));
        b.iter(|| machine.apic().accept(black_box(&message)));
    });
    group.bench_function("mark_edge", |b| {
        let mark = |i| machine.apic().mark(vector(i));
        rounds(b, NUMBER, || empty(&machine), mark);
        assert!(machine.regs.test(Vectors::Irr, FIRST));
    });
    group.bench_function("mark_coalesced", |b| {
        b.iter(|| machine.apic().mark(black_box(FIRST)));
    });
    for (name, number) in [("1", 1), ("of_all", NUMBER)] {
        empty(&machine);
        for i in 0..number {
            assert!(machine.interrupt(vector(i)));
        }
        let highest = Some(vector(number - 1));
        group.bench_function(format!("highest_{name}"), |b| {
            b.iter(|| black_box(&machine.regs).highest(black_box(Vectors::Irr)));
            assert_eq!(machine.regs.highest(Vectors::Irr), highest);
        });
        group.bench_function(format!("has_interrupt_{name}"), |b| {
            b.iter(|| black_box(&machine).apic().has_interrupt());
            assert_eq!(machine.apic().has_interrupt(), highest);
        });
    }
    empty(&machine);
    group.bench_function("has_interrupt_none", |b| {
        b.iter(|| black_box(&machine).apic().has_interrupt());
        assert_eq!(machine.apic().has_interrupt(), None);
    });
    group.finish();
}

fn service(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("lapic");
    let machine = machine();
    // The bit in IRR is part of it: there must be something to acknowledge.
    group.bench_function("irr_ack", |b| {
        rounds(
            b,
            NUMBER,
            || unnest(&machine),
            |i| take(&machine, vector(i)),
        );
        assert!(machine.apic().highest_in_service().is_some());
        unnest(&machine);
    });
    group.bench_function("eoi", |b| {
        let prepare = || {
            unnest(&machine);
            (0..NUMBER).for_each(|i| take(&machine, vector(i)));
        };
        rounds(b, NUMBER, prepare, |_| machine.apic().eoi());
        unnest(&machine);
    });
    group.bench_function("update_ppr", |b| {
        assert!(machine.interrupt(FIRST));
        assert_eq!(machine.take(), Some(FIRST));
        b.iter(|| black_box(&machine).apic().update_ppr());
        assert_eq!(machine.regs.read(Offset::PPR), u32::from(FIRST));
        unnest(&machine);
    });
    group.bench_function("accept_to_eoi", |b| {
        b.iter(|| {
            machine.interrupt(black_box(FIRST));
            let taken = machine.take();
            machine.eoi();
            taken
        });
        assert_eq!(machine.apic().highest_in_service(), None);
    });
    group.finish();
}

fn posting(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("posted");
    let machine = machine();
    let descriptor = Descriptor::default();
    group.bench_function("post", |b| {
        let post = |i| descriptor.post(vector(i));
        rounds(b, NUMBER, || descriptor.clear(), post);
        assert!(descriptor.is_pending());
    });
    group.bench_function("post_coalesced", |b| {
        descriptor.post(FIRST);
        b.iter(|| descriptor.post(black_box(FIRST)));
    });
    group.bench_function("is_pending", |b| {
        b.iter(|| black_box(&descriptor).is_pending());
    });
    group.bench_function("post_harvest", |b| {
        descriptor.clear();
        b.iter(|| {
            descriptor.post(black_box(FIRST));
            descriptor.harvest()
        });
        assert!(descriptor.is_empty());
    });
    group.bench_function("harvest_none", |b| {
        b.iter(|| black_box(&descriptor).harvest());
    });
    group.bench_function("harvest_into_irr", |b| {
        descriptor.post(FIRST);
        let pir = descriptor.harvest().expect("it was posted");
        b.iter(|| {
            let harvest = machine.apic().accept_posted(black_box(&pir));
            machine.regs.clear(Vectors::Irr, FIRST);
            harvest
        });
    });
    group.finish();
}

pub fn costs(criterion: &mut Criterion) {
    registers(criterion);
    acceptance(criterion);
    service(criterion);
    posting(criterion);
}
