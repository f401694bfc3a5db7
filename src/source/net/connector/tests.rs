//! Connections whose reads are scripted.

use std::sync::Mutex;

use libc::{EINTR, ENOMEM};

use super::*;
use crate::notice::NoticeTexts;
use crate::source::net::scripted::{ScriptedRead, ScriptedReads};

/// Connections that are made at once, one after the other.
struct ScriptedTarget(Mutex<VecDeque<ScriptedReads>>);

impl ConnectTarget for ScriptedTarget {
    type Address = ();
    type Stream = ScriptedReads;

    fn lookup(&self) -> Lookup<()> {
        Lookup::Known(())
    }

    fn open(&self, _address: ()) -> io::Result<ScriptedReads> {
        let next = self.0.lock().unwrap().pop_front();
        next.ok_or_else(|| io::ErrorKind::ConnectionRefused.into())
    }
}

struct ConnectorHarness {
    connector: Connector<ScriptedTarget>,
    notices: NoticeTexts,
}

impl ConnectorHarness {
    fn new<const N: usize>(reconnect: Reconnect, reads: [ScriptedRead; N]) -> Self {
        let target = ScriptedTarget(Mutex::new([reads.into()].into()));
        let mut connector = Connector::new(target, "tcp://host:1".to_owned(), reconnect);
        let (port, notices) = Port::kept("tcp://host:1");
        connector.start(port, Duration::ZERO);
        ConnectorHarness { connector, notices }
    }

    /// What the next calls return.
    fn fills<const N: usize>(&mut self) -> [String; N] {
        [(); N].map(|()| self.fill())
    }

    fn fill(&mut self) -> String {
        let mut buf = [0; 64];
        match self.connector.read(&mut buf, Duration::ZERO) {
            ReadOutcome::Bytes(count) => String::from_utf8_lossy(&buf[..count]).into_owned(),
            ReadOutcome::Nothing(Fill::Failed(error)) => error.to_string(),
            ReadOutcome::Nothing(fill) => format!("{fill:?}"),
            other => format!("{other:?}"),
        }
    }
}

const PENDING: &str = "Pending(None)";
const RESET: &str = "Break { clean: false }";

#[test]
fn an_interrupted_read_is_repeated_at_once() {
    let reads = [Err(EINTR), Ok("a\n"), Err(EINTR), Err(EINTR), Ok("b\n")];
    let mut harness = ConnectorHarness::new(Reconnect::Never, reads);
    assert_eq!(harness.fills(), ["a\n", "b\n", PENDING]);
}

#[test]
fn a_read_that_fails_once_loses_nothing_and_ends_nothing() {
    for reconnect in [Reconnect::Never, Reconnect::default()] {
        let reads = [Ok("a\n"), Err(ENOMEM), Ok("b\n"), Err(ENOMEM)];
        let mut harness = ConnectorHarness::new(reconnect, reads);
        assert_eq!(harness.fills(), ["a\n", "b\n", PENDING]);
        assert_eq!(harness.notices.take(), [""; 0]);
    }
    // An end long after is a clean one.
    let reads = [Err(ENOMEM), Ok("a"), Err(ENOMEM), Err(11), Ok("")];
    let mut harness = ConnectorHarness::new(Reconnect::Never, reads);
    let answers = harness.fills();
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
        let mut harness = ConnectorHarness::new(Reconnect::Never, [Ok("a\n"), first, second]);
        let answers = harness.fills();
        let lost = "lost tcp://host:1: cannot allocate memory";
        assert_eq!(answers, ["a\n", RESET, lost]);
        let mut harness = ConnectorHarness::new(Reconnect::default(), [Ok("a\n"), first, second]);
        assert_eq!(harness.fills(), ["a\n", RESET]);
        let waiting = "waiting for tcp://host:1: cannot allocate memory; next try in 2 s";
        assert_eq!(harness.notices.take(), [waiting]);
    }
}
