// SPDX-License-Identifier: GPL-2.0

//! The I/O APIC: 24 pins, each with an entry that says which interrupt message
//! an assertion of the pin becomes.
//!
//! Sources: Intel 82093AA data sheet; and where it leaves a choice, KVM's
//! `ioapic.c`, which this module equals in what a guest sees, in what
//! `KVM_IRQ_LINE_STATUS` reports, and in the saved state.
//!
//! # Locks and notifications
//!
//! An [`IoApic`] has no lock of its own: its owner holds a spinlock around each
//! call. All calls to the [`Host`] come under that lock, except one: whoever
//! wants to know of an EOI (the 8254, an irqfd that resamples) may drive a line
//! from within the notification. An EOI is therefore done in steps:
//!
//! ```text
//! let mut acknowledged = locked(|ioapic| ioapic.begin_eoi(&eoi, host));
//! while let Some(pin) = acknowledged {
//!     notify_acked(pin);
//!     acknowledged = locked(|ioapic| ioapic.continue_eoi(&eoi, pin, host));
//! }
//! ```
//!
//! Remote IRR is cleared after the notification, so that an assertion that
//! comes between is kept in the IRR and delivered then. An EOI by the register
//! of [`Version::WithEoi`] goes the same way.

mod entry;
mod pin_vectors;
mod rtc;
#[cfg(test)]
mod tests;

pub use entry::RedirectionEntry;
use pin_vectors::PinVectors;
pub use rtc::{RtcStatus, MAX_VCPU_IDS};

use super::line::Lines;
use super::message::{DeliveryMode, Message, Trigger};
use super::nospec;
use core::ops::ControlFlow;

/// Number of pins.
pub const PINS: usize = 24;
/// Guest physical address of the registers.
pub const DEFAULT_BASE: u64 = 0xfec0_0000;
/// Size of the register window in bytes.
pub const LENGTH: u64 = 0x100;
/// The pin that the real-time clock is wired to.
pub const RTC_PIN: usize = 8;

/// Which I/O APIC it is, as the version register says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Version {
    /// The 82093AA, which KVM emulates: EOIs come from the local APICs only.
    I82093AA = 0x11,
    /// As in later chipsets: with an EOI register, for guests that have told
    /// their local APICs not to broadcast EOIs.
    WithEoi = 0x20,
}

/// After so many EOIs in a row that each found the line still high, the next
/// delivery is delayed.
const MAX_SUCCESSIVE_EOIS: u32 = 10_000;

/// Direct registers, by offset.
const REG_SELECT: u8 = 0x00;
const REG_WINDOW: u8 = 0x10;
/// With [`Version::WithEoi`] only.
const REG_EOI: u8 = 0x40;

/// Indirect registers, by index.
const REG_ID: u32 = 0;
const REG_VERSION: u32 = 1;
const REG_ARBITRATION: u32 = 2;
const REG_REDIRECTION: u32 = 0x10;

/// The saved state, field by field as in `struct kvm_ioapic_state` (KVM uAPI,
/// `asm/kvm.h`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct State {
    /// Guest physical address that the registers answer at.
    pub base_address: u64,
    /// Index of the indirect register selected.
    pub ioregsel: u32,
    /// I/O APIC ID, in the low four bits.
    pub id: u32,
    /// Pins with an interrupt that is not delivered.
    pub irr: u32,
    /// No meaning, but kept.
    pub pad: u32,
    /// The redirection table.
    pub redirtbl: [u64; PINS],
}

/// Whose set of vectors with intercepted EOI has to be computed anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rescan {
    /// Every vCPU's.
    All,
    /// That of each vCPU that one of these messages addresses: the one that
    /// the entry makes now and, if its destination differs, the one before.
    Addressed {
        /// By the entry as it is.
        now: Message,
        /// By the entry as it was.
        before: Option<Message>,
    },
}

/// A source of EOIs that a vCPU has to report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EoiSource {
    /// This vector is in flight on the vCPU itself.
    InFlight(u8),
    /// This message's vector, on the vCPUs that it addresses, and on those
    /// where it is pending from a destination that the entry had before.
    Entry(Message),
}

