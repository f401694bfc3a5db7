//! The sources that come with the crate, with real sockets, through the public API.
//!
//! Goal: whatever clients do, what was received is counted once, and nobody notices anybody else.
//! Method: the test is the client; batches are short, their counts are summed up, and waiting is
//! for a count or a notice, never for a time that a busy machine may need more of.
//!
//! A test that shows a case of the list of faults has its number in its name.

#[path = "sources/losses.rs"]
mod losses;
#[path = "sources/positions.rs"]
mod positions;
#[path = "sources/slow_sinks.rs"]
mod slow_sinks;
#[path = "sources/tcp_listen.rs"]
mod tcp_listen;
#[path = "sources/udp_listen.rs"]
mod udp_listen;
#[path = "sources/unix.rs"]
mod unix;
#[path = "sources/util.rs"]
mod util;
