//! The live view in a real terminal emulator: tmux, with a shell in it.
//!
//! What is looked at is what a person sees: the characters on the screen, the modes of the terminal
//! afterwards, the text that stays. Where there is no tmux, a sentence says that nothing was tested.

use std::fs;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use tempfile::TempDir;

use crate::util::{PROGRAM, Port, until};

/// A terminal of its own, in a fresh directory. Dropped, it is closed with all that runs in it.
struct Terminal {
    socket: String,
    dir: TempDir,
}

impl Terminal {
    /// Opens a terminal with a shell whose prompt is `ready>`; `None` without tmux.
    fn open(columns: u16, lines: u16) -> Option<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        if Command::new("tmux").arg("-V").output().is_err() {
            println!("tmux is not installed: the live view was not tested");
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

    fn tmux(&self, args: &[&str]) -> String {
        let mut command = Command::new("tmux");
        command.args(["-u", "-L", &self.socket, "-f", "/dev/null"]);
        command.env("LC_ALL", "C.UTF-8").env_remove("TMUX");
        let output = command.args(args).current_dir(self.dir.path()).output();
        let output = output.expect("tmux can be started");
        assert!(output.status.success(), "tmux {args:?}: {output:?}");
        String::from_utf8(output.stdout).expect("tmux writes UTF-8")
    }

    /// Types text as it is.
    fn type_text(&self, text: &str) {
        self.tmux(&["send-keys", "-l", text]);
    }

    /// Presses keys by tmux's names for them: `Escape`, `C-c`.
    fn press(&self, keys: &[&str]) {
        self.tmux(&[&["send-keys"], keys].concat());
    }

    /// Types a command into the shell.
    fn run(&self, command: &str) {
        self.type_text(command);
        self.press(&["Enter"]);
    }

    /// Runs the program's view of generated words and waits for its table.
    fn watch(&self, options: &str) {
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

    fn resize(&self, columns: u16, lines: u16) {
        let (columns, lines) = (columns.to_string(), lines.to_string());
        self.tmux(&["resize-window", "-x", &columns, "-y", &lines]);
    }

    /// What is on the screen.
    fn screen(&self) -> String {
        self.tmux(&["capture-pane", "-p"])
    }

    /// What is on the screen and above it.
    fn scrollback(&self) -> String {
        self.tmux(&["capture-pane", "-p", "-S", "-"])
    }

    /// Waits until the screen is as it should be.
    fn wait(&self, what: &str, is_there: impl Fn(&str) -> bool) -> String {
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

    /// Sends a signal to the program.
    fn signal(&self, name: &str) {
        let pid = fs::read_to_string(self.dir.path().join("pid")).expect("the shell wrote it");
        let script = format!("kill -{name} {pid}");
        let status = Command::new("sh").args(["-c", &script]).status();
        assert!(status.expect("there is a shell").success(), "{script}");
    }

    /// Waits until the program has left with `code`, and checks that the terminal is as it was before.
    fn is_as_before(&self, code: i32) -> String {
        let left = format!("left with {code}\n");
        self.wait("the end", |screen| screen.contains(&left));
        let of_pane = |what| self.tmux(&["display-message", "-p", what]);
        assert_eq!(of_pane("#{alternate_on} #{cursor_flag}"), "0 1\n");
        self.run("stty -g > after; echo so it is");
        self.wait("the shell", |screen| screen.contains("\nso it is\n"));
        let modes = |name| fs::read_to_string(self.dir.path().join(name)).expect("stty ran");
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

/// The batch that is on the screen.
fn batch(screen: &str) -> u64 {
    let number = screen
        .lines()
        .next()
        .and_then(|title| title.split("batch ").nth(1));
    let number = number.and_then(|number| number.split_whitespace().next());
    number
        .and_then(|number| number.parse().ok())
        .unwrap_or_else(|| panic!("no batch:\n{screen}"))
}

/// The rows' keys: what is behind the last run of blanks below the heading.
fn keys(screen: &str) -> Vec<String> {
    let below = screen.lines().skip_while(|line| !line.contains(" share"));
    let rows = below.skip(1).filter(|line| line.contains(" %  "));
    rows.filter_map(|line| line.rsplit("  ").next())
        .map(str::to_owned)
        .collect()
}

#[test]
fn the_view_follows_its_window_and_leaves_its_table() {
    let Some(terminal) = Terminal::open(80, 24) else {
        return;
    };
    terminal.watch("");
    let screen = terminal.wait("changes", |screen| screen.contains("  change  key"));
    assert_eq!(keys(&screen)[0], "the");
    terminal.resize(40, 10);
    let screen = terminal.wait("a small table", |screen| {
        let is_small = screen.contains("   share  key\n") && screen.lines().count() == 10;
        is_small && screen.contains(" q quit ")
    });
    assert!(
        screen.lines().all(|line| line.chars().count() <= 40),
        "{screen}"
    );
    assert_eq!(keys(&screen).len(), 6, "{screen}");
    terminal.resize(130, 30);
    let screen = terminal.wait("a large table", |screen| keys(screen).len() == 25);
    assert!(
        screen.contains('█') && screen.contains(" rate "),
        "{screen}"
    );
    terminal.press(&["q"]);
    let text = terminal.is_as_before(0);
    // The table stays, and not twice.
    assert_eq!(text.matches(" %  ").count(), 25, "{text}");
    let rest = text.lines().find(|line| line.starts_with("… and "));
    assert!(
        rest.is_some_and(|line| line.contains(" more keys, ")),
        "{text}"
    );
}

#[test]
fn a_filter_is_typed_and_cleared() {
    let Some(terminal) = Terminal::open(80, 24) else {
        return;
    };
    terminal.watch("");
    terminal.type_text("/HE");
    terminal.wait("no row", |screen| {
        screen.contains("no row passes the filter")
    });
    terminal.press(&["BSpace", "BSpace"]);
    terminal.type_text("he");
    terminal.press(&["Enter"]);
    let screen = terminal.wait("filtered rows", |screen| {
        screen.contains("filter \"he\": ") && !keys(screen).is_empty()
    });
    assert!(
        keys(&screen).iter().all(|key| key.contains("he")),
        "{screen}"
    );
    terminal.press(&["Escape"]);
    terminal.wait("all rows", |screen| {
        keys(screen).iter().any(|key| key == "of")
    });
    terminal.press(&["C-c"]);
    terminal.is_as_before(0);
}

#[test]
fn pausing_holds_the_picture_while_counting_goes_on() {
    let Some(terminal) = Terminal::open(80, 24) else {
        return;
    };
    terminal.watch("");
    terminal.press(&["p"]);
    let paused = terminal.wait("the pause", |screen| screen.contains("PAUSED"));
    thread::sleep(Duration::from_secs(1));
    assert_eq!(terminal.screen().lines().next(), paused.lines().next());
    assert_eq!(keys(&terminal.screen()), keys(&paused));
    terminal.press(&["p"]);
    let on = terminal.wait("the end of the pause", |screen| !screen.contains("PAUSED"));
    let before = batch(&paused);
    terminal.wait("later batches", |screen| batch(screen) >= before + 4);
    assert!(batch(&on) >= before);
    terminal.press(&["Escape"]);
    terminal.is_as_before(0);
}

#[test]
fn a_signal_gives_the_terminal_back() {
    for (name, columns) in [("TERM", 80), ("INT", 40), ("HUP", 100)] {
        let Some(terminal) = Terminal::open(columns, 24) else {
            return;
        };
        terminal.watch("");
        terminal.signal(name);
        let text = terminal.is_as_before(0);
        assert!(
            text.contains("  the\n") && text.contains("… and "),
            "{text}"
        );
    }
}

#[test]
fn a_suspended_view_comes_back() {
    let Some(terminal) = Terminal::open(80, 24) else {
        return;
    };
    terminal.watch("");
    for _ in 0..2 {
        // The whole pipeline stops, or the shell would go on waiting for the rest of it.
        terminal.press(&["C-z"]);
        terminal.wait("the shell", |screen| {
            !screen.contains(" share") && screen.trim_end().ends_with("ready>")
        });
        terminal.run("fg");
        terminal.wait("the table", |screen| screen.contains("  change  key"));
    }
    terminal.press(&["q"]);
    terminal.wait("the shell", |screen| {
        !screen.contains("change  key") && screen.trim_end().ends_with("ready>")
    });
    // What the shell echoes of a job that was continued is its own business; its modes are checked.
    terminal.run("stty -g > after; echo so it is");
    terminal.wait("the shell", |screen| screen.contains("\nso it is\n"));
    let modes = |name| fs::read_to_string(terminal.dir.path().join(name)).expect("stty ran");
    assert_eq!(modes("before"), modes("after"));
}

/// A terminal that runs nothing but the program has no shell to go on with: the key does nothing.
#[test]
fn a_view_without_a_shell_cannot_be_suspended() {
    let Some(terminal) = Terminal::open(80, 24) else {
        return;
    };
    let pipe = format!("{PROGRAM} gen --rate 200KB/s | exec {PROGRAM} top -k word -i 200ms -");
    terminal.tmux(&["respawn-pane", "-k", &pipe]);
    let screen = terminal.wait("the table", |screen| screen.contains("  change  key"));
    terminal.press(&["C-z"]);
    let before = batch(&screen);
    terminal.wait("later batches", |screen| batch(screen) > before + 3);
}

#[test]
fn nothing_of_a_stream_steers_the_terminal() {
    let Some(terminal) = Terminal::open(80, 24) else {
        return;
    };
    let hostile = r"\033]0;owned\007 \033[2J\033[31m \302\233H left\342\200\256right 汉字 \377";
    terminal.run("stty -g > before");
    terminal.run(&format!(
        "while printf '{hostile}\\n'; do sleep 0.05; done 2> errors | \
         {PROGRAM} top -k word -i 300ms -n 20 -; echo left with $?"
    ));
    let screen = terminal.wait("the words", |screen| screen.contains("  汉字"));
    for key in [
        r"\x1b]0;owned\x07",
        r"\x1b[2J\x1b[31m",
        r"\xc2\x9bH",
        r"left\xe2\x80\xaeright",
        r"\xff",
    ] {
        assert!(screen.contains(&format!("  {key}\n")), "{key}:\n{screen}");
    }
    let title = terminal.tmux(&["display-message", "-p", "#{pane_title}"]);
    assert!(!title.contains("owned"), "{title}");
    terminal.press(&["q"]);
    terminal.is_as_before(0);
}

#[test]
fn what_is_said_is_seen_in_the_view_and_stays_behind_it() {
    let Some(terminal) = Terminal::open(80, 24) else {
        return;
    };
    let port = Port::closed();
    terminal.run("stty -g > before");
    terminal.run(&format!(
        "{PROGRAM} top -i 200ms localhost:{}; echo left with $?",
        port.number()
    ));
    terminal.wait("the message", |screen| {
        screen.contains("microtally · tcp://") && screen.contains("waiting for tcp://")
    });
    terminal.press(&["q"]);
    let text = terminal.is_as_before(0);
    assert!(text.contains("microtally: waiting for tcp://"), "{text}");
}