/// An EOI that a local APIC reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Eoi {
    /// The vCPU that has done it.
    pub vcpu_id: u32,
    /// Its vector.
    pub vector: u8,
    /// The vector's bit in the trigger mode register.
    pub trigger: Trigger,
    /// The guest has suppressed the broadcast of EOIs (spurious interrupt
    /// vector register, bit 12): remote IRR stays.
    pub suppressed: bool,
}

/// What the I/O APIC needs from its surroundings. All calls come under the
/// owner's lock, must not sleep and must not call back into the [`IoApic`].
pub trait Host<V = [u8; MAX_VCPU_IDS]> {
    /// Delivers `message` to the local APICs.
    ///
    /// Returns KVM's account: negative if no local APIC is addressed, else the
    /// number of those that took it (0: discarded or coalesced). With `rtc`,
    /// calls [`RtcStatus::record`] for each vCPU that took it.
    fn deliver(&mut self, message: &Message, rtc: Option<&mut RtcStatus<V>>) -> i32;

    /// Is an edge-triggered interrupt's EOI hidden from us by hardware, i.e.
    /// is APICv or AVIC active for the VM?
    fn eoi_is_accelerated(&self) -> bool;

    /// Calls `visit`, in the order of vCPU indexes, for each vCPU whose local
    /// APIC `message` addresses, with its ID and whether the message's vector
    /// is in its IRR or ISR; until all are visited or `visit` breaks.
    fn for_each_target(&self, message: &Message, visit: impl FnMut(u32, bool) -> ControlFlow<()>);

    /// Does anybody want to know when the guest acknowledges `pin`?
    fn has_ack_notifier(&self, pin: usize) -> bool;

    /// If an irqfd with resampling is on `pin`, lets it look at its line again
    /// (it raises the pin again if the line is high) and returns true.
    fn resample(&mut self, pin: usize) -> bool;

    /// The guest changed the mask bit of `pin`.
    fn mask_changed(&mut self, pin: usize, masked: bool);

    /// Asks the vCPUs to [`IoApic::scan`] before they next enter the guest.
    fn rescan(&mut self, rescan: Rescan);

    /// Asks for [`IoApic::inject_delayed`] to be called in 10 ms, unless that
    /// has been asked for already.
    fn delay_injection(&mut self);

    /// Trace point: `pin`, whose entry was `entry`, was driven.
    fn trace_set_line(&mut self, _pin: usize, _entry: RedirectionEntry, _coalesced: bool) {}

    /// Trace point: an EOI storm makes the delivery for `entry` wait.
    fn trace_delayed(&mut self, _entry: RedirectionEntry) {}
}

/// The I/O APIC.
///
/// Most of it is what the RTC needs, of which `V` is 4 KiB.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IoApic<V = [u8; MAX_VCPU_IDS]> {
    version: Version,
    base_address: u64,
    ioregsel: u32,
    id: u32,
    /// Pins asserted: for edge-triggered ones until the next falling edge.
    irr: u32,
    pad: u32,
    redirtbl: [RedirectionEntry; PINS],
    /// The vectors in there.
    vectors: PinVectors,
    lines: Lines<PINS>,
    /// Edge-triggered pins whose assertion in `irr` has been delivered.
    irr_delivered: u32,
    /// EOIs in a row that found the line still high, by pin.
    successive_eois: [u32; PINS],
    rtc: RtcStatus<V>,
}

impl Default for IoApic {
    fn default() -> Self {
        Self::new()
    }
}

impl IoApic {
    /// The chip after a reset, all pins masked and low.
    pub const fn new() -> Self {
        Self::with([0; MAX_VCPU_IDS])
    }
}

impl<V> IoApic<V> {
    /// The same with that memory of [`MAX_VCPU_IDS`] bytes, whatever is in there.
    pub const fn with(rtc_vectors: V) -> Self {
        Self {
            version: Version::I82093AA,
            base_address: DEFAULT_BASE,
            ioregsel: 0,
            id: 0,
            irr: 0,
            pad: 0,
            redirtbl: [RedirectionEntry::RESET; PINS],
            vectors: PinVectors::new(),
            lines: Lines::new(),
            irr_delivered: 0,
            successive_eois: [0; PINS],
            rtc: RtcStatus::new(rtc_vectors),
        }
    }
}

