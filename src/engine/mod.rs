//! The engine: built from a blueprint, run on threads, stopped.
//!
//! Promise: the parts are built in one place (`assemble`), whichever door they are for; threads are
//! started and stopped in one place (`runtime`). Must not know: argv, formats, concrete sources.
//!
//! | thread | runs | waits on |
//! |---|---|---|
//! | `mt-reactor` | `reactor`: sources, framers, the router, batch clock | `Poll::poll` |
//! | `mt-shard-N` | `shard::worker`, pinned | spin, then park |
//! | `mt-publisher` | `publish_turn`, `publisher`: merge, check, outputs | park |
//! | `mt-sink-NAME` | a sink that asked for a thread of its own | park |
//! | `mt-files-N` | `scan`, pinned: the files of a batch that holds all of them | for each other, at the end |
//! | `mt-clock` | `push`: cuts what is due, where nobody reads | park, at most 50 ms |
//!
//! The push door (`push`) has no reactor: the writing threads own the router in turns. In
//! low-latency mode the thread that completes a batch publishes it, and `mt-publisher` helps
//! (`publish_turn`).

pub(crate) mod assemble;
pub(crate) mod control;
pub(crate) mod plan;
pub(crate) mod publish_turn;
pub(crate) mod publisher;
pub(crate) mod push;
pub(crate) mod reactor;
pub(crate) mod results;
pub(crate) mod runtime;
pub(crate) mod scan;
#[cfg(any(test, feature = "internals"))]
pub(crate) mod simulation;

pub use self::control::{RunStats, Stop};
pub use self::push::{Engine, EngineBuilder, Finished, Monitor, Writer};
pub use self::results::{AggregatedKeys, KeptBatch, Keyed, LentNodes, PipelineResults, TakenNodes};
use std::sync::Arc;

use crate::engine::control::Control;
use crate::engine::publish_turn::PublishTurn;
use crate::error::{Error, ErrorKind, Result, guarded};
use crate::notice::{NoticeKind, Notices};
use crate::shard::panic_message;

/// Refuses `call` where it would wait forever.
pub(crate) fn check(control: &Control, publish_turn: &PublishTurn, call: &str) -> Result<()> {
    if control.is_forked() {
        return Err(control.forked(call));
    }
    if publish_turn.is_inside() {
        return Err(Error::new(
            ErrorKind::InvalidCall,
            format!(
                "{call}: called in a function that this engine calls, and so would wait for itself; call it from \
                 another thread, after that function has returned"
            ),
        ));
    }
    Ok(())
}

/// Wraps `notices` so that they are counted, and that a panic of the handler is reported to
/// `control` as what it is: the failure of a user-supplied function, which costs that notice and
/// nothing else.
pub(crate) fn guard(notices: Notices, control: &Arc<Control>) -> Notices {
    let control = Arc::clone(control);
    control.metrics.expect_notices(NoticeKind::NAMES);
    Notices::to(move |notice| {
        control.metrics.count_notice(notice.kind.name());
        let told = guarded(|| notices.report(notice.clone()));
        if let Err(panic) = told {
            let message = panic_message(panic.as_ref());
            control.report(Error::new(
                ErrorKind::UserFunction,
                format!("notice handler panicked: {message}; the run goes on, and later notices are handed to it"),
            ));
        }
    })
}
