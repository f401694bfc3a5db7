//! What the program is run for: commands, what they are given, and what they have to make of it.

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::fs;
use std::io::{self, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::saving;

/// A run that does not end by then hangs: without a fault none takes a second, on an idle machine.
/// It is counted from the stop signal, if there is one.
const HANG: Duration = Duration::from_secs(30);

/// How long a command that goes on for ever has time for its result. Sources try again after two
/// seconds.
const PATIENCE: Duration = Duration::from_secs(6);

/// Where the bytes come from.
#[derive(Clone, Copy, PartialEq)]
enum Feed {
    /// From files: `in-0` and `in-1`.
    Files,
    Stdin,
    /// The program connects.
    TcpServer,
    TcpClient,
    UnixClient,
    Udp,
    /// Files that are put into `spool` while it runs.
    Directory,
    /// Nothing: what it writes is compared with its own output.
    Nothing,
}

/// What is run.
#[derive(Clone, Copy, PartialEq)]
enum Program {
    Microtally,
    /// This test, as the program in `saving`.
    Saving,
}

/// A command, its input, and how it ends.
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    program: Program,
    /// `PORT` stands for a free port, `DIR` for the directory of the run.
    args: Vec<&'static str>,
    feed: Feed,
    /// It goes on for ever: it is stopped by a signal when the result is there, or after
    /// [`PATIENCE`].
    pub(crate) goes_on: bool,
    /// A part of the input may be lost, if that is reported: a connection may break.
    pub(crate) may_lose: bool,
}

/// All commands and sources.
pub(crate) fn scenarios() -> Vec<Scenario> {
    vec![
        finite("count FILE FILE", &["count", "in-0", "in-1"], Feed::Files),
        finite(
            "count 'GLOB' -j 1 -a sum",
            &[
                "count", "-j", "1", "-k", "field:1", "-a", "sum", "-v", "field:2", "in-*",
            ],
            Feed::Files,
        ),
        finite(
            "count FILE.gz",
            &["count", "in-0.gz", "in-1.gz"],
            Feed::Files,
        ),
        finite("count < PIPE", &["count"], Feed::Stdin),
        finite(
            "words -",
            &[
                "words", "-i", "50ms", "-n", "all", "-o", "tsv", "--split", "\\x1f", "-",
            ],
            Feed::Stdin,
        ),
        finite(
            "top in a pipe",
            &["top", "-i", "50ms", "-n", "all"],
            Feed::Stdin,
        ),
        endless(
            "top -F FILE FILE",
            &["-F", "--from", "start", "in-0", "in-1"],
            Feed::Files,
        ),
        Scenario {
            may_lose: true,
            ..finite(
                "count tcp://",
                &["count", "--reconnect", "never", "tcp://127.0.0.1:PORT"],
                Feed::TcpServer,
            )
        },
        endless(
            "top tcp-listen://",
            &["tcp-listen://127.0.0.1:PORT"],
            Feed::TcpClient,
        ),
        endless(
            "top unix-listen://",
            &["unix-listen://DIR/socket"],
            Feed::UnixClient,
        ),
        endless(
            "top udp-listen://",
            &["udp-listen://127.0.0.1:PORT"],
            Feed::Udp,
        ),
        endless("top dir://", &["dir://DIR/spool"], Feed::Directory),
        finite("gen", &["gen", "--total", "1MB"], Feed::Nothing),
        Scenario {
            program: Program::Saving,
            ..finite("save_as_text_files", saving::ARGS, Feed::Files)
        },
    ]
}

/// A command that ends with its input, of which nothing may be lost.
fn finite(name: &'static str, args: &[&'static str], feed: Feed) -> Scenario {
    Scenario {
        name,
        program: Program::Microtally,
        args: args.to_vec(),
        feed,
        goes_on: false,
        may_lose: false,
    }
}

/// `top` of a source that goes on for ever.
fn endless(name: &'static str, source: &[&'static str], feed: Feed) -> Scenario {
    Scenario {
        name,
        program: Program::Microtally,
        args: [&["top", "-i", "100ms", "-n", "all"], source].concat(),
        feed,
        goes_on: true,
        may_lose: true,
    }
}