impl<V: AsRef<[u8]> + AsMut<[u8]>> IoApic<V> {
    /// Makes it another I/O APIC, before anybody uses it. No part of the saved
    /// state: whoever restores it has to have the same.
    pub fn set_version(&mut self, version: Version) {
        self.version = version;
    }

    /// The redirection table entry of a pin.
    pub fn entry(&self, pin: usize) -> Option<RedirectionEntry> {
        self.redirtbl.get(pin).copied()
    }

    /// The saved state. An edge that was delivered is not pending in it.
    pub fn state(&self) -> State {
        State {
            base_address: self.base_address,
            ioregsel: self.ioregsel,
            id: self.id,
            irr: self.irr & !self.irr_delivered,
            pad: self.pad,
            redirtbl: self.redirtbl.map(|entry| entry.0),
        }
    }

    /// Restores a state, whatever it says, and raises the pins pending in it.
    pub fn set_state(&mut self, state: &State, host: &mut impl Host<V>) {
        self.base_address = state.base_address;
        self.ioregsel = state.ioregsel;
        self.id = state.id;
        self.pad = state.pad;
        self.redirtbl = state.redirtbl.map(RedirectionEntry);
        for (pin, entry) in self.redirtbl.iter().enumerate() {
            self.vectors.set(pin, entry.vector());
        }
        self.irr = 0;
        self.irr_delivered = 0;
        host.rescan(Rescan::All);

        self.rtc.reset();
        for pin in 0..PINS {
            if state.irr & bit(pin) != 0 {
                self.set_level(pin, true, true, host);
            }
        }
        self.restore_rtc_all(host);
    }

    /// Lets `source` (see [`super::line::source`]) drive `pin` to `level`.
    /// `line_status` says that user space asks for the result, by which it
    /// wants coalesced interrupts of the RTC reported.
    ///
    /// Returns KVM's account of it, which `KVM_IRQ_LINE_STATUS` reports:
    /// negative if the interrupt is masked, waits for an EOI, or has no
    /// destination, or if the pin does not exist; 0 if it was coalesced;
    /// otherwise the number of local APICs that took it.
    pub fn set_line(
        &mut self,
        pin: u32,
        source: u32,
        level: bool,
        line_status: bool,
        host: &mut impl Host<V>,
    ) -> i32 {
        let pin = pin as usize;
        if pin >= PINS {
            return -1;
        }
        let level = self.lines.drive(pin, source, level);
        self.set_level(pin, level, line_status, host)
    }

    fn set_level(
        &mut self,
        pin: usize,
        level: bool,
        line_status: bool,
        host: &mut impl Host<V>,
    ) -> i32 {
        let entry = self.redirtbl[pin];
        let result = if level {
            self.assert_pin(pin, entry, line_status, host)
        } else {
            self.irr &= !bit(pin);
            1
        };
        host.trace_set_line(pin, entry, result == 0);
        result
    }

    fn assert_pin(
        &mut self,
        pin: usize,
        entry: RedirectionEntry,
        line_status: bool,
        host: &mut impl Host<V>,
    ) -> i32 {
        let edge = entry.trigger() == Trigger::Edge;
        // AVIC and APICv complete the EOI of an edge-triggered interrupt
        // without an exit; look whether one has come in the meantime.
        if edge && host.eoi_is_accelerated() {
            self.find_accelerated_eoi(entry, host);
        }
        if pin == RTC_PIN && line_status && self.rtc.pending() > 0 {
            return 0;
        }
        let was_asserted = self.irr & bit(pin) != 0;
        self.irr |= bit(pin);
        if edge {
            self.irr_delivered &= !bit(pin);
            if was_asserted {
                return 0;
            }
        }
        self.service(pin, line_status, host)
    }

