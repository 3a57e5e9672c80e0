// SPDX-License-Identifier: GPL-2.0

//! The table of registers: where each is, who may do what with it, which bits
//! it has, and what it is after a reset.
//!
//! MMIO, MSRs, reset and the tests read it; nothing else knows an offset.
//!
//! The bits are those of KVM's local APIC, which follows Intel's SDM volume 3,
//! "Advanced Programmable Interrupt Controller (APIC)" (chapter 12 in 2024's
//! edition), and "x2APIC Register Address Space". Where KVM and the SDM differ,
//! KVM is right, for a saved guest must find the same APIC.

/// Offset of a register in the page; its x2APIC MSR is `0x800 + offset / 16`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offset(pub u16);

#[allow(missing_docs)]
impl Offset {
    pub const ID: Self = Self(0x020);
    pub const VERSION: Self = Self(0x030);
    pub const TPR: Self = Self(0x080);
    pub const ARBITRATION: Self = Self(0x090);
    pub const PPR: Self = Self(0x0a0);
    pub const EOI: Self = Self(0x0b0);
    pub const LDR: Self = Self(0x0d0);
    pub const DFR: Self = Self(0x0e0);
    pub const SPURIOUS: Self = Self(0x0f0);
    pub const ISR: Self = Self(0x100);
    pub const TMR: Self = Self(0x180);
    pub const IRR: Self = Self(0x200);
    pub const ESR: Self = Self(0x280);
    pub const LVT_CMCI: Self = Self(0x2f0);
    pub const ICR: Self = Self(0x300);
    pub const ICR_HIGH: Self = Self(0x310);
    pub const LVT_TIMER: Self = Self(0x320);
    pub const LVT_THERMAL: Self = Self(0x330);
    pub const LVT_PERFORMANCE: Self = Self(0x340);
    pub const LVT_LINT0: Self = Self(0x350);
    pub const LVT_LINT1: Self = Self(0x360);
    pub const LVT_ERROR: Self = Self(0x370);
    pub const INITIAL_COUNT: Self = Self(0x380);
    pub const CURRENT_COUNT: Self = Self(0x390);
    pub const DIVIDE: Self = Self(0x3e0);
    pub const SELF_IPI: Self = Self(0x3f0);
}

/// Bit of the version register: directed EOI can be switched on.
pub const VERSION_DIRECTED_EOI: u32 = 1 << 24;
/// Bit of the spurious vector register: the APIC is enabled by software.
pub const SPURIOUS_ENABLED: u32 = 1 << 8;
/// Bit of the spurious vector register: EOIs are not broadcast.
pub const SPURIOUS_DIRECTED_EOI: u32 = 1 << 12;
/// Bit of ICR: the message is being sent. KVM's APIC sends without delay.
pub const ICR_BUSY: u32 = 1 << 12;
/// Bits of ICR that must be zero in x2APIC mode.
pub const X2APIC_ICR_RESERVED: u64 = 0xfff0_0000 | 0x3_0000 | 1 << 13;
/// Bit of an LVT entry: nothing is delivered.
pub const LVT_MASKED: u32 = 1 << 16;
/// Bit of an LVT entry: level-triggered.
pub const LVT_LEVEL: u32 = 1 << 15;
/// Delivery mode field of an LVT entry and of ICR.
pub const DELIVERY_MODE: u32 = 7 << 8;
/// Value of DFR that selects the flat model.
pub const DFR_FLAT: u32 = 0xffff_ffff;
/// Value of DFR that selects the cluster model.
pub const DFR_CLUSTER: u32 = 0x0fff_ffff;

/// Vector, delivery status and mask: what every LVT entry has.
const LVT_COMMON: u32 = LVT_MASKED | 1 << 12 | 0xff;
/// What the LINT pins' entries have: delivery mode, polarity, remote IRR and
/// trigger mode too.
const LVT_LINT: u32 = LVT_COMMON | DELIVERY_MODE | 1 << 13 | 1 << 14 | LVT_LEVEL;

/// In which modes a register can be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Modes {
    /// In xAPIC and in x2APIC mode.
    Both,
    /// In xAPIC mode only.
    XApic,
    /// In x2APIC mode only.
    X2Apic,
}