/// How a run ended.
pub(crate) struct Ended {
    /// `None`: it had to be killed.
    pub(crate) status: Option<ExitStatus>,
    /// What it printed or, of the program that saves, what is in its files.
    pub(crate) result: Result<String, String>,
    pub(crate) stderr: String,
    /// Each kind of call that was made: how often, how often it failed, and how often on standard
    /// error.
    pub(crate) calls: BTreeMap<String, [u64; 3]>,
}

impl Ended {
    /// How often calls of this kind were made.
    pub(crate) fn made(&self, call: &str) -> u64 {
        self.calls.get(call).map_or(0, |counts| counts[0])
    }

    /// Whether a call of this kind failed.
    pub(crate) fn has_failed(&self, call: &str) -> bool {
        self.calls.get(call).is_some_and(|counts| counts[1] > 0)
    }

    /// Whether something could not be written to standard error.
    pub(crate) fn is_dumb(&self) -> bool {
        self.calls.values().any(|counts| counts[2] > 0)
    }
}

/// A port that no other run has had: what is sent to one of two programs must not arrive at the
/// other.
fn unused_port() -> (TcpListener, u16) {
    static HAD: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    loop {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("it is bound").port();
        if HAD.lock().expect("no run panics here").insert(port) {
            return (listener, port);
        }
    }
}

/// Two texts with keys and numbers.
fn text(index: u64) -> String {
    let line = |n: u64| format!("key-{} {}\n", (n * n + index) % 17, n % 5);
    (0..400).map(line).collect()
}

fn texts() -> [String; 2] {
    [text(0), text(1)]
}

impl Scenario {
    /// Runs it, with a fault if there is one. One that `waits` for what never comes is stopped as
    /// if it went on for ever.
    pub(crate) fn run(&self, fault: Option<&str>, waits: bool) -> Ended {
        let dir = tempfile::tempdir().expect("a directory");
        let root = dir.path();
        for (index, text) in texts().iter().enumerate() {
            fs::write(root.join(format!("in-{index}")), text).expect("it is written");
        }
        if self.args.iter().any(|arg| arg.ends_with(".gz")) {
            for index in 0..2 {
                gzip(&root.join(format!("in-{index}")));
            }
        }
        fs::create_dir(root.join("spool")).expect("a directory");
        // A server must be there before the program is; a port for the others is free soon again.
        let (listener, port) = unused_port();
        let server = (self.feed == Feed::TcpServer).then_some(listener);
        let mut child = self.start(root, port, fault);
        self.feed(&mut child, server, port, root);
        let status = self.wait(&mut child, root, waits);
        let calls = fs::read(root.join("calls")).expect("it was made");
        Ended {
            status,
            result: self.result(root),
            stderr: read(&root.join("stderr")).replace(&root.display().to_string(), "DIR"),
            calls: calls_of(&calls),
        }
    }

    fn start(&self, root: &Path, port: u16, fault: Option<&str>) -> Child {
        let mut command = match self.program {
            Program::Microtally => Command::new(env!("CARGO_BIN_EXE_microtally")),
            Program::Saving => {
                let mut command = Command::new(env::current_exe().expect("it runs"));
                command.env(saving::INTO, root);
                command.env("FAULT_BEGIN", saving::BEGIN);
                command
            }
        };
        let log = root.join("calls");
        fs::write(&log, [0; ENTRIES * ENTRY_BYTES]).expect("it is written");
        let args = self.args.iter().map(|arg| {
            let arg = arg.replace("PORT", &port.to_string());
            arg.replace("DIR", &root.display().to_string())
        });
        let [out, err] =
            ["stdout", "stderr"].map(|name| fs::File::create(root.join(name)).expect("a file"));
        let stdin = match self.feed {
            Feed::Stdin => Stdio::piped(),
            _ => Stdio::null(),
        };
        command
            .args(args)
            .current_dir(root)
            // As users have it. A backtrace allocates, and std never returns from one whose
            // allocation fails.
            .env("RUST_BACKTRACE", "0")
            .env("FAULT", fault.unwrap_or_default())
            .env("FAULT_LOG", log)
            .env("LD_PRELOAD", shim())
            .stdin(stdin)
            .stdout(out)
            .stderr(err);
        command.spawn().expect("it starts")
    }

