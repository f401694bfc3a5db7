//! Goal: whatever call into the system fails, the program ends, with the right result or a clear error.
//!
//! Method: each command runs with a small library in front of the C library (`faults/shim.c`, built by `cc`, which
//! also links this test). It makes the n-th call of one kind fail, once or for ever, or transfer one byte only. What
//! came out is compared with what the command was given. A run must end in time; it must not panic or die of a
//! signal; it must not end with exit code 0 and another result without a word on standard error; and an error must
//! have a message.
//!
//! The default test takes a sample. All of it, with a table (some minutes):
//!
//! ```sh
//! cargo test --test faults -- --ignored --nocapture
//! ```
//!
//! Linux only, like the program; system calls that crates make by themselves (`rustix`: inotify) pass by the shim.
#![cfg(all(target_os = "linux", feature = "cli"))]

#[path = "faults/scenario.rs"]
mod scenario;

use std::collections::BTreeMap;
use std::thread;

use scenario::{Ended, SCENARIOS, Scenario};

/// What fails: a kind of call and how, by its name and number in `errno.h`; 0 is a transfer of one byte.
struct Kind {
    call: &'static str,
    errors: &'static [(&'static str, i32)],
}

const EIO: (&str, i32) = ("EIO", 5);
const EINTR: (&str, i32) = ("EINTR", 4);
const EAGAIN: (&str, i32) = ("EAGAIN", 11);
const ENOMEM: (&str, i32) = ("ENOMEM", 12);
const EMFILE: (&str, i32) = ("EMFILE", 24);
const ENOSPC: (&str, i32) = ("ENOSPC", 28);
const ECONNRESET: (&str, i32) = ("ECONNRESET", 104);
const SHORT: (&str, i32) = ("short", 0);

const KINDS: &[Kind] = &[
    Kind {
        call: "read",
        errors: &[EIO, EINTR, SHORT],
    },
    Kind {
        call: "pread",
        errors: &[EIO, EINTR, SHORT],
    },
    Kind {
        call: "recv",
        errors: &[ECONNRESET, EINTR, EAGAIN, ENOMEM, SHORT],
    },
    Kind {
        call: "write",
        errors: &[ENOSPC, EINTR, EIO, SHORT],
    },
    Kind {
        call: "accept",
        errors: &[EMFILE, ECONNRESET, ENOMEM, EINTR, EAGAIN],
    },
    Kind {
        call: "connect",
        errors: &[ENOMEM],
    },
    Kind {
        call: "socket",
        errors: &[EMFILE],
    },
    Kind {
        call: "listen",
        errors: &[EIO],
    },
    Kind {
        call: "epoll_wait",
        errors: &[EINTR, ENOMEM],
    },
    Kind {
        call: "epoll_ctl",
        errors: &[ENOMEM, ENOSPC],
    },
    Kind {
        call: "epoll_create",
        errors: &[EMFILE],
    },
    Kind {
        call: "poll",
        errors: &[EINTR, ENOMEM],
    },
    Kind {
        call: "open",
        errors: &[EMFILE, EIO],
    },
    Kind {
        call: "opendir",
        errors: &[EMFILE, EIO],
    },
    Kind {
        call: "stat",
        errors: &[EIO],
    },
    Kind {
        call: "fsync",
        errors: &[EIO, ENOSPC],
    },
    Kind {
        call: "rename",
        errors: &[EIO, ENOSPC],
    },
    Kind {
        call: "mkdir",
        errors: &[ENOSPC],
    },
    Kind {
        call: "mmap",
        errors: &[ENOMEM],
    },
    Kind {
        call: "alloc",
        errors: &[ENOMEM],
    },
    Kind {
        call: "clone",
        errors: &[EAGAIN],
    },
];

/// How a run with a fault is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Verdict {
    /// The whole result, exit code 0.
    Right,
    /// An error with a message.
    Refused,
    /// Exit code 0, part of the result, and a word about it.
    Told,
    Hung,
    Crashed,
    Silent,
}

