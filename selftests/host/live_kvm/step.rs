// SPDX-License-Identifier: GPL-2.0

//! What is done to a machine: by its guest, by its VMM, and by time; drawn at
//! random, with a liking for what means something.
//!
//! Left out are SMI, INIT and SIPI, which would take a vCPU away from the guest
//! and are KVM's own, and timers that expire when they like.

use ferric_model::pit::{Counters, FLAG_SPEAKER_DATA_ON};
use proptest::prelude::*;

/// vCPUs that run the guest.
pub const CPUS: usize = 3;

/// GSIs from 1 on that the routing tables know; 0 is the 8254's, whose ticks
/// would come in their own time.
pub const GSIS: u32 = 24;
/// The GSI of an irqfd.
pub const IRQFD_GSI: u32 = 10;
/// The GSI of an irqfd that listens to EOIs.
pub const RESAMPLE_GSI: u32 = 11;

pub const APIC_ADDRESS: u32 = 0xfee0_0000;
pub const IOAPIC_ADDRESS: u32 = 0xfec0_0000;
pub const MSR_APIC_BASE: u32 = 0x1b;
pub const MSR_TSC_DEADLINE: u32 = 0x6e0;

/// Far enough not to come while a sequence runs.
const COUNT_NEVER: u32 = 0xf000_0000;
const DEADLINE_NEVER: u64 = 1 << 62;

/// Something that happens.
#[derive(Clone, Debug)]
pub enum Step {
    /// The guest reads so many bytes.
    MmioRead(usize, u32, u8),
    MmioWrite(usize, u32, u8, u64),
    Rdmsr(usize, u32),
    Wrmsr(usize, u32, u64),
    In(usize, u16, u8),
    Out(usize, u16, u8, u32),
    /// It lets interrupts in for a moment.
    Take(usize),
    /// It programs the entry of a pin: the lower half, and the destination.
    Entry(usize, u8, u32, u8),
    /// User space sets CR8.
    Cr8(usize, u8),
    /// User space sets an MSR.
    HostWrmsr(usize, u32, u64),
    /// A GSI's level, and whether user space asks for the outcome.
    Line(u32, bool, bool),
    /// An MSI: the two halves of its address, its data.
    Msi(u32, u32, u32),
    /// The irqfd, or the one that resamples, is signalled.
    Irqfd(bool),
    Routes(Vec<Route>),
    /// Saved, and restored with one register changed.
    SetLapic(usize, u16, u32),
    /// The same with one more vector in service, of a level interrupt or not.
    InService(usize, u8, bool),
    /// The same with four bytes of one of the three chips.
    SetIrqchip(u8, u8, u32),
    /// The same with four bytes of the 8254's counters 1 and 2, or its flags.
    SetPit(u8, u32),
    /// All saved and restored, in one of the orders.
    Migration(u8),
    /// The APIC's timer expires: LVT entry, initial count. Only if that is an
    /// interrupt: one that the LVT holds back comes when KVM next looks for it,
    /// which depends on the host.
    Timer(usize, u32, u32),
}

/// Where a GSI leads: the PIC pair's pin, the I/O APIC's, or an MSI.
#[derive(Clone, Debug)]
pub enum Route {
    Pic(u8),
    IoApic(u8),
    /// As a PC has it.
    Both(u8, u8),
    Msi(u32, u32),
}

/// The table that a machine starts with: GSI 1 and on.
pub fn default_routes() -> Vec<Route> {
    (1..GSIS as u8)
        .map(|gsi| match gsi {
            1..=15 => Route::Both(gsi, gsi),
            _ => Route::IoApic(gsi),
        })
        .collect()
}

/// What an operating system does first: the PICs get vectors, and the local
/// APICs are enabled.
pub fn set_up() -> Vec<Step> {
    let apics = (0..CPUS).map(|cpu| Step::MmioWrite(cpu, APIC_ADDRESS + 0xf0, 4, 0x1ff));
    let pics = [(0x20, 0x20, 4), (0xa0, 0x28, 2)].map(|(port, base, cascade)| {
        [
            Step::Out(0, port, 1, 0x11),
            Step::Out(0, port + 1, 1, base),
            Step::Out(0, port + 1, 1, cascade),
            Step::Out(0, port + 1, 1, 1),
        ]
    });
    apics.chain(pics.into_iter().flatten()).collect()
}

fn pick<T: Clone + std::fmt::Debug + 'static>(all: &'static [T]) -> impl Strategy<Value = T> {
    prop::sample::select(all)
}

