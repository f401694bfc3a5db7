//! How many connections each address has.
//!
//! Promise: memory for the addresses that are connected, and for no others; nobody who chooses addresses can
//! make looking one up slow. Must not know: connections.

use std::collections::HashMap;
use std::net::IpAddr;

use crate::source::net::listener::options::is_local;

/// See the module.
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
    /// At most so many connections of one address.
    pub(crate) fn new(connections_max: Option<usize>) -> Self {
        PerAddressLimit {
            connections_max,
            ..PerAddressLimit::default()
        }
    }

    /// The same for addresses of other machines; those of this one have no limit.
    pub(crate) fn of_other_machines(connections_max: usize) -> Self {
        PerAddressLimit {
            connections_max: Some(connections_max),
            spares_local: true,
            ..PerAddressLimit::default()
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

    /// Whether there may be one more connection of this address. What has no address has no limit.
    pub(crate) fn has_place(&self, address: Option<IpAddr>) -> bool {
        self.limited(address).is_none_or(|(max, address)| {
            let connected = self.connections.get(&address);
            connected.is_none_or(|&count| count < max)
        })
    }

    /// One more.
    pub(crate) fn add(&mut self, address: Option<IpAddr>) {
        if let Some((_, address)) = self.limited(address) {
            *self.connections.entry(address).or_default() += 1;
        }
    }

    /// One less.
    pub(crate) fn remove(&mut self, address: Option<IpAddr>) {
        let Some(address) = address else {
            return;
        };
        if let Some(count) = self.connections.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                self.connections.remove(&address);
                // A crowd that is gone leaves no room behind.
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
            let mut peers = PerAddressLimit::new(Some(connections_max));
            let mut model = BTreeMap::<u32, usize>::new();
            for (number, comes) in steps {
                let address = Some(IpAddr::from(Ipv4Addr::from_bits(number)));
                let count = model.entry(number).or_default();
                prop_assert_eq!(peers.has_place(address), *count < connections_max);
                if comes && *count < connections_max {
                    *count += 1;
                    peers.add(address);
                } else if !comes && *count > 0 {
                    *count -= 1;
                    peers.remove(address);
                }
                let connected = model.values().filter(|&&count| count > 0).count();
                prop_assert_eq!(peers.connections.len(), connected);
            }
        }
    }

    #[test]
    fn case_23_a_crowd_that_is_gone_leaves_nothing_behind() {
        let mut peers = PerAddressLimit::new(Some(1));
        let addresses = (0..10_000).map(|number| Some(IpAddr::from(Ipv4Addr::from_bits(number))));
        addresses.clone().for_each(|address| peers.add(address));
        addresses.for_each(|address| peers.remove(address));
        assert!(peers.connections.is_empty());
        assert!(peers.connections.capacity() <= 64);
        // Where nothing is limited nothing is kept.
        let mut peers = PerAddressLimit::new(None);
        let address = Some(IpAddr::from(Ipv4Addr::LOCALHOST));
        peers.add(address);
        peers.remove(address);
        assert!(peers.has_place(address) && peers.connections.capacity() == 0);
    }

    #[test]
    fn addresses_of_this_machine_have_no_limit_of_their_own() {
        let address = |text: &str| Some(text.parse::<IpAddr>().unwrap());
        let mut peers = PerAddressLimit::of_other_machines(2);
        for text in ["127.0.0.1", "127.8.9.10", "::1", "::ffff:127.0.0.1"] {
            (0..100).for_each(|_| peers.add(address(text)));
            assert!(peers.has_place(address(text)), "{text}");
        }
        for text in ["192.0.2.1", "2001:db8::1", "::ffff:198.51.100.1"] {
            (0..2).for_each(|_| peers.add(address(text)));
            assert!(!peers.has_place(address(text)), "{text}");
            peers.remove(address(text));
            assert!(peers.has_place(address(text)), "{text}");
        }
        assert!(peers.has_place(None));
        // Whoever sets a limit sets it for all.
        let mut peers = PerAddressLimit::new(Some(1));
        peers.add(address("::1"));
        assert!(!peers.has_place(address("::1")));
    }
}
