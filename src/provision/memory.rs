//! A map that forgets now and then what nobody uses any more, so that each row costs little on average.

use std::collections::HashMap;

/// Rows by their keys.
pub(super) struct Memory<K, V> {
    /// The rows.
    pub(super) rows: HashMap<K, V>,
    /// How many were left when some were forgotten.
    left: usize,
}

impl<K, V> Default for Memory<K, V> {
    fn default() -> Self {
        Self {
            rows: HashMap::new(),
            left: 0,
        }
    }
}

impl<K, V> Memory<K, V> {
    /// With `many` rows, forgets those that are not used; then with twice as many as were left.
    pub(super) fn forget_unused(&mut self, many: usize, is_used: impl Fn(&K, &V) -> bool) {
        if self.rows.len() < many.max(2 * self.left) {
            return;
        }
        self.rows.retain(|key, value| is_used(key, value));
        self.left = self.rows.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forgets_where_there_are_many_and_then_twice_as_many_as_were_left() {
        let mut memory = Memory::default();
        let add = |memory: &mut Memory<u32, ()>, numbers: std::ops::Range<u32>| {
            for number in numbers {
                memory.rows.insert(number, ());
                memory.forget_unused(10, |number, ()| *number < 8);
            }
            memory.rows.len()
        };
        assert_eq!(add(&mut memory, 0..9), 9);
        assert_eq!(add(&mut memory, 9..10), 8);
        assert_eq!(add(&mut memory, 10..17), 15);
        assert_eq!(add(&mut memory, 17..18), 8);
    }
}
