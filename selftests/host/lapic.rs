// SPDX-License-Identifier: GPL-2.0

//! Properties of the local APIC under any sequence of what a guest, a VMM and
//! other vCPUs can do.

use ferric_model::lapic::register::{register, Modes};
use ferric_model::lapic::{Offset, RegisterPage, SavedRegisters, Vectors};
use ferric_model::{lapic, message, sync};
use proptest::collection::vec;
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::sync::atomic::Ordering;

#[allow(dead_code)]
#[path = "../../src/model/lapic/tests/fake.rs"]
mod fake;
#[allow(dead_code)]
#[path = "lapic_steps.rs"]
mod steps;

use fake::Machine;
use steps::{on_model, step, Step};

/// The registers of the page as they are.
fn page(regs: &RegisterPage) -> SavedRegisters {
    let mut words = [0; 256];
    regs.save(&mut words);
    words
}

/// Does a step, and checks what must hold after each.
fn run(machine: &Machine, step: &Step) {
    let (value, _) = on_model(machine, step);
    if let Step::Time(ns) = step {
        // At most one callback in each shortest period, and a one-shot.
        assert!(value <= ns / 200_000 + 2, "{value} in {ns} ns");
    }
    assert_eq!(machine.preemption_off.get(), 0);
    machine.forget();
}

