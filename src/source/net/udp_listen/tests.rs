//! Calls that fail, and what a stop leaves unread.

use std::collections::VecDeque;
use std::net::UdpSocket as Sender;

use libc::{EBADF, ECONNREFUSED, ECONNRESET, EINTR, ENOBUFS, ENOMEM};

use super::*;
use crate::intake::rig::IntakeRig;
use crate::ledger::{Account, IntakeTotals};
use crate::limits::{RECEIVE_AGAIN_MS, RECEIVE_FAILURES_MAX};
use crate::notice::NoticeTexts;

struct UdpHarness {
    source: UdpListen,
    sender: Sender,
    account: Account,
    notices: NoticeTexts,
    rig: IntakeRig,
    output: Vec<u8>,
}

impl UdpHarness {
    fn new() -> UdpHarness {
        let mut source = UdpListen::bind("127.0.0.1", 0).expect("a port");
        let (port, notices) = Port::kept(&source.name);
        let account = port.account.clone();
        source.start(port, Duration::ZERO);
        notices.take();
        let sender = Sender::bind("127.0.0.1:0").expect("a port");
        sender.connect(source.local_addr()).expect("an address");
        UdpHarness {
            source,
            sender,
            account,
            notices,
            rig: IntakeRig::of_lines(1 << 18),
            output: Vec::new(),
        }
    }

    fn fails(&mut self, errors: impl IntoIterator<Item = i32>) {
        self.source.sockets[0].scripted = errors.into_iter().collect();
    }

    fn failures_left(&self) -> usize {
        self.source.sockets[0].scripted.len()
    }

    /// Fills until there is nothing, and returns what it says then.
    fn fill(&mut self, now: Duration) -> Fill {
        for _ in 0..100 {
            let (fill, _) = self.rig.fill(|out| self.source.fill(out, now));
            self.output.extend(self.rig.take());
            match fill {
                Fill::More => {}
                Fill::Pending(Some(at)) if at <= now => {}
                Fill::Finishing(at) if at <= now => {}
                other => return other,
            }
        }
        panic!("it spins")
    }

    fn notices(&self) -> Vec<String> {
        self.notices.take()
    }
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

#[test]
fn an_error_that_passes_costs_no_datagram_and_is_reported() {
    for errno in [ECONNREFUSED, ECONNRESET, ENOMEM, ENOBUFS] {
        let mut harness = UdpHarness::new();
        harness.sender.send(b"a line").unwrap();
        harness.fails([EINTR, errno, errno, errno]);
        let fill = harness.fill(ms(0));
        assert!(matches!(fill, Fill::Pending(_)), "{fill:?}");
        assert_eq!(harness.output, b"a line\n");
        let notices = harness.notices();
        let begin = format!("{}: receiving failed 3 times: ", harness.source.name);
        assert!(
            notices.len() == 1 && notices[0].starts_with(&begin),
            "{notices:?}"
        );
    }
}

#[test]
fn errors_without_end_are_reported_as_sums_and_take_no_processor_time() {
    let mut harness = UdpHarness::new();
    harness.fails([ECONNRESET; 1000]);
    let mut tried = 0;
    for now in (0..NOTICE_PAUSE_MS + 1000).step_by(10) {
        let before = harness.failures_left();
        let fill = harness.fill(ms(now));
        let again = matches!(fill, Fill::Pending(Some(at)) if at <= ms(now + RECEIVE_AGAIN_MS));
        assert!(again, "{fill:?}");
        tried = before - harness.failures_left();
        let many = if now == 0 {
            RECEIVE_FAILURES_MAX as usize
        } else {
            1
        };
        assert!(tried <= many, "{tried} calls at {now} ms");
    }
    assert!(tried <= 1);
    let notices = harness.notices();
    assert_eq!(notices.len(), 2, "{notices:?}");
    let failed = |times: u64| {
        let name = &harness.source.name;
        format!("{name}: receiving failed {times} times: connection reset by peer; trying again")
    };
    let pauses = NOTICE_PAUSE_MS / RECEIVE_AGAIN_MS;
    assert_eq!(notices[0], failed(RECEIVE_FAILURES_MAX.into()));
    assert_eq!(notices[1], failed(pauses));
    // As soon as it works there is no pause.
    harness.fails([]);
    harness.sender.send(b"a line").unwrap();
    harness.fill(ms(NOTICE_PAUSE_MS + 2000));
    assert_eq!(harness.output, b"a line\n");
}

#[test]
fn a_stop_does_not_wait_for_a_socket_that_always_fails() {
    let mut harness = UdpHarness::new();
    harness.fails([ECONNRESET; 1000]);
    harness.fill(ms(0));
    harness.source.drain();
    assert!(matches!(harness.fill(ms(1)), Fill::End));
}

#[test]
fn an_error_that_stays_for_good_ends_the_source_and_one_of_its_kind_that_passes_does_not() {
    let mut harness = UdpHarness::new();
    harness.sender.send(b"a line").unwrap();
    harness.fails([EBADF]);
    assert!(matches!(harness.fill(ms(0)), Fill::Pending(_)));
    assert_eq!(harness.output, b"a line\n");
    harness.fails([EBADF, EBADF]);
    assert!(matches!(harness.fill(ms(1)), Fill::Failed(_)));
}

#[test]
fn a_socket_that_fails_does_not_keep_others_from_being_read() {
    let mut harness = UdpHarness::new();
    let (bound, address) = bind_one("127.0.0.1:0".parse().unwrap()).expect("a port");
    harness.source.sockets.push(bound);
    harness.fails(VecDeque::from([ECONNRESET; 1000]));
    let sender = Sender::bind("127.0.0.1:0").expect("a port");
    for now in 0..10 {
        sender.send_to(b"x", address).unwrap();
        harness.fill(ms(now));
    }
    assert_eq!(harness.output, b"x\n".repeat(10));
}

#[test]
fn datagrams_that_a_stop_leaves_unread_are_in_the_statistics_and_reported() {
    let mut harness = UdpHarness::new();
    let send = |harness: &UdpHarness| {
        for _ in 0..3 {
            harness.sender.send(b"four").unwrap();
        }
    };
    send(&harness);
    harness.fill(ms(0));
    send(&harness);
    harness.source.drain();
    // Nothing more is read.
    harness.source.ended();
    harness.source.ended();
    let intake = harness.account.then(IntakeTotals::default());
    assert_eq!((intake.lost_records, intake.lost_bytes), (3, 12));
    let name = &harness.source.name;
    let expected = format!("{name}: stopped with 12 bytes unread; they are not counted");
    assert_eq!(harness.notices(), [expected]);
    // If all was read, or there was no stop, there is nothing to report.
    for drains in [true, false] {
        let mut harness = UdpHarness::new();
        send(&harness);
        if drains {
            harness.source.drain();
            assert!(matches!(harness.fill(ms(0)), Fill::End));
        }
        harness.source.ended();
        let intake = harness.account.then(IntakeTotals::default());
        assert_eq!((intake.lost_records, harness.notices()), (0, vec![]));
    }
}

#[test]
fn a_datagram_longer_than_a_stop_may_still_read_is_the_last_one() {
    let mut harness = UdpHarness::new();
    harness.sender.send(&[b'x'; 500]).unwrap();
    harness.sender.send(b"too late").unwrap();
    let taken = harness.rig.fill_at_most(100, |out| {
        harness.source.fill(out, ms(0));
    });
    assert_eq!(taken.bytes, 500);
    assert_eq!(harness.rig.take().len(), 501);
}
