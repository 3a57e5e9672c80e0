// SPDX-License-Identifier: GPL-2.0

//! The vCPUs of all VMs that sleep until the wake-up vector's handler wakes them.
//!
//! A vCPU with posted interrupts has a number for life; each processor has the set
//! of those that sleep there. Both come in chunks, so that the sets can be added to
//! while the scheduler has its locks, when nothing can be allocated.

use super::bindings;
use super::stats::Event;
use super::vcpu::Vcpu;
use crate::model::posted::{Sleepers, CAPACITY};
use core::ptr::null_mut;
use core::sync::atomic::{AtomicPtr, Ordering};
use kernel::cpu::{nr_cpu_ids, CpuId};
use kernel::id_pool::IdPool;
use kernel::prelude::*;
use kernel::sync::global_lock;

/// The sets and the vCPUs of [`CAPACITY`] numbers.
struct Chunk {
    vcpus: KVVec<AtomicPtr<Vcpu>>,
    /// By processor.
    sets: KVVec<Sleepers>,
}

/// More than these hold have no host: 16 VMs of 4096 vCPUs each.
const CHUNKS: usize = 16;

/// Chunks, once they were needed. They stay until the module goes.
static CHUNK: [AtomicPtr<Chunk>; CHUNKS] = [const { AtomicPtr::new(null_mut()) }; CHUNKS];

global_lock! {
    // SAFETY: Initialised in `init`, before the first use.
    unsafe(uninit) static NUMBERS: Mutex<Option<IdPool>> = None;
}

/// To be called once, from the module's init.
pub(super) fn init() {
    // SAFETY: Called once only, as a module is initialised once only.
    unsafe { NUMBERS.init() };
}

/// To be called from the module's exit, when no vCPU is left and the handler
/// cannot run any more.
pub(super) fn exit() {
    *NUMBERS.lock() = None;
    for chunk in &CHUNK {
        let chunk = chunk.swap(null_mut(), Ordering::Relaxed);
        if !chunk.is_null() {
            // SAFETY: `Chunk::ensure` made it of a box; nobody uses it any more.
            drop(unsafe { KBox::from_raw(chunk) });
        }
    }
}

impl Chunk {
    /// The chunk of that index, if it is there. Any context.
    #[inline]
    fn get(index: usize) -> Option<&'static Self> {
        // ORDERING: What the chunk is made of, before its address.
        let chunk = CHUNK.get(index)?.load(Ordering::Acquire);
        // SAFETY: A chunk lives until `exit`, after which nobody is here.
        unsafe { chunk.as_ref() }
    }

    /// Makes it if it is not there. Sleeps; `NUMBERS` is locked.
    fn ensure(index: usize) -> Result {
        let place = CHUNK.get(index).ok_or(ENOSPC)?;
        if Self::get(index).is_some() {
            return Ok(());
        }
        let cpus = nr_cpu_ids() as usize;
        let mut chunk = Self {
            vcpus: KVVec::with_capacity(CAPACITY, GFP_KERNEL)?,
            sets: KVVec::with_capacity(cpus, GFP_KERNEL)?,
        };
        for _ in 0..CAPACITY {
            chunk.vcpus.push(AtomicPtr::new(null_mut()), GFP_KERNEL)?;
        }
        for _ in 0..cpus {
            chunk.sets.push(Sleepers::default(), GFP_KERNEL)?;
        }
        let chunk = KBox::into_raw(KBox::new(chunk, GFP_KERNEL)?);
        // ORDERING: See `get`.
        place.store(chunk, Ordering::Release);
        Ok(())
    }
}

/// A vCPU's number.
pub(super) struct Number(u32);

impl Number {
    /// Gives the vCPU a number. Sleeps. `ENOMEM`; `ENOSPC` if there are too many.
    ///
    /// # Safety
    ///
    /// `vcpu` must stay where it is until an RCU grace period has passed after it
    /// was removed from the last set, and the number be dropped before it.
    pub(super) unsafe fn new(vcpu: &Vcpu) -> Result<Self> {
        let mut numbers = NUMBERS.lock();
        let pool = numbers.get_or_insert_with(IdPool::new);
        let mut id = pool.find_unused_id(0).map(|id| id.as_usize());
        if id.is_none() {
            let grown = pool.grow_request().ok_or(ENOSPC)?.realloc(GFP_KERNEL)?;
            pool.grow(grown);
            id = pool.find_unused_id(0).map(|id| id.as_usize());
        }
        let id = id.ok_or(ENOSPC)?;
        Chunk::ensure(id / CAPACITY)?;
        // Still unused, as the lock is held.
        pool.find_unused_id(id).ok_or(ENOSPC)?.acquire();
        let number = Self(id as u32);
        number.publish(core::ptr::from_ref(vcpu).cast_mut());
        Ok(number)
    }

    fn chunk(&self) -> Option<&'static Chunk> {
        Chunk::get(self.0 as usize / CAPACITY)
    }

    fn publish(&self, vcpu: *mut Vcpu) {
        if let Some(place) = self
            .chunk()
            .and_then(|c| c.vcpus.get(self.0 as usize % CAPACITY))
        {
            // ORDERING: What the vCPU is made of, before its address.
            place.store(vcpu, Ordering::Release);
        }
    }

    fn set(&self, cpu: u32) -> Option<&'static Sleepers> {
        self.chunk()?.sets.get(cpu as usize)
    }

    /// The vCPU sleeps on `cpu`, this one. Interrupts are off.
    pub(super) fn add_to(&self, cpu: u32) {
        if let Some(set) = self.set(cpu) {
            set.add(self.0 % CAPACITY as u32);
        }
    }

    /// It does not any more. Any context.
    pub(super) fn remove_from(&self, cpu: u32) {
        if let Some(set) = self.set(cpu) {
            set.remove(self.0 % CAPACITY as u32);
        }
    }
}

impl Drop for Number {
    fn drop(&mut self) {
        self.publish(null_mut());
        if let Some(pool) = NUMBERS.lock().as_mut() {
            pool.release_id(self.0 as usize);
        }
    }
}

/// Wakes those that sleep on this processor and for whom something was posted.
/// The wake-up vector's handler.
pub(super) fn wake() {
    let cpu = CpuId::current().as_u32() as usize;
    for chunk in (0..CHUNKS).map_while(Chunk::get) {
        let Some(set) = chunk.sets.get(cpu) else {
            continue;
        };
        set.for_each(|number| {
            let Some(vcpu) = chunk.vcpus.get(number as usize) else {
                return;
            };
            // ORDERING: See `publish`.
            let vcpu = vcpu.load(Ordering::Acquire);
            // SAFETY: By the requirements of `Number::new`: the vCPU was in the set
            // just now, and a handler is an RCU reader.
            if let Some(vcpu) = unsafe { vcpu.as_ref() } {
                if vcpu.is_notified() {
                    vcpu.vm().stats().count(Event::PostedWakeup, 1);
                    // SAFETY: The vCPU lives, as above. Any context.
                    unsafe { bindings::ferric_wake_up(vcpu.as_kvm_vcpu()) };
                }
            }
        });
    }
}
