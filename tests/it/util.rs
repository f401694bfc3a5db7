//! A small runner: starts the program in a fresh directory, captures what it says while it runs,
//! sends it signals, and never waits for ever.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use socket2::{Domain, SockRef, Socket, Type};
use tempfile::TempDir;

/// The program under test.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_microtally");

/// Longest wait for anything: far beyond what a busy machine needs, so that only a hang reaches it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// An interval that does not end during a test: a year. With hours, one run in some hundreds would
/// meet the end of one.
pub(crate) const ONE_BATCH: [&str; 2] = ["-i", "8760h"];

/// A program that is about to be started.
pub(crate) struct Program {
    command: Command,
    dir: TempDir,
    reads_stdout: bool,
}

/// The program with these arguments, standard input empty, times in UTC.
pub(crate) fn microtally(args: &[&str]) -> Program {
    Program::new(PROGRAM, args)
}

/// A shell script in which `$0` is the program.
pub(crate) fn shell(script: &str) -> Program {
    Program::new("sh", &["-c", script, PROGRAM])
}

impl Program {
    fn new(path: &str, args: &[&str]) -> Self {
        let dir = tempfile::tempdir().expect("a fresh directory");
        let mut command = Command::new(path);
        command.args(args).current_dir(dir.path()).env("TZ", "UTC");
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        command.stderr(Stdio::piped());
        Program {
            command,
            dir,
            reads_stdout: true,
        }
    }

    pub(crate) fn args(mut self, args: &[&str]) -> Self {
        self.command.args(args);
        self
    }

    /// A file of its directory has this content when it starts.
    pub(crate) fn file(self, name: &str, content: impl AsRef<[u8]>) -> Self {
        let path = self.path(name);
        let parent = path.parent().expect("it is in a directory");
        std::fs::create_dir_all(parent).expect("the fresh directory can be written to");
        std::fs::write(path, content).expect("the fresh directory can be written to");
        self
    }

    /// A path in its directory, in which it runs.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self
    }

    pub(crate) fn stdin(mut self, stdin: impl Into<Stdio>) -> Self {
        self.command.stdin(stdin);
        self
    }

    /// Standard input is a file with this content.
    pub(crate) fn stdin_file(self, content: &[u8]) -> Self {
        let path = self.dir.path().join("input");
        std::fs::write(&path, content).expect("the fresh directory can be written to");
        let file = std::fs::File::open(path).expect("it was just written");
        self.stdin(file)
    }

    pub(crate) fn stdout(mut self, stdout: impl Into<Stdio>) -> Self {
        self.command.stdout(stdout);
        self
    }

    pub(crate) fn stderr(mut self, stderr: impl Into<Stdio>) -> Self {
        self.command.stderr(stderr);
        self
    }

    /// Standard output is a pipe that nobody reads, but what takes [`Run::stdout_pipe`].
    pub(crate) fn unread_stdout(mut self) -> Self {
        self.reads_stdout = false;
        self
    }

    pub(crate) fn start(mut self) -> Run {
        let mut child = self.command.spawn().expect("the program can be started");
        let mut stdout_pipe = child.stdout.take();
        let to_read = if self.reads_stdout {
            stdout_pipe.take()
        } else {
            None
        };
        Run {
            stdin: child.stdin.take(),
            stdout: Captured::read("stdout", to_read),
            stderr: Captured::read("stderr", child.stderr.take()),
            stdout_pipe,
            child,
            dir: self.dir,
        }
    }

    /// Starts it and waits for its end.
    pub(crate) fn run(self) -> Ended {
        self.start().wait()
    }

    /// Starts it, writes `input` to its standard input, closes that, and waits for the end.
    pub(crate) fn run_with(self, input: &[u8]) -> Ended {
        let mut run = self.stdin(Stdio::piped()).start();
        let mut stdin = run.stdin.take().expect("it is a pipe");
        let input = input.to_vec();
        // In a thread: a program that ends early must not block the test, nor a closed pipe fail
        // it.
        let writer = thread::spawn(move || drop(stdin.write_all(&input)));
        let ended = run.wait();
        writer.join().expect("the writer does not panic");
        ended
    }
}

