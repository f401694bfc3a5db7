//! The reactor's thread: the event queue, the clock, and when to sleep.
//!
//! Must not know: sinks, what a turn does.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use mio::{Events, Poll};

use super::{Next, ReactorCore, ReadySignals, WAKE_TOKEN};
use crate::config::LowLatency;
use crate::engine::publish_turn::PublishTurn;
use crate::error::{Error, ErrorKind};
use crate::ring::Wake;
use crate::time::Clock;

/// Longest sleep of the reactor while there is no room. It is woken much earlier; this is the
/// backstop that makes progress independent of any wake-up.
const STALL_MAX: Duration = Duration::from_millis(10);

/// How late a sleeping thread may wake up, on a virtual machine that is not overloaded.
const AWAKE_LATE_MAX: Duration = Duration::from_micros(200);

/// Returns the longest sleep that ends in time: the event queue takes whole milliseconds, and the
/// rest is spun away.
fn sleep_short_of(wait: Duration) -> Duration {
    let ms = wait.saturating_sub(AWAKE_LATE_MAX).as_millis();
    Duration::from_millis(u64::try_from(ms).unwrap_or(u64::MAX))
}

/// What the reactor's thread works with, besides the reactor.
pub(crate) struct ReactorShell {
    pub(crate) poll: Poll,
    pub(crate) clock: Clock,
    pub(crate) wake: Arc<Wake>,
    pub(crate) signals: ReadySignals,
    pub(crate) publish_turn: Arc<PublishTurn>,
    pub(crate) low_latency: Option<LowLatency>,
}

/// Runs `core` on the calling thread until its last epoch is cut.
pub(crate) fn run(core: &mut ReactorCore, shell: &mut ReactorShell) {
    let ReactorShell {
        poll,
        clock,
        wake,
        signals,
        publish_turn,
        low_latency,
    } = shell;
    let mut events = Events::with_capacity(128);
    let control = Arc::clone(&core.control);
    // A manual clock stands still: spinning would last until a test moves it.
    let low_latency = low_latency.filter(|_| !clock.is_manual());
    let mut spin_until = Duration::ZERO;
    while !control.abort.load(Ordering::Relaxed) {
        let now = clock.now();
        let next = core.turn(now);
        publish_turn.has_cut();
        let timeout = match next {
            Next::Again => Duration::ZERO,
            Next::Sleep(wait) if low_latency.is_some() => {
                let then = clock.now();
                if then < spin_until {
                    Duration::ZERO
                } else if core.has_input() {
                    sleep_short_of(wait.saturating_sub(then - now))
                } else {
                    wait
                }
            }
            Next::Sleep(wait) => wait,
            Next::Stalled(_) => {
                wake.want();
                // Once more after the announcement: what was returned in between wakes nobody.
                let next = core.turn(clock.now());
                publish_turn.has_cut();
                match next {
                    Next::Stalled(wait) => wait.min(STALL_MAX),
                    Next::Sleep(wait) => wait,
                    Next::Again => Duration::ZERO,
                    Next::Done => break,
                }
            }
            Next::Done => break,
        };
        // A manual clock moves without waking anybody, so it is looked at often.
        let cap = if clock.is_manual() {
            Duration::from_millis(1)
        } else {
            Duration::from_secs(3600)
        };
        // Rounded up to whole milliseconds by the event queue: never early, at most 1 ms late.
        match poll.poll(&mut events, Some(timeout.min(cap))) {
            Ok(()) => {}
            Err(cause) if cause.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(cause) => {
                let cause = crate::error::describe(&cause);
                control.fail(Error::new(
                    ErrorKind::System,
                    format!("event queue failed: {cause}"),
                ));
                break;
            }
        }
        if let Some(LowLatency { spin }) = low_latency
            && !events.is_empty()
        {
            spin_until = clock.now() + spin;
        }
        for event in &events {
            if event.token() == WAKE_TOKEN {
                signals
                    .lock()
                    .drain(..)
                    .for_each(|index| core.on_ready(index));
            } else {
                core.on_ready(event.token().0);
            }
        }
    }
}
