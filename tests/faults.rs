//! Goal: whatever call into the system fails, the program ends, with the right result or a clear
//! error.
//!
//! Method: each command runs with a small library in front of the C library (`faults/shim.c`, built
//! by `cc`, which also links this test). It makes the n-th call of one kind fail, once or from then
//! on, or transfer one byte only. What came out is compared with what the command was given. A run
//! must end in time; it must not panic or die of a signal; it must not end with exit code 0 and
//! another result without a word on standard error; and an error must have a message.
//!
//! The default test lets the first call of each kind fail. All of it, with a table (some 15
//! minutes):
//!
//! ```sh
//! cargo test --test faults -- --ignored --nocapture
//! ```
//!
//! `FAULTS_ONLY='top dir:// recv'` runs only what has all these words in its name, for one row that is to be mended.
//!
//! What is not tried, because it is no fault of a system: a call that is interrupted for ever, and
//! one that transfers one byte at a time for ever. Crates that ask the kernel without the C library
//! (`rustix`) are trapped where they open, list, rename, remove and watch; what they read is not.
//! Linux only, like the program.
#![cfg(all(target_os = "linux", feature = "cli"))]

#[path = "faults/saving.rs"]
mod saving;
#[path = "faults/scenario.rs"]
mod scenario;

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::path::Path;
use std::process;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use scenario::{Ended, Scenario, scenarios};

/// How a call fails: by its name and number in `errno.h`; 0 is a transfer of one byte.
type Failure = (&'static str, i32);

const EIO: Failure = ("EIO", 5);
const EINTR: Failure = ("EINTR", 4);
const EAGAIN: Failure = ("EAGAIN", 11);
const ENOMEM: Failure = ("ENOMEM", 12);
const EMFILE: Failure = ("EMFILE", 24);
const ENOSPC: Failure = ("ENOSPC", 28);
const EADDRINUSE: Failure = ("EADDRINUSE", 98);
const ECONNRESET: Failure = ("ECONNRESET", 104);
const ENOBUFS: Failure = ("ENOBUFS", 105);
const SHORT: Failure = ("short", 0);

/// What fails, and how. Calls that do the same have one name, which `shim.c` has.
const KINDS: &[(&str, &[Failure])] = &[
    ("read", &[EIO, EINTR, SHORT]),
    ("pread", &[EIO, EINTR, SHORT]),
    ("recv", &[ECONNRESET, EINTR, EAGAIN, ENOMEM, SHORT]),
    ("write", &[ENOSPC, EINTR, EIO, SHORT]),
    ("send", &[ECONNRESET, EAGAIN]),
    ("accept", &[EMFILE, ECONNRESET, ENOMEM, EINTR, EAGAIN]),
    ("connect", &[ENOMEM]),
    ("socket", &[EMFILE]),
    ("socketpair", &[EMFILE]),
    ("bind", &[EADDRINUSE]),
    ("listen", &[EIO]),
    ("setsockopt", &[ENOBUFS]),
    ("getsockopt", &[ENOBUFS]),
    ("getsockname", &[ENOBUFS]),
    ("shutdown", &[ENOBUFS]),
    ("epoll_wait", &[EINTR, ENOMEM]),
    ("epoll_ctl", &[ENOMEM, ENOSPC]),
    ("epoll_create", &[EMFILE]),
    ("eventfd", &[EMFILE]),
    ("inotify_init", &[EMFILE]),
    ("inotify_watch", &[ENOSPC, ENOMEM]),
    ("poll", &[EINTR, ENOMEM]),
    ("open", &[EMFILE, EIO, EINTR]),
    ("close", &[EIO]),
    ("fcntl", &[EMFILE]),
    ("ioctl", &[EIO]),
    ("lseek", &[EIO]),
    ("opendir", &[EMFILE, EIO]),
    ("readdir", &[EIO]),
    ("stat", &[EIO]),
    ("fsync", &[EIO, ENOSPC]),
    ("rename", &[EIO, ENOSPC]),
    ("unlink", &[EIO]),
    ("mkdir", &[ENOSPC]),
    ("mmap", &[ENOMEM]),
    ("alloc", &[ENOMEM]),
    ("clone", &[EAGAIN]),
];

/// The last call of a kind that is made to fail.
const CALLS_MAX: u64 = 40;

/// Runs that ended alike before calls are left out: then every third, and the last.
const ALIKE_MAX: usize = 8;

/// How much of a message is shown.
const SAID_CHARS_MAX: usize = 300;

/// Runs beside each other: most of their time is waiting.
const RUNS_AT_ONCE: usize = 10;

/// The calls of one kind that fail in one way.
#[derive(Clone, Copy)]
struct Fault {
    call: &'static str,
    failure: Failure,
    for_ever: bool,
}

impl Fault {
    /// As the shim has it, from the `nth` call on.
    fn at(self, nth: u64) -> String {
        let count = u8::from(!self.for_ever);
        format!("{} {nth} {count} {}", self.call, self.failure.1)
    }

    fn is(self, call: &str, failure: Failure) -> bool {
        (self.call, self.failure) == (call, failure)
    }

    /// Why nothing is to be learned from it.
    fn left_out(self, scenario: &Scenario) -> Option<&'static str> {
        if self.is("recv", SHORT) && scenario.name.contains("udp") {
            return Some(
                "the rest of a datagram that is read in part is lost, and nobody can know",
            );
        }
        if self.for_ever && [EINTR, SHORT].contains(&self.failure) {
            return Some("no system interrupts a call, or transfers one byte at a time, for ever");
        }
        None
    }

    /// Whether the kernel says for ever that nothing has come: who waits for it does right. Such a
    /// run is stopped, and what came before is its result.
    fn waits(self) -> bool {
        self.for_ever && (self.is("recv", EAGAIN) || self.is("accept", EAGAIN))
    }
}