    /// Delivers the interrupt of `pin`, unless it is masked or waits for an
    /// EOI. Result as of [`Self::set_line`].
    fn service(&mut self, pin: usize, line_status: bool, host: &mut impl Host<V>) -> i32 {
        let entry = self.redirtbl[pin];
        let level = entry.trigger().is_level();
        if entry.masked() || (level && entry.remote_irr()) {
            return -1;
        }
        if !level {
            self.irr_delivered |= bit(pin);
        }
        let message = entry.message();
        let result = if pin == RTC_PIN && line_status {
            let result = host.deliver(&message, Some(&mut self.rtc));
            self.rtc.set_pending(result);
            result
        } else {
            host.deliver(&message, None)
        };
        // KVM sets remote IRR even where nobody was addressed: real hardware
        // would repeat the message until somebody takes it.
        if level && result != 0 {
            self.redirtbl[pin] = entry.with_remote_irr(true);
        }
        result
    }

    /// A local APIC has completed a vector. Returns the first pin with that
    /// vector: with the lock dropped, its acknowledge notifiers are to be
    /// called, and then [`Self::continue_eoi`].
    ///
    /// Where there is an EOI register, an EOI that the guest has suppressed is
    /// not ours yet.
    pub fn begin_eoi(&mut self, eoi: &Eoi, host: &mut impl Host<V>) -> Option<usize> {
        self.end_rtc(eoi.vcpu_id, eoi.vector, host);
        if self.version == Version::WithEoi && eoi.suppressed && eoi.trigger.is_level() {
            return None;
        }
        self.vectors.next(eoi.vector, 0)
    }

    /// Ends the interrupt of `pin`, whose notifiers have been called, and
    /// returns the next pin with that vector, for which the same is to be done.
    pub fn continue_eoi(
        &mut self,
        eoi: &Eoi,
        pin: usize,
        host: &mut impl Host<V>,
    ) -> Option<usize> {
        if pin >= PINS {
            return None;
        }
        if eoi.trigger.is_level() && !eoi.suppressed {
            self.end_interrupt(pin, host);
        }
        self.vectors.next(eoi.vector, pin + 1)
    }

    /// Does a write at a physical address go to the EOI register? Then this is
    /// the vector, and the pins are to be gone through as for an EOI of a local
    /// APIC, by [`Self::next_directed`] and [`Self::end_directed`].
    pub fn directed_eoi(&self, address: u64, data: &[u8]) -> Option<u8> {
        let is_register =
            self.version == Version::WithEoi && self.contains(address) && address as u8 == REG_EOI;
        data.first().copied().filter(|_| is_register)
    }

    /// The first pin from `from` on whose level interrupt of `vector` waits for
    /// an EOI: with the lock dropped, its acknowledge notifiers are to be
    /// called, and then [`Self::end_directed`].
    pub fn next_directed(&self, vector: u8, from: usize) -> Option<usize> {
        (from..PINS).find(|&pin| self.waits_for(vector, pin))
    }

    /// Ends the interrupt of `pin`, whose notifiers have been called.
    pub fn end_directed(&mut self, vector: u8, pin: usize, host: &mut impl Host<V>) {
        if pin < PINS && self.waits_for(vector, pin) {
            self.end_interrupt(pin, host);
        }
    }

    fn waits_for(&self, vector: u8, pin: usize) -> bool {
        let entry = self.redirtbl[pin];
        entry.vector() == vector && entry.trigger().is_level() && entry.remote_irr()
    }

    fn end_interrupt(&mut self, pin: usize, host: &mut impl Host<V>) {
        let entry = self.redirtbl[pin].with_remote_irr(false);
        self.redirtbl[pin] = entry;
        if entry.masked() || self.irr & bit(pin) == 0 {
            self.successive_eois[pin] = 0;
            return;
        }
        self.successive_eois[pin] = self.successive_eois[pin].wrapping_add(1);
        if self.successive_eois[pin] == MAX_SUCCESSIVE_EOIS {
            // A guest that does not silence its device would do nothing else
            // any more. Hardware takes a while from the EOI to the next
            // delivery; imitate that, so that the guest makes some progress.
            host.delay_injection();
            self.successive_eois[pin] = 0;
            host.trace_delayed(entry);
        } else {
            self.service(pin, false, host);
        }
    }