fn any_value() -> impl Strategy<Value = u64> {
    prop_oneof![
        any::<u64>(),
        any::<u32>().prop_map(u64::from),
        0..256_u64,
        (0..32_u32).prop_map(|bit| 1 << bit),
        pick(&[0, 1, 0xff, 0xffff, 0xffff_ffff, !0]),
        0..4_u64,
    ]
}

/// Few, so that they meet; and now and then one that is not valid.
fn vector() -> impl Strategy<Value = u32> {
    prop_oneof![
        7 => pick(&[0x20_u32, 0x31, 0x32, 0x41, 0x5f, 0x80, 0xe0, 0xff]),
        1 => 0..256_u32,
    ]
}

fn destination() -> impl Strategy<Value = u32> {
    pick(&[
        0_u32, 1, 2, 0, 1, 2, 3, 4, 5, 7, 0xff, 0x10, 0x11, 0x12, 0x21, 0x23,
    ])
}

/// Lines that are driven more often than others: the RTC's and those of the
/// irqfds among them.
fn line() -> impl Strategy<Value = u8> {
    pick(&[3_u8, 4, 8, 9, 10, 11])
}

/// A delivery mode that would take a vCPU away is replaced.
fn without_reset(value: u32) -> u32 {
    match value >> 8 & 7 {
        2 | 5 | 6 => value & !0x700,
        _ => value,
    }
}

/// A message as an ICR, an LVT entry or half a redirection table entry has it.
fn message() -> impl Strategy<Value = u32> {
    let weighted = prop::bool::weighted;
    (
        vector(),
        prop_oneof![2 => Just(0), 1 => 0..8_u32],
        (weighted(0.33), weighted(0.75), weighted(0.33)),
        prop_oneof![15 => Just(0), 1 => any::<u32>()],
    )
        .prop_map(|(vector, mode, (logical, assert, level), others)| {
            without_reset(
                vector
                    | mode << 8
                    | u32::from(logical) << 11
                    | u32::from(assert) << 14
                    | u32::from(level) << 15
                    | others & 0xfff3_f000,
            )
        })
}

/// A register of the local APIC, by offset. Not the timer's current count.
fn register() -> impl Strategy<Value = u32> {
    prop_oneof![
        15 => pick(&[
            0x20_u32, 0x30, 0x80, 0x80, 0x90, 0xa0, 0xb0, 0xb0, 0xb0, 0xd0, 0xe0, 0xf0, 0xf0,
            0x100, 0x110, 0x1a0, 0x210, 0x280, 0x2f0, 0x300, 0x300, 0x300, 0x300, 0x310, 0x320,
            0x330, 0x340, 0x350, 0x360, 0x370, 0x380, 0x3e0, 0x3f0,
        ]),
        1 => (0..0x100_u32).prop_map(|index| if index == 0x39 { 0x380 } else { index << 4 }),
    ]
}

/// What to write to it.
fn register_value(register: u32, x2apic: bool) -> BoxedStrategy<u64> {
    let high = |value: u32| u64::from(value) << 24;
    match register {
        0x20 => prop_oneof![3 => destination().prop_map(high), 1 => any_value()].boxed(),
        0x80 => prop_oneof![Just(0), 0..0x100_u64].boxed(),
        0xb0 => prop_oneof![7 => Just(0), 1 => any_value()].boxed(),
        0xd0 | 0x310 => destination().prop_map(high).boxed(),
        0xe0 => pick(&[0xffff_ffff_u64, 0x0fff_ffff]).boxed(),
        // On, mostly.
        0xf0 => (
            vector(),
            prop::bool::weighted(0.9),
            prop::bool::weighted(0.1),
        )
            .prop_map(|(vector, on, directed)| {
                u64::from(vector | u32::from(on) << 8 | u32::from(directed) << 12)
            })
            .boxed(),
        0x2f0 | 0x320..=0x370 => (message(), prop::bool::weighted(0.33), 0..4_u32)
            .prop_map(move |(message, masked, mode)| {
                let mode = if register == 0x320 { mode << 17 } else { 0 };
                u64::from(message | u32::from(masked) << 16 | mode)
            })
            .boxed(),
        0x300 => (
            message(),
            prop_oneof![2 => Just(0), 1 => 0..4_u32],
            destination(),
        )
            .prop_map(move |(message, shorthand, destination)| {
                let low = u64::from(message & !0xc_0000 | shorthand << 18);
                low | if x2apic {
                    u64::from(destination) << 32
                } else {
                    0
                }
            })
            .boxed(),
        0x380 => prop_oneof![
            Just(0),
            (0..1_u32 << 28).prop_map(|low| u64::from(COUNT_NEVER | low)),
        ]
        .boxed(),
        0x3f0 => vector().prop_map(u64::from).boxed(),
        _ => any_value()
            .prop_map(|value| {
                let low = without_reset(value as u32);
                value & !0xffff_ffff | u64::from(low)
            })
            .boxed(),
    }
}

