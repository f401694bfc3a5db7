//! The whole engine on one thread, in an order of steps and with faults that the input chooses:
//! batches hold what was read, the ledger closes, what is lost adds up, and everything drains in
//! bounded time.
#![no_main]

use libfuzzer_sys::fuzz_target;
use microtally::internals::run_schedule;

fuzz_target!(|choices: &[u8]| run_schedule(choices));
