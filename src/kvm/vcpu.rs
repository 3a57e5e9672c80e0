// SPDX-License-Identifier: GPL-2.0

//! A vCPU's local APIC: KVM's structure and the model's state. What the model
//! asks of KVM is in `host`.

use super::bindings;
use super::chips::Chips;
use super::field::{Field, FieldAt};
use super::posted::Posted;
use super::stats::Event;
use super::vm::Vm;
use crate::model::destination::{self, PackedIdentity, Source};
use crate::model::lapic::{LocalApic, Own};
use crate::model::message::Message;
use crate::model::posted::Descriptor;
use crate::model::sync::{
    assert_exclusive_writer, AtomicBool, AtomicU32, AtomicU64, Ordering, Owned,
};
use core::cell::UnsafeCell;
use core::ptr::NonNull;
use core::sync::atomic::AtomicPtr;
use kernel::ffi::c_int;
use kernel::prelude::*;
use kernel::sync::SetOnce;

/// Fields of `struct kvm_vcpu`.
struct Fields {
    apic_base: Field<AtomicU64>,
    handled_vectors: Field<[AtomicU64; 4]>,
    attention: Field<AtomicU64>,
    pv_eoi_msr: Field<AtomicU64>,
    virtual_tsc_khz: Field<AtomicU32>,
    /// `struct kvm_vcpu_hv`, or null.
    hyperv: Field<AtomicU64>,
    // See [`Vcpu::rare`].
    arbitration_priority: FieldAt<AtomicU32>,
    pending_ioapic_eoi: FieldAt<AtomicU32>,
    stale_pending_eoi: FieldAt<AtomicU32>,
    l1_tsc_offset: FieldAt<AtomicU64>,
    l1_tsc_ratio: FieldAt<AtomicU64>,
    pv_unhalted: FieldAt<AtomicBool>,
    tpr_access_reporting: FieldAt<AtomicBool>,
    index: FieldAt<AtomicU32>,
    /// What user space injects in split mode, or [`NO_VECTOR`].
    external_vector: FieldAt<AtomicU32>,
}

/// `highest_stale_pending_ioapic_eoi` or `pending_external_vector` when there is
/// none.
const NO_VECTOR: u32 = u32::MAX;

/// A vCPU's local APIC.
///
/// # Invariants
///
/// - `lapic` comes first, so that KVM's pointer to it is a pointer to this.
/// - Once KVM has called `lapic_init`, `lapic.regs` is a register page and
///   `lapic.vcpu` the vCPU, and both outlive this.
/// - `vm` outlives this, and so does what `descriptor` points to, unless it is
///   null.
#[repr(C)]
pub(super) struct Vcpu {
    lapic: UnsafeCell<bindings::kvm_lapic>,
    vm: NonNull<Vm>,
    fields: Fields,
    id: u32,
    /// What the destination map was told, as [`PackedIdentity::bits`].
    mapped: Owned<u32>,
    own: Own,
    /// There if the CPU posts interrupts, once KVM has called `pi_create`.
    posted: SetOnce<Posted>,
    /// The descriptor of that, or null, for those who look at it all the time.
    descriptor: AtomicPtr<Descriptor>,
}

/// A field of the embedded `struct kvm_lapic`, as an atomic.
macro_rules! lapic_field {
    ($vcpu:expr, $field:ident $(. $inner:ident)?, $atomic:ty) => {{
        // SAFETY: The field is within the object and has the atomic's size and
        // alignment; C accesses it as it does shared scalars.
        let field: &$atomic = unsafe {
            &*core::ptr::addr_of!((*$vcpu.lapic.get()).$field$(.$inner)?).cast::<$atomic>()
        };
        field
    }};
}

mod host;
mod shared;

