// SPDX-License-Identifier: GPL-2.0

//! The phases of a vCPU, and the transitions between them.

use core::ops::Deref;

use super::super::sync::Owned;
use super::descriptor::{Descriptor, Notification};

/// What the transitions need of the machine.
///
/// A processor is named by its number in the host; what NDST has for it is
/// the host's to say.
pub trait Host {
    /// NDST of that processor.
    fn destination(&self, cpu: u32) -> u32;

    /// The vector by which a vCPU that is loaded is notified
    /// (`POSTED_INTR_VECTOR`).
    fn active_vector(&self) -> u8;

    /// The vector by which one that sleeps is (`POSTED_INTR_WAKEUP_VECTOR`).
    fn wakeup_vector(&self) -> u8;

    /// Enters the vCPU among those that the wake-up vector's handler looks at on
    /// `cpu`, which is the one that this runs on. Interrupts are off.
    fn add_sleeper(&self, cpu: u32);

    /// Takes it out again, on whatever processor this runs. Interrupts are off,
    /// or the handler could wait for the lock that this holds.
    fn remove_sleeper(&self, cpu: u32);

    /// Has the wake-up vector's handler run on this processor as soon as
    /// interrupts are on.
    fn send_wakeup_to_self(&self);
}

/// Where a vCPU is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// It has not been loaded yet. Suppressed.
    Created,
    /// It is loaded on this processor.
    Active(u32),
    /// It is not loaded, and its thread is ready to run. Suppressed.
    Ready(u32),
    /// Its thread sleeps, and was on this processor last.
    Halted(u32),
}

/// A vCPU's descriptor together with the phase that it says.
///
/// The vCPU's thread makes the transitions, with preemption off; the scheduler
/// calls [`Self::suppress`] and [`Self::halt`] for it with interrupts off.
///
/// # Invariants
///
/// SN is set in [`Phase::Created`] and [`Phase::Ready`] only; NV is the wake-up
/// vector in [`Phase::Halted`] only, and then the vCPU is among the sleepers of
/// NDST's processor; in [`Phase::Active`] NDST is the processor's own.
pub struct Life<D: Deref<Target = Descriptor>> {
    /// Where it lies is KVM's to say, which has told the CPU.
    descriptor: D,
    /// [`Phase`], of which there is no atomic: the processor in bits 31:0, and
    /// which one in bits 33:32.
    phase: Owned<u64>,
}

const ACTIVE: u64 = 1;
const READY: u64 = 2;
const HALTED: u64 = 3;

impl<D: Deref<Target = Descriptor>> Life<D> {
    /// A vCPU that was never loaded: notifications are suppressed until it is,
    /// since there is nowhere to send them. Nothing is posted in `descriptor` yet.
    pub fn new(descriptor: D, host: &impl Host) -> Self {
        let life = Self {
            descriptor,
            phase: Owned::new(0),
        };
        let nobody = Notification {
            vector: host.active_vector(),
            destination: 0,
        };
        life.descriptor
            .change(|control| control.notifying(nobody).suppressed(true));
        life
    }

    /// What senders and the receiver use.
    #[inline(always)]
    pub fn descriptor(&self) -> &Descriptor {
        &self.descriptor
    }

    /// Where the vCPU is. Its thread.
    #[inline]
    pub fn phase(&self) -> Phase {
        let phase = self.phase.get();
        // CAST: The processor's number is the lower half.
        let cpu = phase as u32;
        match phase >> 32 {
            ACTIVE => Phase::Active(cpu),
            READY => Phase::Ready(cpu),
            HALTED => Phase::Halted(cpu),
            _ => Phase::Created,
        }
    }

    fn enter(&self, phase: u64, cpu: u32) {
        self.phase.set(phase << 32 | u64::from(cpu));
    }

    /// The vCPU is loaded on `cpu`, the one that this runs on. From any phase.
    ///
    /// True if something is posted, so that it must be harvested before the
    /// guest is entered, or an entry that is under way be repeated.
    pub fn activate(&self, host: &impl Host, cpu: u32) -> bool {
        match self.phase() {
            // Nothing was changed since.
            Phase::Active(on) if on == cpu => return self.descriptor.control().is_outstanding(),
            Phase::Ready(on) if on == cpu => self.descriptor.unsuppress(),
            phase => {
                if let Phase::Halted(on) = phase {
                    host.remove_sleeper(on);
                }
                let to = Notification {
                    vector: host.active_vector(),
                    destination: host.destination(cpu),
                };
                self.descriptor
                    .change(|control| control.notifying(to).suppressed(false));
            }
        }
        self.enter(ACTIVE, cpu);
        // ORDERING: SN was cleared by a locked operation, and only now is PIR
        // read. A sender that still saw SN has set its bit before, and is seen
        // here; one that does not see it sets ON itself.
        if !self.descriptor.is_empty() {
            self.descriptor.set_outstanding();
        }
        self.descriptor.control().is_outstanding()
    }

    /// The vCPU is not loaded any more, but goes on by itself. From
    /// [`Phase::Active`]; otherwise nothing happens.
    pub fn suppress(&self) {
        if let Phase::Active(cpu) = self.phase() {
            self.descriptor.suppress();
            self.enter(READY, cpu);
        }
    }

    /// The vCPU is not loaded any more, and sleeps until it is woken. From
    /// [`Phase::Active`], on the processor on which it was; otherwise nothing
    /// happens. Interrupts are off.
    pub fn halt(&self, host: &impl Host) {
        let Phase::Active(cpu) = self.phase() else {
            return;
        };
        // First, or the handler would not find the vCPU.
        host.add_sleeper(cpu);
        let to = Notification {
            vector: host.wakeup_vector(),
            destination: host.destination(cpu),
        };
        let control = self.descriptor.change(|control| control.notifying(to));
        self.enter(HALTED, cpu);
        // Its sender has used the other vector. The vCPU cannot be woken from
        // here, for the scheduler has its locks.
        if control.is_outstanding() {
            host.send_wakeup_to_self();
        }
    }

    /// The vCPU is gone. It was put, or never loaded.
    pub fn end(&self, host: &impl Host) {
        if let Phase::Halted(cpu) = self.phase() {
            host.remove_sleeper(cpu);
            let to = Notification {
                vector: host.active_vector(),
                destination: host.destination(cpu),
            };
            self.descriptor
                .change(|control| control.notifying(to).suppressed(true));
            self.enter(READY, cpu);
        }
    }
}
