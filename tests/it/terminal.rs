//! A real terminal emulator to run the program in: tmux, with a shell in it.
//!
//! What is looked at is what a person sees: the characters on the screen, the modes of the terminal
//! afterwards, the text that stays. Where there is no tmux, a sentence says that nothing was
//! tested.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use tempfile::TempDir;

use crate::util::{PROGRAM, until};

/// A terminal of its own, in a fresh directory. Dropped, it is closed with all that runs in it.
pub(crate) struct Terminal {
    socket: String,
    dir: TempDir,
}

impl Terminal {
    /// Opens a terminal with a shell whose prompt is `ready>`; `None` without tmux.
    pub(crate) fn open(columns: u16, lines: u16) -> Option<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        if Command::new("tmux").arg("-V").output().is_err() {
            println!("tmux is not installed: nothing was tested on a terminal");
            return None;
        }
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let terminal = Terminal {
            socket: format!("microtally-{}-{number}", std::process::id()),
            dir: tempfile::tempdir().expect("a fresh directory"),
        };
        let (columns, lines) = (columns.to_string(), lines.to_string());
        let shell = "exec env -u ENV PS1='ready>' TZ=UTC sh -i";
        terminal.tmux(&["new-session", "-d", "-x", &columns, "-y", &lines, shell]);
        terminal.wait("the prompt", |screen| screen.contains("ready>"));
        Some(terminal)
    }

    pub(crate) fn tmux(&self, args: &[&str]) -> String {
        let mut command = Command::new("tmux");
        command.args(["-u", "-L", &self.socket, "-f", "/dev/null"]);
        command.env("LC_ALL", "C.UTF-8").env_remove("TMUX");
        let output = command.args(args).current_dir(self.dir.path()).output();
        let output = output.expect("tmux can be started");
        assert!(output.status.success(), "tmux {args:?}: {output:?}");
        String::from_utf8(output.stdout).expect("tmux writes UTF-8")
    }

    /// Types text as it is.
    pub(crate) fn type_text(&self, text: &str) {
        self.tmux(&["send-keys", "-l", text]);
    }

    /// Presses keys by tmux's names for them: `Escape`, `C-c`.
    pub(crate) fn press(&self, keys: &[&str]) {
        self.tmux(&[&["send-keys"], keys].concat());
    }

    /// Types a command into the shell.
    pub(crate) fn run(&self, command: &str) {
        self.type_text(command);
        self.press(&["Enter"]);
    }

    /// Runs the program's view of generated words and waits for its table.
    pub(crate) fn watch(&self, options: &str) {
        let generate = format!("{PROGRAM} gen --rate 200KB/s --vocabulary 1000");
        let start = "sh -c 'echo $$ > pid; exec \"$0\" \"$@\"'";
        self.run("stty -g > before");
        self.run(&format!(
            "{generate} | {start} {PROGRAM} top -k word -i 200ms {options} -; echo left with $?"
        ));
        self.wait("the table", |screen| {
            screen.contains(" share") && screen.contains("  the\n")
        });
    }

    /// A path in the directory in which its shell runs.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn resize(&self, columns: u16, lines: u16) {
        let (columns, lines) = (columns.to_string(), lines.to_string());
        self.tmux(&["resize-window", "-x", &columns, "-y", &lines]);
    }

    /// What is on the screen.
    pub(crate) fn screen(&self) -> String {
        self.tmux(&["capture-pane", "-p"])
    }

    /// What is on the screen, with the codes that colour it.
    pub(crate) fn coloured_screen(&self) -> String {
        self.tmux(&["capture-pane", "-p", "-e"])
    }

    /// What is on the screen and above it.
    pub(crate) fn scrollback(&self) -> String {
        self.tmux(&["capture-pane", "-p", "-S", "-"])
    }

    /// Waits until the screen is as it should be.
    pub(crate) fn wait(&self, what: &str, is_there: impl Fn(&str) -> bool) -> String {
        let mut screen = String::new();
        let seen = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            until(what, || {
                thread::sleep(Duration::from_millis(20));
                screen = self.screen();
                is_there(&screen)
            });
        }));
        assert!(seen.is_ok(), "waited in vain for {what}:\n{screen}");
        screen
    }

    /// Waits for the program's process id, and returns it.
    pub(crate) fn pid(&self) -> String {
        let mut pid = String::new();
        until("the process id that the shell writes", || {
            pid = fs::read_to_string(self.path("pid")).unwrap_or_default();
            pid.ends_with('\n')
        });
        pid.trim_end().to_owned()
    }

    /// Sends a signal to the program.
    pub(crate) fn signal(&self, name: &str) {
        let script = format!("kill -{name} {}", self.pid());
        let status = Command::new("sh").args(["-c", &script]).status();
        assert!(status.expect("there is a shell").success(), "{script}");
    }

    /// Waits until the program has left with `code`, and checks that the terminal is as it was
    /// before.
    pub(crate) fn is_as_before(&self, code: i32) -> String {
        let left = format!("left with {code}\n");
        self.wait("the end", |screen| screen.contains(&left));
        let of_pane = |what| self.tmux(&["display-message", "-p", what]);
        assert_eq!(of_pane("#{alternate_on} #{cursor_flag}"), "0 1\n");
        self.run("stty -g > after; echo so it is");
        self.wait("the shell", |screen| screen.contains("\nso it is\n"));
        let modes = |name| fs::read_to_string(self.path(name)).expect("stty ran");
        assert_eq!(modes("before"), modes("after"));
        self.scrollback()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let mut command = Command::new("tmux");
        let _ = command.args(["-L", &self.socket, "kill-server"]).output();
    }
}
