//! A map that forgets now and then what nobody uses any more, so that each row costs little on average.

use std::collections::HashMap;

/// Rows by their keys.
pub(super) struct BoundedMap<K, V> {
    /// The rows.
    pub(super) entries: HashMap<K, V>,
    /// How many were left when some were forgotten.
    kept: usize,
}

impl<K, V> Default for BoundedMap<K, V> {
    fn default() -> Self {
        Self {
            entries: HashMap::new(),
            kept: 0,
        }
    }
}

impl<K, V> BoundedMap<K, V> {
    /// With `many` rows, forgets those that are not used; then with twice as many as were left.
    pub(super) fn evict_unused(&mut self, many: usize, is_used: impl Fn(&K, &V) -> bool) {
        if self.entries.len() < many.max(2 * self.kept) {
            return;
        }
        self.entries.retain(|key, value| is_used(key, value));
        self.kept = self.entries.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forgets_where_there_are_many_and_then_twice_as_many_as_were_left() {
        let mut memory = BoundedMap::default();
        let add = |memory: &mut BoundedMap<u32, ()>, numbers: std::ops::Range<u32>| {
            for number in numbers {
                memory.entries.insert(number, ());
                memory.evict_unused(10, |number, ()| *number < 8);
            }
            memory.entries.len()
        };
        assert_eq!(add(&mut memory, 0..9), 9);
        assert_eq!(add(&mut memory, 9..10), 8);
        assert_eq!(add(&mut memory, 10..17), 15);
        assert_eq!(add(&mut memory, 17..18), 8);
    }
}