fn judge(scenario: &Scenario, ended: &Ended) -> (Verdict, String) {
    let what = |text: &str| format!("{text}; {:?}; stderr: {:?}", ended.status, ended.stderr);
    let Some(status) = ended.status else {
        return (Verdict::Hung, what("no end"));
    };
    // The standard library cannot start a thread without it, and has no other way to say so.
    if ended
        .stderr
        .contains("failed to allocate an alternative stack")
    {
        return (Verdict::Refused, String::new());
    }
    if ended.stderr.contains("panicked at") || status.code().is_none() {
        return (Verdict::Crashed, what("a crash"));
    }
    let messages = scenario.messages(&ended.stderr);
    if !status.success() {
        return match messages {
            0 => (Verdict::Silent, what("an error without a message")),
            _ => (Verdict::Refused, String::new()),
        };
    }
    match (scenario.is_whole(ended), messages) {
        (true, _) => (Verdict::Right, String::new()),
        (false, 0) => {
            let got = format!("another result, and not a word: {:?}", ended.stdout);
            (Verdict::Silent, what(&got))
        }
        (false, _) if scenario.may_lose => (Verdict::Told, String::new()),
        (false, _) => (Verdict::Silent, what("another result, and exit code 0")),
    }
}

/// Runs every scenario with every fault at these calls of each kind; returns what is wrong. The scenarios run beside
/// each other, for most of their time is waiting.
fn sweep(numbers: &[u32], for_ever: bool) -> Vec<String> {
    let outcomes: Vec<(String, Vec<String>)> = thread::scope(|scope| {
        let run = |scenario| scope.spawn(move || sweep_one(scenario, numbers, for_ever));
        let running: Vec<_> = SCENARIOS.iter().map(run).collect();
        let joined = running.into_iter().map(|it| it.join());
        joined.map(|it| it.expect("a scenario runs")).collect()
    });
    println!(
        "| command | right | error | reported | hung | crashed | silent |\n|---|---|---|---|---|---|---|"
    );
    outcomes.iter().for_each(|(row, _)| println!("{row}"));
    outcomes.into_iter().flat_map(|(_, wrong)| wrong).collect()
}

/// The row of one scenario, and what is wrong with it.
fn sweep_one(scenario: &Scenario, numbers: &[u32], for_ever: bool) -> (String, Vec<String>) {
    let (mut wrong, mut verdicts) = (Vec::new(), BTreeMap::<Verdict, usize>::new());
    let (verdict, why) = judge(scenario, &scenario.run(None));
    if verdict != Verdict::Right {
        wrong.push(format!(
            "{}: without a fault: {verdict:?} {why}",
            scenario.name
        ));
    }
    let counts = if for_ever { &[1, 0][..] } else { &[1] };
    for kind in KINDS {
        'errors: for &(name, number) in kind.errors {
            for (&nth, &count) in numbers
                .iter()
                .flat_map(|nth| counts.iter().map(move |n| (nth, n)))
            {
                // Interrupted for ever, or one byte at a time for ever, is no fault of a system.
                if count == 0 && [EINTR.1, SHORT.1].contains(&number) {
                    continue;
                }
                let ended = scenario.run(Some(&format!("{} {nth} {count} {number}", kind.call)));
                if !ended.has_fired {
                    continue 'errors;
                }
                let (verdict, why) = judge(scenario, &ended);
                *verdicts.entry(verdict).or_default() += 1;
                if verdict >= Verdict::Hung {
                    let which = format!("{} {nth} {count} {name}", kind.call);
                    wrong.push(format!("{}: FAULT='{which}': {why}", scenario.name));
                }
            }
        }
    }
    let all = [
        Verdict::Right,
        Verdict::Refused,
        Verdict::Told,
        Verdict::Hung,
        Verdict::Crashed,
        Verdict::Silent,
    ];
    let cells = all.map(|verdict| verdicts.get(&verdict).copied().unwrap_or(0).to_string());
    (
        format!("| {} | {} |", scenario.name, cells.join(" | ")),
        wrong,
    )
}

/// The first calls of each kind, of each command: that is where its life begins.
#[test]
fn the_first_call_of_each_kind_may_fail() {
    let wrong = sweep(&[1], false);
    assert!(
        wrong.is_empty(),
        "{} runs:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

/// Every call of every kind, up to a number that the commands do not reach as a rule.
#[test]
#[ignore = "takes minutes"]
fn any_call_of_any_kind_may_fail() {
    let numbers: Vec<u32> = (1..=40).collect();
    let wrong = sweep(&numbers, true);
    assert!(
        wrong.is_empty(),
        "{} runs:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

/// What a socket that listens for datagrams says, whose every call fails: no datagram comes, and nothing else would
/// be heard of it.
#[test]
fn datagrams_that_can_never_be_received_are_reported() {
    let udp = SCENARIOS.iter().find(|one| one.name.contains("udp"));
    let ended = udp.expect("there is one").run(Some("recv 1 0 104"));
    assert!(ended.has_fired && ended.status.is_some_and(|status| status.success()));
    let is_said = ended
        .stderr
        .contains("receiving failed 64 times: connection reset by peer");
    assert!(is_said, "{}", ended.stderr);
}