/// A program that runs. Dropped, it is killed.
pub(crate) struct Run {
    child: Child,
    pub(crate) stdin: Option<ChildStdin>,
    pub(crate) stdout: Captured,
    pub(crate) stderr: Captured,
    pub(crate) stdout_pipe: Option<ChildStdout>,
    dir: TempDir,
}

impl Run {
    /// A path in the directory in which it runs.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Waits until it reports that it listens, and returns the address.
    pub(crate) fn listening_on(&self) -> String {
        let what = "microtally: listening on ";
        let text = self
            .stderr
            .wait_until(what, |text| address_behind(text, what).is_some());
        address_behind(&text, what).expect("it was there")
    }

    /// Waits until the results so far, in the `tsv` format of batches that add up to everything,
    /// hold this.
    pub(crate) fn wait_for_counts(&self, pairs: &[(&str, u64)]) {
        let wanted = plain(pairs);
        self.stdout
            .wait_until(&format!("{wanted:?}"), |text| tsv_counts(text) == wanted);
    }

    /// Sends a signal, by its name without `SIG`. The shell's own `kill` is there on every machine.
    pub(crate) fn signal(&self, name: &str) {
        let script = format!("kill -{name} {}", self.child.id());
        let status = Command::new("sh").args(["-c", &script]).status();
        assert!(status.expect("there is a shell").success(), "{script}");
    }

    /// Bytes that the program has read, of whatever, as the system counts them.
    pub(crate) fn read_bytes(&self) -> u64 {
        let path = format!("/proc/{}/io", self.child.id());
        let text = std::fs::read_to_string(path).expect("the program runs");
        let line = text.lines().find_map(|line| line.strip_prefix("rchar: "));
        line.and_then(|count| count.parse().ok()).expect("a number")
    }

    /// Waits until the program has started to read; by then it catches SIGINT and SIGTERM.
    pub(crate) fn wait_until_it_reads(&self) {
        let tasks = format!("/proc/{}/task", self.child.id());
        until("there is a thread that reads", || {
            let tasks = std::fs::read_dir(&tasks).into_iter().flatten().flatten();
            let names = tasks.flat_map(|task| std::fs::read_to_string(task.path().join("comm")));
            let mut names =
                names.map(|name| name.starts_with("mt-reactor") || name.starts_with("mt-files"));
            names.any(|is_reader| is_reader)
        });
    }

    /// Waits until the program catches SIGINT and SIGTERM; before, they would just kill it.
    pub(crate) fn wait_until_signals_are_caught(&self) {
        let process = self.child.id().to_string();
        let both = 1 << (2 - 1) | 1 << (15 - 1);
        until("the program catches signals", || {
            signal_mask(&process, "SigCgt:") & both == both
        });
    }

    /// Whether reads of its standard input return at once: a flag of the pipe, not of the process.
    pub(crate) fn has_nonblocking_stdin(&self) -> bool {
        let path = format!("/proc/{}/fdinfo/0", self.child.id());
        let info = std::fs::read_to_string(path).expect("the program runs");
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:"));
        let flags = flags.and_then(|flags| u32::from_str_radix(flags.trim(), 8).ok());
        flags.expect("octal flags") & 0o4000 != 0
    }

    /// Whether the program has ended.
    pub(crate) fn has_ended(&mut self) -> bool {
        let status = self.child.try_wait();
        status.expect("the child can be waited for").is_some()
    }

