// SPDX-License-Identifier: GPL-2.0

//! What can happen to a local APIC: by its guest, its VMM, other vCPUs and
//! time; drawn at random, and done to the model.

use super::fake::{self, Event, Machine};
use super::{Offset, SavedRegisters};
use ferric_model::lapic::icr::FastError;
use ferric_model::lapic::register::{register, LVT};
use ferric_model::message::{DeliveryMode, Message, Trigger};
use proptest::collection::vec;
use proptest::prelude::*;
use std::sync::atomic::Ordering::Relaxed;

/// A part of the surroundings that can be turned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Knob {
    HvTimer,
    CanPost,
    InGuest,
    WantsToRun,
    AdvanceNs,
    TscScaled,
    Smm,
    Intel,
    Synic,
    SynicAutoEoi,
    StaleEoi,
    IoapicHandles,
    PvEoi,
    PvEoiByte,
    PvEoiReadable,
    PvEoiWritable,
    Attention,
    VapicAddress,
    VapicWord,
    Protected,
    Arbitration,
}

/// Something that happens.
#[derive(Clone, Debug)]
pub enum Step {
    MmioRead(u32, usize),
    MmioWrite(u32, Vec<u8>),
    MsrRead(u32),
    MsrWrite(u32, u64),
    /// The CPU stores the register and exits.
    Trap(u32, u32),
    IcrFast(u64),
    Tpr(u8),
    /// A message, in the form of an ICR's lower half.
    Accept(u32),
    /// One of the LVT's entries, by number, delivers.
    Lvt(usize),
    Take,
    AcceleratedEoi(u8),
    /// Time goes on, and the hrtimer's callbacks run.
    Time(i64),
    /// Time goes on while the host sleeps.
    Sleep(i64),
    /// A TSC deadline so many cycles away.
    Deadline(i64),
    InjectTimer,
    ExpiredHv,
    ToHv,
    ToSw,
    Migrate,
    Wait,
    Base(u64, bool),
    ApicV(bool),
    FromVapic,
    ToVapic,
    /// Saves, and restores what was saved.
    Migration,
    Restore(Box<SavedRegisters>),
    Reset(bool),
    Set(Knob, u64),
}

/// What a step returns: a value, and what was read or saved.
pub type Answer = (i64, Vec<u8>);

/// An offset of a register more often than not.
fn offset() -> impl Strategy<Value = u32> {
    prop_oneof![
        8 => (0..64_u32).prop_map(|index| index << 4),
        8 => prop::sample::select(&[0x20, 0x80, 0xb0, 0xd0, 0xe0, 0xf0, 0x300, 0x310, 0x320, 0x380, 0x3e0][..]),
        1 => 0..0x1000_u32,
        1 => any::<u32>(),
    ]
}

/// Values with few bits, many bits, and those that mean something.
fn value() -> impl Strategy<Value = u32> {
    prop_oneof![
        any::<u32>(),
        0..0x200_u32,
        (0..0x100_u32).prop_map(|vector| vector | 0x100),
        0..5_000_000_u32,
        (0..32_u32).prop_map(|bit| 1 << bit),
        prop::sample::select(
            &[0, 1, 0x1ff, 0x11ff, 0x40, 0x2_0040, 0x4_0040, 0x6_0040, 0x1_0000, 0x400, 0x700, !0]
                [..]
        ),
    ]
}

fn base() -> impl Strategy<Value = u64> {
    prop_oneof![
        8 => prop::sample::select(
            &[0xfee0_0000_u64, 0xfee0_0800, 0xfee0_0c00, 0xfee0_0900, 0x1_fee1_0c00, 0xfee0_0400][..]
        ),
        1 => any::<u64>(),
    ]
}

fn knob() -> impl Strategy<Value = Step> {
    let vector = prop_oneof![Just(u64::MAX), 0..256_u64];
    prop_oneof![
        (
            prop::sample::select(
                &[
                    Knob::HvTimer,
                    Knob::HvTimer,
                    Knob::CanPost,
                    Knob::InGuest,
                    Knob::WantsToRun,
                    Knob::TscScaled,
                    Knob::Smm,
                    Knob::Intel,
                    Knob::SynicAutoEoi,
                    Knob::PvEoi,
                    Knob::PvEoi,
                    Knob::PvEoiReadable,
                    Knob::PvEoiWritable,
                    Knob::Attention,
                    Knob::VapicAddress,
                    Knob::Protected,
                ][..]
            ),
            0..2_u64
        )
            .prop_map(|(knob, value)| Step::Set(knob, value)),
        (0..3000_u64).prop_map(|ns| Step::Set(Knob::AdvanceNs, ns)),
        (
            prop::sample::select(&[Knob::Synic, Knob::StaleEoi][..]),
            vector
        )
            .prop_map(|(knob, vector)| Step::Set(knob, vector)),
        (0..256_u64).prop_map(|vector| Step::Set(Knob::IoapicHandles, vector)),
        (0..4_u64).prop_map(|byte| Step::Set(Knob::PvEoiByte, byte)),
        any::<u32>().prop_map(|word| Step::Set(Knob::VapicWord, word.into())),
    ]
}