/// How a run with a fault is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Verdict {
    /// The whole result, exit code 0.
    Right,
    /// An error with a message.
    Refused,
    /// Exit code 0, part of the result, and a word about it.
    Reported,
    /// It waited for what never came, and ended when it was stopped.
    Waited,
    Hung,
    Crashed,
    /// Another result without a word or with exit code 0, an error without a message, no result
    /// though nothing failed.
    Wrong,
}

use Verdict::{Crashed, Hung, Refused, Reported, Right, Waited, Wrong};

fn judge(
    scenario: &Scenario,
    fault: Option<Fault>,
    whole: Option<&str>,
    ended: &Ended,
) -> (Verdict, String) {
    let what = |text: &str| format!("{text}; {:?}; stderr: {:?}", ended.status, ended.stderr);
    let Some(status) = ended.status else {
        return (Hung, what("no end"));
    };
    if let Err(half) = &ended.result {
        return (Wrong, what(&format!("half a result: {half}")));
    }
    // The standard library cannot start a thread without it, and has no other way to say so.
    if ended
        .stderr
        .contains("failed to allocate an alternative stack")
    {
        return (Refused, String::new());
    }
    // A library leaves it to its program's allocator what becomes of a program without memory:
    // `microtally` has one that ends it. With the standard library's a program is aborted (tables)
    // or panics (the arena of keys).
    let ends = ["memory allocation of", "out of memory"];
    if scenario.is_library() && ends.iter().any(|end| ended.stderr.contains(end)) {
        return (Refused, String::new());
    }
    if ended.stderr.contains("panicked at") {
        return (Crashed, what("a panic"));
    }
    if status.code().is_none() {
        // Where no thread can wait for signals they end the program, and that was said.
        return match ended.stderr.contains("signals: no thread can wait") {
            true => (Refused, String::new()),
            false => (Crashed, what("a crash")),
        };
    }
    let messages = scenario.messages(&ended.stderr).len();
    if !status.success() {
        return match messages {
            // Nobody can say anything where standard error cannot be written to: the exit code
            // does.
            0 if ended.is_dumb() => (Refused, String::new()),
            0 => (Wrong, what("an error without a message")),
            _ => (Refused, String::new()),
        };
    }
    if scenario.is_whole(&ended.result, whole) {
        return (Right, String::new());
    }
    match messages {
        0 if fault.is_some_and(Fault::waits) => (Waited, String::new()),
        0 => {
            let got = format!("another result, and not a word: {:?}", ended.result);
            (Wrong, what(&got))
        }
        _ if scenario.may_lose => (Reported, String::new()),
        _ => (Wrong, what("another result, and exit code 0")),
    }
}

/// As [`judge`], but a call that was interrupted has not failed: nothing may come of it.
fn judge_strictly(
    scenario: &Scenario,
    fault: Fault,
    whole: Option<&str>,
    ended: &Ended,
) -> (Verdict, String) {
    let (verdict, why) = judge(scenario, Some(fault), whole, ended);
    if fault.failure == EINTR && [Refused, Reported].contains(&verdict) {
        let why = format!(
            "an interrupted call is taken for one that failed; stderr: {:?}",
            ended.stderr
        );
        return (Wrong, why);
    }
    (verdict, why)
}

/// Counts of verdicts, what is wrong, and what was said where the result was not whole.
#[derive(Clone, Default)]
struct Tally {
    verdicts: BTreeMap<Verdict, usize>,
    wrong: Vec<String>,
    said: BTreeSet<String>,
}

impl Tally {
    fn runs(&self) -> usize {
        self.verdicts.values().sum()
    }

