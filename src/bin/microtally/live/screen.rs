//! The terminal's modes, and the way back.
//!
//! Promise: whatever ends the program, a signal, an error, a panic on any thread, the terminal is left as
//! it was found, and what was said meanwhile is said then. Must not know: what is drawn.
//!
//! There is one terminal, so this is the state of the process: a panic hook and a signal's thread have no
//! other way to it.

use std::collections::VecDeque;
use std::fmt::Display;
use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, Once, PoisonError, TryLockError};
use std::thread;
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

/// Messages kept for later, at most; older ones go.
const MESSAGES_MAX: usize = 100;

/// Of those, lines that are shown, at most.
const SHOWN_MAX: usize = 8;

/// Whether the terminal is ours.
static IS_OURS: AtomicBool = AtomicBool::new(false);
/// Held while something is drawn.
static DRAWING: Mutex<()> = Mutex::new(());
static MESSAGES: Mutex<Messages> = Mutex::new(Messages {
    lines: VecDeque::new(),
    count: 0,
});
static HOOK: Once = Once::new();

/// What was said while the terminal was ours.
#[derive(Default)]
struct Messages {
    lines: VecDeque<String>,
    /// How many there were, those that went included.
    count: usize,
}

/// Takes the terminal: no echo, keys one by one, another screen.
pub(super) fn take() -> io::Result<()> {
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            give_back();
            before(panic);
        }));
    });
    enable_raw_mode()?;
    // From here on there is something to give back, should the rest fail.
    IS_OURS.store(true, Ordering::SeqCst);
    enter()
}

/// Gives the terminal back and says what was kept. Does nothing when it is not ours.
pub(crate) fn give_back() {
    if !IS_OURS.swap(false, Ordering::SeqCst) {
        return;
    }
    // Half a picture behind the way back would spoil the other screen. Whoever draws may be stuck, or be
    // the one who panicked, so there is an end to waiting.
    let mut drawing = None;
    for _ in 0..50 {
        match DRAWING.try_lock() {
            Ok(guard) => drawing = Some(guard),
            Err(TryLockError::Poisoned(guard)) => drawing = Some(guard.into_inner()),
            Err(TryLockError::WouldBlock) => {
                thread::sleep(Duration::from_millis(10));
                continue;
            }
        }
        break;
    }
    // Nothing can be done about an error: the terminal is gone.
    let _ = leave();
    drop(drawing);
    let said = std::mem::take(&mut *messages());
    for message in said.lines {
        let _ = writeln!(io::stderr(), "{message}");
    }
}

/// Gives the terminal back at the end of the process, and no more than that: without memory, or patience.
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
    // Not a descriptor of its own: the process may have no more of them.
    execute!(
        io::stdout(),
        Show,
        DisableBracketedPaste,
        LeaveAlternateScreen
    )?;
    modes
}

/// Where keys come from: standard input, or the session's terminal where that is something else. The library
/// that reads them has the same.
pub(super) struct Keyboard(OwnedFd);

impl Keyboard {
    pub(super) fn open() -> io::Result<Self> {
        let stdin = io::stdin();
        if stdin.is_terminal() {
            return stdin.as_fd().try_clone_to_owned().map(Keyboard);
        }
        File::open("/dev/tty").map(|tty| Keyboard(tty.into()))
    }

    /// Waits until there is a key to read, a signal comes, or `patience` is over.
    ///
    /// # Errors
    ///
    /// The terminal is gone. It has to be asked for before every reading: reading keys from one that is gone
    /// goes round for ever in the library.
    pub(super) fn wait(&self, patience: Duration) -> io::Result<()> {
        let timeout = Timespec {
            tv_sec: patience.as_secs().try_into().unwrap_or(i64::MAX),
            tv_nsec: patience.subsec_nanos().into(),
        };
        let mut asked = [PollFd::new(&self.0, PollFlags::IN)];
        match poll(&mut asked, Some(&timeout)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(cause) => return Err(cause.into()),
        }
        let gone = PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL;
        if asked[0].revents().intersects(gone) {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        Ok(())
    }
}

/// What the terminal itself does at Ctrl-Z when keys are not read one by one: stops the process and whoever
/// else is in its pipeline.
pub(super) fn stop_pipeline() -> io::Result<()> {
    kill_current_process_group(Signal::TSTP).map_err(io::Error::from)
}

/// Answers SIGTSTP: gives the terminal back, stops, and takes it again once the process goes on. Where
/// nobody could make it go on, the signal is ignored, as the kernel ignores it.
pub(super) fn suspend() -> io::Result<()> {
    if is_orphaned() {
        return Ok(());
    }
    leave()?;
    signal_hook::low_level::emulate_default_handler(signal_hook::consts::SIGTSTP)?;
    resume()
}

/// Takes the terminal again after somebody else had it.
pub(super) fn resume() -> io::Result<()> {
    // What its modes are now is what they will be given back as.
    let _ = disable_raw_mode();
    enable_raw_mode()?;
    enter()
}

/// Whether no shell watches this process group: the way up through it does not lead to another group of
/// the session. Not so where there is no `/proc` to tell.
fn is_orphaned() -> bool {
    // Behind the name, which is in brackets and may hold anything: state, parent, group, session.
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

/// Whether the terminal is ours.
pub(super) fn is_ours() -> bool {
    IS_OURS.load(Ordering::SeqCst)
}

/// Calls `draw` unless the terminal is not ours any more.
pub(super) fn while_ours<R>(draw: impl FnOnce() -> R) -> Option<R> {
    let _drawing = DRAWING.lock().unwrap_or_else(PoisonError::into_inner);
    is_ours().then(draw)
}

/// Keeps a line for standard error, where it would spoil the picture now, and shows it in the view.
/// False when the terminal is not ours: then the line may just be written.
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

/// How many lines there were, and the last few of them.
pub(super) fn newest() -> (usize, Vec<String>) {
    let messages = messages();
    let last = messages.lines.iter().rev().take(SHOWN_MAX).rev();
    (messages.count, last.cloned().collect())
}

fn messages() -> MutexGuard<'static, Messages> {
    MESSAGES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Standard output past Rust's buffering by lines.
pub(super) fn terminal() -> io::Result<File> {
    io::stdout().as_fd().try_clone_to_owned().map(File::from)
}
