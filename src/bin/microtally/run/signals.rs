//! SIGINT, SIGTERM and SIGHUP: the first one ends a run gracefully, the second at once. SIGXFSZ ends nothing.
//!
//! Promise: nothing is done in a signal handler; a thread waits for signals and acts. Must not know:
//! what a run is.

use std::io::{self, Read};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGXFSZ};
use signal_hook::iterator::backend::SignalDelivery;
use signal_hook::iterator::exfiltrator::SignalOnly;

use crate::output::progress;
use crate::{live, say};

/// How long a signal waits at most whose handler could not wake the thread, for the kernel was short of memory.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// A file that may not grow any more (`ulimit -f`) is an error of writing it, as a full disk is, and no reason to
/// be killed.
pub(crate) fn outlive_full_files() {
    // A flag that nobody looks at: that there is a handler is enough. Without one it is as it was.
    let _ = signal_hook::flag::register(SIGXFSZ, Arc::default());
}

/// The first signal calls `stop`, the second ends the program at once.
pub(crate) fn stop_on_signal(stop: impl Fn() + Send + 'static) {
    on_signals(move |number, count| {
        if count == 1 {
            stop();
        } else {
            live::screen::give_back();
            progress::end();
            std::process::exit(128 + number);
        }
    });
}

/// Ends the program as if it were done.
pub(crate) fn exit_on_signal() {
    on_signals(|_, _| std::process::exit(0));
}

/// Calls `act` with each signal's number and how many came so far, on a thread of its own.
///
/// The thread installs the handlers itself: if it cannot be started there are none, and signals end the program as
/// they do by default. Handlers that nobody listens to would make it deaf. Returns once they are installed.
fn on_signals(mut act: impl FnMut(i32, u32) + Send + 'static) {
    let mut wanted = vec![SIGINT, SIGTERM];
    if !ignores_hangup() {
        wanted.push(SIGHUP);
    }
    let (installed, outcome) = mpsc::sync_channel(1);
    let watching = thread::Builder::new()
        .name("signals".into())
        .spawn(move || {
            let mut signals = match install(&wanted) {
                Ok(signals) => signals,
                Err(cause) => {
                    let _ = installed.send(Err(cause));
                    return;
                }
            };
            let _ = installed.send(Ok(()));
            let mut count = 0;
            loop {
                wait(signals.get_read_mut());
                for number in signals.pending() {
                    count += 1;
                    act(number, count);
                }
            }
        });
    let outcome = watching.and_then(|_| outcome.recv().unwrap_or(Ok(())));
    if let Err(cause) = outcome {
        say(&format_args!(
            "signals: no thread can wait for them: {cause}; Ctrl-C and SIGTERM end the run at once, without its last \
             results"
        ));
    }
}

/// Has the handlers of these signals write to a socket, when they have written down the number.
fn install(wanted: &[i32]) -> io::Result<SignalDelivery<UnixStream, SignalOnly>> {
    let (read, write) = UnixStream::pair()?;
    // Without it a signal may have to wait for the next one.
    let _ = read.set_read_timeout(Some(LOOK_AGAIN));
    SignalDelivery::with_pipe(read, write, SignalOnly, wanted)
}

/// Waits until there may be signals: no longer than [`LOOK_AGAIN`], whatever the socket says. `Signals::forever` would
/// wait for ever for a handler that could not write, and panic where the socket cannot be read; signals would be
/// caught then, and nobody would look at them.
fn wait(socket: &mut UnixStream) {
    match socket.read(&mut [0]) {
        Ok(1..) => {}
        // A handler has just run, or it is time to look.
        Err(cause)
            if matches!(
                cause.kind(),
                io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock
            ) => {}
        Ok(0) | Err(_) => thread::sleep(LOOK_AGAIN / 10),
    }
}

/// Whether the program was started to outlive its terminal (`nohup`).
fn ignores_hangup() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .unwrap_or(0);
    mask >> (SIGHUP - 1) & 1 == 1
}
