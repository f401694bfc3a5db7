//! A graceful stop of a connection whose sender never pauses, and of one that does.

use super::*;
use crate::ledger::IntakeTotals;

/// Connects at once to a sender that has this many bytes, and then pauses.
struct FiniteSender(usize);

struct FiniteStream(usize);

impl Read for FiniteStream {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let count = buf.len().min(self.0);
        self.0 -= count;
        match count {
            0 => Err(io::ErrorKind::WouldBlock.into()),
            count => Ok(count),
        }
    }
}

has_no_events!(FiniteStream);

impl StreamSocket for FiniteStream {
    fn unread(&self) -> Option<u64> {
        Some(self.0 as u64)
    }
}

impl ConnectTarget for FiniteSender {
    type Address = ();
    type Stream = FiniteStream;

    fn lookup(&self) -> Lookup<()> {
        Lookup::Known(())
    }

    fn open(&self, _address: ()) -> io::Result<FiniteStream> {
        Ok(FiniteStream(self.0))
    }
}

/// Reads 10 bytes from a sender of 100, and as many as `drains` in a stop, if there is one. Returns
/// the notices, and the lost records and bytes in the statistics.
fn stopped(drains: Option<usize>) -> (Vec<String>, (u64, u64)) {
    let mut connector = Connector::new(FiniteSender(100), "test://".to_owned(), Reconnect::Never);
    let (port, notices) = Port::kept("test://");
    let account = port.account.clone();
    connector.start(port, Duration::ZERO);
    let fill = connector.read(&mut [0; 10], Duration::ZERO);
    assert!(matches!(fill, ReadOutcome::Bytes(10)), "{fill:?}");
    if let Some(bytes) = drains {
        assert!(connector.drain() > 0);
        connector.read(&mut vec![0; bytes], Duration::ZERO);
        if bytes == 90 {
            let fill = connector.read(&mut [0; 10], Duration::ZERO);
            assert!(
                matches!(fill, ReadOutcome::Nothing(Fill::Pending(None))),
                "{fill:?}"
            );
        }
    }
    connector.ended();
    let intake = account.then(IntakeTotals::default());
    drop(connector);
    assert_eq!(
        account.then(IntakeTotals::default()),
        intake,
        "it is counted once"
    );
    (notices.take(), (intake.lost_records, intake.lost_bytes))
}

#[test]
fn what_a_graceful_stop_leaves_in_the_kernel_is_counted_and_reported_with_its_bytes() {
    let expected = "test://: stopped with 50 bytes unread; they are not counted";
    assert_eq!(stopped(Some(40)), (vec![expected.to_owned()], (1, 50)));
    // All that had arrived was read, or there was no stop.
    assert_eq!(stopped(Some(90)), (vec![], (0, 0)));
    assert_eq!(stopped(None), (vec![], (0, 0)));
}
