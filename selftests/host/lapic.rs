// SPDX-License-Identifier: GPL-2.0

//! Properties of the local APIC under any sequence of what a guest, a VMM and
//! other vCPUs can do.

use ferric_model::lapic::register::{register, Modes};
use ferric_model::lapic::{Offset, RegisterPage, SavedRegisters, Vectors};
use ferric_model::message::{DeliveryMode, Trigger};
use ferric_model::{lapic, message, sync};
use proptest::collection::vec;
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::sync::atomic::Ordering;

#[allow(dead_code)]
#[path = "../../src/model/lapic/tests/fake.rs"]
mod fake;

use fake::Machine;

/// Something that happens to a local APIC.
#[derive(Clone, Debug)]
enum Step {
    MmioRead(u32, usize),
    MmioWrite(u32, Vec<u8>),
    MsrRead(u32),
    MsrWrite(u32, u64),
    Trap(u32, u32),
    FastIcr(u64),
    Tpr(u8),
    Accept(u8, u8, bool, bool),
    Lvt(usize),
    Take,
    Eoi,
    AcceleratedEoi(u8),
    Time(i64),
    Deadline(u64),
    InjectTimer,
    ExpireHv,
    SwitchClock(bool),
    Migrate,
    WaitExpire,
    Base(u64, bool),
    ApicV(bool),
    HvTimer(bool),
    Vapic(u64, u32),
    PvEoi(bool),
    Save,
    Reset(bool),
}

/// An offset of a register more often than not.
fn offset() -> impl Strategy<Value = u32> {
    prop_oneof![8 => (0..64_u32).prop_map(|index| index << 4), 1 => 0..0x1000_u32, 1 => any::<u32>()]
}

/// Values with few bits, many bits, and those that mean something.
fn value() -> impl Strategy<Value = u32> {
    prop_oneof![
        any::<u32>(),
        0..0x200_u32,
        prop::sample::select(
            &[
                0,
                1,
                0x1ff,
                0x2_0040,
                0x4_0040,
                0x1_0000,
                0x400,
                0xffff_ffff
            ][..]
        ),
    ]
}

fn base() -> impl Strategy<Value = u64> {
    prop_oneof![
        4 => prop::sample::select(&[0xfee0_0000_u64, 0xfee0_0800, 0xfee0_0c00, 0xfee0_0900][..]),
        1 => any::<u64>(),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        1 => (offset(), 0..9_usize).prop_map(|(offset, length)| Step::MmioRead(offset, length)),
        6 => (offset(), value()).prop_map(|(offset, value)| {
            Step::MmioWrite(offset, value.to_le_bytes().to_vec())
        }),
        1 => (offset(), vec(any::<u8>(), 0..9)).prop_map(|(offset, data)| Step::MmioWrite(offset, data)),
        1 => offset().prop_map(Step::MsrRead),
        4 => (offset(), value()).prop_map(|(offset, value)| Step::MsrWrite(offset, value.into())),
        1 => (offset(), any::<u64>()).prop_map(|(offset, value)| Step::MsrWrite(offset, value)),
        1 => (offset(), value()).prop_map(|(offset, value)| Step::Trap(offset, value)),
        1 => any::<u64>().prop_map(Step::FastIcr),
        1 => any::<u8>().prop_map(Step::Tpr),
        6 => (0..8_u8, any::<u8>(), any::<bool>(), any::<bool>())
            .prop_map(|(mode, vector, level, assert)| Step::Accept(mode, vector, level, assert)),
        1 => (0..7_usize).prop_map(Step::Lvt),
        4 => Just(Step::Take),
        4 => Just(Step::Eoi),
        1 => any::<u8>().prop_map(Step::AcceleratedEoi),
        2 => (0..2_000_000_i64).prop_map(Step::Time),
        1 => prop_oneof![any::<u64>(), 0..10_000_000_u64].prop_map(Step::Deadline),
        1 => Just(Step::InjectTimer),
        1 => Just(Step::ExpireHv),
        1 => any::<bool>().prop_map(Step::SwitchClock),
        1 => Just(Step::Migrate),
        1 => Just(Step::WaitExpire),
        1 => (base(), any::<bool>()).prop_map(|(base, host)| Step::Base(base, host)),
        1 => any::<bool>().prop_map(Step::ApicV),
        1 => any::<bool>().prop_map(Step::HvTimer),
        1 => (0..2_u64, any::<u32>()).prop_map(|(attention, word)| Step::Vapic(attention, word)),
        1 => any::<bool>().prop_map(Step::PvEoi),
        1 => Just(Step::Save),
        1 => any::<bool>().prop_map(Step::Reset),
    ]
}

const LVT: [Offset; 7] = lapic::register::LVT;

/// The registers of the page as they are.
fn page(regs: &RegisterPage) -> SavedRegisters {
    let mut words = [0; 256];
    regs.save(&mut words);
    words
}