/// Bits that a register may have set, after a reset and whatever a guest does.
fn possible_bits(machine: &Machine, word: usize) -> u32 {
    let offset = Offset((word * 4) as u16);
    // The upper half of a 64-bit ICR.
    if offset.0 == 0x304 {
        return u32::MAX;
    }
    let entry = register(offset);
    if entry.offset != offset {
        return 0;
    }
    match offset {
        Offset::ID | Offset::LDR => u32::MAX,
        Offset::VERSION => 0x0107_0014,
        Offset::PPR => 0xff,
        Offset::SPURIOUS => 0x13ff,
        Offset::ICR_HIGH => u32::MAX,
        Offset::LVT_TIMER => entry.guest_bits | machine.timer_mode_mask.load(Ordering::Relaxed),
        _ if (0x100..0x280).contains(&offset.0) => u32::MAX,
        _ => entry.guest_bits | entry.always_ones | entry.reset.unwrap_or(0),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_sequence_panics_or_sets_bits_that_do_not_exist(
        id in 0..300_u32,
        modes in prop::sample::select(&[1_u32 << 17, 3 << 17][..]),
        lvt_entries in 6..8_u32,
        icr_is_split in any::<bool>(),
        steps in vec(step(), 0..150),
    ) {
        let machine = Machine::reset(id);
        machine.timer_mode_mask.store(modes, Ordering::Relaxed);
        machine.lvt_entries.store(lvt_entries, Ordering::Relaxed);
        machine.icr_is_split.set(icr_is_split);
        machine.apic().reset(false);
        for step in &steps {
            // What the CPU stores and what a VMM restores is not masked.
            if matches!(step, Step::Trap(..) | Step::Restore(_)) {
                continue;
            }
            run(&machine, step);
            for (word, value) in page(&machine.regs).into_iter().enumerate() {
                let bits = possible_bits(&machine, word);
                prop_assert_eq!(value & !bits, 0, "{:#x} after {:?}", word * 4, step);
            }
        }
    }

    #[test]
    fn no_state_that_a_vmm_restores_makes_anything_panic(
        x2apic in any::<bool>(),
        bus_cycle_ns in prop_oneof![Just(1), Just(25), any::<u64>()],
        tsc_khz in prop_oneof![Just(fake::TSC_KHZ), Just(0), any::<u32>()],
        min_period_us in prop_oneof![Just(200_u32), Just(0)],
                steps in vec(step(), 0..40),
    ) {
        let machine = if x2apic { Machine::x2apic(3) } else { Machine::reset(3) };
        machine.bus_cycle_ns.set(bus_cycle_ns);
        machine.tsc_khz.set(tsc_khz);
        machine.min_period_us.set(min_period_us);
        for step in steps {
            // Without a shortest period the machine would run for ever.
            if !matches!(step, Step::Time(_)) {
                run(&machine, &step);
            }
        }
    }

    #[test]
    fn a_restored_apic_does_what_the_saved_one_would_have(
        id in 0..16_u32,
        before in vec(step(), 0..60),
        after in vec(step(), 1..60),
    ) {
        let old = Machine::reset(id);
        for step in &before {
            // The surroundings are to be the same on both sides.
            if !matches!(step, Step::Set(..)) {
                run(&old, step);
            }
        }
        // The mode that there is not keeps what was armed in another one, and a
        // deadline is kept, but not to be written, while the APIC is disabled.
        let mode = old.regs.read(Offset::LVT_TIMER) >> 17 & 3;
        let is_enabled = old.apic_base.load(Ordering::Relaxed) & 1 << 11 != 0;
        prop_assume!(mode != 3 && (mode != 2 || is_enabled));
        // What the ioctl does not carry: an expiry that is not delivered, the
        // TSC deadline, and the other ioctls' own state.
        old.apicv_active.store(false, Ordering::Relaxed);
        old.apic().update_apicv();
        old.apic().cancel_timer();
        old.apic().inject_timer();
        old.apic().update_ppr();
        let mut saved = old.saved();
        saved[usize::from(Offset::INITIAL_COUNT.0) / 4] = 0;
        saved[usize::from(Offset::CURRENT_COUNT.0) / 4] = 0;

        let new = Machine::reset(id);
        new.now.set(old.now.get());
        new.apic().set_base(old.apic_base.load(Ordering::Relaxed), true).unwrap();
        for machine in [&old, &new] {
            machine.apic().restore(&mut saved.clone()).unwrap();
            machine.has_hv_timer.set(false);
            machine.apic().set_tscdeadline(0);
            machine.apic().cancel_timer();
            machine.timer_advance_ns.store(0, Ordering::Relaxed);
            machine.attention.store(0, Ordering::Relaxed);
            machine.apic().update_ppr();
            // A vCPU that never ran has no TSC yet that its timer goes by.
            machine.apic().follow_tsc();
        }
        prop_assert_eq!(old.saved(), new.saved());
        for step in &after {
            // PV EOI and PPR in the moment of a restore go by what is known
            // without a search, which is less after a restore.
            if matches!(
                step,
                Step::ToVapic | Step::FromVapic | Step::Migration | Step::Restore(_)
            ) {
                continue;
            }
            run(&old, step);
            run(&new, step);
            prop_assert_eq!(page(&old.regs), page(&new.regs), "{:?}", step);
            prop_assert_eq!(old.apic().pending_timer(), new.apic().pending_timer());
        }
    }

    #[test]
    fn interrupts_are_taken_by_priority_and_each_once(
        actions in vec((0..5_u8, 16..=255_u8, any::<u8>()), 0..200),
    ) {
        // The same with sets of vectors, as the SDM describes it.
        let mut requested = BTreeSet::new();
        let mut in_service = BTreeSet::new();
        let mut tpr = 0;
        let class = |vector: u8| vector & 0xf0;

        let machine = Machine::enabled();
        machine.apic().update_apicv();
        for (action, vector, value) in actions {
            match action {
                0 | 1 => {
                    prop_assert!(machine.interrupt(vector));
                    requested.insert(vector);
                }
                2 => {
                    tpr = value;
                    machine.write(Offset::TPR, tpr.into());
                }
                3 => {
                    machine.eoi();
                    in_service.pop_last();
                }
                _ => {
                    let current = in_service.last().copied().unwrap_or(0);
                    let next = requested.last().copied().filter(|next| {
                        class(*next) > class(tpr) && class(*next) > class(current)
                    });
                    prop_assert_eq!(machine.take(), next);
                    if let Some(next) = next {
                        requested.remove(&next);
                        in_service.insert(next);
                    }
                }
            }
            for vector in 0..=255 {
                prop_assert_eq!(machine.regs.test(Vectors::Irr, vector), requested.contains(&vector));
                prop_assert_eq!(machine.regs.test(Vectors::Isr, vector), in_service.contains(&vector));
            }
            let current = in_service.last().copied().unwrap_or(0);
            let ppr = if class(tpr) >= class(current) { tpr } else { class(current) };
            prop_assert_eq!(machine.read(Offset::PPR), u32::from(ppr));
            prop_assert!(requested.is_empty() || machine.irr_pending.load(Ordering::Relaxed));
        }
    }

    #[test]
    fn reads_change_nothing_but_ppr(steps in vec(step(), 0..40), x2apic in any::<bool>()) {
        let machine = if x2apic { Machine::x2apic(1) } else { Machine::reset(1) };
        for step in &steps {
            run(&machine, step);
        }
        machine.read(Offset::PPR);
        let before = page(&machine.regs);
        for offset in (0..0x1000).step_by(4) {
            machine.apic().mmio_read(offset, &mut [0; 4]);
            let _ = machine.apic().msr_read(offset);
        }
        prop_assert_eq!(page(&machine.regs), before);
        prop_assert!(register(Offset::DFR).readable_in == Modes::XApic);
    }
}
