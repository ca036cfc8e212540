//! A bounded map of recent entries: each entry expires, and when the map is full the oldest is evicted.
//!
//! Every map that a client can fill is one of these, so that a flood of addresses, sessions or sign-ins cannot grow the
//! process, and can evict the entries of others only one at a time.

use std::borrow::Borrow;
use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A map of at most `capacity` entries. `T` is the time by which entries expire.
#[derive(Debug)]
pub(crate) struct Recent<K, V, T> {
    capacity: usize,
    entries: HashMap<K, Entry<V, T>>,
    /// Insertion order, oldest first.
    order: BTreeMap<u64, K>,
    next: u64,
}

#[derive(Debug)]
struct Entry<V, T> {
    value: V,
    expires: T,
    place: u64,
}

impl<K: Clone + Eq + Hash, V, T: Copy + Ord> Recent<K, V, T> {
    pub(crate) fn new(capacity: usize) -> Self {
        Self { capacity, entries: HashMap::new(), order: BTreeMap::new(), next: 0 }
    }

    /// The entry of `key`, unless it has expired.
    pub(crate) fn get<Q: Eq + Hash + ?Sized>(&self, key: &Q, now: T) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.entries.get(key).filter(|entry| now < entry.expires).map(|entry| &entry.value)
    }

    /// Inserts as the newest entry, and returns the previous value unless it had expired.
    pub(crate) fn insert(&mut self, key: K, value: V, now: T, expires: T) -> Option<V> {
        let before = self.remove_entry(&key).filter(|entry| now < entry.expires).map(|entry| entry.value);
        if self.entries.len() >= self.capacity {
            self.make_room(now);
        }
        let place = self.next;
        self.next += 1;
        self.order.insert(place, key.clone());
        self.entries.insert(key, Entry { value, expires, place });
        before
    }

    pub(crate) fn remove<Q: Eq + Hash + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        self.remove_entry(key).map(|entry| entry.value)
    }

    /// Removes the entry if `matches` returns true.
    pub(crate) fn remove_if<Q: Eq + Hash + ?Sized>(&mut self, key: &Q, matches: impl FnOnce(&V) -> bool)
    where
        K: Borrow<Q>,
    {
        if self.entries.get(key).is_some_and(|entry| matches(&entry.value)) {
            self.remove_entry(key);
        }
    }

    fn remove_entry<Q: Eq + Hash + ?Sized>(&mut self, key: &Q) -> Option<Entry<V, T>>
    where
        K: Borrow<Q>,
    {
        let entry = self.entries.remove(key)?;
        self.order.remove(&entry.place);
        Some(entry)
    }

    /// Drops expired entries from the oldest on, and at least the oldest.
    fn make_room(&mut self, now: T) {
        while let Some((_, key)) = self.order.pop_first() {
            self.entries.remove(&key);
            let expired = |key: &K| self.entries.get(key).is_none_or(|entry| entry.expires <= now);
            if !self.order.first_key_value().is_some_and(|(_, oldest)| expired(oldest)) {
                return;
            }
        }
    }
}

/// Locks a mutex whose data a panic cannot leave half-changed.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_expires() {
        let mut recent = Recent::new(10);
        assert_eq!(recent.insert("a", 1, 0, 5), None);
        assert_eq!(recent.get("a", 4), Some(&1));
        assert_eq!(recent.get("a", 5), None);
        assert_eq!(recent.insert("a", 2, 4, 9), Some(1));
        assert_eq!(recent.insert("a", 3, 9, 20), None, "the one before had expired");
        assert_eq!(recent.remove("a"), Some(3));
        assert_eq!(recent.get("a", 10), None);
    }

    #[test]
    fn the_oldest_entry_is_evicted() {
        let mut recent = Recent::new(3);
        for key in ["a", "b", "c", "a", "d"] {
            recent.insert(key, (), 0, 5);
        }
        assert_eq!(["a", "b", "c", "d"].map(|key| recent.get(key, 0).is_some()), [true, false, true, true]);
    }

    #[test]
    fn expired_entries_go_first_and_all_at_once() {
        let mut recent = Recent::new(3);
        recent.insert("a", (), 0, 1);
        recent.insert("b", (), 0, 1);
        recent.insert("c", (), 0, 9);
        recent.insert("d", (), 5, 9);
        assert_eq!((recent.entries.len(), recent.order.len()), (2, 2));
    }
}
