//! How many connections each address has.
//!
//! Promise: memory for the addresses that are connected, and for no others; nobody who chooses addresses can
//! make looking one up slow. Refuses to know: connections.

use std::collections::HashMap;
use std::net::IpAddr;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Peers {
    /// `None`: nothing is counted.
    connections_max: Option<usize>,
    /// Addresses with at least one. The hasher of the standard library has a secret key.
    connections: HashMap<IpAddr, usize>,
}

impl Peers {
    /// At most so many connections of one address.
    pub(crate) fn new(connections_max: Option<usize>) -> Self {
        Peers {
            connections_max,
            connections: HashMap::new(),
        }
    }

    /// The limit.
    pub(crate) fn connections_max(&self) -> Option<usize> {
        self.connections_max
    }

    /// Whether there may be one more connection of this address. What has no address has no limit.
    pub(crate) fn has_place(&self, address: Option<IpAddr>) -> bool {
        match (self.connections_max, address) {
            (Some(max), Some(address)) => self.connections.get(&address).is_none_or(|&n| n < max),
            _ => true,
        }
    }

    /// One more.
    pub(crate) fn add(&mut self, address: Option<IpAddr>) {
        if let (Some(_), Some(address)) = (self.connections_max, address) {
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
            let mut peers = Peers::new(Some(connections_max));
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
        let mut peers = Peers::new(Some(1));
        let addresses = (0..10_000).map(|number| Some(IpAddr::from(Ipv4Addr::from_bits(number))));
        addresses.clone().for_each(|address| peers.add(address));
        addresses.for_each(|address| peers.remove(address));
        assert!(peers.connections.is_empty());
        assert!(peers.connections.capacity() <= 64);
        // Where nothing is limited nothing is kept.
        let mut peers = Peers::new(None);
        let address = Some(IpAddr::from(Ipv4Addr::LOCALHOST));
        peers.add(address);
        peers.remove(address);
        assert!(peers.has_place(address) && peers.connections.capacity() == 0);
    }
}
