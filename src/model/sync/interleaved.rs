// SPDX-License-Identifier: GPL-2.0

//! The atomics of a loom build, as ordered as x86-64 makes them.
//!
//! loom knows C11's memory, where a relaxed load may return an old value for
//! ever, and would report what no x86 does. Here every access sees and makes the
//! newest value: loom tries all orders in which threads can follow each other.
//! What is left out is the store buffer, by which a plain load may overtake the
//! plain store before it; who depends on that order has a locked operation in
//! between, and says so.

use loom::sync::atomic;
pub use loom::sync::atomic::{fence, Ordering};

macro_rules! atomics {
    ($($name:ident: $word:ty { $($operation:ident)* })*) => {$(
        /// The atomic of that name.
        #[derive(Debug)]
        pub struct $name(atomic::$name);

        impl $name {
            /// Wraps a value.
            pub fn new(value: $word) -> Self {
                Self(atomic::$name::new(value))
            }

            /// The newest value: loom's own loads may give older ones.
            pub fn load(&self, _: Ordering) -> $word {
                self.0.fetch_or(<$word>::default(), Ordering::SeqCst)
            }

            /// Replaces the value: loom's own stores have no order among them.
            pub fn store(&self, value: $word, _: Ordering) {
                self.0.swap(value, Ordering::SeqCst);
            }

            /// Replaces the value by what `f` makes of it, if it makes one.
            pub fn fetch_update(
                &self,
                _: Ordering,
                _: Ordering,
                f: impl FnMut($word) -> Option<$word>,
            ) -> Result<$word, $word> {
                self.0.fetch_update(Ordering::SeqCst, Ordering::SeqCst, f)
            }

            $(
                /// The operation of that name.
                pub fn $operation(&self, value: $word, _: Ordering) -> $word {
                    self.0.$operation(value, Ordering::SeqCst)
                }
            )*
        }

        impl Default for $name {
            fn default() -> Self {
                Self::new(<$word>::default())
            }
        }

        impl From<$word> for $name {
            fn from(value: $word) -> Self {
                Self::new(value)
            }
        }
    )*};
}

atomics! {
    AtomicBool: bool { swap }
    AtomicU8: u8 { }
    AtomicI64: i64 { }
    AtomicU32: u32 { fetch_or fetch_and fetch_add }
    AtomicU64: u64 { fetch_or fetch_and swap }
}