    /// Waits for the end.
    pub(crate) fn wait(mut self) -> Ended {
        drop(self.stdin.take());
        let deadline = Instant::now() + PATIENCE;
        let status = loop {
            let status = self.child.try_wait();
            match status.expect("the child can be waited for") {
                Some(status) => break status,
                None if Instant::now() < deadline => thread::sleep(Duration::from_millis(2)),
                None => panic!(
                    "still running after {PATIENCE:?}\nstdout: {}\nstderr: {}",
                    self.stdout.text(),
                    self.stderr.text()
                ),
            }
        };
        Ended {
            code: status.code(),
            stdout: self.stdout.to_end(),
            stderr: self.stderr.to_end(),
        }
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        // It has ended already, but in a test that fails.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A stream that a thread reads to its end.
pub(crate) struct Captured {
    name: &'static str,
    seen: Arc<(Mutex<Seen>, Condvar)>,
}

#[derive(Default)]
struct Seen {
    bytes: Vec<u8>,
    is_over: bool,
}

impl Captured {
    fn read(name: &'static str, from: Option<impl Read + Send + 'static>) -> Self {
        let seen = Arc::new((Mutex::new(Seen::default()), Condvar::new()));
        let shared = Arc::clone(&seen);
        thread::spawn(move || {
            let (seen, changed) = &*shared;
            let mut buf = [0; 1 << 16];
            let mut from = from;
            while let Some(stream) = &mut from {
                match stream.read(&mut buf) {
                    Ok(count @ 1..) => seen.lock().unwrap().bytes.extend(&buf[..count]),
                    _ => from = None,
                }
                changed.notify_all();
            }
            seen.lock().unwrap().is_over = true;
            changed.notify_all();
        });
        Captured { name, seen }
    }

    /// Waits until `is_there` of the text so far, and returns that text.
    pub(crate) fn wait_until(&self, what: &str, is_there: impl Fn(&str) -> bool) -> String {
        let (seen, changed) = &*self.seen;
        let deadline = Instant::now() + PATIENCE;
        let mut seen = seen.lock().unwrap();
        loop {
            let text = self.about_the_run(&String::from_utf8_lossy(&seen.bytes));
            if is_there(&text) {
                return text;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if seen.is_over || left.is_zero() {
                // Before the panic, which would take the reading thread along.
                drop(seen);
                panic!("waited in vain for {what} on {}: {text}", self.name);
            }
            seen = changed.wait_timeout(seen, left).unwrap().0;
        }
    }

    /// Waits until the text so far contains `part`.
    pub(crate) fn wait_for(&self, part: &str) -> String {
        self.wait_until(part, |text| text.contains(part))
    }

    /// Waits until the text so far has that many lines, all complete.
    pub(crate) fn wait_for_lines(&self, count: usize) -> String {
        self.wait_until("more lines", |text| text.matches('\n').count() >= count)
    }

    /// What came so far.
    pub(crate) fn text(&self) -> String {
        self.about_the_run(&String::from_utf8_lossy(&self.seen.0.lock().unwrap().bytes))
    }

    /// The text without what is said about the machine: a busy one is behind now and then, and not
    /// every one lets threads be pinned. No test may depend on either.
    fn about_the_run(&self, text: &str) -> String {
        let is_about_machine = |line: &&str| {
            line.starts_with("microtally: processing falls behind: ")
                || line.contains(" could not be pinned to a core")
        };
        match self.name {
            "stderr" => text
                .split_inclusive('\n')
                .filter(|line| !is_about_machine(line))
                .collect(),
            _ => text.to_owned(),
        }
    }

    /// Everything, as text: the program is over. Output is valid UTF-8 whatever the input was.
    fn to_end(&self) -> String {
        let (seen, changed) = &*self.seen;
        let seen = seen.lock().unwrap();
        let waited = changed.wait_timeout_while(seen, PATIENCE, |seen| !seen.is_over);
        let bytes = waited.unwrap().0.bytes.clone();
        self.about_the_run(&String::from_utf8(bytes).expect("what the program writes is UTF-8"))
    }
}

/// What a program left.
#[derive(Debug)]
pub(crate) struct Ended {
    /// `None`: killed by a signal.
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ended {
    /// Checks that all went well and that nobody was told anything.
    pub(crate) fn quietly(self) -> Self {
        assert_eq!(
            (self.code, self.stderr.as_str()),
            (Some(0), ""),
            "{}",
            self.stdout
        );
        self
    }

    /// Checks the exit code.
    pub(crate) fn exits_with(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self:?}");
        self
    }

    /// Checks that standard error has these parts.
    pub(crate) fn says(self, parts: &[&str]) -> Self {
        for part in parts {
            assert!(self.stderr.contains(part), "no {part:?} in {self:?}");
        }
        self
    }

    /// The counts of the `tsv` format, summed over all batches.
    pub(crate) fn tsv_counts(&self) -> BTreeMap<String, u64> {
        tsv_counts(&self.stdout)
    }

    pub(crate) fn batches(&self) -> Vec<Printed> {
        batches(&self.stdout)
    }

    /// The printed counts, summed over all batches.
    pub(crate) fn counts(&self) -> BTreeMap<String, u64> {
        counts(&self.stdout)
    }
}

/// One batch as `pprint` prints it.
#[derive(Debug)]
pub(crate) struct Printed {
    pub(crate) time: String,
    pub(crate) lines: Vec<String>,
}

/// Reads the `pyspark` format, and takes nothing else.
pub(crate) fn batches(stdout: &str) -> Vec<Printed> {
    let rule = "-".repeat(43);
    let mut lines = stdout.split_terminator('\n');
    let mut batches = Vec::new();
    while let Some(first) = lines.next() {
        assert_eq!(first, rule, "in {stdout}");
        let time = lines.next().and_then(|line| line.strip_prefix("Time: "));
        let time = time.unwrap_or_else(|| panic!("no time in {stdout}"));
        assert_eq!(lines.next(), Some(rule.as_str()), "in {stdout}");
        let found: Vec<String> = lines
            .by_ref()
            .take_while(|line| !line.is_empty())
            .map(str::to_owned)
            .collect();
        batches.push(Printed {
            time: time.to_owned(),
            lines: found,
        });
    }
    batches
}

/// Counts in the `pyspark` format by printed key, summed over all batches.
pub(crate) fn counts(stdout: &str) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for line in batches(stdout).iter().flat_map(|batch| &batch.lines) {
        let pair = line
            .strip_prefix('(')
            .and_then(|line| line.strip_suffix(')'));
        let (key, count) = pair
            .and_then(|pair| pair.rsplit_once(", "))
            .unwrap_or_else(|| panic!("no pair: {line}"));
        let count: u64 = count.parse().unwrap_or_else(|_| panic!("no count: {line}"));
        *counts.entry(key.to_owned()).or_default() += count;
    }
    counts
}

/// Sums of the `tsv` format by printed key, over all batches. A line that is not complete yet is
/// left out.
pub(crate) fn tsv_counts(stdout: &str) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for line in stdout.split_inclusive('\n') {
        let Some(line) = line.strip_suffix('\n') else {
            break;
        };
        let [_, key, count] = line.split('\t').collect::<Vec<_>>()[..] else {
            panic!("no time, key and count: {line}");
        };
        let count: u64 = count.parse().unwrap_or_else(|_| panic!("no count: {line}"));
        *counts.entry(key.to_owned()).or_default() += count;
    }
    counts
}

/// Counts to compare with, keys as they are.
pub(crate) fn plain(pairs: &[(&str, u64)]) -> BTreeMap<String, u64> {
    let owned = |&(key, count): &(&str, u64)| (key.to_owned(), count);
    pairs.iter().map(owned).collect()
}

/// How often each line of `text` is there: `sort | uniq -c`.
pub(crate) fn uniq(text: &str) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for line in text.lines() {
        *counts.entry(line.to_owned()).or_default() += 1;
    }
    counts
}