    fn add(&mut self, other: &Tally) {
        for (verdict, count) in &other.verdicts {
            *self.verdicts.entry(*verdict).or_default() += count;
        }
    }

    fn cells(&self) -> String {
        let count = |verdict| self.verdicts.get(&verdict).copied().unwrap_or(0);
        let bad: usize = [Hung, Crashed, Wrong].map(count).iter().sum();
        let good = [Right, Refused, Reported, Waited].map(|verdict| count(verdict).to_string());
        format!("{} | {bad}", good.join(" | "))
    }
}

const COLUMNS: &str = "right | refused | reported | waited | bad |";

/// Runs every scenario with every fault that `is_tried`, at the calls up to the `last` one of each
/// kind, prints what came of it, and returns what is wrong.
fn sweep(last: u64, for_ever: &[bool], is_tried: impl Fn(&Scenario, Fault) -> bool) -> Vec<String> {
    let scenarios = scenarios();
    let only = env::var("FAULTS_ONLY").unwrap_or_default();
    let is_wanted = |name: &str| only.split_whitespace().all(|word| name.contains(word));
    // What each does without a fault: its result, and which calls it makes.
    let first: Vec<Ended> = at_once(&scenarios, |scenario| scenario.run(None, false));
    let mut wrong = Vec::new();
    for (scenario, ended) in scenarios.iter().zip(&first) {
        let (verdict, why) = judge(scenario, None, None, ended);
        // What it says anyway would be taken for a report of a fault.
        if verdict != Right || !scenario.messages(&ended.stderr).is_empty() {
            wrong.push(format!(
                "{}: without a fault: {verdict:?} {why}; stderr: {:?}",
                scenario.name, ended.stderr
            ));
        }
    }
    let mut jobs = Vec::new();
    for (index, scenario) in scenarios.iter().enumerate() {
        for &(call, failures) in KINDS {
            for &failure in failures {
                for &for_ever in for_ever {
                    let fault = Fault {
                        call,
                        failure,
                        for_ever,
                    };
                    // How many calls there are depends on the time they take: some more are tried,
                    // to the first that is not made.
                    let made = first[index].made(call);
                    let more = if made > 2 { made.div_ceil(4) } else { 0 };
                    let last = last.min(made + more);
                    let name = name(scenario, fault);
                    if last > 0
                        && is_tried(scenario, fault)
                        && fault.left_out(scenario).is_none()
                        && is_wanted(&name)
                    {
                        jobs.push((index, fault, last, name));
                    }
                }
            }
        }
    }
    // The longest first: those wait until they are stopped.
    jobs.sort_by_key(|(index, fault, ..)| !(scenarios[*index].goes_on && fault.for_ever));
    let done = AtomicUsize::new(0);
    let tallies = at_once(&jobs, |(index, fault, last, name)| {
        let whole = first[*index].result.as_deref().ok();
        let tally = sweep_one(&scenarios[*index], *fault, *last, whole);
        let number = done.fetch_add(1, Ordering::Relaxed) + 1;
        println!("{number}/{}: {name}: | {} |", jobs.len(), tally.cells());
        tally.said.iter().for_each(|said| println!("  {said}"));
        tally.wrong.iter().for_each(|wrong| println!("{wrong}"));
        tally
    });
    let (mut both, mut by_scenario, mut by_call) =
        (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
    for ((index, fault, ..), tally) in jobs.iter().zip(&tallies) {
        let scenario = scenarios[*index].name;
        add(&mut both, format!("{scenario} | {}", fault.call), tally);
        add(&mut by_scenario, scenario.to_owned(), tally);
        add(&mut by_call, fault.call.to_owned(), tally);
        wrong.extend(tally.wrong.iter().cloned());
    }
    print_table("command | call", &both);
    print_table("command", &by_scenario);
    print_table("call", &by_call);
    wrong
}

fn add(table: &mut BTreeMap<String, Tally>, row: String, tally: &Tally) {
    table.entry(row).or_default().add(tally);
}

fn print_table(first: &str, table: &BTreeMap<String, Tally>) {
    println!("\n| {first} | {COLUMNS}");
    let columns = first.split('|').count() + COLUMNS.split('|').count() - 1;
    println!("|{}", "---|".repeat(columns));
    let mut sum = Tally::default();
    for (row, tally) in table {
        println!("| {row} | {} |", tally.cells());
        sum.add(tally);
    }
    println!("{} runs: | {} |", sum.runs(), sum.cells());
}

fn name(scenario: &Scenario, fault: Fault) -> String {
    let times = if fault.for_ever { "for ever" } else { "once" };
    format!(
        "{} {} {} {times}",
        scenario.name, fault.call, fault.failure.0
    )
}

/// The calls up to the `last` one fail, one in each run.
fn sweep_one(scenario: &Scenario, fault: Fault, last: u64, whole: Option<&str>) -> Tally {
    let mut tally = Tally::default();
    let (mut nth, mut alike, mut before) = (1, 0, None);
    while nth <= last {
        let setting = fault.at(nth);
        let ended = scenario.run(Some(&setting), fault.waits());
        if !ended.has_failed(fault.call) {
            break;
        }
        let (verdict, why) = judge_strictly(scenario, fault, whole, &ended);
        *tally.verdicts.entry(verdict).or_default() += 1;
        if verdict >= Hung {
            tally
                .wrong
                .push(format!("{}: FAULT='{setting}': {why}", scenario.name));
        }
        let said = scenario.messages(&ended.stderr);
        if [Refused, Reported].contains(&verdict) {
            let said: String = said.join(" / ").chars().take(SAID_CHARS_MAX).collect();
            tally.said.insert(format!("{verdict:?}: {said}"));
        }
        // Apart from times, ports and counts.
        let said = said
            .concat()
            .replace(|char: char| char.is_ascii_digit(), "");
        let outcome = Some((verdict, said));
        alike = if outcome == before { alike + 1 } else { 0 };
        before = outcome;
        nth = match alike < ALIKE_MAX {
            true => nth + 1,
            false => (nth + 3).min(last.max(nth + 1)),
        };
    }
    tally
}

/// What `run` makes of each item, some at once.
fn at_once<T: Sync, R: Send>(items: &[T], run: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let next = AtomicUsize::new(0);
    let made = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..RUNS_AT_ONCE {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some(item) = items.get(index) else { return };
                    let result = run(item);
                    made.lock().expect("no run panics").push((index, result));
                }
            });
        }
    });
    let mut made = made.into_inner().expect("no run panics");
    made.sort_by_key(|(index, _)| *index);
    made.into_iter().map(|(_, result)| result).collect()
}

