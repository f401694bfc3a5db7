//! Sets the terminal's modes and restores them.
//!
//! Promise: whatever ends the program, be it a signal, an error or a panic on any thread, the
//! terminal is restored, and the messages of the meantime are printed. Must not know: `draw`,
//! `frame`, `model`.
//!
//! There is one terminal, so its state belongs to the process: a panic hook and a signal thread
//! have no other access.

use std::collections::VecDeque;
use std::fmt::Display;
use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, Once};
use std::time::Duration;

use ratatui::crossterm::cursor::Show;
use ratatui::crossterm::event::{DisableBracketedPaste, EnableBracketedPaste};
use ratatui::crossterm::terminal::{
    EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};
use ratatui::crossterm::{cursor::Hide, execute};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Signal, kill_current_process_group};

use crate::{lock, lock_soon};

/// Most messages that are kept; older ones are dropped.
const MESSAGES_MAX: usize = 100;

/// Most of those that are shown.
const SHOWN_MAX: usize = 8;

/// Whether the view has the terminal.
static IS_OURS: AtomicBool = AtomicBool::new(false);
/// Held while something is drawn.
static DRAWING: Mutex<()> = Mutex::new(());
static MESSAGES: Mutex<Messages> = Mutex::new(Messages {
    lines: VecDeque::new(),
    count: 0,
});
static HOOK: Once = Once::new();

/// Messages while the view had the terminal.
#[derive(Default)]
struct Messages {
    lines: VecDeque<String>,
    /// How many there were, including dropped ones.
    count: usize,
}

/// Takes the terminal: no echo, keys one by one, another screen.
pub(super) fn take() -> io::Result<()> {
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            restore();
            before(panic);
        }));
    });
    enable_raw_mode()?;
    // From here on there is something to restore if the rest fails.
    IS_OURS.store(true, Ordering::SeqCst);
    enter()
}

/// Restores the terminal and prints the kept messages. Does nothing if the view does not have the
/// terminal.
pub(crate) fn restore() {
    if !IS_OURS.swap(false, Ordering::SeqCst) {
        return;
    }
    // Half a picture after leaving would spoil the normal screen. The drawing thread may be stuck,
    // or may be the one that panicked, so the wait is limited.
    let drawing = lock_soon(&DRAWING);
    // An error cannot be handled: the terminal is gone.
    let _ = leave();
    drop(drawing);
    let kept = std::mem::take(&mut *messages());
    for message in kept.lines {
        let _ = writeln!(io::stderr(), "{message}");
    }
}

/// Restores the terminal and does nothing else, for an end without memory or time.
pub(crate) fn abandon() {
    if IS_OURS.swap(false, Ordering::SeqCst) {
        let _ = leave();
    }
}

fn enter() -> io::Result<()> {
    execute!(
        io::stdout(),
        EnterAlternateScreen,
        EnableBracketedPaste,
        Hide
    )
}

fn leave() -> io::Result<()> {
    let modes = disable_raw_mode();
    // Without a new descriptor: the process may not have any left.
    execute!(
        io::stdout(),
        Show,
        DisableBracketedPaste,
        LeaveAlternateScreen
    )?;
    modes
}

/// Where keys come from: standard input if it is a terminal, else the session's terminal. Crossterm
/// reads the same.
pub(super) struct Keyboard(OwnedFd);

impl Keyboard {
    pub(super) fn open() -> io::Result<Self> {
        let stdin = io::stdin();
        if stdin.is_terminal() {
            return stdin.as_fd().try_clone_to_owned().map(Keyboard);
        }
        File::open("/dev/tty").map(|tty| Keyboard(tty.into()))
    }

    /// Waits for a key or a signal, but no longer than `timeout`.
    ///
    /// # Errors
    ///
    /// The terminal is gone. Check before every read: crossterm loops forever on a terminal that is
    /// gone.
    pub(super) fn wait(&self, timeout: Duration) -> io::Result<()> {
        let timeout = Timespec {
            tv_sec: timeout.as_secs().try_into().unwrap_or(i64::MAX),
            tv_nsec: timeout.subsec_nanos().into(),
        };
        let mut polled = [PollFd::new(&self.0, PollFlags::IN)];
        match poll(&mut polled, Some(&timeout)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(cause) => return Err(cause.into()),
        }
        let gone = PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL;
        if polled[0].revents().intersects(gone) {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        Ok(())
    }
}

/// Does what the terminal does at Ctrl-Z in its normal mode: stops all processes of the pipeline.
pub(super) fn stop_pipeline() -> io::Result<()> {
    kill_current_process_group(Signal::TSTP).map_err(io::Error::from)
}

/// Handles SIGTSTP: restores the terminal, stops, and takes the terminal again when the process
/// continues. If no shell could continue the process, the signal is ignored, as the kernel does.
pub(super) fn suspend() -> io::Result<()> {
    if is_orphaned() {
        return Ok(());
    }
    leave()?;
    signal_hook::low_level::emulate_default_handler(signal_hook::consts::SIGTSTP)?;
    resume()
}

/// Takes the terminal again after another process had it.
pub(super) fn resume() -> io::Result<()> {
    // The current modes are the ones to restore later.
    let _ = disable_raw_mode();
    enable_raw_mode()?;
    enter()
}

/// Returns `true` if no shell controls this process group: no ancestor belongs to another group of
/// the session. Returns `false` without `/proc`.
fn is_orphaned() -> bool {
    // After the name, which is in parentheses and may contain anything: state, parent, group,
    // session.
    let status = |process: &str| -> Option<(String, String, String)> {
        let text = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
        let mut fields = text.rsplit_once(')')?.1.split_whitespace().skip(1);
        let mut next = || fields.next().map(str::to_owned);
        Some((next()?, next()?, next()?))
    };
    let Some((mut parent, group, session)) = status("self") else {
        return false;
    };
    loop {
        match status(&parent) {
            Some((above, same, _)) if same == group => parent = above,
            Some((_, _, of_parent)) => return of_parent != session,
            None => return true,
        }
    }
}

/// Returns `true` if the view has the terminal.
pub(super) fn is_ours() -> bool {
    IS_OURS.load(Ordering::SeqCst)
}

/// Calls `draw` if the view still has the terminal.
pub(super) fn while_ours<R>(draw: impl FnOnce() -> R) -> Option<R> {
    let _drawing = lock(&DRAWING);
    is_ours().then(draw)
}

/// Keeps a line for standard error, where it would spoil the picture now, and shows it in the view.
/// Returns `false` if the view does not have the terminal, and the line can be printed.
pub(crate) fn keep(line: &dyn Display) -> bool {
    let mut messages = messages();
    if !is_ours() {
        return false;
    }
    if messages.lines.len() == MESSAGES_MAX {
        messages.lines.pop_front();
    }
    messages.lines.push_back(line.to_string());
    messages.count += 1;
    true
}

/// Returns how many messages there were, and the last few of them.
pub(super) fn newest() -> (usize, Vec<String>) {
    let messages = messages();
    let last = messages.lines.iter().rev().take(SHOWN_MAX).rev();
    (messages.count, last.cloned().collect())
}

fn messages() -> MutexGuard<'static, Messages> {
    lock(&MESSAGES)
}

/// Returns standard output without Rust's line buffering.
pub(super) fn terminal() -> io::Result<File> {
    io::stdout().as_fd().try_clone_to_owned().map(File::from)
}
