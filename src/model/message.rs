// SPDX-License-Identifier: GPL-2.0

//! The interrupt message, the one type that travels between the controllers.
//!
//! Whatever wants a local APIC to take an interrupt says so with a
//! [`Message`]: the I/O APIC decodes one from a redirection table entry, the
//! local APIC from its interrupt command register, KVM from an MSI.
//!
//! Sources: Intel SDM volume 3, "Interrupt Command Register (ICR)" and
//! "Message Data Register Format"; 82093AA data sheet, "I/O Redirection Table
//! Registers".

/// How the interrupt is to be handled (three bits, ICR bits 10:8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum DeliveryMode {
    /// The vector is delivered to every processor addressed.
    Fixed = 0,
    /// The vector is delivered to one of the processors addressed.
    LowestPriority = 1,
    /// System management interrupt; the vector is ignored.
    Smi = 2,
    /// Reserved by the architecture. KVM wakes a paravirtual spinner with it
    /// (`KVM_HC_KICK_CPU`).
    RemoteRead = 3,
    /// Non-maskable interrupt; the vector is ignored.
    Nmi = 4,
    /// INIT: the processor waits for a start-up message.
    Init = 5,
    /// Start-up (SIPI): the vector is the page number to start at.
    StartUp = 6,
    /// The vector comes from the 8259 that is wired to the processor.
    ExtInt = 7,
}

impl DeliveryMode {
    /// Decodes the three-bit field; higher bits of `bits` are ignored.
    #[inline]
    pub const fn from_bits(bits: u32) -> Self {
        match bits & 7 {
            0 => Self::Fixed,
            1 => Self::LowestPriority,
            2 => Self::Smi,
            3 => Self::RemoteRead,
            4 => Self::Nmi,
            5 => Self::Init,
            6 => Self::StartUp,
            _ => Self::ExtInt,
        }
    }
}

/// How the destination field selects processors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DestinationMode {
    /// By APIC ID.
    Physical,
    /// By the logical destination registers.
    Logical,
}

impl DestinationMode {
    /// Decodes the destination mode bit.
    #[inline]
    pub const fn from_bit(logical: bool) -> Self {
        if logical {
            Self::Logical
        } else {
            Self::Physical
        }
    }
}

/// Destinations that need no destination field (ICR bits 19:18).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Shorthand {
    /// The destination field decides.
    None = 0,
    /// The sender alone.
    Own = 1,
    /// Every processor, the sender too.
    AllIncludingSelf = 2,
    /// Every processor but the sender.
    AllExcludingSelf = 3,
}

impl Shorthand {
    /// Decodes the two-bit field; higher bits of `bits` are ignored.
    #[inline]
    pub const fn from_bits(bits: u32) -> Self {
        match bits & 3 {
            0 => Self::None,
            1 => Self::Own,
            2 => Self::AllIncludingSelf,
            _ => Self::AllExcludingSelf,
        }
    }
}

/// Edge or level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// Taken once for every rising edge.
    Edge,
    /// Taken for as long as the line is high; its EOI is told to the I/O APIC.
    Level,
}

impl Trigger {
    /// Decodes the trigger mode bit.
    #[inline]
    pub const fn from_bit(level: bool) -> Self {
        if level {
            Self::Level
        } else {
            Self::Edge
        }
    }

    /// True for [`Trigger::Level`].
    #[inline]
    pub const fn is_level(self) -> bool {
        matches!(self, Self::Level)
    }
}

/// An interrupt message on its way to the local APICs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message {
    /// Vector; for [`DeliveryMode::StartUp`] the start page.
    pub vector: u8,
    /// How the interrupt is to be handled.
    pub delivery_mode: DeliveryMode,
    /// How [`Self::destination`] is to be read.
    pub destination_mode: DestinationMode,
    /// The destination overrides the field if not [`Shorthand::None`].
    pub shorthand: Shorthand,
    /// Edge or level.
    pub trigger: Trigger,
    /// Level of an ICR or line message: false is a de-assertion.
    pub assert: bool,
    /// MSI redirection hint: deliver as if by lowest priority.
    pub redirection_hint: bool,
    /// Destination, 8 bits from an xAPIC or an I/O APIC, else 32.
    pub destination: u32,
}

impl Message {
    /// Is one processor of those addressed to be chosen?
    #[inline]
    pub const fn is_lowest_priority(&self) -> bool {
        matches!(self.delivery_mode, DeliveryMode::LowestPriority) || self.redirection_hint
    }

    /// Decodes an interrupt command: `low` is the ICR's lower half,
    /// `destination` the decoded destination field.
    #[inline]
    pub const fn from_icr(low: u32, destination: u32) -> Self {
        Self {
            vector: low as u8,
            delivery_mode: DeliveryMode::from_bits(low >> 8),
            destination_mode: DestinationMode::from_bit(low & (1 << 11) != 0),
            shorthand: Shorthand::from_bits(low >> 18),
            trigger: Trigger::from_bit(low & (1 << 15) != 0),
            assert: low & (1 << 14) != 0,
            redirection_hint: false,
            destination,
        }
    }
}