/// Address and value of an access by memory.
fn mmio() -> impl Strategy<Value = (u32, u8, u64)> {
    let apic = register().prop_flat_map(|register| {
        register_value(register, false).prop_map(move |value| (APIC_ADDRESS + register, value))
    });
    let entry = prop_oneof![
        2 => message().prop_map(|message| message & !0x1_0000),
        1 => (destination(), any::<bool>())
            .prop_map(|(destination, masked)| destination << 24 | u32::from(masked) << 16),
    ];
    let ioapic = prop_oneof![
        2 => prop_oneof![7 => 0..0x42_u64, 1 => any_value()]
            .prop_map(|index| (IOAPIC_ADDRESS, index)),
        4 => entry.prop_map(|value| (IOAPIC_ADDRESS + 0x10, u64::from(value))),
        1 => any_value().prop_map(|value| (IOAPIC_ADDRESS + 0x40, value)),
    ];
    let odd = (pick(&[1_u8, 2, 4, 8]), 0..16_u32);
    (
        prop_oneof![2 => apic, 1 => ioapic],
        prop_oneof![9 => Just((4, 0)), 1 => odd],
    )
        .prop_map(|((address, value), (width, shift))| {
            // Within the page, so that there is one access.
            let address = address + shift.min(0x1000 - u32::from(width) - (address & 0xfff));
            let low = if (width, shift) == (4, 0) {
                value
            } else {
                value & !0xffff_ffff | u64::from(without_reset(value as u32))
            };
            (address, width, low)
        })
}

fn apic_base() -> impl Strategy<Value = (u32, u64)> {
    pick(&[
        0xfee0_0800_u64,
        0xfee0_0c00,
        0xfee0_0000,
        0xfee0_0400,
        0xfee0_0900,
        0xfee0_0d00,
        0xfee0_0100,
        0xfed0_0800,
        0xfee0_0801,
        0x1_00fe_e000_0800,
    ])
    .prop_map(|base| (MSR_APIC_BASE, base))
}

fn deadline() -> impl Strategy<Value = (u32, u64)> {
    pick(&[0, DEADLINE_NEVER]).prop_map(|deadline| (MSR_TSC_DEADLINE, deadline))
}

fn msr() -> impl Strategy<Value = (u32, u64)> {
    let number = |register: u32| 0x800 + (register >> 4);
    let known = register().prop_flat_map(move |register| {
        register_value(register, true).prop_map(move |value| (number(register), value))
    });
    let any = (0..0x100_u32, any_value()).prop_map(|(index, value)| {
        // The timer's counts aside.
        let index = if matches!(index, 0x38 | 0x39) {
            0x3e
        } else {
            index
        };
        let low = u64::from(without_reset(value as u32));
        (0x800 + index, value & !0xffff_ffff | low)
    });
    prop_oneof![9 => known, 1 => apic_base(), 1 => deadline(), 1 => any]
}

fn port() -> impl Strategy<Value = (u16, u8, u32)> {
    let width = || prop_oneof![11 => Just(1_u8), 1 => pick(&[2_u8, 4])];
    let command = (
        pick(&[0x20_u16, 0xa0]),
        pick(&[
            0x11_u32, 0x13, 0x19, 0x10, 0x20, 0x20, 0x20, 0x60, 0x61, 0x63, 0xa0, 0xc1, 0xe2, 0x80,
            0x00, 0x0a, 0x0b, 0x0c, 0x48, 0x68, 0x40, 0x70, 0x01, 0x03, 0x04, 0x02, 0x09, 0xff,
        ]),
    );
    let data = (
        pick(&[0x21_u16, 0xa1]),
        pick(&[
            0x00_u32, 0x00, 0x20, 0x28, 0x30, 0x70, 0xf8, 0x01, 0x02, 0x03, 0x04, 0x11, 0x13, 0xfb,
            0xff,
        ]),
    );
    let elcr = (pick(&[0x4d0_u16, 0x4d1]), any::<u32>());
    // Latches, read-back and the programming of both bytes, more often than not.
    let control = prop_oneof![
        4 => pick(&[0x40_u8, 0x80]),
        2 => pick(&[0xc4_u8, 0xc8, 0xd4, 0xd8, 0xe4, 0xe8]),
        2 => (1..3_u8, 0..6_u8).prop_map(|(counter, mode)| counter << 6 | 0x30 | mode << 1),
        2 => any::<u8>(),
    ];
    let control = control.prop_map(|value| match value {
        // Of counters 1 and 2 one is read back at a time: each would be latched
        // at a time of its own.
        0xc0.. => {
            let counter = if value & 4 != 0 { 4 } else { 8 };
            value & 0xf2 | counter
        }
        // Counter 0 has no mode in which it ticks.
        ..0x40 => value & 0xf1 | 0x0a,
        _ => value,
    });
    let pit = prop_oneof![
        control.prop_map(|value| (0x43_u16, u32::from(value))),
        (
            pick(&[0x41_u16, 0x41, 0x42, 0x42, 0x61, 0x40]),
            any::<u32>()
        ),
    ];
    let others = (pick(&[0x22_u16, 0x60, 0x4d2]), any::<u32>());
    (
        prop_oneof![6 => command, 3 => data, 2 => elcr, 8 => pit, 1 => others],
        width(),
    )
        .prop_map(|((port, value), width)| (port, width, value))
}

