//! Connections whose reads are scripted.

use std::collections::VecDeque;
use std::sync::Mutex;

use super::*;
use crate::notice::NoticeTexts;
use crate::source::net::scripted::{Answer, Answers};

const ENOMEM: i32 = 12;
const EINTR: i32 = 4;

/// Connections that are made at once, one after the other.
struct Script(Mutex<VecDeque<Answers>>);

impl Endpoint for Script {
    type Address = ();
    type Stream = Answers;

    fn lookup(&self) -> Lookup<()> {
        Lookup::Known(())
    }

    fn unresolved(&self, _cause: Option<&io::Error>) -> String {
        unreachable!("the address is known")
    }

    fn open(&self, _address: ()) -> io::Result<Answers> {
        let next = self.0.lock().unwrap().pop_front();
        next.ok_or_else(|| io::ErrorKind::ConnectionRefused.into())
    }

    fn take_error(_stream: &Answers) -> io::Result<Option<io::Error>> {
        Ok(None)
    }

    fn is_made(_stream: &Answers) -> bool {
        true
    }
}

struct Rig {
    dial: Connector<Script>,
    told: NoticeTexts,
}

impl Rig {
    fn new<const N: usize>(reconnect: Reconnect, reads: [Answer; N]) -> Rig {
        let target = Script(Mutex::new([reads.into()].into()));
        let mut dial = Connector::new(target, "tcp://host:1".to_owned(), reconnect);
        let (port, told) = Port::kept("tcp://host:1");
        dial.start(port);
        Rig { dial, told }
    }

    fn fill(&mut self) -> String {
        let mut buf = [0; 64];
        match self.dial.fill(&mut buf, Duration::ZERO) {
            Fill::Bytes(count) => String::from_utf8_lossy(&buf[..count]).into_owned(),
            Fill::Failed(error) => error.to_string(),
            other => format!("{other:?}"),
        }
    }

    fn told(&self) -> Vec<String> {
        self.told.take()
    }
}

const PENDING: &str = "Pending(None)";
const RESET: &str = "Break { clean: false }";

#[test]
fn an_interrupted_read_is_repeated_at_once() {
    let reads = [Err(EINTR), Ok("a\n"), Err(EINTR), Err(EINTR), Ok("b\n")];
    let mut rig = Rig::new(Reconnect::Never, reads);
    assert_eq!(
        [rig.fill(), rig.fill(), rig.fill()],
        ["a\n", "b\n", PENDING]
    );
}

#[test]
fn a_read_that_fails_once_loses_nothing_and_ends_nothing() {
    for reconnect in [Reconnect::Never, Reconnect::default()] {
        let reads = [Ok("a\n"), Err(ENOMEM), Ok("b\n"), Err(ENOMEM)];
        let mut rig = Rig::new(reconnect, reads);
        assert_eq!(
            [rig.fill(), rig.fill(), rig.fill()],
            ["a\n", "b\n", PENDING]
        );
        assert_eq!(rig.told(), [""; 0]);
    }
    // An end long after is a clean one.
    let reads = [Err(ENOMEM), Ok("a"), Err(ENOMEM), Err(11), Ok("")];
    let mut rig = Rig::new(Reconnect::Never, reads);
    let answers = [rig.fill(), rig.fill(), rig.fill(), rig.fill()];
    assert_eq!(answers, ["a", PENDING, "Break { clean: true }", "End"]);
}

#[test]
fn a_connection_that_fails_between_two_lines_says_why() {
    let failures = [
        [Err(ENOMEM), Err(ENOMEM)],
        // Behind the error the socket looks as if it had ended.
        [Err(ENOMEM), Ok("")],
    ];
    for [first, second] in failures {
        let mut rig = Rig::new(Reconnect::Never, [Ok("a\n"), first, second]);
        let answers = [rig.fill(), rig.fill(), rig.fill()];
        let lost = "lost tcp://host:1: cannot allocate memory";
        assert_eq!(answers, ["a\n", RESET, lost]);
        let mut rig = Rig::new(Reconnect::default(), [Ok("a\n"), first, second]);
        assert_eq!([rig.fill(), rig.fill()], ["a\n", RESET]);
        let waiting = "waiting for tcp://host:1: cannot allocate memory; next try in 2 s";
        assert_eq!(rig.told(), [waiting]);
    }
}
