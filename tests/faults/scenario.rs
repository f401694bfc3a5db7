//! What the program is run for: commands, what they are given, and what they have to make of it.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

/// A run that takes longer hangs: without a fault none takes a second, on an idle machine.
const DEADLINE: Duration = Duration::from_secs(30);

/// Where the bytes come from.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Feed {
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

pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    /// `PORT` stands for a free port.
    args: &'static [&'static str],
    feed: Feed,
    /// A part of the input may be lost, if that is reported: a connection may break.
    pub(crate) may_lose: bool,
}

pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "count FILE FILE",
        args: &["count", "in-0", "in-1"],
        feed: Feed::Files,
        may_lose: false,
    },
    Scenario {
        name: "count 'GLOB' -j 1 -a sum",
        args: &[
            "count", "-j", "1", "-k", "field:1", "-a", "sum", "-v", "field:2", "in-*",
        ],
        feed: Feed::Files,
        may_lose: false,
    },
    Scenario {
        name: "count FILE.gz",
        args: &["count", "in-0.gz", "in-1.gz"],
        feed: Feed::Files,
        may_lose: false,
    },
    Scenario {
        name: "count < PIPE",
        args: &["count"],
        feed: Feed::Stdin,
        may_lose: false,
    },
    Scenario {
        name: "words -",
        args: &[
            "words", "-i", "50ms", "-n", "all", "-o", "tsv", "--split", "\\x1f", "-",
        ],
        feed: Feed::Stdin,
        may_lose: false,
    },
    Scenario {
        name: "top in a pipe",
        args: &["top", "-i", "50ms", "-n", "all"],
        feed: Feed::Stdin,
        may_lose: false,
    },
    Scenario {
        name: "top -F FILE FILE",
        args: &[
            "top",
            "-F",
            "--from",
            "start",
            "-i",
            "50ms",
            "--batches",
            "6",
            "-n",
            "all",
            "in-0",
            "in-1",
        ],
        feed: Feed::Files,
        may_lose: true,
    },
    Scenario {
        name: "count tcp://",
        args: &["count", "--reconnect", "never", "tcp://127.0.0.1:PORT"],
        feed: Feed::TcpServer,
        may_lose: true,
    },
    Scenario {
        name: "top tcp-listen://",
        args: &[
            "top",
            "-i",
            "200ms",
            "--batches",
            "8",
            "-n",
            "all",
            "tcp-listen://127.0.0.1:PORT",
        ],
        feed: Feed::TcpClient,
        may_lose: true,
    },
    Scenario {
        name: "top unix-listen://",
        args: &[
            "top",
            "-i",
            "200ms",
            "--batches",
            "8",
            "-n",
            "all",
            "unix-listen:socket",
        ],
        feed: Feed::UnixClient,
        may_lose: true,
    },
    Scenario {
        name: "top udp-listen://",
        args: &[
            "top",
            "-i",
            "200ms",
            "--batches",
            "8",
            "-n",
            "all",
            "udp-listen://127.0.0.1:PORT",
        ],
        feed: Feed::Udp,
        may_lose: true,
    },
    Scenario {
        name: "top dir://",
        args: &[
            "top",
            "-i",
            "200ms",
            "--batches",
            "5",
            "-n",
            "all",
            "dir:spool",
        ],
        feed: Feed::Directory,
        may_lose: true,
    },
    Scenario {
        name: "gen",
        args: &["gen", "--total", "1MB"],
        feed: Feed::Nothing,
        may_lose: false,
    },
];