impl Modes {
    /// Is the mode one of them?
    #[inline(always)]
    pub const fn contains(self, is_x2apic: bool) -> bool {
        match self {
            Self::Both => true,
            Self::XApic => !is_x2apic,
            Self::X2Apic => is_x2apic,
        }
    }
}

/// One register of the table.
#[derive(Clone, Copy, Debug)]
pub struct Register {
    /// Offset in the page.
    pub offset: Offset,
    /// The SDM's name.
    pub name: &'static str,
    /// Can it be read?
    pub readable: bool,
    /// Does a write to it do anything but fail? See [`Self::modes`].
    pub writable: bool,
    /// In which modes it can be read.
    pub readable_in: Modes,
    /// In which modes it can be written.
    pub writable_in: Modes,
    /// Bits that the guest can set by a 32-bit write.
    pub guest_bits: u32,
    /// Bits that read as one whatever was written.
    pub always_ones: u32,
    /// Value after INIT and RESET, for those that have a fixed one.
    pub reset: Option<u32>,
    /// There only if the vCPU has the CMCI entry.
    pub needs_cmci: bool,
}

impl Register {
    /// A register that can be neither read nor written.
    const fn reserved(index: u16) -> Self {
        Self {
            offset: Offset(index << 4),
            name: "reserved",
            readable: false,
            writable: false,
            readable_in: Modes::Both,
            writable_in: Modes::Both,
            guest_bits: 0,
            always_ones: 0,
            reset: None,
            needs_cmci: false,
        }
    }

    const fn read_only(offset: Offset, name: &'static str) -> Self {
        Self {
            offset,
            name,
            readable: true,
            ..Self::reserved(0)
        }
    }

    const fn read_write(offset: Offset, name: &'static str, guest_bits: u32) -> Self {
        Self {
            writable: true,
            guest_bits,
            ..Self::read_only(offset, name)
        }
    }

    const fn write_only(offset: Offset, name: &'static str, guest_bits: u32) -> Self {
        Self {
            readable: false,
            ..Self::read_write(offset, name, guest_bits)
        }
    }

    const fn readable_in(self, modes: Modes) -> Self {
        Self {
            readable_in: modes,
            ..self
        }
    }

    const fn writable_in(self, modes: Modes) -> Self {
        Self {
            writable_in: modes,
            ..self
        }
    }

    const fn reset_to(self, value: u32) -> Self {
        Self {
            reset: Some(value),
            ..self
        }
    }

    const fn lvt(offset: Offset, name: &'static str, guest_bits: u32) -> Self {
        Self::read_write(offset, name, guest_bits).reset_to(LVT_MASKED)
    }
}

