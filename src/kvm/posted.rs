// SPDX-License-Identifier: GPL-2.0

//! A vCPU's posted interrupts: the descriptor, which is KVM's memory and which the
//! CPU is told of, and the vCPU's life as the model has it.

use super::bindings;
use super::field::Field;
use super::sleepers::Number;
use super::vcpu::Vcpu;
use crate::model::lapic::posted::Harvest;
use crate::model::posted::{Descriptor, Host, Life};
use kernel::cpu::CpuId;
use kernel::prelude::*;

/// A vCPU's descriptor, with its life.
pub(super) struct Posted {
    life: Life<Field<Descriptor>>,
    number: Number,
}

impl Host for Number {
    fn destination(&self, cpu: u32) -> u32 {
        // SAFETY: A processor on which a vCPU was is one that is there.
        unsafe { bindings::ferric_pi_destination(cpu) }
    }

    fn active_vector(&self) -> u8 {
        bindings::FERRIC_POSTED_INTR_VECTOR as u8
    }

    fn wakeup_vector(&self) -> u8 {
        bindings::FERRIC_POSTED_INTR_WAKEUP_VECTOR as u8
    }

    fn add_sleeper(&self, cpu: u32) {
        self.add_to(cpu);
    }

    fn remove_sleeper(&self, cpu: u32) {
        self.remove_from(cpu);
    }

    fn send_wakeup_to_self(&self) {
        // SAFETY: Interrupts are off, as `Life::halt` wants it.
        unsafe { bindings::ferric_pi_wakeup_self() };
    }
}

impl Posted {
    /// What senders post to. Any context.
    pub(super) fn descriptor(&self) -> &Descriptor {
        self.life.descriptor()
    }
}

impl Drop for Posted {
    fn drop(&mut self) {
        self.life.end(&self.number);
    }
}

impl Vcpu {
    /// Takes the descriptor over. Sleeps. `ENOMEM`, and `ENOSPC` if there are too
    /// many vCPUs in the host.
    ///
    /// # Safety
    ///
    /// `descriptor` must be zeroed, aligned, outlive the vCPU, and be written by
    /// nobody but the CPU and IOMMUs. The vCPU must not have been loaded yet.
    pub(super) unsafe fn create_posted(&self, descriptor: *mut bindings::pi_desc) -> Result {
        // SAFETY: The vCPU's memory is its own until `lapic_free`, before which
        // `Vm::pre_destroy` has waited for a grace period after the last vCPU has
        // slept; the number goes with the vCPU's object.
        let number = unsafe { Number::new(self)? };
        // SAFETY: By this function's requirements. A descriptor is made of atomics.
        let descriptor = unsafe { Field::new(descriptor) };
        let life = Life::new(descriptor, &number);
        self.set_posted(Posted { life, number });
        Ok(())
    }

    /// The vCPU is loaded on this processor. Its thread, preemption off.
    #[inline]
    pub(super) fn load_posted(&self) {
        if let Some(posted) = self.posted() {
            let cpu = CpuId::current().as_u32();
            posted.life.activate(&posted.number, cpu);
        }
    }

    /// The vCPU is not loaded any more. Its thread, preemption off, and if it is
    /// `blocking` interrupts too.
    ///
    /// Nobody but the CPU and IOMMUs looks at SN and NV: software knows whether the
    /// vCPU is in the guest, and wakes it itself. So without `hardware_senders` it
    /// stays as it is, and the next load costs nothing if it is on this processor.
    #[inline]
    pub(super) fn put_posted(&self, hardware_senders: bool, blocking: bool) {
        let Some(posted) = self.posted() else {
            return;
        };
        if blocking {
            posted.life.halt(&posted.number);
        } else if hardware_senders {
            posted.life.suppress();
        }
    }

    /// Posts an interrupt; true if the vCPU has to be told. Any context.
    #[inline]
    pub(super) fn post(&self, vector: u8) -> bool {
        self.descriptor()
            .is_some_and(|descriptor| descriptor.post(vector))
    }

    /// Moves what is posted to IRR. Its thread: KVM does so before each entry, and
    /// when it looks for interrupts.
    #[inline]
    pub(super) fn harvest_posted(&self) -> Harvest {
        self.apic().unsettle();
        if self.is_notified() {
            self.harvest_outstanding()
        } else {
            self.nothing_posted()
        }
    }

    /// The same after a notification, which mostly there is none of.
    #[inline(never)]
    pub(super) fn harvest_outstanding(&self) -> Harvest {
        match self.descriptor().and_then(Descriptor::harvest) {
            Some(pir) => self.apic().accept_posted(&pir),
            None => self.nothing_posted(),
        }
    }

    #[inline(always)]
    fn nothing_posted(&self) -> Harvest {
        Harvest {
            highest: self.apic().highest_irr(),
            is_new: false,
        }
    }

    /// Is anything posted? Any context.
    #[inline]
    pub(super) fn is_posted_pending(&self) -> bool {
        self.descriptor().is_some_and(Descriptor::is_pending)
    }

    /// Is a notification outstanding? Any context.
    #[inline]
    pub(super) fn is_notified(&self) -> bool {
        self.descriptor()
            .is_some_and(|descriptor| descriptor.control().is_outstanding())
    }

    /// Forgets what is posted. Its thread.
    pub(super) fn clear_posted(&self) {
        if let Some(posted) = self.posted() {
            posted.life.descriptor().clear();
        }
    }
}

/// Posts as an IOMMU does; true if the notification in `notification` is due.
///
/// # Safety
///
/// `desc` must be the descriptor of a vCPU that lives, of ferric's or of KVM's, and
/// `notification` be valid for a write. Any context.
#[no_mangle]
unsafe extern "C" fn ferric_pi_post_as_hardware(
    desc: *const bindings::pi_desc,
    vector: u8,
    notification: *mut bindings::ferric_notification,
) -> bool {
    // SAFETY: By this function's requirements. A descriptor is made of atomics, and
    // KVM changes its own by locked operations as well.
    let descriptor = unsafe { &*desc.cast::<Descriptor>() };
    let Some(due) = descriptor.post_as_hardware(vector) else {
        return false;
    };
    let due = bindings::ferric_notification {
        vector: due.vector,
        destination: due.destination,
    };
    // SAFETY: By this function's requirements.
    unsafe { notification.write(due) };
    true
}
