//! Listeners whose every answer is scripted.

mod admission;
mod stops;

use std::collections::VecDeque;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::{Arc, Mutex};

use libc::{ECONNABORTED, EINTR, EMFILE, ENFILE, ENOBUFS, ENOMEM, ENOSPC, EPERM, EPROTO};

use super::*;
use crate::intake::rig::IntakeRig;
use crate::ledger::Account;
use crate::notice::NoticeTexts;
use crate::split::Delimiters;

/// What is in the queue of a listener: connections with what they send, and errors.
#[derive(Clone, Default)]
struct Queue {
    answers: Arc<Mutex<VecDeque<ScriptedClient>>>,
    /// Where the next clients connect from, if not from this machine.
    address: Arc<Mutex<Option<IpAddr>>>,
    /// Registrations that fail.
    unregistered: Arc<AtomicUsize>,
}

/// What a client sends, or an error number. A client that sends nothing, or dots at the end, does
/// not end; one that sends a tilde sends lines without end.
type ScriptedClient = std::result::Result<Vec<u8>, i32>;

struct ScriptedAcceptor(Queue);

/// Returns what it has and then, if it ends, its end.
struct ScriptedStream {
    bytes: Arc<Mutex<VecDeque<u8>>>,
    ends: Arc<AtomicBool>,
    is_endless: bool,
    saw_end: Arc<Mutex<bool>>,
    unregistered: Arc<AtomicUsize>,
}

has_no_events!(ScriptedAcceptor);

has_no_events!(ScriptedStream, |stream: &ScriptedStream| {
    let fail = |left: usize| left.checked_sub(1);
    match stream.unregistered.fetch_update(Relaxed, Relaxed, fail) {
        Ok(_) => Err(io::Error::from_raw_os_error(ENOSPC)),
        Err(_) => Ok(()),
    }
});

impl StreamSocket for ScriptedStream {
    fn end_writing(&self) -> io::Result<()> {
        *self.saw_end.lock().unwrap() = true;
        Ok(())
    }

    fn unread(&self) -> Option<u64> {
        Some(self.bytes.lock().unwrap().len() as u64)
    }
}

impl Read for ScriptedStream {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.is_endless {
            buf.chunks_exact_mut(2)
                .for_each(|two| two.copy_from_slice(b"x\n"));
            return Ok(buf.len() / 2 * 2);
        }
        let mut bytes = self.bytes.lock().unwrap();
        if bytes.is_empty() && !self.ends.load(Relaxed) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        bytes.read(buf)
    }
}

impl Acceptor for ScriptedAcceptor {
    type Stream = ScriptedStream;

    fn accept(&mut self) -> io::Result<(ScriptedStream, Peer)> {
        match self.0.answers.lock().unwrap().pop_front() {
            None => Err(io::ErrorKind::WouldBlock.into()),
            Some(Err(errno)) => Err(io::Error::from_raw_os_error(errno)),
            Some(Ok(text)) => {
                let ends = !text.is_empty() && !text.ends_with(b"...");
                let stream = ScriptedStream {
                    is_endless: text == b"~",
                    bytes: Arc::new(Mutex::new(text.into())),
                    ends: Arc::new(ends.into()),
                    saw_end: Arc::default(),
                    unregistered: Arc::clone(&self.0.unregistered),
                };
                let here = IpAddr::from([127, 0, 0, 1]);
                let peer = Peer {
                    name: "somebody".to_owned(),
                    address: Some(self.0.address.lock().unwrap().unwrap_or(here)),
                };
                Ok((stream, peer))
            }
        }
    }
}

struct ListenerHarness {
    queue: Queue,
    listener: Listener<ScriptedAcceptor>,
    notices: NoticeTexts,
    account: Account,
    rig: IntakeRig,
    output: Vec<u8>,
}