/// The rest of the first complete line that begins so.
fn address_behind(text: &str, what: &str) -> Option<String> {
    let mut lines = text.split_inclusive('\n');
    let rest = lines.find_map(|line| line.strip_prefix(what)?.strip_suffix('\n'));
    rest.map(str::to_owned)
}

/// Counts to compare with, keys as they are printed when nothing in them needs an escape.
pub(crate) fn expected(pairs: &[(&str, u64)]) -> BTreeMap<String, u64> {
    let quoted = |&(key, count): &(&str, u64)| (format!("'{key}'"), count);
    pairs.iter().map(quoted).collect()
}

/// The obvious program: lines, `split(" ")`, a map.
pub(crate) fn naive(input: &str) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for word in input.lines().flat_map(|line| line.split(' ')) {
        *counts.entry(format!("'{word}'")).or_default() += 1;
    }
    counts
}

/// The objects of the `json` format.
pub(crate) fn json_lines(stdout: &str) -> Vec<serde_json::Value> {
    let parse = |line: &str| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
    stdout.split_terminator('\n').map(parse).collect()
}

/// Rows of the system's table of IPv4 connections between these two ends, as columns. An end is
/// a port, or `None` for any.
pub(crate) fn connections(local: Option<u16>, remote: Option<u16>) -> Vec<Vec<String>> {
    let is_at = |end: &str, port: Option<u16>| {
        port.is_none_or(|port| end.ends_with(&format!(":{port:04X}")))
    };
    let table = std::fs::read_to_string("/proc/net/tcp").expect("there is a table");
    table
        .lines()
        .skip(1)
        .map(|line| line.split_whitespace().map(str::to_owned).collect())
        .filter(|row: &Vec<String>| is_at(&row[1], local) && is_at(&row[2], remote))
        .collect()
}