fn route() -> impl Strategy<Value = Route> {
    let msi = (0..4_u32, any::<bool>(), 0x20..0x100_u32).prop_map(|(id, logical, vector)| {
        Route::Msi(0xfee0_0000 | id << 12 | u32::from(logical) << 2, vector)
    });
    prop_oneof![
        2 => (0..16_u8).prop_map(Route::Pic),
        2 => (0..24_u8).prop_map(Route::IoApic),
        1 => msi,
    ]
}

fn msi() -> impl Strategy<Value = Step> {
    (
        destination(),
        (prop::bool::weighted(0.33), prop::bool::weighted(0.33)),
        prop_oneof![5 => Just(0), 1 => any_value().prop_map(|value| value as u32 & !0xff), 1 => any::<u32>()],
        message(),
    )
        .prop_map(|(destination, (logical, hint), high, data)| {
            let low = 0xfee0_0000
                | destination << 12
                | u32::from(hint) << 3
                | u32::from(logical) << 2;
            Step::Msi(low, high, data & 0xffff)
        })
}

fn saved_value() -> impl Strategy<Value = u32> {
    prop_oneof![any_value().prop_map(|value| value as u32), message()].prop_map(without_reset)
}

/// Any step.
pub fn step() -> impl Strategy<Value = Step> {
    let cpu = || 0..CPUS;
    let lapic = register().prop_flat_map(|register| {
        register_value(register & 0x3f0, false).prop_map(move |value| (register & 0x3f0, value))
    });
    let guest = prop_oneof![
        8 => (cpu(), mmio()).prop_map(|(cpu, (address, width, _))| {
            Step::MmioRead(cpu, address, width)
        }),
        16 => (cpu(), mmio()).prop_map(|(cpu, (address, width, value))| {
            Step::MmioWrite(cpu, address, width, value)
        }),
        6 => (cpu(), msr()).prop_map(|(cpu, (msr, _))| Step::Rdmsr(cpu, msr)),
        14 => (cpu(), msr()).prop_map(|(cpu, (msr, value))| Step::Wrmsr(cpu, msr, value)),
        6 => (cpu(), port()).prop_map(|(cpu, (port, width, _))| Step::In(cpu, port, width)),
        10 => (cpu(), port()).prop_map(|(cpu, (port, width, value))| {
            Step::Out(cpu, port, width, value)
        }),
        12 => cpu().prop_map(Step::Take),
        5 => (cpu(), 0..24_u8, prop_oneof![Just(5_u8), line()], message(), destination()).prop_map(
            |(cpu, any, some, message, destination)| {
                let pin = if some == 5 { any } else { some };
                Step::Entry(cpu, pin, message & !0x1_0000, destination as u8)
            }
        ),
    ];
    let host = prop_oneof![
        3 => (cpu(), 0..16_u8).prop_map(|(cpu, cr8)| Step::Cr8(cpu, cr8)),
        1 => (cpu(), prop_oneof![apic_base(), deadline()])
            .prop_map(|(cpu, (msr, value))| Step::HostWrmsr(cpu, msr, value)),
        12 => (prop_oneof![3 => line().prop_map(u32::from), 1 => 1..GSIS], any::<bool>(), any::<bool>())
            .prop_map(|(gsi, level, status)| Step::Line(gsi, level, status)),
        3 => (cpu(), vector(), any::<bool>()).prop_map(|(cpu, vector, level)| {
            Step::InService(cpu, vector as u8, level)
        }),
        5 => msi(),
        1 => any::<bool>().prop_map(Step::Irqfd),
        1 => prop::collection::vec(route(), GSIS as usize - 1).prop_map(Step::Routes),
        3 => (cpu(), lapic).prop_map(|(cpu, (register, value))| {
            Step::SetLapic(cpu, register as u16, value as u32)
        }),
        3 => (0..3_u8, 0..54_u8, saved_value()).prop_map(|(chip, word, value)| {
            let words = if chip == 2 { 54 } else { 4 };
            Step::SetIrqchip(chip, word % words * 4, value)
        }),
        1 => (0..13_u8, saved_value()).prop_map(|(word, value)| Step::SetPit(word * 4, value)),
        1 => (0..24_u8).prop_map(Step::Migration),
    ];
    let timer =
        (cpu(), vector(), 0..2_u32, 1..100_u32).prop_map(|(cpu, vector, periodic, count)| {
            Step::Timer(cpu, vector | periodic << 17, count)
        });
    prop_oneof![72 => guest, 30 => host, 1 => timer]
}

