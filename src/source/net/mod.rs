//! Sources that are sockets.
//!
//! `tcp_client` and `unix_client` connect through `connector`. `tcp_listen` and `unix_listen` accept connections through
//! `listener`, and `connection_set` makes one stream of whole lines of them. `udp_listen` receives datagrams. `bind` has
//! this machine's addresses, `outbox` holds what was received and found no room yet.

/// The methods of [`Source`](crate::source::Source) that a source leaves to the part of it that does the work.
macro_rules! source_through {
    ($part:tt) => {
        fn fill(&mut self, buf: &mut [u8], now: std::time::Duration) -> $crate::source::Fill {
            self.$part.fill(buf, now)
        }

        fn drain(&mut self) -> usize {
            self.$part.drain()
        }

        fn ended(&mut self) {
            self.$part.ended();
        }

        fn name(&self) -> &str {
            self.$part.name()
        }
    };
}

#[cfg(test)]
#[macro_use]
mod scripted;

pub(crate) mod bind;
pub(crate) mod connection_set;
pub(crate) mod connector;
pub(crate) mod listener;
pub(crate) mod outbox;
pub(crate) mod tcp_client;
pub(crate) mod tcp_listen;
pub(crate) mod udp_listen;
pub(crate) mod unix_client;
pub(crate) mod unix_listen;
