// SPDX-License-Identifier: GPL-2.0

//! The register page: the registers as the hardware sees them.
//!
//! With APICv or AVIC the CPU reads and writes this page while the guest runs,
//! other CPUs and the IOMMU set bits in IRR, and senders set and clear bits in
//! TMR. IRR and TMR are therefore changed by locked operations on one bit;
//! everything else belongs to the vCPU's thread and is read and written by
//! plain loads and stores.
//!
//! Source: Intel SDM volume 3, "Local APIC Register Address Map" and
//! "Virtual-Interrupt Delivery"; AMD APM volume 2, "Advanced Virtual Interrupt
//! Controller".

use super::super::sync::{assert_exclusive_writer, AtomicU32, Ordering};
use super::register::Offset;

/// Number of the words that the ioctls save: `struct kvm_lapic_state`.
pub const SAVED_WORDS: usize = 256;

/// The registers as `KVM_GET_LAPIC` and `KVM_SET_LAPIC` see them: 1 KiB of
/// 32-bit registers, one in every four words.
pub type SavedRegisters = [u32; SAVED_WORDS];

/// The register page of a local APIC, in the hardware's layout.
#[repr(C, align(4096))]
pub struct RegisterPage {
    words: [AtomicU32; 1024],
}

/// One of the three 256-bit registers: a bit for each vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vectors {
    /// In-service register: accepted by the CPU, no EOI yet.
    Isr,
    /// Trigger mode register: the vector's last interrupt was level-triggered.
    Tmr,
    /// Interrupt request register: waits for the CPU.
    Irr,
}

impl Vectors {
    /// The word that holds the bits of vectors `32 * part` and up.
    #[inline(always)]
    const fn word(self, part: usize) -> usize {
        let first = match self {
            Self::Isr => Offset::ISR,
            Self::Tmr => Offset::TMR,
            Self::Irr => Offset::IRR,
        };
        // At most (0x200 + 7 * 0x10) / 4, well inside of the page.
        (first.0 as usize + (part & 7) * 0x10) / 4
    }
}

impl RegisterPage {
    /// A page of zeros.
    pub fn new() -> Self {
        Self {
            words: core::array::from_fn(|_| AtomicU32::new(0)),
        }
    }

    /// The word at `index`; higher bits of the index are ignored.
    #[inline(always)]
    fn word(&self, index: usize) -> &AtomicU32 {
        &self.words[index & 1023]
    }

    /// Reads a register.
    #[inline(always)]
    pub fn read(&self, register: Offset) -> u32 {
        self.word(register.0 as usize / 4).load(Ordering::Relaxed)
    }

    /// Writes a register.
    #[inline(always)]
    pub fn write(&self, register: Offset, value: u32) {
        let word = self.word(register.0 as usize / 4);
        assert_exclusive_writer(word);
        word.store(value, Ordering::Relaxed);
    }

    /// Reads the 64-bit form that the x2APIC ICR has on Intel.
    ///
    /// Its upper half lies four bytes on, where the xAPIC has nothing. Only
    /// the vCPU's thread touches it, so two loads will do.
    #[inline]
    pub fn read_icr64(&self) -> u64 {
        let index = Offset::ICR.0 as usize / 4;
        let low = self.word(index).load(Ordering::Relaxed);
        let high = self.word(index + 1).load(Ordering::Relaxed);
        u64::from(low) | u64::from(high) << 32
    }

    /// Writes the 64-bit form of ICR.
    #[inline]
    pub fn write_icr64(&self, value: u64) {
        let index = Offset::ICR.0 as usize / 4;
        self.word(index).store(value as u32, Ordering::Relaxed);
        self.word(index + 1)
            .store((value >> 32) as u32, Ordering::Relaxed);
    }

    /// Is the vector's bit set?
    #[inline(always)]
    pub fn test(&self, vectors: Vectors, vector: u8) -> bool {
        let word = self.word(vectors.word(vector as usize / 32));
        word.load(Ordering::Relaxed) & bit(vector) != 0
    }

    /// Sets the vector's bit, in one locked operation, and says whether it was
    /// clear.
    #[inline(always)]
    pub fn set(&self, vectors: Vectors, vector: u8) -> bool {
        let word = self.word(vectors.word(vector as usize / 32));
        word.fetch_or(bit(vector), Ordering::SeqCst) & bit(vector) == 0
    }

    /// Sets the bits of 32 vectors that are set in `bits`, in one locked operation
    /// if any is not set yet. Returns what was set before.
    #[inline]
    pub fn set_part(&self, vectors: Vectors, part: usize, bits: u32) -> u32 {
        let word = self.word(vectors.word(part));
        let before = word.load(Ordering::Relaxed);
        if before & bits == bits {
            return before;
        }
        word.fetch_or(bits, Ordering::SeqCst)
    }

