//! Every operator of the batch plane, and tables behind it, against a slow loop.
//!
//! Goal: whatever batches come, an operator returns what Spark's rule says. Method: random batches of
//! few keys, so that they meet; some are empty, some have no partition, in some there is no batch
//! at all. One program applies all operators of a family to them, under a clock that the test
//! moves, and a model that keeps every batch and computes each result anew from all of them says
//! what must come out, and when. Where the documentation promises no order, results are compared as
//! multisets.
//!
//! `rules` has what is a single case: what is refused and in which words, what a missing batch
//! does. `sinks` has what becomes of batches that a sink does not take at once. How records are found in bytes, and windows over tables by themselves, have tests beside
//! their code.

#[path = "operators/aggregates.rs"]
mod aggregates;
#[path = "operators/handles.rs"]
mod handles;
#[path = "operators/joins.rs"]
mod joins;
#[path = "operators/plans.rs"]
mod plans;
#[path = "operators/recovery.rs"]
mod recovery;
#[path = "operators/rules.rs"]
mod rules;
#[path = "operators/run.rs"]
mod run;
#[path = "operators/sinks.rs"]
mod sinks;
#[path = "operators/stateless.rs"]
mod stateless;
#[path = "operators/states.rs"]
mod states;
#[path = "operators/tables.rs"]
mod tables;
#[path = "operators/windows.rs"]
mod windows;
