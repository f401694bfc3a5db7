//! A graceful stop of a connection whose sender never pauses, and of one that does.

use super::*;
use crate::ledger::Intake;

/// Connects at once to a sender that has so many bytes, and then pauses.
struct Sender(usize);

struct Stream(usize);

impl Read for Stream {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let count = buf.len().min(self.0);
        self.0 -= count;
        match count {
            0 => Err(io::ErrorKind::WouldBlock.into()),
            count => Ok(count),
        }
    }
}

has_no_events!(Stream);

impl Endpoint for Sender {
    type Address = ();
    type Stream = Stream;

    fn lookup(&self) -> Lookup<()> {
        Lookup::Known(())
    }

    fn unresolved(&self, _cause: Option<&io::Error>) -> String {
        String::new()
    }

    fn open(&self, _address: ()) -> io::Result<Stream> {
        Ok(Stream(self.0))
    }

    fn take_error(_stream: &Stream) -> io::Result<Option<io::Error>> {
        Ok(None)
    }

    fn is_made(_stream: &Stream) -> bool {
        true
    }

    fn unread(stream: &Stream) -> Option<u64> {
        Some(stream.0 as u64)
    }
}

/// What is reported of a sender of 100 bytes, of which 10 are read, then so many by a stop, if there is one; and
/// the records and bytes that are lost, by the statistics.
fn told(drains: Option<usize>) -> (Vec<String>, (u64, u64)) {
    let mut dial = Connector::new(Sender(100), "test://".to_owned(), Reconnect::Never);
    let (port, told) = Port::kept("test://");
    let account = port.account.clone();
    dial.start(port);
    let fill = dial.fill(&mut [0; 10], Duration::ZERO);
    assert!(matches!(fill, Fill::Bytes(10)), "{fill:?}");
    if let Some(bytes) = drains {
        assert!(dial.drain() > 0);
        dial.fill(&mut vec![0; bytes], Duration::ZERO);
        if bytes == 90 {
            let fill = dial.fill(&mut [0; 10], Duration::ZERO);
            assert!(matches!(fill, Fill::Pending(None)), "{fill:?}");
        }
    }
    dial.ended();
    let intake = account.then(Intake::default());
    drop(dial);
    assert_eq!(
        account.then(Intake::default()),
        intake,
        "it is counted once"
    );
    (told.take(), (intake.lost_records, intake.lost_bytes))
}

#[test]
fn what_a_graceful_stop_leaves_in_the_kernel_is_counted_and_reported_with_its_bytes() {
    let expected = "test://: stopped with 50 bytes unread; they are not counted";
    assert_eq!(told(Some(40)), (vec![expected.to_owned()], (1, 50)));
    // All that had arrived was read, or nobody promised to.
    assert_eq!(told(Some(90)), (vec![], (0, 0)));
    assert_eq!(told(None), (vec![], (0, 0)));
}