impl Vcpu {
    /// Allocates the APIC of a new vCPU, as KVM's `lapic_alloc` wants it.
    /// Sleeps.
    ///
    /// # Safety
    ///
    /// `vcpu` must be a vCPU of a VM that ferric serves, and outlive the
    /// result.
    pub(super) unsafe fn new(vcpu: *mut bindings::kvm_vcpu) -> Result<KBox<Self>> {
        let mut raw = bindings::ferric_vcpu_fields::default();
        // SAFETY: By this function's requirements.
        let vm = unsafe {
            bindings::ferric_vcpu_fields(vcpu, &mut raw);
            Vm::of_kvm(bindings::ferric_vcpu_kvm(vcpu))
        };
        // SAFETY: All are scalars within the vCPU, and have the size and the
        // alignment of the atomics; shim.c makes sure that an offset fits.
        let fields = unsafe {
            Fields {
                apic_base: Field::new(raw.apic_base),
                handled_vectors: Field::new(raw.ioapic_handled_vectors),
                attention: Field::new(raw.apic_attention),
                pv_eoi_msr: Field::new(raw.pv_eoi_msr),
                virtual_tsc_khz: Field::new(raw.virtual_tsc_khz),
                hyperv: Field::new(raw.hyperv),
                arbitration_priority: FieldAt::new(raw.apic_arb_prio, vcpu),
                pending_ioapic_eoi: FieldAt::new(raw.pending_ioapic_eoi, vcpu),
                stale_pending_eoi: FieldAt::new(raw.highest_stale_pending_ioapic_eoi, vcpu),
                l1_tsc_offset: FieldAt::new(raw.l1_tsc_offset, vcpu),
                l1_tsc_ratio: FieldAt::new(raw.l1_tsc_scaling_ratio, vcpu),
                pv_unhalted: FieldAt::new(raw.pv_unhalted, vcpu),
                tpr_access_reporting: FieldAt::new(raw.tpr_access_reporting, vcpu),
                index: FieldAt::new(raw.vcpu_idx, vcpu),
                external_vector: FieldAt::new(raw.pending_external_vector, vcpu),
            }
        };
        let lapic = bindings::kvm_lapic {
            extint: extint(vm),
            ..Default::default()
        };
        // INVARIANT: `repr(C)` puts `lapic` first; KVM fills in what it says
        // before `lapic_init`; a vCPU's VM outlives it.
        Ok(KBox::new(
            Self {
                lapic: UnsafeCell::new(lapic),
                vm: vm.into(),
                fields,
                id: raw.vcpu_id,
                mapped: Owned::default(),
                own: Own::default(),
                posted: SetOnce::new(),
                descriptor: AtomicPtr::default(),
            },
            GFP_KERNEL_ACCOUNT,
        )?)
    }

    /// The object that KVM's pointer belongs to.
    ///
    /// # Safety
    ///
    /// `lapic` must be of a VM that ferric serves, initialised, and stay alive
    /// for `'a`.
    #[inline(always)]
    pub(super) unsafe fn from_lapic<'a>(lapic: *mut bindings::kvm_lapic) -> &'a Self {
        // SAFETY: By this function's requirements and the type invariants.
        unsafe { &*lapic.cast::<Self>() }
    }

