//! SIGINT, SIGTERM and SIGHUP: the first signal ends a run gracefully, the second at once. SIGXFSZ
//! is ignored.
//!
//! Promise: signal handlers only wake a thread, which acts. Must not know: `counting`, `parse`.

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

/// How long a signal waits at most if its handler could not wake the thread because the kernel was
/// short of memory.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Makes a file that may not grow any more (`ulimit -f`) a write error, like a full disk, instead
/// of a fatal signal.
pub(crate) fn outlive_full_files() {
    // The flag is never read: a handler is enough. If it cannot be installed, the signal stays
    // fatal.
    let _ = signal_hook::flag::register(SIGXFSZ, Arc::default());
}

/// The first signal calls `stop`, the second ends the program at once.
pub(crate) fn stop_on_signal(stop: impl Fn() + Send + 'static) {
    on_signals(move |number, count| {
        if count == 1 {
            stop();
        } else {
            live::screen::restore();
            progress::end();
            std::process::exit(128 + number);
        }
    });
}

/// Any signal ends the program with success.
pub(crate) fn exit_on_signal() {
    on_signals(|_, _| std::process::exit(0));
}

/// Calls `act` with the number of each signal and how many have arrived so far, on a separate
/// thread.
///
/// The thread installs the handlers itself. If it cannot be started there are none, and signals end
/// the program as they do by default; handlers without the thread would ignore signals. Returns
/// once the handlers are installed.
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

/// Installs handlers that record the number of the signal and write to a socket.
fn install(wanted: &[i32]) -> io::Result<SignalDelivery<UnixStream, SignalOnly>> {
    let (read, write) = UnixStream::pair()?;
    // Without the timeout a signal may have to wait for the next one.
    let _ = read.set_read_timeout(Some(LOOK_AGAIN));
    SignalDelivery::with_pipe(read, write, SignalOnly, wanted)
}

/// Waits until there may be signals, but no longer than [`LOOK_AGAIN`]. `Signals::forever` would
/// wait forever for a handler that could not write, and panic if the socket cannot be read; signals
/// would then be caught and ignored.
fn wait(socket: &mut UnixStream) {
    match socket.read(&mut [0]) {
        Ok(1..) => {}
        // A handler has just run, or the time is up.
        Err(cause)
            if matches!(
                cause.kind(),
                io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock
            ) => {}
        Ok(0) | Err(_) => thread::sleep(LOOK_AGAIN / 10),
    }
}

/// Returns `true` if the program was started to outlive its terminal (`nohup`).
fn ignores_hangup() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .unwrap_or(0);
    mask >> (SIGHUP - 1) & 1 == 1
}