fn assert_nothing_is(wrong: &[String]) {
    let count = wrong.len();
    assert!(wrong.is_empty(), "{count} runs:\n{}", wrong.join("\n"));
}

/// The first calls of each kind, of each command: that is where its life begins.
#[test]
fn the_first_call_of_each_kind_may_fail() {
    assert_nothing_is(&sweep(1, &[false], |_, _| true));
}

/// What was wrong once, at calls behind the first: a signal that could not wake the thread that
/// waits for it, or that thread's socket; names of a pattern that could not be read, and files of
/// it that could not be looked at; a file to save into whose opening was interrupted.
#[test]
fn what_was_mended_may_fail_at_any_call() {
    let mended = [
        ("top unix-listen://", "send"),
        ("top dir://", "recv"),
        ("count 'GLOB' -j 1 -a sum", "readdir"),
        ("count 'GLOB' -j 1 -a sum", "stat"),
        ("save_as_text_files", "open"),
    ];
    for (name, call) in mended {
        let mut scenarios = scenarios().into_iter();
        assert!(scenarios.any(|scenario| scenario.name == name), "{name}");
        assert!(KINDS.iter().any(|kind| kind.0 == call), "{call}");
    }
    let is_mended = |scenario: &Scenario, fault: Fault| {
        let mut mended = mended.iter();
        mended.any(|&(name, call)| name == scenario.name && call == fault.call)
    };
    assert_nothing_is(&sweep(CALLS_MAX, &[false, true], is_mended));
}

/// Every call of every kind, once and from then on.
#[test]
#[ignore = "takes some 15 minutes"]
fn any_call_of_any_kind_may_fail() {
    assert_nothing_is(&sweep(CALLS_MAX, &[false, true], |_, _| true));
}

/// It is the program that saves, too.
#[test]
fn counts_are_saved_as_text_files() {
    if let Some(root) = env::var_os(saving::INTO) {
        process::exit(saving::program(Path::new(&root)));
    }
    let scenarios = scenarios();
    let saving = scenarios
        .iter()
        .find(|scenario| scenario.name == "save_as_text_files");
    let saving = saving.expect("it is one of them");
    let (verdict, why) = judge(saving, None, None, &saving.run(None, false));
    assert_eq!(verdict, Right, "{why}");
}

/// What a socket that listens for datagrams says, whose every call fails: no datagram comes, and
/// nothing else would be heard of it.
#[test]
fn datagrams_that_can_never_be_received_are_reported() {
    let scenarios = scenarios();
    let udp = scenarios
        .iter()
        .find(|scenario| scenario.name.contains("udp"));
    let ended = udp
        .expect("it is one of them")
        .run(Some("recv 1 0 104"), false);
    assert!(ended.has_failed("recv") && ended.status.is_some_and(|status| status.success()));
    let is_said = ended
        .stderr
        .contains("receiving failed 64 times: connection reset by peer");
    assert!(is_said, "{}", ended.stderr);
}
