// SPDX-License-Identifier: GPL-2.0

//! Which pins have a vector: asked at each EOI of a level interrupt.

use super::PINS;

/// A byte of a word, in each of its bytes.
const fn in_each_byte(byte: u8) -> u64 {
    u64::from_ne_bytes([byte; 8])
}

/// The vectors of the redirection table's entries, eight to a word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PinVectors([u64; PINS / 8]);

impl PinVectors {
    pub(super) const fn new() -> Self {
        Self([0; PINS / 8])
    }

    /// The entry of `pin` has that vector from now on.
    pub(super) fn set(&mut self, pin: usize, vector: u8) {
        if let Some(word) = self.0.get_mut(pin / 8) {
            let shift = pin % 8 * 8;
            *word = *word & !(0xff << shift) | u64::from(vector) << shift;
        }
    }

    /// The first pin from `from` on that has the vector.
    #[inline]
    pub(super) fn next(&self, vector: u8, from: usize) -> Option<usize> {
        let wanted = in_each_byte(1) * u64::from(vector);
        let mut first = from % 8;
        for index in from / 8..PINS / 8 {
            let differs = self.0[index] ^ wanted;
            // Bit 7 of each byte that is zero: no byte carries into the next one.
            let low = in_each_byte(0x7f);
            let same = !(((differs & low) + low) | differs | low) >> (first * 8) << (first * 8);
            if same != 0 {
                return Some(index * 8 + same.trailing_zeros() as usize / 8);
            }
            first = 0;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_pin_is_that_of_a_scan() {
        let mut random = 1_u64;
        for round in 0..2000 {
            let mut pins = PinVectors::new();
            let mut vectors = [0_u8; PINS];
            for (pin, slot) in vectors.iter_mut().enumerate() {
                random = random
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                // Few different ones, and such as differ in one bit.
                *slot = [0, 1, 0x30, 0x31, 0x80, 0x81, 0xfe, 0xff][(random >> 61) as usize];
                pins.set(pin, 0x55);
                pins.set(pin, *slot);
            }
            for vector in 0..=255 {
                for from in [0, 1, 7, 8, 9, 15, 16, round % PINS, PINS - 1, PINS] {
                    let scan = (from..PINS).find(|&pin| vectors[pin] == vector);
                    assert_eq!(pins.next(vector, from), scan, "{vectors:?} {from}");
                }
            }
        }
    }
}
