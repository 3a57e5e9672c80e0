// SPDX-License-Identifier: GPL-2.0

//! ferric's registration with KVM.

use super::{bindings, ops, sleepers, stats};
use kernel::error::to_result;
use kernel::prelude::*;

/// ferric is KVM's irqchip provider for as long as this lives.
///
/// Every VM that uses ferric holds a reference on the module, so that this is
/// dropped, in the module's exit, only when no VM does.
pub(crate) struct Provider(());

impl Provider {
    /// Registers ferric with `kvm.ko`. May sleep.
    ///
    /// `EBUSY` if another provider is registered, `EINVAL` if `kvm.ko` was
    /// built from other sources than this module; KVM's log says which.
    pub(crate) fn register() -> Result<Self> {
        stats::create_root();
        sleepers::init();
        // SAFETY: The table is static, and its functions are what
        // `struct kvm_irqchip_ops` documents them to be.
        let registered = to_result(unsafe { bindings::ferric_register(ops::OPS.as_ptr()) });
        if registered.is_err() {
            stats::remove_root();
        }
        registered.map(|()| Self(()))
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        // SAFETY: `register` has registered the provider, and nobody else
        // unregisters it.
        unsafe { bindings::ferric_unregister() };
        sleepers::exit();
        stats::remove_root();
    }
}