pub(crate) struct Ended {
    /// `None`: it had to be killed.
    pub(crate) status: Option<ExitStatus>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) has_fired: bool,
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
    /// Runs it, with a fault if there is one.
    pub(crate) fn run(&self, fault: Option<&str>) -> Ended {
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
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("it is bound").port();
        let server = (self.feed == Feed::TcpServer).then_some(listener);
        let args = self.args.iter().map(|arg| {
            let arg = arg.replace("PORT", &port.to_string());
            let arg = arg.replace(
                "unix-listen:",
                &format!("unix-listen://{}/", root.display()),
            );
            arg.replace("dir:", &format!("dir://{}/", root.display()))
        });
        let mut command = Command::new(env!("CARGO_BIN_EXE_microtally"));
        command.args(args).current_dir(root);
        let log = root.join("fired");
        if let Some(fault) = fault {
            command
                .env("FAULT", fault)
                .env("FAULT_LOG", &log)
                .env("LD_PRELOAD", shim());
        }
        let files = ["out", "err"].map(|name| fs::File::create(root.join(name)).expect("a file"));
        let [out, err] = files;
        let stdin = if self.feed == Feed::Stdin {
            Stdio::piped()
        } else {
            Stdio::null()
        };
        let child = command.stdin(stdin).stdout(out).stderr(err).spawn();
        let mut child = child.expect("it starts");
        let begun = Instant::now();
        self.feed(&mut child, server, port, root);
        let status = loop {
            if let Some(status) = child.try_wait().expect("it is ours") {
                break Some(status);
            }
            if begun.elapsed() > DEADLINE {
                let _ = child.kill();
                let _ = child.wait();
                break None;
            }
            thread::sleep(Duration::from_millis(5));
        };
        let read = |name: &str| {
            let bytes = fs::read(root.join(name)).expect("it was made");
            String::from_utf8_lossy(&bytes).into_owned()
        };
        Ended {
            status,
            stdout: read("out"),
            stderr: read("err"),
            has_fired: log.exists(),
        }
    }

    /// Gives the program its input. What cannot be given, because the program has ended, is not.
    fn feed(&self, child: &mut Child, server: Option<TcpListener>, port: u16, root: &Path) {
        let [first, second] = texts();
        let halves = [first.as_bytes(), second.as_bytes()];
        match self.feed {
            Feed::Files | Feed::Nothing => {}
            Feed::Stdin => {
                let mut stdin = child.stdin.take().expect("it was asked for");
                for half in halves {
                    let _ = stdin.write_all(half);
                }
            }
            Feed::TcpServer => {
                let server = server.expect("it was made");
                server.set_nonblocking(true).expect("it can be");
                let Some(mut client) = patiently(child, || server.accept().ok()) else {
                    return;
                };
                let _ = client.0.set_nonblocking(false);
                for half in halves {
                    let _ = client.0.write_all(half);
                    thread::sleep(Duration::from_millis(5));
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
                // The run has begun when its first batch is out.
                let has_begun = || {
                    let begun = fs::read(root.join("err")).ok()?;
                    let out = fs::read(root.join("out")).ok()?;
                    (!begun.is_empty() || !out.is_empty()).then_some(())
                };
                let begun = Instant::now();
                patiently(child, || {
                    has_begun().or((begun.elapsed() > Duration::from_millis(150)).then_some(()))
                });
                for (index, half) in halves.into_iter().enumerate() {
                    let hidden = root.join(format!("new-{index}"));
                    fs::write(&hidden, half).expect("it is written");
                    fs::rename(&hidden, root.join(format!("spool/file-{index}")))
                        .expect("it is moved");
                }
            }
        }
    }

    /// Lines on standard error that a fault is the cause of.
    pub(crate) fn messages(&self, stderr: &str) -> usize {
        let is_usual = |line: &&str| {
            line.contains("listening on") || line.trim().is_empty() || line.contains("connected to")
        };
        stderr.lines().filter(|line| !is_usual(line)).count()
    }

    /// Whether the result is all of what was given.
    pub(crate) fn is_whole(&self, ended: &Ended) -> bool {
        if self.feed == Feed::Nothing {
            static WHOLE: OnceLock<String> = OnceLock::new();
            return ended.stdout.len() == 1_000_000
                && *WHOLE.get_or_init(|| ended.stdout.clone()) == ended.stdout;
        }
        let whole = texts().concat();
        let is_sum = self.args.contains(&"sum");
        let mut expected: BTreeMap<String, u64> = BTreeMap::new();
        for line in whole.lines() {
            let (key, number) = line.split_once(' ').expect("two fields");
            match is_sum {
                true => {
                    *expected.entry(key.into()).or_default() +=
                        number.parse::<u64>().expect("a number")
                }
                false => *expected.entry(line.into()).or_default() += 1,
            }
        }
        self.result(&ended.stdout) == Some(expected)
    }

    /// The counts of the `tsv` format: of `words` the sum of all batches, of the others the last batch.
    fn result(&self, stdout: &str) -> Option<BTreeMap<String, u64>> {
        let mut counts: BTreeMap<String, u64> = BTreeMap::new();
        let mut last_time = "";
        for line in stdout.lines() {
            let [time, key, count] = line.split('\t').collect::<Vec<_>>()[..] else {
                return None;
            };
            if self.args[0] != "words" && time != last_time {
                counts.clear();
            }
            last_time = time;
            *counts.entry(key.to_owned()).or_default() += count.parse::<u64>().ok()?;
        }
        Some(counts)
    }
}

/// Tries until there is something, or the program has ended.
fn patiently<T>(child: &mut Child, mut attempt: impl FnMut() -> Option<T>) -> Option<T> {
    let begun = Instant::now();
    while begun.elapsed() < DEADLINE {
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

/// Sends two halves and reads to the end, which the program makes of it when it has read all.
fn send<S: Read + Write>(mut client: S, halves: [&[u8]; 2]) {
    for half in halves {
        let _ = client.write_all(half);
        thread::sleep(Duration::from_millis(5));
    }
}

fn gzip(path: &Path) {
    use std::process::Command;
    let status = Command::new("gzip")
        .arg(path)
        .status()
        .expect("there is gzip");
    assert!(status.success());
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
