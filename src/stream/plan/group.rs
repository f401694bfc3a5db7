//! `Groups`: something for each key, in the order in which keys were first seen.

use std::collections::HashMap;
use std::hash::Hash;

/// A group for each key, in the order in which keys were first seen. Borrows the keys.
pub(crate) struct Groups<'a, K, G> {
    places: HashMap<&'a K, usize>,
    groups: Vec<(&'a K, G)>,
}

impl<'a, K: Eq + Hash, G: Default> Groups<'a, K, G> {
    pub(crate) fn new() -> Self {
        Groups {
            places: HashMap::new(),
            groups: Vec::new(),
        }
    }

    /// The group of `key`; the default if the key is new.
    pub(crate) fn of(&mut self, key: &'a K) -> &mut G {
        let groups = &mut self.groups;
        let place = *self.places.entry(key).or_insert_with(|| {
            groups.push((key, G::default()));
            groups.len() - 1
        });
        &mut self.groups[place].1
    }
}

impl<'a, K, G> IntoIterator for Groups<'a, K, G> {
    type Item = (&'a K, G);
    type IntoIter = std::vec::IntoIter<(&'a K, G)>;

    fn into_iter(self) -> Self::IntoIter {
        self.groups.into_iter()
    }
}