impl ListenerHarness {
    fn new(options: &ListenOptions, descriptors: usize) -> ListenerHarness {
        let queue = Queue::default();
        let acceptors = vec![ScriptedAcceptor(queue.clone())];
        let mut listener = Listener::new("test://".to_owned(), acceptors).expect("a queue");
        listener.options = options.clone();
        let (port, notices) = Port::kept("test://");
        let account = port.account.clone();
        let (max, open) = (descriptors, 0);
        listener.start_with(port, Some(Descriptors { max, open }));
        ListenerHarness {
            queue,
            listener,
            notices,
            account,
            rig: IntakeRig::new(
                Delimiters::default(),
                options.record_bytes_max,
                options.held_bytes_max,
                &[64],
            ),
            output: Vec::new(),
        }
    }

    /// Returns the lost records and bytes in the statistics.
    fn lost(&self) -> (u64, u64) {
        let intake = self.account.then(self.rig.channels.intake());
        (intake.lost_records, intake.lost_bytes)
    }

    fn arrive(&mut self, what: impl IntoIterator<Item = ScriptedClient>) {
        self.queue.answers.lock().unwrap().extend(what);
        self.listener.acceptors[0].1 = true;
    }

    /// Fills until there is nothing, and returns what it says then.
    fn fill(&mut self, now: Duration) -> Fill {
        for _ in 0..10_000 {
            let (fill, _) = self.rig.fill(|out| self.listener.fill(out, now));
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

    /// Checks that there is nothing at `now`, and that the next attempt is at `at`.
    #[track_caller]
    fn waits_until(&mut self, now: Duration, at: Duration) {
        let fill = self.fill(now);
        assert!(
            matches!(fill, Fill::Pending(Some(next)) if next == at),
            "{fill:?}"
        );
    }

    /// A listener of two clients, both of which are connected and stay.
    fn full_with_two() -> ListenerHarness {
        let options = ListenOptions {
            connections_max: Some(2),
            ..ListenOptions::default()
        };
        let mut harness = ListenerHarness::new(&options, 1024);
        harness.arrive((0..2).map(|_| Ok(b"stays...".to_vec())));
        harness.fill(ms(0));
        harness
    }

    /// The client of this number sends something. `free` numbers before it are unused.
    fn send(&mut self, number: usize, free: usize, text: &[u8]) {
        let client = self.listener.clients.connections().nth(number - free);
        let stream = &client.expect("it is connected").stream;
        stream.bytes.lock().unwrap().extend(text);
        self.listener.clients.on_ready(number);
    }

    /// The client of this number ends, and the event queue reports it. `free` numbers before it are
    /// unused.
    fn end(&mut self, number: usize, free: usize) {
        let client = self.listener.clients.connections().nth(number - free);
        let stream = &client.expect("it is connected").stream;
        stream.ends.store(true, Relaxed);
        self.listener.clients.on_ended(number);
    }

    /// The next clients connect from `address`.
    fn from(&mut self, address: &str) {
        *self.queue.address.lock().unwrap() = Some(address.parse().unwrap());
    }

    fn notices(&self) -> Vec<String> {
        self.notices.take()
    }
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn hello() -> ScriptedClient {
    Ok(b"hello\n".to_vec())
}

#[test]
fn case_25_an_error_of_one_connection_costs_nobody_else() {
    let mut harness = ListenerHarness::new(&ListenOptions::default(), 1024);
    let errors = [ECONNABORTED, EPROTO, EINTR, EPERM].map(Err);
    harness.arrive([hello()].into_iter().chain(errors).chain([hello()]));
    assert!(matches!(harness.fill(ms(0)), Fill::Pending(None)));
    assert_eq!(harness.output, b"hello\nhello\n");
    // Neither the client nor what it sent is known.
    let expected = "test://: 3 connections failed before being accepted: operation not permitted; what had \
                    arrived is not counted";
    assert_eq!(harness.notices(), [expected]);
}

#[test]
fn case_25_an_error_that_all_of_them_have_does_not_spin() {
    let mut harness = ListenerHarness::new(&ListenOptions::default(), 1024);
    harness.arrive((0..1000).map(|_| Err(EPERM)));
    let pause = ms(limits::ACCEPT_AGAIN_MS);
    let fill = harness.fill(ms(0));
    assert!(
        matches!(fill, Fill::Pending(Some(at)) if at == pause),
        "{fill:?}"
    );
    assert_eq!(harness.notices().len(), 1);
}

#[test]
fn case_24_clients_wait_for_descriptors_and_are_reported_once() {
    for errno in [EMFILE, ENFILE, ENOBUFS, ENOMEM] {
        let mut harness = ListenerHarness::new(&ListenOptions::default(), 1024);
        // The results of four attempts; there are no edges in between.
        harness.arrive([Err(errno), Err(errno), Err(errno), hello(), hello()]);
        let pause = ms(limits::ACCEPT_AGAIN_MS);
        for attempt in 0..3 {
            let now = pause * attempt;
            harness.waits_until(now, now + pause);
            // Called for another reason: the pause holds.
            harness.waits_until(now + ms(1), now + pause);
        }
        assert!(matches!(harness.fill(pause * 3), Fill::Pending(None)));
        assert_eq!(harness.output, b"hello\nhello\n");
        let notices = harness.notices();
        assert_eq!(notices.len(), 2, "{notices:?}");
        assert!(
            notices[0].starts_with("test://: new clients have to wait: "),
            "{notices:?}"
        );
        assert_eq!(notices[1], "test://: new clients are accepted again");
    }
}

#[test]
fn case_24_whoever_waits_gets_the_place_of_one_who_leaves_at_once() {
    let mut harness = ListenerHarness::new(&ListenOptions::default(), 1024);
    harness.arrive([Ok(b"first".to_vec()), Err(EMFILE), hello()]);
    assert!(matches!(harness.fill(ms(0)), Fill::Pending(None)));
    assert_eq!(harness.output, b"first\nhello\n");
}

#[test]
fn long_lines_are_reported_with_numbers() {
    let options = ListenOptions {
        record_bytes_max: 8,
        ..ListenOptions::default()
    };
    let mut harness = ListenerHarness::new(&options, 1024);
    harness.arrive([Ok(b"0123456789\nshort\n".to_vec())]);
    harness.fill(ms(0));
    assert_eq!(harness.output, b"short\n");
    let expected = "test://: line longer than 8 bytes, or than memory allows, from somebody; \
                    dropped (1 line and 10 bytes so far)";
    assert_eq!(harness.notices(), [expected]);
}

fn idle_after_a_second() -> ListenOptions {
    ListenOptions {
        idle_timeout: Some(ms(1000)),
        ..ListenOptions::default()
    }
}

#[test]
fn case_21_a_client_that_is_silent_too_long_is_closed_and_its_beginning_is_a_line() {
    let mut harness = ListenerHarness::new(&idle_after_a_second(), 1024);
    harness.arrive([Ok(b"half...".to_vec())]);
    let fill = harness.fill(ms(0));
    assert!(
        matches!(fill, Fill::Pending(Some(at)) if at == ms(1000)),
        "{fill:?}"
    );
    harness.arrive([Ok(b"later...".to_vec()), Ok(Vec::new())]);
    harness.fill(ms(600));
    assert!(matches!(harness.fill(ms(999)), Fill::Pending(Some(at)) if at == ms(1000)));
    assert_eq!(harness.listener.clients.count(), 3);
    harness.fill(ms(1000));
    assert_eq!(
        (harness.listener.clients.count(), &harness.output[..]),
        (2, &b"half...\n"[..])
    );
    // One of the others sends something in time.
    harness.send(1, 1, b"more");
    harness.fill(ms(1500));
    harness.fill(ms(1700));
    assert_eq!(
        (harness.listener.clients.count(), &harness.output[..]),
        (1, &b"half...\n"[..])
    );
    let fill = harness.fill(ms(2500));
    assert_eq!(harness.output, b"half...\nlater...more\n");
    assert_eq!(harness.listener.clients.count(), 0);
    let again = ms(1000 + limits::NOTICE_PAUSE_MS);
    assert!(matches!(fill, Fill::Pending(Some(at)) if at <= again));
    let fill = harness.fill(again);
    assert!(matches!(fill, Fill::Pending(None)), "{fill:?}");
    let expected = ["somebody", "somebody and 1 other"]
        .map(|who| format!("test://: nothing received for 1s; closed {who}"));
    assert_eq!(harness.notices(), expected);
}

/// P8: it was our side that did not read.
#[test]
fn case_21_who_waits_to_be_read_is_not_silent() {
    let mut harness = ListenerHarness::new(&idle_after_a_second(), 1024);
    harness.arrive([Ok(b"one\n...".to_vec())]);
    harness.fill(ms(0));
    harness.send(0, 0, b"two\n");
    harness.fill(ms(100_000));
    assert_eq!(
        (harness.listener.clients.count(), &harness.output[..]),
        (1, &b"one\n...two\n"[..])
    );
    assert_eq!(harness.notices(), [""; 0]);
    harness.fill(ms(101_000));
    assert_eq!(harness.listener.clients.count(), 0);
}

/// However many are silent, and however different their times are, checking them all is rare.
#[test]
fn case_21_looking_for_the_silent_is_rare() {
    let mut harness = ListenerHarness::new(&idle_after_a_second(), 10_000);
    let mut looks = 0;
    for now in 0..5000 {
        if now < 1000 {
            harness.arrive([Ok(Vec::new())]);
        }
        let before = harness.listener.idle_check_at;
        harness.fill(ms(now));
        looks += u64::from(before != harness.listener.idle_check_at && now >= 1000);
        // Each is closed a sixteenth of the time late at most.
        let oldest = now.saturating_sub(1000 + 1000 / u64::from(limits::IDLE_LOOKS) + 1);
        assert!(harness.listener.clients.count() as u64 <= 1000 - oldest.min(1000));
    }
    assert_eq!(harness.listener.clients.count(), 0);
    assert!(
        (1..=2 * u64::from(limits::IDLE_LOOKS)).contains(&looks),
        "{looks}"
    );
}

#[test]
fn case_11_12_what_is_not_text_is_reported_once_per_kind_and_counted() {
    let mut harness = ListenerHarness::new(&ListenOptions::default(), 1024);
    let request = b"GET / HTTP/1.1\r\n\r\n";
    harness.arrive([
        Ok(request.to_vec()),
        hello(),
        Ok(request.to_vec()),
        Ok(b"\xff\xfeh\0i\0\n\0".to_vec()),
    ]);
    harness.fill(ms(0));
    let expected = ["an HTTP request", "UTF-16 text"].map(|what| {
        format!(
            "test://: data from somebody looks like {what}, not like lines of text; it is counted as \
             received, and nothing is answered"
        )
    });
    assert_eq!(harness.notices(), expected);
    let lines = b"GET / HTTP/1.1\r\n\r\n".repeat(2).len() + b"hello\n".len();
    assert!(harness.output.len() >= lines, "{:?}", harness.output);
}

#[test]
fn clients_whose_edges_are_lost_are_checked_once_a_second() {
    let mut harness = ListenerHarness::new(&ListenOptions::default(), 1024);
    harness.arrive([Ok(b"one\n...".to_vec())]);
    harness.fill(ms(0));
    assert_eq!(harness.output, b"one\n");
    // More arrives, and another client connects, without edges.
    {
        let client = harness.listener.clients.connections().next();
        let stream = &client.expect("it is connected").stream;
        stream.bytes.lock().unwrap().extend(b"\ntwo\n");
    }
    harness.queue.answers.lock().unwrap().push_back(hello());
    harness.fill(ms(limits::LOOK_AGAIN_MS - 1));
    assert_eq!(harness.output, b"one\n");
    harness.fill(ms(limits::LOOK_AGAIN_MS));
    assert_eq!(harness.output, b"one\n...\ntwo\nhello\n");
}
