// SPDX-License-Identifier: GPL-2.0

//! The guest's accesses to the registers: by memory, by MSR, and those that
//! the CPU has half done.
//!
//! Source: Intel SDM volume 3, "Accessing Local APIC Registers" and "x2APIC
//! Register Availability".

use super::icr::FastError;
use super::register::{
    guest_bits, register, ICR_BUSY, READABLE, READABLE_CMCI, READABLE_XAPIC, SPURIOUS_DIRECTED_EOI,
    SPURIOUS_ENABLED, VERSION_DIRECTED_EOI,
};
use super::{Host, Invalid, LocalApic, Offset};

/// One past the last offset that can be read.
const READABLE_END: u32 = 0x3f1;

impl<H: Host> LocalApic<'_, H> {
    /// One bit for each register that can be read now, by `offset / 16`.
    #[inline]
    pub fn readable_mask(self) -> u64 {
        let mut mask = READABLE;
        if self.has_cmci() {
            mask |= READABLE_CMCI;
        }
        if !self.is_x2apic() {
            mask |= READABLE_XAPIC;
        }
        mask
    }

    /// Does the APIC answer to accesses by memory? Not in x2APIC mode, and not
    /// when it is disabled.
    #[inline]
    pub fn responds_to_mmio(self) -> bool {
        self.is_hardware_enabled() && !self.is_x2apic()
    }

    /// The 32-bit register that `offset` lies in.
    fn read_aligned(self, offset: u32) -> Result<u32, Invalid> {
        if offset >= READABLE_END || self.readable_mask() & 1 << (offset >> 4) == 0 {
            return Err(Invalid);
        }
        let value = self.read_register(Offset((offset & 0xff0) as u16));
        self.host.trace_read(offset, value);
        Ok(value)
    }

    /// The value of a register that can be read.
    pub(super) fn read_register(self, register: Offset) -> u32 {
        match register {
            Offset::ARBITRATION => 0,
            Offset::CURRENT_COUNT => self.current_count(),
            Offset::PPR => {
                self.update_ppr();
                self.regs().read(register)
            }
            Offset::TPR => {
                self.host.report_tpr_access(false);
                self.regs().read(register)
            }
            _ => self.regs().read(register),
        }
    }

    /// Reads by memory. `offset` is relative to the APIC's base, and any
    /// length and alignment may come; what the APIC does not answer leaves
    /// `data` as it was. The vCPU's thread.
    pub fn mmio_read(self, offset: u32, data: &mut [u8]) {
        let first = (offset & 0xf) as usize;
        // Only the first four of a register's sixteen bytes are there.
        let Some(end) = first.checked_add(data.len()).filter(|&end| end <= 4) else {
            return;
        };
        let Ok(value) = self.read_aligned(offset) else {
            return;
        };
        if matches!(data.len(), 1 | 2 | 4) {
            if let Some(bytes) = value.to_le_bytes().get(first..end) {
                data.copy_from_slice(bytes);
            }
        }
    }

    /// Writes by memory. Only aligned 32-bit writes do anything. The vCPU's
    /// thread; may sleep.
    pub fn mmio_write(self, offset: u32, data: &[u8]) {
        let Ok(bytes) = <[u8; 4]>::try_from(data) else {
            return;
        };
        if offset & 0xf == 0 {
            // There is nobody to tell of an error.
            let _ = self.write_register(offset & 0xff0, u32::from_le_bytes(bytes));
        }
    }

    /// Reads by MSR: x2APIC's, whose number is `0x800 + offset / 16`, or one of
    /// Hyper-V's, which work in any mode. The vCPU's thread.
    pub fn msr_read(self, offset: u32) -> Result<u64, Invalid> {
        if offset == u32::from(Offset::ICR.0) {
            return Ok(self.icr_read());
        }
        if offset & 0xf != 0 {
            return Err(Invalid);
        }
        self.read_aligned(offset).map(u64::from)
    }

    /// Writes by MSR, see [`Self::msr_read`]. May sleep.
    pub fn msr_write(self, offset: u32, data: u64) -> Result<(), Invalid> {
        if offset == u32::from(Offset::ICR.0) {
            return self.icr_write(data);
        }
        let data = u32::try_from(data).map_err(|_| Invalid)?;
        self.write_register(offset, data)
    }

    /// Writes an x2APIC MSR on the exit fast path, if it is one that is written
    /// all the time and nobody else has to hear of it. The vCPU's thread,
    /// interrupts off.
    pub fn msr_write_fast(self, offset: u32, data: u64) -> Result<(), FastError> {
        let Ok(value) = u32::try_from(data) else {
            return Err(FastError::Invalid);
        };
        match Offset(offset as u16) {
            Offset::EOI if self.eoi_fast() => {}
            Offset::SELF_IPI if value & !guest_bits(Offset::SELF_IPI) == 0 => {
                self.self_ipi_fast(value as u8)?;
            }
            _ => return Err(FastError::WouldBlock),
        }
        self.host.trace_write(offset, data);
        Ok(())
    }

    /// The CPU has stored a register by itself and exited for what follows
    /// from it. The vCPU's thread; may sleep.
    pub fn write_nodecode(self, offset: u32) {
        if self.is_x2apic() && offset == u32::from(Offset::ICR.0) {
            // The CPU has checked the reserved bits.
            let _ = self.icr_write(self.icr_read());
        } else {
            let value = self.regs().read(Offset((offset & 0xffc) as u16));
            let _ = self.write_register(offset, value);
        }
    }

    /// A 32-bit write to the register at `offset`. The vCPU's thread; may
    /// sleep, if the destination map has to be built again.
    ///
    /// It fails for registers that cannot be written in this mode, which is a
    /// #GP for an MSR and nothing for memory.
    pub fn write_register(self, offset: u32, value: u32) -> Result<(), Invalid> {
        self.host.trace_write(offset, u64::from(value));
        // What is written most has no wrong value or mode, and the map does not
        // depend on it.
        const EOI: u32 = Offset::EOI.0 as u32;
        const TPR: u32 = Offset::TPR.0 as u32;
        const INITIAL_COUNT: u32 = Offset::INITIAL_COUNT.0 as u32;
        match offset {
            EOI => {
                self.eoi();
                return Ok(());
            }
            TPR => {
                self.host.report_tpr_access(true);
                self.set_tpr(value as u8);
                return Ok(());
            }
            INITIAL_COUNT => {
                self.write_initial_count(value);
                return Ok(());
            }
            _ => {}
        }
        let result = self.dispatch_write(offset, value);
        // A look at a flag, unless the write has changed an ID or a mode.
        self.host.recalculate_map();
        result
    }

    fn dispatch_write(self, offset: u32, value: u32) -> Result<(), Invalid> {
        let offset = Offset(u16::try_from(offset).map_err(|_| Invalid)?);
        let entry = register(offset);
        if entry.offset != offset
            || !entry.writable
            || !entry.writable_in.contains(self.is_x2apic())
        {
            return Err(Invalid);
        }

        match offset {
            Offset::ID => self.set_xapic_id((value >> 24) as u8),
            Offset::LDR => self.set_ldr(value & guest_bits(offset)),
            Offset::DFR => self.set_dfr(value | entry.always_ones),
            Offset::SPURIOUS => self.write_spurious(value),
            Offset::ESR => {
                // Errors are not recorded, so there is none to latch.
                if self.is_x2apic() && value != 0 {
                    return Err(Invalid);
                }
            }
            Offset::ICR => {
                let value = value & !ICR_BUSY;
                self.send_ipi(value, self.regs().read(Offset::ICR_HIGH));
                self.regs().write(offset, value);
            }
            Offset::ICR_HIGH => self.regs().write(offset, value & guest_bits(offset)),
            Offset::LVT_TIMER => self.write_lvt_timer(value),
            Offset::DIVIDE => self.write_divide(value & guest_bits(offset)),
            Offset::SELF_IPI => {
                if value & !guest_bits(offset) != 0 {
                    return Err(Invalid);
                }
                self.send_self_ipi(value as u8);
            }
            // What is left of the writable ones are LVT entries.
            _ => return self.write_lvt(offset, value),
        }
        Ok(())
    }

    pub(super) fn set_ldr(self, value: u32) {
        self.regs().write(Offset::LDR, value);
        self.host.mark_map_dirty();
    }

    pub(super) fn set_dfr(self, value: u32) {
        self.regs().write(Offset::DFR, value);
        self.host.mark_map_dirty();
    }

    fn write_spurious(self, value: u32) {
        let mut bits = guest_bits(Offset::SPURIOUS);
        if self.regs().read(Offset::VERSION) & VERSION_DIRECTED_EOI != 0 {
            bits |= SPURIOUS_DIRECTED_EOI;
        }
        self.set_spurious(value & bits);
        if value & SPURIOUS_ENABLED == 0 {
            // What is pending or in service stays so; see the SDM, "Local APIC
            // State After It Has Been Software Disabled".
            self.mask_lvt();
            self.update_timer_mode();
            self.forget_pending_timer();
        }
    }

    /// Stores the spurious vector register and does what its enable bit means.
    pub(super) fn set_spurious(self, value: u32) {
        let enabled = value & SPURIOUS_ENABLED != 0;
        self.regs().write(Offset::SPURIOUS, value);
        if enabled != self.is_software_enabled() {
            self.host.set_software_enabled(enabled);
            self.host.mark_map_dirty();
        }
        if enabled {
            self.host.software_enable_written();
        }
        self.update_receives();
    }
}