/// The registers that are not part of ISR, TMR and IRR.
const SINGLE: [Register; 25] = [
    Register::read_write(Offset::ID, "ID", 0xff00_0000).writable_in(Modes::XApic),
    Register::read_only(Offset::VERSION, "version"),
    Register::read_write(Offset::TPR, "TPR", 0xff).reset_to(0),
    Register::read_only(Offset::ARBITRATION, "APR").readable_in(Modes::XApic),
    Register::read_only(Offset::PPR, "PPR").reset_to(0),
    Register::write_only(Offset::EOI, "EOI", 0),
    Register::read_write(Offset::LDR, "LDR", 0xff00_0000).writable_in(Modes::XApic),
    Register {
        always_ones: 0x0fff_ffff,
        ..Register::read_write(Offset::DFR, "DFR", 0xffff_ffff)
            .readable_in(Modes::XApic)
            .writable_in(Modes::XApic)
            .reset_to(DFR_FLAT)
    },
    // Bit 12 too, where the version register offers directed EOI.
    Register::read_write(Offset::SPURIOUS, "SVR", 0x3ff).reset_to(0xff),
    Register::read_write(Offset::ESR, "ESR", 0).reset_to(0),
    Register {
        needs_cmci: true,
        ..Register::lvt(Offset::LVT_CMCI, "LVT CMCI", LVT_COMMON | DELIVERY_MODE)
    },
    Register::read_write(Offset::ICR, "ICR low", !ICR_BUSY).reset_to(0),
    Register::read_write(Offset::ICR_HIGH, "ICR high", 0xff00_0000)
        .readable_in(Modes::XApic)
        .writable_in(Modes::XApic),
    // And the timer mode, as far as the guest's CPUID has it.
    Register::lvt(Offset::LVT_TIMER, "LVT timer", LVT_COMMON),
    Register::lvt(
        Offset::LVT_THERMAL,
        "LVT thermal",
        LVT_COMMON | DELIVERY_MODE,
    ),
    Register::lvt(
        Offset::LVT_PERFORMANCE,
        "LVT performance",
        LVT_COMMON | DELIVERY_MODE,
    ),
    Register::lvt(Offset::LVT_LINT0, "LVT LINT0", LVT_LINT),
    Register::lvt(Offset::LVT_LINT1, "LVT LINT1", LVT_LINT),
    Register::lvt(Offset::LVT_ERROR, "LVT error", LVT_COMMON),
    Register::read_write(Offset::INITIAL_COUNT, "initial count", 0xffff_ffff).reset_to(0),
    Register::read_only(Offset::CURRENT_COUNT, "current count"),
    Register::read_write(Offset::DIVIDE, "DCR", 0xb).reset_to(0),
    Register::write_only(Offset::SELF_IPI, "self IPI", 0xff).writable_in(Modes::X2Apic),
    Register::reserved(0),
    Register::reserved(1),
];

/// Every register of the first KiB, by `offset / 16`.
pub static REGISTERS: [Register; 64] = table();

const fn table() -> [Register; 64] {
    let mut table = [Register::reserved(0); 64];
    let mut i = 0;
    while i < 64 {
        table[i] = Register::reserved(i as u16);
        i += 1;
    }
    i = 0;
    while i < SINGLE.len() {
        table[(SINGLE[i].offset.0 >> 4) as usize] = SINGLE[i];
        i += 1;
    }
    i = 0;
    while i < 8 {
        let step = (i as u16) << 4;
        table[0x10 + i] = Register::read_only(Offset(0x100 + step), "ISR").reset_to(0);
        table[0x18 + i] = Register::read_only(Offset(0x180 + step), "TMR").reset_to(0);
        table[0x20 + i] = Register::read_only(Offset(0x200 + step), "IRR").reset_to(0);
        i += 1;
    }
    table
}

/// One bit for each register, by `offset / 16`: readable in any mode, and
/// without a condition.
pub const READABLE: u64 = readable(Modes::Both);
/// Readable in xAPIC mode only.
pub const READABLE_XAPIC: u64 = readable(Modes::XApic);
/// Readable if there is a CMCI entry.
pub const READABLE_CMCI: u64 = 1 << (Offset::LVT_CMCI.0 >> 4);

const fn readable(modes: Modes) -> u64 {
    let table = table();
    let mut mask = 0;
    let mut i = 0;
    while i < 64 {
        let register = &table[i];
        if register.readable && !register.needs_cmci && register.readable_in as u8 == modes as u8 {
            mask |= 1 << i;
        }
        i += 1;
    }
    mask
}

/// The table's entry for the register that `offset` lies in; bits above the
/// first KiB are ignored.
#[inline]
pub fn register(offset: Offset) -> &'static Register {
    &REGISTERS[(offset.0 >> 4) as usize & 63]
}

/// A mask that the model applies to writes, known when it is compiled.
#[inline(always)]
pub const fn guest_bits(offset: Offset) -> u32 {
    const TABLE: [Register; 64] = table();
    TABLE[(offset.0 >> 4) as usize & 63].guest_bits
}

/// The entries of the local vector table, in KVM's order: CMCI is the last,
/// and the version register tells how many there are.
pub const LVT: [Offset; 7] = [
    Offset::LVT_TIMER,
    Offset::LVT_THERMAL,
    Offset::LVT_PERFORMANCE,
    Offset::LVT_LINT0,
    Offset::LVT_LINT1,
    Offset::LVT_ERROR,
    Offset::LVT_CMCI,
];