    /// Delivers the interrupts that [`Host::delay_injection`] has put off.
    pub fn inject_delayed(&mut self, host: &mut impl Host<V>) {
        for pin in 0..PINS {
            let entry = self.redirtbl[pin];
            if entry.trigger().is_level() && self.irr & bit(pin) != 0 && !entry.remote_irr() {
                self.service(pin, false, host);
            }
        }
    }

    /// Tells which EOIs the vCPU `vcpu_id` has to report.
    pub fn scan(&self, vcpu_id: u32, host: &impl Host<V>, mut visit: impl FnMut(EoiSource)) {
        if let Some(vector) = self.rtc.owed_by(vcpu_id) {
            visit(EoiSource::InFlight(vector));
        }
        for (pin, entry) in self.redirtbl.iter().enumerate() {
            if entry.trigger().is_level() || pin == RTC_PIN || host.has_ack_notifier(pin) {
                visit(EoiSource::Entry(entry.message()));
            }
        }
    }

    /// The guest reads at a physical address. False if it is not in the
    /// register window.
    ///
    /// The registers have 32 bits at offsets 0x00 and 0x10; a read anywhere
    /// else gives zeroes, and a read of 1, 2 or 8 bytes as many of the register,
    /// zero-extended. A read of another length, which no guest instruction
    /// leads to, gives zeroes.
    pub fn read(&self, address: u64, data: &mut [u8]) -> bool {
        if !self.contains(address) {
            return false;
        }
        let value = match address as u8 {
            REG_SELECT => self.ioregsel,
            REG_WINDOW => self.read_indirect(),
            _ => 0,
        };
        data.fill(0);
        let bytes = u64::from(value).to_le_bytes();
        let length = data.len();
        if matches!(length, 1 | 2 | 4 | 8) {
            data.copy_from_slice(&bytes[..length]);
        }
        true
    }

    fn read_indirect(&self) -> u32 {
        match self.ioregsel {
            REG_VERSION => self.version as u32 | (PINS as u32 - 1) << 16,
            REG_ID | REG_ARBITRATION => (self.id & 0xf) << 24,
            select => {
                let content = match redirection_index(select) {
                    Some(pin) => self.redirtbl[pin].0,
                    None => u64::MAX,
                };
                if select & 1 != 0 {
                    (content >> 32) as u32
                } else {
                    content as u32
                }
            }
        }
    }

    /// The guest writes at a physical address. False if it is not in the
    /// register window.
    ///
    /// A write of 1 or 2 bytes is zero-extended, of one of 8 the lower half
    /// counts; writes of other lengths, or anywhere but at offsets 0x00 and
    /// 0x10, are ignored.
    pub fn write(&mut self, address: u64, data: &[u8], host: &mut impl Host<V>) -> bool {
        if !self.contains(address) {
            return false;
        }
        let value = match *data {
            [a] => u32::from(a),
            [a, b] => u32::from(u16::from_le_bytes([a, b])),
            [a, b, c, d] | [a, b, c, d, _, _, _, _] => u32::from_le_bytes([a, b, c, d]),
            _ => return true,
        };
        match address as u8 {
            REG_SELECT => self.ioregsel = value & 0xff,
            REG_WINDOW => self.write_indirect(value, host),
            _ => {}
        }
        true
    }

    fn write_indirect(&mut self, value: u32, host: &mut impl Host<V>) {
        match self.ioregsel {
            REG_VERSION | REG_ARBITRATION => {}
            REG_ID => self.id = (value >> 24) & 0xf,
            select => {
                if let Some(pin) = redirection_index(select) {
                    self.write_entry(pin, select & 1 != 0, value, host);
                }
            }
        }
    }

