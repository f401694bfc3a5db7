//! The number of connections of each address.
//!
//! Promise: memory for the addresses that are connected, and for no others; no choice of addresses
//! makes a look-up slow. Must not know: engine, split, time.

use std::collections::HashMap;
use std::net::IpAddr;

use crate::source::net::listener::options::is_local;

/// Limits the number of connections per address.
#[derive(Debug, Default)]
pub(crate) struct PerAddressLimit {
    /// `None`: nothing is counted.
    connections_max: Option<usize>,
    /// Addresses of this machine have no limit.
    spares_local: bool,
    /// Addresses with at least one. The hasher of the standard library has a secret key.
    connections: HashMap<IpAddr, usize>,
}

impl PerAddressLimit {
    /// At most `connections_max` connections of any address. `None` is no limit.
    pub(crate) fn new(connections_max: Option<usize>) -> Self {
        PerAddressLimit {
            connections_max,
            ..PerAddressLimit::default()
        }
    }

    /// At most `connections_max` connections of an address of another machine. Those of this
    /// machine have no limit.
    pub(crate) fn of_other_machines(connections_max: usize) -> Self {
        PerAddressLimit {
            spares_local: true,
            ..PerAddressLimit::new(Some(connections_max))
        }
    }

    /// The limit.
    pub(crate) fn connections_max(&self) -> Option<usize> {
        self.connections_max
    }

    /// The limit and the address, if that has one.
    fn limited(&self, address: Option<IpAddr>) -> Option<(usize, IpAddr)> {
        let is_spared = self.spares_local && is_local(address);
        self.connections_max.zip(address).filter(|_| !is_spared)
    }

    /// Returns `true` if there may be one more connection of `address`. `None` has no limit.
    pub(crate) fn has_place(&self, address: Option<IpAddr>) -> bool {
        self.limited(address).is_none_or(|(max, address)| {
            let connected = self.connections.get(&address);
            connected.is_none_or(|&count| count < max)
        })
    }

    /// Counts one more connection.
    pub(crate) fn add(&mut self, address: Option<IpAddr>) {
        if let Some((_, address)) = self.limited(address) {
            *self.connections.entry(address).or_default() += 1;
        }
    }

    /// Counts one connection less.
    pub(crate) fn remove(&mut self, address: Option<IpAddr>) {
        let Some(address) = address else {
            return;
        };
        if let Some(count) = self.connections.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                self.connections.remove(&address);
                // Memory for many addresses is freed when they are gone.
                if self.connections.capacity() > 64.max(self.connections.len() * 4) {
                    self.connections.shrink_to(self.connections.len() * 2);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::net::Ipv4Addr;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Case 23: against a map that forgets nothing.
        #[test]
        fn case_23_an_address_has_as_many_as_it_may(
            steps in prop::collection::vec((0..5u32, any::<bool>()), 0..200),
            connections_max in 1..4usize,
        ) {
            let mut limit = PerAddressLimit::new(Some(connections_max));
            let mut model = BTreeMap::<u32, usize>::new();
            for (number, comes) in steps {
                let address = Some(IpAddr::from(Ipv4Addr::from_bits(number)));
                let count = model.entry(number).or_default();
                prop_assert_eq!(limit.has_place(address), *count < connections_max);
                if comes && *count < connections_max {
                    *count += 1;
                    limit.add(address);
                } else if !comes && *count > 0 {
                    *count -= 1;
                    limit.remove(address);
                }
                let connected = model.values().filter(|&&count| count > 0).count();
                prop_assert_eq!(limit.connections.len(), connected);
            }
        }
    }

    #[test]
    fn case_23_many_addresses_leave_nothing_behind_when_they_are_gone() {
        let mut limit = PerAddressLimit::new(Some(1));
        let addresses = (0..10_000).map(|number| Some(IpAddr::from(Ipv4Addr::from_bits(number))));
        addresses.clone().for_each(|address| limit.add(address));
        addresses.for_each(|address| limit.remove(address));
        assert!(limit.connections.is_empty());
        assert!(limit.connections.capacity() <= 64);
        // Without a limit nothing is kept.
        let mut limit = PerAddressLimit::new(None);
        let address = Some(IpAddr::from(Ipv4Addr::LOCALHOST));
        limit.add(address);
        limit.remove(address);
        assert!(limit.has_place(address) && limit.connections.capacity() == 0);
    }

    #[test]
    fn addresses_of_this_machine_have_no_limit_of_their_own() {
        let address = |text: &str| Some(text.parse::<IpAddr>().unwrap());
        let mut limit = PerAddressLimit::of_other_machines(2);
        for text in ["127.0.0.1", "127.8.9.10", "::1", "::ffff:127.0.0.1"] {
            (0..100).for_each(|_| limit.add(address(text)));
            assert!(limit.has_place(address(text)), "{text}");
        }
        for text in ["192.0.2.1", "2001:db8::1", "::ffff:198.51.100.1"] {
            (0..2).for_each(|_| limit.add(address(text)));
            assert!(!limit.has_place(address(text)), "{text}");
            limit.remove(address(text));
            assert!(limit.has_place(address(text)), "{text}");
        }
        assert!(limit.has_place(None));
        // A limit that is set holds for all.
        let mut limit = PerAddressLimit::new(Some(1));
        limit.add(address("::1"));
        assert!(!limit.has_place(address("::1")));
    }
}