/// The signals of a process that have a state; the lowest bit is signal 1.
fn signal_mask(process: &str, state: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix(state));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .unwrap_or(0)
}

/// Whether these tests run under something like `nohup`, which the program inherits.
pub(crate) fn hangups_are_ignored() -> bool {
    signal_mask("self", "SigIgn:") & 1 == 1
}

/// Whether these tests run in the background of a shell without job control, which the program
/// inherits.
pub(crate) fn interrupts_are_ignored() -> bool {
    signal_mask("self", "SigIgn:") >> 1 & 1 == 1
}

/// Waits until `condition`.
pub(crate) fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        thread::sleep(Duration::from_millis(2));
    }
}

/// A port of loopback that is ours: connections to it are refused until it is opened. Held from the
/// beginning, so that no other test can be given the same one.
pub(crate) struct Port {
    socket: Socket,
    address: SocketAddr,
}

impl Port {
    pub(crate) fn closed() -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        let any = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0));
        socket.bind(&any.into()).expect("a free port");
        let address = socket.local_addr().expect("it is bound");
        let address = address.as_socket().expect("it is an IP address");
        Port { socket, address }
    }

    /// As the program's argument and in its messages.
    pub(crate) fn url(&self) -> String {
        format!("tcp://{}", self.address)
    }

    pub(crate) fn number(&self) -> u16 {
        self.address.port()
    }

    pub(crate) fn open(self) -> Server {
        self.open_for(16)
    }

    /// Opens it for so many connections, and one more, that were not accepted yet.
    pub(crate) fn open_for(self, backlog: i32) -> Server {
        self.socket
            .listen(backlog)
            .expect("a bound socket can listen");
        Server(self.socket.into())
    }
}

/// A sender that waits to be connected to.
pub(crate) struct Server(TcpListener);

impl Server {
    pub(crate) fn open() -> Self {
        Port::closed().open()
    }

    pub(crate) fn url(&self) -> String {
        let address = self.0.local_addr().expect("it is bound");
        format!("tcp://{address}")
    }

    /// Waits for the program to connect. Each write goes out at once, as a segment of its own.
    pub(crate) fn accept(&self) -> TcpStream {
        self.0.set_nonblocking(true).expect("a socket option");
        let mut accepted = None;
        until("the program connects", || {
            accepted = self.0.accept().ok();
            accepted.is_some()
        });
        let (stream, _) = accepted.expect("`until` waited for it");
        stream.set_nonblocking(false).expect("a socket option");
        stream.set_nodelay(true).expect("a socket option");
        stream
    }
}

/// Closes a connection with a reset instead of an end.
pub(crate) fn reset(stream: TcpStream) {
    let linger = SockRef::from(&stream).set_linger(Some(Duration::ZERO));
    linger.expect("a socket option");
}

/// A program that counts what this test sends and has told that it is connected: from here on it
/// misses nothing. `args` go behind the address.
pub(crate) fn connected(args: &[&str]) -> (Run, TcpStream, Server) {
    let port = Port::closed();
    let url = port.url();
    let program = microtally(&["words", &url, "--reconnect", "20ms"]).args(args);
    let run = program.start();
    run.stderr.wait_for("waiting for");
    let server = port.open();
    let stream = server.accept();
    run.stderr.wait_for("connected to");
    run.wait_until_signals_are_caught();
    (run, stream, server)
}