    /// Waits for the end. What goes on for ever is stopped when there is no more to wait for.
    /// `None`: it had to be killed.
    fn wait(&self, child: &mut Child, root: &Path, waits: bool) -> Option<ExitStatus> {
        let (mut begun, mut is_stopped) = (Instant::now(), !(self.goes_on || waits));
        loop {
            if let Some(status) = child.try_wait().expect("it is ours") {
                return Some(status);
            }
            if !is_stopped
                && (begun.elapsed() > PATIENCE || self.is_whole(&self.result(root), None))
            {
                kill_process(Pid::from_child(child), Signal::TERM).expect("it is ours");
                (begun, is_stopped) = (Instant::now(), true);
            }
            if begun.elapsed() > HANG {
                let _ = child.kill();
                let _ = child.wait();
                return None;
            }
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Gives the program its input. What cannot be given, because the program has ended, is not.
    fn feed(&self, child: &mut Child, server: Option<TcpListener>, port: u16, root: &Path) {
        let [first, second] = texts();
        let halves = [first.as_bytes(), second.as_bytes()];
        match self.feed {
            Feed::Files | Feed::Nothing => {}
            Feed::Stdin => {
                let stdin = child.stdin.take().expect("it was asked for");
                send(stdin, halves);
            }
            Feed::TcpServer => {
                let server = server.expect("it was made");
                server.set_nonblocking(true).expect("it can be");
                if let Some((client, _)) = patiently(child, || server.accept().ok()) {
                    let _ = client.set_nonblocking(false);
                    send(client, halves);
                }
            }
            Feed::TcpClient => {
                let connect = || TcpStream::connect(("127.0.0.1", port)).ok();
                if let Some(client) = patiently(child, connect) {
                    send(client, halves);
                }
            }
            Feed::UnixClient => {
                let path = root.join("socket");
                if let Some(client) = patiently(child, || UnixStream::connect(&path).ok()) {
                    send(client, halves);
                }
            }
            Feed::Udp => {
                let is_bound = || {
                    let bound = fs::read_to_string("/proc/net/udp").unwrap_or_default();
                    bound.contains(&format!(":{port:04X} ")).then_some(())
                };
                if patiently(child, is_bound).is_none() {
                    return;
                }
                let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
                for half in halves {
                    for lines in half
                        .chunk_by(|&byte, _| byte != b'\n')
                        .collect::<Vec<_>>()
                        .chunks(40)
                    {
                        let _ = socket.send_to(&lines.concat(), ("127.0.0.1", port));
                    }
                }
            }
            Feed::Directory => {
                // Files that are older than the start do not count. The thread that reads comes
                // after it.
                let tasks = format!("/proc/{}/task", child.id());
                let has_begun = || {
                    let is_reader = |task: io::Result<fs::DirEntry>| {
                        task.is_ok_and(|task| {
                            read(&task.path().join("comm")).trim() == "mt-reactor"
                        })
                    };
                    fs::read_dir(&tasks).ok()?.any(is_reader).then_some(())
                };
                if patiently(child, has_begun).is_none() {
                    return;
                }
                // Linux stamps files with the time of the last tick.
                thread::sleep(Duration::from_millis(20));
                for (index, half) in halves.into_iter().enumerate() {
                    let hidden = root.join(format!("new-{index}"));
                    fs::write(&hidden, half).expect("it is written");
                    fs::rename(&hidden, root.join(format!("spool/file-{index}")))
                        .expect("it is moved");
                }
            }
        }
    }

    /// Whether it is a program that has the library in it, and not `microtally`.
    pub(crate) fn is_library(&self) -> bool {
        self.program == Program::Saving
    }

    /// Lines on standard error that a fault is the cause of. That batches are late says nothing of
    /// what is lost.
    pub(crate) fn messages(&self, stderr: &str) -> Vec<String> {
        const USUAL: [&str; 5] = [
            "listening on",
            "connected to",
            "waiting for files in",
            "new files are counted from now on",
            "processing falls behind",
        ];
        let is_usual =
            |line: &&str| line.trim().is_empty() || USUAL.iter().any(|usual| line.contains(usual));
        let lines = stderr.lines().filter(|line| !is_usual(line));
        lines.map(str::to_owned).collect()
    }

    /// The text of the result so far, or why there cannot be one.
    fn result(&self, root: &Path) -> Result<String, String> {
        match self.program {
            Program::Microtally => Ok(read(&root.join("stdout"))),
            Program::Saving => saving::saved(root),
        }
    }

    /// Whether the result is all of what was given. `whole` is the output of a run without a fault.
    pub(crate) fn is_whole(&self, result: &Result<String, String>, whole: Option<&str>) -> bool {
        let Ok(result) = result else { return false };
        if self.feed == Feed::Nothing {
            return result.len() == 1_000_000 && whole.is_none_or(|whole| whole == result);
        }
        let texts = texts().concat();
        let is_sum = self.args.contains(&"sum");
        let mut expected: BTreeMap<String, u64> = BTreeMap::new();
        for line in texts.lines() {
            let (key, number) = line.split_once(' ').expect("two fields");
            match is_sum {
                true => {
                    *expected.entry(key.into()).or_default() +=
                        number.parse::<u64>().expect("a number")
                }
                false => *expected.entry(line.into()).or_default() += 1,
            }
        }
        self.counts(result) == Some(expected)
    }

    /// The counts of the `tsv` format: of `words` and of saved files the sum of all batches, of the
    /// others the last batch.
    fn counts(&self, result: &str) -> Option<BTreeMap<String, u64>> {
        let mut counts: BTreeMap<String, u64> = BTreeMap::new();
        let adds_up = self.args[0] == "words" || self.program == Program::Saving;
        let mut last_time = "";
        for line in result.lines() {
            let [time, key, count] = line.split('\t').collect::<Vec<_>>()[..] else {
                return None;
            };
            if !adds_up && time != last_time {
                counts.clear();
            }
            last_time = time;
            *counts.entry(key.to_owned()).or_default() += count.parse::<u64>().ok()?;
        }
        Some(counts)
    }
}

fn read(path: &Path) -> String {
    let bytes = fs::read(path).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Tries until there is something, or the program has ended.
fn patiently<T>(child: &mut Child, mut attempt: impl FnMut() -> Option<T>) -> Option<T> {
    let begun = Instant::now();
    while begun.elapsed() < HANG {
        if let Some(done) = attempt() {
            return Some(done);
        }
        if child.try_wait().expect("it is ours").is_some() {
            return None;
        }
        thread::sleep(Duration::from_millis(2));
    }
    None
}

/// Sends two halves, with a pause so that they are read one by one as a rule.
fn send(mut to: impl Write, halves: [&[u8]; 2]) {
    for half in halves {
        let _ = to.write_all(half);
        thread::sleep(Duration::from_millis(5));
    }
}

fn gzip(path: &Path) {
    let status = Command::new("gzip").arg(path).status();
    assert!(status.expect("there is gzip").success());
}

/// Entries of the shim's log, and their size.
const ENTRIES: usize = 64;
const ENTRY_BYTES: usize = 40;

fn calls_of(log: &[u8]) -> BTreeMap<String, [u64; 3]> {
    let entries = log.chunks_exact(ENTRY_BYTES).filter(|entry| entry[0] > 0);
    let entries = entries.map(|entry| {
        let name = String::from_utf8_lossy(&entry[..16]);
        let count = |index: usize| {
            let bytes = &entry[16 + 8 * index..][..8];
            u64::from_ne_bytes(bytes.try_into().expect("eight bytes"))
        };
        let name = name.trim_end_matches('\0').to_owned();
        (name, [count(0), count(1), count(2)])
    });
    entries.collect()
}

/// The shim, built once.
fn shim() -> &'static Path {
    static SHIM: OnceLock<PathBuf> = OnceLock::new();
    SHIM.get_or_init(|| {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/faults/shim.c");
        let shim =
            Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("shim-{}.so", std::process::id()));
        let built = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-o"])
            .args([&shim, &source])
            .arg("-ldl")
            .output()
            .expect("there is the C compiler that links");
        assert!(
            built.status.success(),
            "{}",
            String::from_utf8_lossy(&built.stderr)
        );
        shim
    })
}
