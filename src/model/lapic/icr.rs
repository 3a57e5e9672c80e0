// SPDX-License-Identifier: GPL-2.0

//! The interrupt command register: sending.
//!
//! Source: Intel SDM volume 3, "Issuing Interprocessor Interrupts" and "ICR
//! Operation in x2APIC Mode".

use super::super::message::Message;
use super::register::{ICR_BUSY, X2APIC_ICR_RESERVED};
use super::{Host, Invalid, LocalApic, Offset};

/// ICR's shorthand "self".
const SHORTHAND_OWN: u32 = 1 << 18;

/// Why a fast write of ICR was not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FastError {
    /// Reserved bits are set: #GP.
    Invalid,
    /// It takes the slow path; nothing has been done.
    WouldBlock,
}

impl<H: Host> LocalApic<'_, H> {
    /// The message that a value of ICR stands for.
    #[inline]
    fn message(self, icr_low: u32, icr_high: u32) -> Message {
        let destination = if self.is_x2apic() {
            icr_high
        } else {
            icr_high >> 24
        };
        Message::from_icr(icr_low, destination)
    }

    /// Sends what ICR's halves say. The vCPU's thread.
    #[inline]
    pub fn send_ipi(self, icr_low: u32, icr_high: u32) {
        let message = self.message(icr_low, icr_high);
        self.host.trace_ipi(icr_low, message.destination);
        self.host.deliver(&message);
    }

    /// Sends to itself.
    pub(super) fn send_self_ipi(self, vector: u8) {
        self.send_ipi(SHORTHAND_OWN | u32::from(vector), 0);
    }

    /// A 64-bit write of ICR: in x2APIC mode, and by Hyper-V's MSR in any.
    pub(super) fn icr_write(self, data: u64) -> Result<(), Invalid> {
        let data = checked_icr(data)?;
        self.send_ipi(data as u32, (data >> 32) as u32);
        self.store_icr(data);
        Ok(())
    }

    /// The same on the exit fast path. The vCPU's thread, interrupts off.
    #[inline(always)]
    pub fn icr_write_fast(self, data: u64) -> Result<(), FastError> {
        let data = checked_icr(data).map_err(|Invalid| FastError::Invalid)?;
        let message = self.message(data as u32, (data >> 32) as u32);
        if !self.host.deliver_fast(&message) {
            return Err(FastError::WouldBlock);
        }
        self.host.trace_ipi(data as u32, message.destination);
        self.store_icr(data);
        Ok(())
    }

    /// A write of the register SELF IPI on the exit fast path.
    pub(super) fn self_ipi_fast(self, vector: u8) -> Result<(), FastError> {
        let icr_low = SHORTHAND_OWN | u32::from(vector);
        let message = self.message(icr_low, 0);
        if !self.host.deliver_fast(&message) {
            return Err(FastError::WouldBlock);
        }
        self.host.trace_ipi(icr_low, message.destination);
        Ok(())
    }

    /// The CPU has stored ICR by itself, and exited for it to be sent. The vCPU's
    /// thread, interrupts off.
    pub fn icr_stored_fast(self) -> Result<(), FastError> {
        if self.is_x2apic() {
            return self.icr_write_fast(self.icr_read());
        }
        let low = self.regs().read(Offset::ICR) & !ICR_BUSY;
        let message = self.message(low, self.regs().read(Offset::ICR_HIGH));
        if !self.host.deliver_fast(&message) {
            return Err(FastError::WouldBlock);
        }
        self.host
            .trace_write(u32::from(Offset::ICR.0), u64::from(low));
        self.host.trace_ipi(low, message.destination);
        self.regs().write(Offset::ICR, low);
        Ok(())
    }

    /// Keeps the value in the form that the host's CPU has.
    #[inline]
    fn store_icr(self, data: u64) {
        if self.host.x2apic_icr_is_split() {
            self.regs().write(Offset::ICR, data as u32);
            self.regs().write(Offset::ICR_HIGH, (data >> 32) as u32);
        } else {
            self.regs().write_icr64(data);
        }
        self.host.trace_write(u32::from(Offset::ICR.0), data);
    }

    /// A 64-bit read of ICR.
    pub(super) fn icr_read(self) -> u64 {
        if self.host.x2apic_icr_is_split() {
            let low = self.regs().read(Offset::ICR);
            let high = self.regs().read(Offset::ICR_HIGH);
            u64::from(low) | u64::from(high) << 32
        } else {
            self.regs().read_icr64()
        }
    }
}

/// The value to act on. The busy bit is reserved too, but Intel's CPUs ignore
/// it, and with IPI virtualization they are the ones who check.
#[inline]
const fn checked_icr(data: u64) -> Result<u64, Invalid> {
    if data & X2APIC_ICR_RESERVED != 0 {
        return Err(Invalid);
    }
    Ok(data & !(ICR_BUSY as u64))
}