/// [`Step::Entry`] in writes to the I/O APIC.
pub fn entry_writes(pin: u8, low: u32, destination: u8) -> [(u32, u32); 4] {
    let select = 0x10 + 2 * u32::from(pin);
    [
        (IOAPIC_ADDRESS, select + 1),
        (IOAPIC_ADDRESS + 0x10, u32::from(destination) << 24),
        (IOAPIC_ADDRESS, select),
        (IOAPIC_ADDRESS + 0x10, low),
    ]
}

/// [`Step::InService`]: changes the saved state.
pub fn put_in_service(state: &mut [u32], vector: u8, level: bool) {
    let (at, bit) = (usize::from(vector / 32), 1 << (vector % 32));
    let [isr, tmr] = [0x100, 0x180].map(|first| first / 4 + 4 * at);
    state[isr] |= bit;
    if level {
        state[tmr] |= bit;
    } else {
        state[tmr] &= !bit;
    }
}

impl Step {
    /// The step on a host that keeps of TPR what is in CR8: bits 7:4.
    pub fn with_tpr_of_cr8(mut self) -> Self {
        match &mut self {
            Self::MmioWrite(_, address, 4, value) if *address == APIC_ADDRESS + 0x80 => {
                *value &= !0xf;
            }
            Self::Wrmsr(_, 0x808, value) => *value &= !0xf,
            Self::SetLapic(_, 0x80, value) => *value &= !0xf,
            _ => {}
        }
        self
    }
}

/// [`Step::Timer`] in the registers of the APIC, by offset; the last is written
/// when the timer has expired. A count that stays would start again when the
/// state is restored.
pub fn timer_writes(entry: u32, count: u32) -> [(u32, u32, bool); 4] {
    [
        (0x3e0, 0xb, false),
        (0x320, entry, false),
        (0x380, count, false),
        (0x380, 0, true),
    ]
}

/// Offsets of the initial and the current count.
const COUNTS: [usize; 2] = [0x380, 0x390];

/// [`Step::SetLapic`]: changes the saved state. A timer is not to be over at
/// once; see [`Step::Timer`].
pub fn change_lapic(state: &mut [u32], register: u16, value: u32) {
    state[usize::from(register) / 4] = value;
    let [initial, current] = COUNTS.map(|offset| offset / 4);
    if state[current] == 0 {
        state[current] = state[initial];
    }
}

/// [`Step::SetPit`]: changes the saved state.
pub fn change_pit(counters: &mut Counters, flags: &mut u32, offset: u8, value: u32) {
    let [_, one, two] = counters;
    let (counter, at) = match offset {
        0..24 => (one, offset),
        24..48 => (two, offset - 24),
        _ => {
            *flags = value & FLAG_SPEAKER_DATA_ON;
            return;
        }
    };
    let half = |which: u8| (value >> (16 * which)) as u16;
    let byte = |which: u8| (value >> (8 * which)) as u8;
    match at {
        0 => counter.count = value,
        4 => {
            counter.latched_count = half(0);
            counter.count_latched = byte(2);
            counter.status_latched = byte(3);
        }
        8 => {
            counter.status = byte(0);
            counter.read_state = byte(1);
            counter.write_state = byte(2);
            counter.write_latch = byte(3);
        }
        12 => {
            counter.rw_mode = byte(0);
            counter.mode = byte(1);
            counter.bcd = byte(2);
            counter.gate = byte(3);
        }
        // The time of its loading, which restoring makes now.
        _ => counter.count_load_time ^= i64::from(value),
    }
}

/// [`Step::Migration`]: the order of the four parts.
pub fn order(mut number: u8) -> [u8; 4] {
    let mut parts = vec![0, 1, 2, 3];
    [4, 3, 2, 1].map(|left| {
        let at = number % left;
        number /= left;
        parts.remove(usize::from(at))
    })
}