    fn write_entry(&mut self, pin: usize, upper: bool, value: u32, host: &mut impl Host<V>) {
        let before = self.redirtbl[pin];
        let now = before.written(upper, value);
        self.redirtbl[pin] = now;
        self.vectors.set(pin, now.vector());
        if now.masked() != before.masked() {
            host.mask_changed(pin, now.masked());
        }
        if now.trigger().is_level()
            && self.irr & bit(pin) != 0
            && !now.masked()
            && !now.remote_irr()
        {
            // The line may have fallen while the pin was masked: a guest that
            // handles the interrupt in a thread silences the device after the
            // EOI and before it unmasks, and an irqfd that resamples has then
            // not been told yet. So let it look, and raise the pin again if
            // need be; and where there is none, rather deliver one interrupt
            // too many than lose one.
            if host.resample(pin) {
                self.irr &= !bit(pin);
            } else {
                self.service(pin, false, host);
            }
        }
        // The entry in full decides which vCPUs report EOIs of its vector. Those
        // that it addressed before still have to, for what is in flight there.
        host.rescan(if now.delivery_mode() == DeliveryMode::Fixed {
            let moved = now.destination_mode() != before.destination_mode()
                || now.destination() != before.destination();
            Rescan::Addressed {
                now: now.message(),
                before: moved.then(|| Message {
                    destination_mode: before.destination_mode(),
                    destination: u32::from(before.destination()),
                    ..now.message()
                }),
            }
        } else {
            Rescan::All
        });
    }

    fn contains(&self, address: u64) -> bool {
        // The base is whatever was restored; KVM lets its end wrap.
        address >= self.base_address && address < self.base_address.wrapping_add(LENGTH)
    }

    /// A vCPU's local APIC state was restored: takes anew whether it owes an
    /// EOI of the RTC's interrupt. `pending` is asked whether the message
    /// addresses the vCPU and, if so, whether its vector is in the IRR or ISR.
    pub fn restore_rtc(
        &mut self,
        vcpu_id: u32,
        host: &mut impl Host<V>,
        pending: impl FnOnce(&Message) -> Option<bool>,
    ) {
        let message = self.redirtbl[RTC_PIN].message();
        if let Some(pending) = pending(&message) {
            if !self.restore_rtc_one(vcpu_id, message.vector, pending) {
                self.restore_rtc_all(host);
            }
        }
    }

    /// False if the account does not add up.
    #[must_use]
    fn restore_rtc_one(&mut self, vcpu_id: u32, vector: u8, pending: bool) -> bool {
        match (self.rtc.owed_by(vcpu_id).is_some(), pending) {
            (false, true) => {
                self.rtc.add(vcpu_id, vector);
                true
            }
            (true, false) => self.rtc.remove(vcpu_id),
            _ => true,
        }
    }

    fn restore_rtc_all(&mut self, host: &impl Host<V>) {
        let message = self.redirtbl[RTC_PIN].message();
        self.rtc.reset();
        let rtc = &mut self.rtc;
        host.for_each_target(&message, |vcpu_id, pending| {
            if pending {
                rtc.add(vcpu_id, message.vector);
            }
            ControlFlow::Continue(())
        });
    }

    /// `vcpu_id` has completed `vector`: was it the RTC's?
    fn end_rtc(&mut self, vcpu_id: u32, vector: u8, host: &impl Host<V>) {
        if self.rtc.owed_by(vcpu_id) == Some(vector) && !self.rtc.remove(vcpu_id) {
            self.restore_rtc_all(host);
        }
    }

    /// Looks for a vCPU that `entry` addresses and that has no EOI of its
    /// vector outstanding. KVM stops at the first.
    fn find_accelerated_eoi(&mut self, entry: RedirectionEntry, host: &impl Host<V>) {
        let mut completed = None;
        host.for_each_target(&entry.message(), |vcpu_id, pending| {
            if pending {
                return ControlFlow::Continue(());
            }
            completed = Some(vcpu_id);
            ControlFlow::Break(())
        });
        if let Some(vcpu_id) = completed {
            self.end_rtc(vcpu_id, entry.vector(), host);
        }
    }
}

const fn bit(pin: usize) -> u32 {
    1 << (pin & 31)
}

/// The pin whose entry an indirect register is a half of.
fn redirection_index(select: u32) -> Option<usize> {
    let pin = (select.wrapping_sub(REG_REDIRECTION) >> 1) as usize;
    (pin < PINS).then(|| nospec::clamp(pin, PINS))
}