fn saved() -> impl Strategy<Value = Box<SavedRegisters>> {
    let word = prop_oneof![2 => Just(0), 1 => any::<u32>(), 1 => value()];
    vec(word, 256).prop_map(|words| {
        let mut state = Box::new([0; 256]);
        state.copy_from_slice(&words);
        state
    })
}

/// Any step.
pub fn step() -> impl Strategy<Value = Step> {
    let access = prop_oneof![
        8 => (offset(), value()).prop_map(|(offset, value)| {
            Step::MmioWrite(offset & 0xff0, value.to_le_bytes().to_vec())
        }),
        6 => (offset(), value()).prop_map(|(offset, value)| {
            Step::MsrWrite(offset & 0xff0, value.into())
        }),
        1 => (offset(), vec(any::<u8>(), 0..9)).prop_map(|(offset, data)| {
            Step::MmioWrite(offset & 0xfff, data)
        }),
        1 => (offset(), any::<u64>()).prop_map(|(offset, value)| Step::MsrWrite(offset & 0xff0, value)),
        2 => (offset(), 0..9_usize).prop_map(|(offset, length)| Step::MmioRead(offset & 0xfff, length)),
        1 => offset().prop_map(|offset| Step::MsrRead(offset & 0xff0)),
        1 => (offset(), value()).prop_filter_map("the CPU stores it", |(offset, value)| {
            let offset = offset & 0xff0;
            let known = offset < 0x400 && register(Offset(offset as u16)).writable;
            known.then_some(Step::Trap(offset, value))
        }),
        1 => any::<u64>().prop_map(Step::IcrFast),
        1 => (any::<u32>(), 0..0x10_0000_u64).prop_map(|(destination, low)| {
            Step::IcrFast(u64::from(destination) << 32 | low & !0x3_2000)
        }),
    ];
    let interrupt = prop_oneof![
        1 => any::<u8>().prop_map(Step::Tpr),
        6 => any::<u8>().prop_map(|vector| Step::Accept(0x4000 | u32::from(vector))),
        2 => any::<u8>().prop_map(|vector| Step::Accept(0xc000 | u32::from(vector))),
        2 => (0..0x1_0000_u32).prop_map(Step::Accept),
        1 => (0..LVT.len()).prop_map(Step::Lvt),
        5 => Just(Step::Take),
        4 => Just(Step::MsrWrite(0xb0, 0)),
        1 => any::<u8>().prop_map(Step::AcceleratedEoi),
        1 => Just(Step::FromVapic),
        1 => Just(Step::ToVapic),
    ];
    let timer = prop_oneof![
        3 => prop_oneof![0..2_000_000_i64, 0..100_000_i64, 0..2000_i64].prop_map(Step::Time),
        1 => (0..1_i64 << 40).prop_map(Step::Sleep),
        2 => (-500_000..4_000_000_i64).prop_map(Step::Deadline),
        1 => any::<i64>().prop_map(Step::Deadline),
        2 => Just(Step::InjectTimer),
        1 => Just(Step::ExpiredHv),
        1 => Just(Step::ToHv),
        1 => Just(Step::ToSw),
        1 => Just(Step::Migrate),
        1 => Just(Step::Wait),
    ];
    let state = prop_oneof![
        3 => (base(), prop::bool::weighted(0.7)).prop_map(|(base, host)| Step::Base(base, host)),
        2 => prop::bool::weighted(0.3).prop_map(Step::ApicV),
        4 => knob(),
        2 => Just(Step::Migration),
        1 => saved().prop_map(Step::Restore),
        1 => any::<bool>().prop_map(Step::Reset),
    ];
    prop_oneof![9 => access, 9 => interrupt, 5 => timer, 4 => state]
}

/// The message that a step accepts.
fn message(icr: u32) -> Message {
    let mut message = fake::message(DeliveryMode::from_bits(icr >> 8), icr as u8);
    message.assert = icr & 0x4000 != 0;
    message.trigger = Trigger::from_bit(icr & 0x8000 != 0);
    message
}

fn bytes(state: &SavedRegisters) -> Vec<u8> {
    state.iter().flat_map(|word| word.to_le_bytes()).collect()
}

fn error<E>(result: Result<(), E>) -> i64 {
    result.is_err().into()
}

/// What the exit's fast path has sent is what KVM sends later.
fn sent_as_on_the_slow_path(machine: &Machine) {
    for event in machine.events.borrow_mut().iter_mut() {
        if let Event::SentFast(message) = *event {
            *event = Event::Sent(message);
        }
    }
}