    /// The model of this APIC.
    #[inline(always)]
    pub(super) fn apic(&self) -> LocalApic<'_, Self> {
        LocalApic::new(self)
    }

    /// The VM.
    #[inline(always)]
    pub(super) fn vm(&self) -> &Vm {
        // SAFETY: By the type invariants.
        unsafe { self.vm.as_ref() }
    }

    /// KVM's object.
    #[inline(always)]
    pub(super) fn as_lapic(&self) -> *mut bindings::kvm_lapic {
        self.lapic.get()
    }

    /// KVM's vCPU.
    #[inline(always)]
    pub(super) fn as_kvm_vcpu(&self) -> *mut bindings::kvm_vcpu {
        // SAFETY: By the type invariants `vcpu` is set, once.
        unsafe { (*self.lapic.get()).vcpu }
    }

    /// A field of KVM's vCPU that has no pointer of its own in [`Fields`].
    #[inline(always)]
    fn rare<T>(&self, field: &FieldAt<T>) -> &T {
        // SAFETY: Only `new` makes a `FieldAt`, of the vCPU that KVM has put into
        // `lapic` since; by the type invariants it outlives this.
        unsafe { field.of(self.as_kvm_vcpu()) }
    }

    /// Posted interrupts, if the CPU has them.
    #[inline(always)]
    pub(super) fn posted(&self) -> Option<&Posted> {
        self.posted.as_ref()
    }

    /// To be called once, before the vCPU is loaded.
    pub(super) fn set_posted(&self, posted: Posted) {
        let descriptor: *const Descriptor = posted.descriptor();
        if self.posted.populate(posted) {
            // INVARIANT: The descriptor is KVM's memory, and goes with the vCPU.
            self.descriptor
                .store(descriptor.cast_mut(), Ordering::Release);
        }
    }

    /// The descriptor, if the CPU posts interrupts. Any context.
    #[inline(always)]
    pub(super) fn descriptor(&self) -> Option<&Descriptor> {
        // SAFETY: By the type invariants.
        unsafe { self.descriptor.load(Ordering::Acquire).as_ref() }
    }

    /// The vCPU's ID, which is its x2APIC ID.
    #[inline(always)]
    pub(super) fn id(&self) -> u32 {
        self.id
    }

    /// The vCPU's index in the VM. Meaningful once the vCPU is online.
    pub(super) fn index(&self) -> u32 {
        self.rare(&self.fields.index).load(Ordering::Relaxed)
    }

    /// How the APIC is addressed; none if it is globally disabled.
    pub(super) fn identity(&self) -> Option<destination::Identity> {
        let apic = self.apic();
        apic.is_hardware_enabled().then(|| apic.identity())
    }

    /// What the destination map was told that [`Self::identity`] is. With the map's
    /// lock.
    pub(super) fn mapped(&self) -> PackedIdentity {
        PackedIdentity::from_bits(self.mapped.get())
    }

    /// It is told that, with its lock.
    pub(super) fn set_mapped(&self, identity: Option<&destination::Identity>) {
        self.mapped.set(PackedIdentity::new(identity).bits());
    }

    /// Does a device's message address this APIC? As KVM, also if it is
    /// disabled.
    pub(super) fn is_addressed_by(&self, message: &Message) -> bool {
        let identity = self.apic().identity();
        destination::matches(
            &identity,
            message,
            Source::Device,
            false,
            &self.vm().policy(),
        )
    }

    /// The offset of a guest physical address in the registers, if it is there.
    pub(super) fn mmio_offset(&self, address: u64) -> Option<u32> {
        let base = lapic_field!(self, base_address, AtomicU64).load(Ordering::Relaxed);
        let offset = address.checked_sub(base)?;
        (offset < 0x1000).then_some(offset as u32)
    }

    /// Is `vector` requested or in service here?
    pub(super) fn has_pending_eoi(&self, vector: u8) -> bool {
        self.apic().is_eoi_pending(vector)
    }

    /// Does this vCPU take the PIC's interrupts?
    pub(super) fn accepts_pic(&self) -> bool {
        self.apic().accepts_pic_interrupt()
    }

    /// Is there an interrupt of the PIC's, or of user space's in its place?
    #[inline]
    fn has_external_interrupt(&self) -> bool {
        match self.vm().chips() {
            Some(chips) => chips.pic_output(),
            None => {
                self.rare(&self.fields.external_vector)
                    .load(Ordering::Relaxed)
                    != NO_VECTOR
            }
        }
    }

    /// Is there an interrupt for the guest to take? The vCPU's thread, may not
    /// sleep.
    #[inline]
    pub(super) fn has_interrupt(&self) -> bool {
        self.apic()
            .has_interrupt_or(|| self.has_external_interrupt())
    }

    /// Takes the vector of the interrupt that comes first, and acknowledges it. The
    /// vCPU's thread.
    #[inline]
    pub(super) fn get_interrupt(&self) -> Option<u8> {
        if self.has_external_interrupt() && self.accepts_pic() {
            return match self.vm().chips() {
                Some(chips) => Some(chips.acknowledge_pic()),
                None => {
                    let vector = self.rare(&self.fields.external_vector);
                    let taken = vector.load(Ordering::Relaxed);
                    vector.store(NO_VECTOR, Ordering::Relaxed);
                    Some(taken as u8)
                }
            };
        }
        let vector = self.apic().take_interrupt();
        if vector.is_some() {
            self.vm().stats().count(Event::Injected, 1);
        }
        vector
    }

    /// Note that an EOI of `vector` is to be reported, as KVM's
    /// `kvm_scan_ioapic_irq` does.
    pub(super) fn scan_vector(&self, message: &Message, vectors: &[AtomicU64; 4]) {
        let vector = message.vector;
        if !self.is_addressed_by(message) {
            if !self.has_pending_eoi(vector) {
                return;
            }
            // It is in flight from a destination that the entry had before:
            // only this one EOI matters.
            let stale = self.rare(&self.fields.stale_pending_eoi);
            let highest = stale.load(Ordering::Relaxed);
            if highest == NO_VECTOR || u32::from(vector) > highest {
                stale.store(vector.into(), Ordering::Relaxed);
            }
        }
        set_vector(vectors, vector);
    }
}

/// What, beside `irr_pending`, says whether a vCPU may have an interrupt to take;
/// null if these two do not: where interrupts are posted, and where user space has
/// the PIC.
fn extint(vm: &Vm) -> *const bool {
    let chips = vm.chips().filter(|_| !vm.has_posted_interrupts());
    chips.map_or(core::ptr::null(), Chips::pic_output_ptr)
}

/// Sets a vector's bit in a bitmap that only this thread changes.
pub(super) fn set_vector(vectors: &[AtomicU64; 4], vector: u8) {
    let word = &vectors[usize::from(vector >> 6)];
    assert_exclusive_writer(word);
    let bits = word.load(Ordering::Relaxed) | 1 << (vector & 63);
    word.store(bits, Ordering::Relaxed);
}

/// KVM's number for a vector that may not be there: -1 for none.
#[inline(always)]
pub(super) fn or_none(vector: Option<u8>) -> c_int {
    vector.map_or(-1, c_int::from)
}

/// The reverse of [`or_none`].
#[inline(always)]
fn vector(number: c_int) -> Option<u8> {
    u8::try_from(number).ok()
}
