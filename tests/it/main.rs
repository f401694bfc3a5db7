//! The real program, started in a fresh directory and talked to over loopback and pipes.
//!
//! Goal: what a user can see (bytes on standard output, sentences on standard error, exit codes) is
//! as the manual says, also when senders, readers and signals misbehave. Method: one process a
//! test, all waiting is for an event with a generous deadline; an interval of a year stands for
//! "one batch, cut by the end of the stream", so that no result depends on when a batch time
//! happens to pass.
//!
//! `util` is the runner, `terminal` a terminal to run in. The other modules are named after what
//! they attack. A number such as `case_26` is that of the fault in the list of faults the project
//! works through.
//!
//! Linux only: the tests use `/dev/full`, `/proc` and signals.
#![cfg(target_os = "linux")]

mod terminal;
mod util;

mod aggregates;
mod batch_clock;
mod bench;
mod count_once;
mod environment;
mod flags;
mod formats;
mod generator;
mod kernels;
mod keys;
mod limits;
mod live;
mod manual;
mod progress;

mod pyspark;
mod record_ends;
mod several_sources;
mod signals;
mod sink_stdout;
mod source_compressed;
mod source_dir;
mod source_files;
mod source_follow;
mod source_stdin;
mod source_tcp_client;
mod source_tcp_listen;
mod source_tcp_reconnect;
mod source_text_files;
mod source_udp_listen;
mod source_unix;
mod source_unix_listen;
mod top_in_a_pipe;
