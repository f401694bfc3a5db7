//! Datagrams.

use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use microtally::Config;
use microtally::error::ErrorKind;
use microtally::sources::UdpListen;
use microtally::sources::{Fill, Intake, Port, Source, Waker};

use crate::util::{count, count_with, counts};

fn listening() -> (UdpListen, SocketAddr, UdpSocket) {
    let source = UdpListen::bind("127.0.0.1", 0).unwrap();
    let address = source.local_addr();
    (source, address, UdpSocket::bind("127.0.0.1:0").unwrap())
}

#[test]
fn case_39_the_end_of_a_datagram_ends_its_last_line() {
    let (source, address, socket) = listening();
    let run = count(source);
    let texts = [
        "one",
        "two\nthree\n",
        "",
        "four\r",
        "\nfive\r\r",
        "\r\nsix",
        "last",
    ];
    for text in texts {
        socket.send_to(text.as_bytes(), address).unwrap();
    }
    run.wait_for("last", 1);
    let (counted, notices) = run.stop();
    let whole = ["one", "two", "three", "four", "five", "six", "last"].map(|line| (line, 1));
    let mut expected = counts(whole);
    // Of `\nfive`, of the second `\r` and of `\r\nsix`.
    expected.insert(String::new(), 3);
    assert_eq!(counted, expected);
    assert_eq!(notices, [""; 0]);
}

/// The largest datagram there is, into blocks of every size: smaller than it, a little larger,
/// larger.
#[test]
fn case_39_the_largest_datagram_is_whole() {
    for block_bytes in [64, 65_000, 66_000, 1 << 20] {
        let (source, address, socket) = listening();
        let run = count_with(source, Config::default().block_bytes(block_bytes));
        let line = "x".repeat(65_507);
        for count in 1..=10 {
            socket.send_to(line.as_bytes(), address).unwrap();
            socket.send_to(b"small", address).unwrap();
            // The kernel holds a few only.
            run.wait_for("small", count);
        }
        assert_eq!(
            run.stop().0,
            counts([(&line, 10), ("small", 10)]),
            "{block_bytes}"
        );
    }
}

/// A source that the test can hold up, as a reading thread that is busy would.
struct HeldUp {
    source: UdpListen,
    goes_on: Arc<AtomicBool>,
    waker: Arc<Mutex<Option<Waker>>>,
}

impl Source for HeldUp {
    fn start(&mut self, port: Port, now: Duration) {
        *self.waker.lock().unwrap() = Some(port.waker());
        self.source.start(port, now);
    }

    fn fill(&mut self, out: &mut Intake<'_>, now: Duration) -> Fill {
        match self.goes_on.load(Ordering::Acquire) {
            true => self.source.fill(out, now),
            false => Fill::Pending(None),
        }
    }

    fn drain(&mut self) -> usize {
        self.source.drain()
    }

    fn name(&self) -> &str {
        self.source.name()
    }
}

#[test]
fn case_39_what_the_kernel_drops_is_reported_and_the_sum_is_right() {
    const SENT: u64 = 5000;
    let (source, address, socket) = listening();
    let goes_on = Arc::<AtomicBool>::default();
    let waker = Arc::default();
    let run = count(HeldUp {
        source: source.buffer_bytes(16 * 1024),
        goes_on: Arc::clone(&goes_on),
        waker: Arc::clone(&waker),
    });
    let send = |many: u64| {
        for _ in 0..many {
            socket
                .send_to(b"a datagram of no importance", address)
                .unwrap();
        }
    };
    send(SENT);
    goes_on.store(true, Ordering::Release);
    waker.lock().unwrap().as_ref().unwrap().wake();
    run.wait_for_notice("the kernel dropped ");
    // What is dropped after the report is reported at the end.
    goes_on.store(false, Ordering::Release);
    send(SENT);
    goes_on.store(true, Ordering::Release);
    let (counted, notices, stats) = run.stop_with_stats();
    let received = counted["a datagram of no importance"];
    assert!(received < 2 * SENT, "nothing was dropped");
    assert_eq!(received + stats.lost_records, 2 * SENT, "{stats:?}");
    assert_eq!((stats.dropped(), stats.lost_bytes), (stats.lost_records, 0));
    assert_eq!(notices.len(), 2, "{notices:?}");
    let dropped = 2 * SENT - received;
    let expected = format!(
        "udp-listen://{address}: the kernel dropped {dropped} datagrams so far; they came faster than \
         they were read"
    );
    assert_eq!(notices[1], expected);
}

#[test]
fn what_has_arrived_at_a_graceful_stop_is_counted() {
    let (source, address, socket) = listening();
    let run = count(source);
    for _ in 0..100 {
        socket.send_to(b"in time", address).unwrap();
    }
    let (counted, notices) = run.stop();
    assert_eq!(counted, counts([("in time", 100)]));
    assert_eq!(notices, [""; 0]);
}

#[test]
fn case_40_41_addresses_as_for_connections() {
    let (_source, address, _) = listening();
    let error = UdpListen::bind("127.0.0.1", address.port()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    let pid = std::process::id();
    let expected = format!("cannot listen on {address}: address already in use (pid {pid} ");
    assert!(error.to_string().starts_with(&expected), "{error}");
    let source = UdpListen::bind("localhost", 0).unwrap();
    let addresses = source.local_addrs().to_vec();
    let run = count(source);
    for address in &addresses {
        let any = if address.is_ipv4() {
            "127.0.0.1:0"
        } else {
            "[::1]:0"
        };
        let socket = UdpSocket::bind(any).unwrap();
        socket.send_to(b"hello", address).unwrap();
    }
    run.wait_for("hello", addresses.len() as u64);
    let (_, notices) = run.stop();
    assert_eq!(notices, [""; 0]);
}
