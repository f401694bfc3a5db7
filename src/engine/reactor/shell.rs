//! The reactor's thread: the event queue, the clock, and when to sleep.
//!
//! Must not know: sinks, what a turn does.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use mio::{Events, Poll, Token};

use super::{Next, ReactorCore};
use crate::config::LowLatency;
use crate::engine::publish_turn::PublishTurn;
use crate::error::{Error, ErrorKind, describe, lock};
use crate::ring::Wake;
use crate::source::port::source_and_part;
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

/// Token of the event with which other threads wake the reactor; sources have smaller ones.
pub(crate) const WAKE_TOKEN: Token = Token(usize::MAX);

/// Sources that another thread has something for.
#[derive(Clone, Default)]
pub(crate) struct ReadySignals(Arc<Mutex<Vec<usize>>>);

impl ReadySignals {
    /// Requests a call of the source. Returns `true` if the reactor has to be woken: not while it
    /// has yet to see an earlier request.
    pub(crate) fn raise(&self, index: usize) -> bool {
        let mut raised = self.lock();
        let is_new = !raised.contains(&index);
        if is_new {
            raised.push(index);
        }
        is_new
    }

    /// Calls `each` with every source that was raised.
    fn take(&self, each: impl FnMut(usize)) {
        self.lock().drain(..).for_each(each);
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Vec<usize>> {
        lock(&self.0)
    }
}

/// Runs `core` on the calling thread until its last epoch is cut.
pub(crate) fn run(core: &mut ReactorCore, shell: &mut ReactorShell) {
    let mut events = Events::with_capacity(128);
    let control = Arc::clone(&core.control);
    // A manual clock stands still: spinning would last until a test moves it.
    let low_latency = shell.low_latency.filter(|_| !shell.clock.is_manual());
    // A manual clock moves without waking anybody, so it is looked at often.
    let sleep_max = match shell.clock.is_manual() {
        true => Duration::from_millis(1),
        false => Duration::from_secs(3600),
    };
    let mut spin_until = low_latency.map(|_| Duration::ZERO);
    while !control.abort.load(Ordering::Relaxed) {
        let Some(timeout) = shell.turn(core, spin_until) else {
            break;
        };
        // Rounded up to whole milliseconds by the event queue: never early, at most 1 ms late.
        match shell.poll.poll(&mut events, Some(timeout.min(sleep_max))) {
            Ok(()) => {}
            Err(cause) if cause.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(cause) => {
                let message = format!("event queue failed: {}", describe(&cause));
                control.fail(Error::new(ErrorKind::System, message));
                break;
            }
        }
        if let Some(LowLatency { spin }) = low_latency
            && !events.is_empty()
        {
            spin_until = Some(shell.clock.now() + spin);
        }
        for event in &events {
            match event.token() {
                WAKE_TOKEN => shell.signals.take(|index| core.on_ready(index)),
                token => match source_and_part(token) {
                    (index, None) => core.on_ready(index),
                    (index, Some(part)) => core.on_part_ready(index, part),
                },
            }
        }
    }
}

impl ReactorShell {
    /// Takes one turn. Returns how long to wait for events then, or `None` when the last epoch is
    /// cut. In low-latency mode there is no wait before `spin_until`.
    fn turn(&self, core: &mut ReactorCore, spin_until: Option<Duration>) -> Option<Duration> {
        let now = self.clock.now();
        let next = core.turn(now);
        self.publish_turn.has_cut();
        Some(match (next, spin_until) {
            (Next::Again, _) => Duration::ZERO,
            (Next::Sleep(wait), Some(spin_until)) => {
                let then = self.clock.now();
                if then < spin_until {
                    Duration::ZERO
                } else if core.has_input() {
                    sleep_short_of(wait.saturating_sub(then - now))
                } else {
                    wait
                }
            }
            (Next::Sleep(wait), None) => wait,
            (Next::Stalled(_), _) => {
                self.wake.want();
                // Once more after the announcement: what was returned in between wakes nobody.
                let next = core.turn(self.clock.now());
                self.publish_turn.has_cut();
                match next {
                    Next::Stalled(wait) => wait.min(STALL_MAX),
                    Next::Sleep(wait) => wait,
                    Next::Again => Duration::ZERO,
                    Next::Done => return None,
                }
            }
            (Next::Done, _) => return None,
        })
    }
}
