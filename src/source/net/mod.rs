//! Sources that are sockets.
//!
//! `tcp_client` and `unix_client` connect through `connector`. `tcp_listen` and `unix_listen`
//! accept connections through `listener`, and `connection_set` reads them in turn, each as a
//! channel of its own. `udp_listen` receives datagrams. `bind` has this machine's addresses, and
//! `socket` what sockets have in common.

/// Implements [`Source`](crate::source::Source) and `Debug` for a type through one of its fields.
macro_rules! source_through {
    ($type:ident, $part:tt) => {
        impl $crate::source::Source for $type {
            fn start(&mut self, port: $crate::source::Port, now: std::time::Duration) {
                $crate::source::Source::start(&mut self.$part, port, now);
            }

            fn fill(
                &mut self,
                out: &mut $crate::intake::Intake<'_>,
                now: std::time::Duration,
            ) -> $crate::source::Fill {
                $crate::source::Source::fill(&mut self.$part, out, now)
            }

            fn limits(&self) -> $crate::intake::ChannelLimits {
                $crate::source::Source::limits(&self.$part)
            }

            fn batch_due(&mut self, time: $crate::time::BatchTime) -> bool {
                $crate::source::Source::batch_due(&mut self.$part, time)
            }

            fn drain(&mut self) -> usize {
                $crate::source::Source::drain(&mut self.$part)
            }

            fn ended(&mut self) {
                $crate::source::Source::ended(&mut self.$part);
            }

            fn name(&self) -> &str {
                $crate::source::Source::name(&self.$part)
            }
        }

        impl std::fmt::Debug for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.debug_struct(stringify!($type))
                    .field("name", &$crate::source::Source::name(&self.$part))
                    .finish_non_exhaustive()
            }
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
pub(crate) mod socket;
pub(crate) mod tcp_client;
pub(crate) mod tcp_listen;
pub(crate) mod udp_listen;
pub(crate) mod unix_client;
pub(crate) mod unix_listen;