/// Does a step to the model.
pub fn on_model(machine: &Machine, step: &Step) -> Answer {
    let apic = machine.apic();
    let mut data = Vec::new();
    let value = match step {
        Step::MmioRead(offset, length) => {
            data = vec![0xa5; *length];
            // In the other modes the memory is not the APIC's.
            if apic.responds_to_mmio() {
                apic.mmio_read(*offset, &mut data);
            }
            0
        }
        Step::MmioWrite(offset, data) => {
            if apic.responds_to_mmio() {
                apic.mmio_write(*offset, data);
            }
            0
        }
        Step::MsrRead(offset) => match apic.msr_read(*offset) {
            Ok(value) => {
                data = value.to_le_bytes().to_vec();
                0
            }
            Err(_) => 1,
        },
        // On the fast path first, as the exit handlers do.
        Step::MsrWrite(offset, value)
            if apic.is_x2apic() && apic.msr_write_fast(*offset, *value).is_ok() =>
        {
            sent_as_on_the_slow_path(machine);
            0
        }
        Step::MsrWrite(offset, value) => error(apic.msr_write(*offset, *value)),
        Step::Trap(offset, value) => {
            machine.regs.write(Offset(*offset as u16), *value);
            if *offset != u32::from(Offset::ICR.0) || apic.icr_stored_fast().is_err() {
                apic.write_nodecode(*offset);
            }
            sent_as_on_the_slow_path(machine);
            0
        }
        Step::IcrFast(value) => match apic.icr_write_fast(*value) {
            Ok(()) => 0,
            Err(FastError::Invalid) => 1,
            Err(FastError::WouldBlock) => -11,
        },
        Step::Tpr(tpr) => {
            machine.write_cr8(*tpr);
            0
        }
        Step::Accept(icr) => apic.accept(&message(*icr)).into(),
        Step::Lvt(index) => apic.local_deliver(LVT[*index]).into(),
        Step::Take => machine.take().map_or(-1, i64::from),
        Step::AcceleratedEoi(vector) => {
            apic.eoi_accelerated(*vector);
            0
        }
        Step::Time(ns) => machine.advance(*ns).into(),
        Step::Sleep(ns) => {
            machine.now.set(machine.now.get() + ns);
            0
        }
        Step::Deadline(cycles) => {
            apic.set_tscdeadline(machine.tsc().wrapping_add(*cycles as u64));
            0
        }
        Step::InjectTimer => {
            let pending = apic.pending_timer();
            apic.inject_timer();
            pending.into()
        }
        Step::ExpiredHv => {
            apic.expired_hv_timer();
            0
        }
        Step::ToHv => {
            apic.switch_to_hv_timer();
            0
        }
        Step::ToSw => {
            apic.switch_to_sw_timer();
            0
        }
        Step::Migrate => {
            apic.migrate_timer();
            0
        }
        Step::Wait => {
            apic.wait_expire();
            0
        }
        Step::Base(base, host) => {
            // The vCPU runs in between, so that nothing that was restored
            // before its time is left; the unit tests are about that.
            apic.begin_run();
            error(apic.set_base(*base, *host))
        }
        Step::ApicV(active) => {
            machine.apicv_active.store(*active, Relaxed);
            apic.update_apicv();
            0
        }
        Step::FromVapic => {
            apic.sync_from_vapic();
            0
        }
        Step::ToVapic => {
            apic.sync_to_vapic();
            0
        }
        Step::Migration => {
            let mut state = [0; 256];
            let saved = error(apic.save(&mut state));
            data = bytes(&state);
            let restored = error(apic.restore(&mut state));
            data.extend(bytes(&state));
            saved << 1 | restored
        }
        Step::Restore(state) => {
            let mut state = state.clone();
            let restored = error(apic.restore(&mut state));
            data = bytes(&state);
            restored
        }
        Step::Reset(init) => {
            apic.reset(*init);
            0
        }
        Step::Set(knob, value) => {
            turn(machine, *knob, *value);
            0
        }
    };
    (value, data)
}

fn turn(machine: &Machine, knob: Knob, value: u64) {
    let on = value != 0;
    let vector = u8::try_from(value).ok();
    match knob {
        Knob::HvTimer => machine.has_hv_timer.set(on),
        Knob::CanPost => machine.can_post.set(on),
        Knob::InGuest => machine.in_guest.set(on),
        Knob::WantsToRun => machine.wants_to_run.set(on),
        Knob::AdvanceNs => machine.timer_advance_ns.store(value as u32, Relaxed),
        Knob::TscScaled => machine.tsc_scaled.set(on),
        Knob::Smm => machine.has_smm.set(on),
        Knob::Intel => machine.intel.set(on),
        Knob::Synic => machine.synic.set(vector),
        Knob::SynicAutoEoi => machine.synic_auto_eoi.set(on),
        Knob::StaleEoi => machine.stale_eoi.set(vector),
        Knob::IoapicHandles => machine.handle_by_ioapic(value as u8),
        Knob::PvEoi => machine.pv_eoi_enabled.set(on),
        Knob::PvEoiByte => machine.pv_eoi.set(value as u8),
        Knob::PvEoiReadable => machine.pv_eoi_readable.set(on),
        Knob::PvEoiWritable => machine.pv_eoi_writable.set(on),
        Knob::Attention => machine.attention.store(value, Relaxed),
        Knob::VapicAddress => machine.vapic_address.store(value << 12, Relaxed),
        Knob::VapicWord => machine.vapic.set(Some(value as u32)),
        Knob::Protected => machine.protected.store(on, Relaxed),
        Knob::Arbitration => machine.arbitration_priority.store(value as u32, Relaxed),
    }
}