    /// Clears the vector's bit, in one locked operation.
    #[inline(always)]
    pub fn clear(&self, vectors: Vectors, vector: u8) {
        self.word(vectors.word(vector as usize / 32))
            .fetch_and(!bit(vector), Ordering::SeqCst);
    }

    /// Sets the vector's bit in ISR and says whether it was clear. Only the
    /// vCPU's thread may do so; it costs no locked operation.
    #[inline(always)]
    pub fn set_in_service(&self, vector: u8) -> bool {
        let word = self.word(Vectors::Isr.word(vector as usize / 32));
        assert_exclusive_writer(word);
        let old = word.load(Ordering::Relaxed);
        word.store(old | bit(vector), Ordering::Relaxed);
        old & bit(vector) == 0
    }

    /// Clears the vector's bit in ISR; if it was set, returns the other bits of
    /// its part. Only the vCPU's thread may do so; it costs no locked operation.
    #[inline(always)]
    pub fn clear_in_service(&self, vector: u8) -> Option<u32> {
        let word = self.word(Vectors::Isr.word(vector as usize / 32));
        assert_exclusive_writer(word);
        let old = word.load(Ordering::Relaxed);
        let rest = old & !bit(vector);
        word.store(rest, Ordering::Relaxed);
        (old != rest).then_some(rest)
    }

    /// The highest vector whose bit is set.
    #[inline]
    pub fn highest(&self, vectors: Vectors) -> Option<u8> {
        let load = |part| self.word(vectors.word(part)).load(Ordering::Relaxed);
        let mut part = 8;
        while part > 0 {
            part -= 2;
            let (low, high) = (load(part), load(part + 1));
            if low | high != 0 {
                let bits = u64::from(high) << 32 | u64::from(low);
                return Some((part as u32 * 32 + (63 ^ bits.leading_zeros())) as u8);
            }
        }
        None
    }

    /// The same where mostly there is none, which takes one test.
    #[inline]
    pub fn highest_if_any(&self, vectors: Vectors) -> Option<u8> {
        if self.is_empty(vectors) {
            None
        } else {
            self.highest(vectors)
        }
    }

    /// Is no vector's bit set?
    #[inline]
    pub fn is_empty(&self, vectors: Vectors) -> bool {
        let load = |part| self.word(vectors.word(part)).load(Ordering::Relaxed);
        (0..8).fold(0, |bits, part| bits | load(part)) == 0
    }

    /// The same, of those in the parts whose bits are set in `parts`.
    #[inline]
    pub fn highest_of(&self, vectors: Vectors, parts: u32) -> Option<u8> {
        let mut parts = parts & 0xff;
        while parts != 0 {
            let part = highest_bit(parts);
            let bits = self
                .word(vectors.word(part as usize))
                .load(Ordering::Relaxed);
            if bits != 0 {
                return Some(vector(part as usize, bits));
            }
            parts &= !(1 << part);
        }
        None
    }

    /// A bit for each of the eight parts that has one set.
    pub fn parts(&self, vectors: Vectors) -> u32 {
        (0..8).fold(0, |parts, part| {
            let bits = self.word(vectors.word(part)).load(Ordering::Relaxed);
            parts | u32::from(bits != 0) << part
        })
    }

    /// Clears the bits of all vectors.
    pub fn clear_all(&self, vectors: Vectors) {
        for part in 0..8 {
            self.word(vectors.word(part)).store(0, Ordering::Relaxed);
        }
    }

    /// Copies the registers out.
    pub fn save(&self, to: &mut SavedRegisters) {
        for (to, from) in to.iter_mut().zip(&self.words) {
            *to = from.load(Ordering::Relaxed);
        }
    }

    /// Replaces all registers. An interrupt that arrives meanwhile may be
    /// lost, as it may with KVM: the caller decides what was before what.
    pub fn restore(&self, from: &SavedRegisters) {
        for (from, to) in from.iter().zip(&self.words) {
            to.store(*from, Ordering::Relaxed);
        }
    }
}

impl Default for RegisterPage {
    fn default() -> Self {
        Self::new()
    }
}

/// The number of the highest bit that is set in `bits`, which is not zero.
#[inline(always)]
const fn highest_bit(bits: u32) -> u32 {
    31 ^ bits.leading_zeros()
}

/// The highest vector of a part of which `bits` are set, at least one.
#[inline(always)]
const fn vector(part: usize, bits: u32) -> u8 {
    ((part as u32 * 32) | highest_bit(bits)) as u8
}

/// The vector's bit within its word.
#[inline(always)]
const fn bit(vector: u8) -> u32 {
    1 << (vector & 31)
}