fn run(machine: &Machine, step: &Step) {
    let apic = machine.apic();
    match step {
        Step::MmioRead(offset, length) => apic.mmio_read(*offset, &mut [0; 8][..*length]),
        // As KVM does: in the other modes the memory is not the APIC's.
        Step::MmioWrite(offset, data) if apic.responds_to_mmio() => apic.mmio_write(*offset, data),
        Step::MmioWrite(..) => {}
        Step::MsrRead(offset) => {
            let _ = apic.msr_read(*offset);
        }
        Step::MsrWrite(offset, value) => {
            let _ = apic.msr_write(*offset, *value);
        }
        Step::Trap(offset, value) => {
            // The CPU stores what it has checked.
            let offset = offset & 0xff0;
            if register(Offset(offset as u16)).writable && offset < 0x400 {
                let mut data = [0; 4];
                data.copy_from_slice(&value.to_le_bytes());
                machine.regs.write(Offset(offset as u16), *value);
                apic.write_nodecode(offset);
            }
        }
        Step::FastIcr(value) => {
            let _ = apic.icr_write_fast(*value);
        }
        Step::Tpr(tpr) => apic.set_tpr(*tpr),
        Step::Accept(mode, vector, level, assert) => {
            let mut message = fake::message(DeliveryMode::from_bits((*mode).into()), *vector);
            message.trigger = Trigger::from_bit(*level);
            message.assert = *assert;
            apic.accept(&message);
        }
        Step::Lvt(index) => {
            apic.local_deliver(LVT[*index]);
        }
        Step::Take => {
            machine.take();
        }
        Step::Eoi => {
            let _ = apic.msr_write(0xb0, 0);
        }
        Step::AcceleratedEoi(vector) => apic.eoi_accelerated(*vector),
        Step::Time(ns) => {
            // At most one callback in each shortest period, and the one-shot.
            let runs = machine.advance(*ns);
            assert!(i64::from(runs) <= ns / 200_000 + 2, "{runs} in {ns} ns");
        }
        Step::Deadline(deadline) => apic.set_tscdeadline(*deadline),
        Step::InjectTimer => apic.inject_timer(),
        Step::ExpireHv => apic.expired_hv_timer(),
        Step::SwitchClock(true) => apic.switch_to_hv_timer(),
        Step::SwitchClock(false) => apic.switch_to_sw_timer(),
        Step::Migrate => apic.migrate_timer(),
        Step::WaitExpire => apic.wait_expire(),
        Step::Base(base, host) => {
            let _ = apic.set_base(*base, *host);
        }
        Step::ApicV(active) => {
            machine.apicv_active.store(*active, Ordering::Relaxed);
            apic.update_apicv();
        }
        Step::HvTimer(usable) => machine.has_hv_timer.set(*usable),
        Step::Vapic(attention, word) => {
            machine.attention.store(*attention, Ordering::Relaxed);
            machine.vapic.set(Some(*word));
            apic.sync_from_vapic();
            apic.sync_to_vapic();
        }
        Step::PvEoi(enabled) => {
            machine.pv_eoi_enabled.set(*enabled);
            apic.sync_to_vapic();
            apic.sync_from_vapic();
        }
        Step::Save => {
            let _ = apic.save(&mut [0; 256]);
        }
        Step::Reset(init) => apic.reset(*init),
    }
    assert_eq!(machine.preemption_off.get(), 0);
    assert_eq!(machine.interrupts_off.get(), 0);
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
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

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
            // What the CPU stores by itself is not for the model to mask.
            if matches!(step, Step::Trap(..)) {
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
        words in vec(prop_oneof![any::<u32>(), Just(0), value()], 256),
        steps in vec(step(), 0..40),
    ) {
        let machine = if x2apic { Machine::x2apic(3) } else { Machine::reset(3) };
        machine.bus_cycle_ns.set(bus_cycle_ns);
        machine.tsc_khz.set(tsc_khz);
        machine.min_period_us.set(min_period_us);
        let mut state = [0; 256];
        state.copy_from_slice(&words);
        let _ = machine.apic().restore(&mut state);
        for step in steps {
            // Without a shortest period the fake would run for ever.
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
            run(&old, step);
        }
        // What the ioctl does not carry: an expiry that is not delivered, the
        // TSC deadline, and the other ioctls' own state.
        old.apicv_active.store(false, Ordering::Relaxed);
        old.apic().update_apicv();
        old.apic().cancel_timer();
        old.apic().has_interrupt();
        let mut saved = old.saved();
        saved[usize::from(Offset::INITIAL_COUNT.0) / 4] = 0;
        saved[usize::from(Offset::CURRENT_COUNT.0) / 4] = 0;

        let new = Machine::reset(id);
        new.now.set(old.now.get());
        new.apic().set_base(old.apic_base.load(Ordering::Relaxed), true).unwrap();
        for machine in [&old, &new] {
            machine.apic().restore(&mut saved.clone()).unwrap();
            machine.has_hv_timer.set(false);
            machine.hrtimer.set(None);
            machine.timer_advance_ns.store(0, Ordering::Relaxed);
            machine.attention.store(0, Ordering::Relaxed);
            machine.pv_eoi_enabled.set(false);
            machine.apic().has_interrupt();
        }
        prop_assert_eq!(old.saved(), new.saved());
        for step in &after {
            // Both have the same page, but the hint need not be as exact.
            if matches!(step, Step::PvEoi(_)) {
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
