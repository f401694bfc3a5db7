//! `udp-listen`: lines that come in datagrams.
//!
//! Promise: a datagram is whole lines, its end ends its last one; none is cut short for want of room; what
//! the kernel had to drop is in the statistics and reported, and so is what a graceful stop left unread. Must not
//! know: who sends, what bytes mean, the clock.

mod failures;
#[cfg(test)]
mod tests;

use std::fmt;
use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use mio::net::UdpSocket;
use socket2::{Domain, SockRef, Socket, Type};

use crate::error::{Error, Result};
use crate::limits::{
    DATAGRAM_BYTES_MAX, DRAIN_BYTES_MAX, DROPS_LOOK_MS, NOTICE_PAUSE_MS, UDP_BUFFER_BYTES_DEFAULT,
    UNREAD_DATAGRAMS_MAX,
};
use crate::notice::{NoticeKind, Throttled};
use crate::source::net::bind;
use crate::source::net::bind::Protocol;
use crate::source::net::connection_set::end_with_line_feed;
use crate::source::net::connector::lower;
use crate::source::net::outbox::Outbox;
use crate::source::net::tcp_client::shown;
use crate::source::net::udp_listen::failures::{Failures, Then};
use crate::source::{Fill, Port, Source};
use crate::split::Delimiters;
use crate::sys::proc;
use crate::time::BatchTime;

/// Datagrams received in one call: between two of them nobody else gets a turn.
const DATAGRAMS_PER_CALL: usize = 256;

/// Room for a datagram and the end of its last line.
const ROOM: usize = DATAGRAM_BYTES_MAX + 2;

/// Datagrams as lines.
///
/// Nobody waits for the receiver of a datagram: when they come faster than they are read, the kernel
/// drops some. They are in the statistics as [`lost_records`](crate::BatchStats::lost_records), one each, in
/// the batch in which the drop was seen: the same one, or, where batches are shorter than a second, one up to
/// a second later, but no later than the last. They are reported as [`NoticeKind::DatagramsLost`], a little later and at
/// the end. An empty datagram is no line.
///
/// A graceful stop reads what has arrived, up to [`DRAIN_BYTES_MAX`] bytes. What it leaves unread, because its
/// sender never pauses, is in the statistics as well, and reported as [`NoticeKind::Unread`]. Calls that fail are
/// repeated, with a pause when many fail in a row, and reported as [`NoticeKind::Unreceived`].
///
/// ```
/// use std::net::UdpSocket;
/// use std::sync::mpsc::channel;
/// use microtally::prelude::*;
/// use microtally::sources::UdpListen;
///
/// let source = UdpListen::bind("127.0.0.1", 0)?;
/// let address = source.local_addr();
/// let ssc = StreamingContext::new(Duration::from_millis(50))?;
/// let (sender, counts) = channel();
/// ssc.source_stream(source).count_by_value().for_each_batch(move |batch, _| {
///     let _ = sender.send(batch.get(b"hello"));
/// });
/// let running = ssc.start()?;
/// let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
/// socket.send_to(b"hello\nhello", address).unwrap();
/// assert_eq!(counts.iter().flatten().next(), Some(2));
/// running.stop(Stop::Immediate)?;
/// # Ok::<(), microtally::Error>(())
/// ```
pub struct UdpListen {
    name: String,
    sockets: Vec<Bound>,
    addresses: Vec<SocketAddr>,
    port: Option<Port>,
    failure: Option<io::Error>,
    /// Lines that found no room in the memory to fill.
    outbox: Outbox,
    /// Bytes received.
    received: u64,
    /// Bytes of line ends added.
    added: u64,
    is_draining: bool,
    /// A graceful stop has not found the sockets without datagrams yet.
    is_stopped_early: bool,
    /// What is lost is counted: what comes later is no part of the run.
    has_ended: bool,
    drops: Drops,
    /// Failed calls.
    failed: Throttled,
    /// What the system says of the last one.
    failed_cause: String,
}

struct Bound {
    socket: UdpSocket,
    inode: Option<u64>,
    failures: Failures,
    /// The next calls fail with these error numbers.
    #[cfg(test)]
    scripted: std::collections::VecDeque<i32>,
}

impl Bound {
    fn recv(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        #[cfg(test)]
        if let Some(errno) = self.scripted.pop_front() {
            return Err(io::Error::from_raw_os_error(errno));
        }
        self.socket.recv(buf)
    }
}

/// What the kernel dropped.
#[derive(Default)]
struct Drops {
    /// In the statistics.
    counted: u64,
    /// Of those, reported to people.
    told: u64,
    /// Something was received since the last look: only then can there be new ones.
    is_stale: bool,
    look_at: Duration,
    tell_at: Duration,
    /// Time of the batch before which was looked last.
    looked_for: Option<BatchTime>,
}

impl UdpListen {
    /// Receives on `port` of `host`, a name or an address of this machine; 0 is any port that is free. A
    /// name may have several addresses: see [`TcpListen::bind`](crate::sources::TcpListen::bind).
    ///
    /// # Errors
    ///
    /// The name cannot be resolved, the port is in use on one of its addresses, or the system refuses.
    pub fn bind(host: &str, port: u16) -> Result<Self> {
        let (sockets, addresses) = bind::every(Protocol::Udp, host, port, bind_one)?;
        Ok(UdpListen {
            name: format!("udp-listen://{}:{}", shown(host), addresses[0].port()),
            sockets,
            addresses,
            port: None,
            failure: None,
            outbox: Outbox::default(),
            received: 0,
            added: 0,
            is_draining: false,
            is_stopped_early: false,
            has_ended: false,
            drops: Drops::default(),
            failed: Throttled::default(),
            failed_cause: String::new(),
        })
    }

    /// The first address it receives on.
    pub fn local_addr(&self) -> SocketAddr {
        self.addresses[0]
    }

    /// The addresses it receives on, at least one.
    pub fn local_addrs(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Bytes the kernel may hold for a socket, its own bookkeeping included. Without it 8 MiB. The kernel
    /// allows no more than `net.core.rmem_max`, of which it says nothing.
    pub fn buffer_bytes(self, bytes: usize) -> Self {
        for bound in &self.sockets {
            set_buffer(&bound.socket, bytes);
        }
        self
    }

    /// Receives one datagram into `buf`, which has [`ROOM`]. Returns the bytes of its lines.
    fn receive(&mut self, index: usize, buf: &mut [u8]) -> io::Result<usize> {
        let len = self.sockets[index].recv(buf)?;
        self.received += len as u64;
        if len == 0 {
            return Ok(0);
        }
        let delimiters =
            (self.port.as_ref()).map_or_else(Delimiters::default, |port| port.delimiters);
        let line_ends = delimiters.line_ends;
        if line_ends.is_end(buf[len - 1]) {
            if line_ends.may_pair(buf[len - 1]) {
                end_with_line_feed(&mut buf[..len]);
            }
            return Ok(len);
        }
        let end = delimiters.end_behind(&buf[..len]);
        buf[len..len + end.len()].copy_from_slice(end);
        self.added += end.len() as u64;
        Ok(len + end.len())
    }

    /// As `receive`, wherever there is room; gives how much of it is in `buf`.
    fn receive_somewhere(&mut self, index: usize, buf: &mut [u8]) -> io::Result<usize> {
        if buf.len() >= ROOM {
            return self.receive(index, buf);
        }
        let mut own = vec![0; ROOM];
        let len = self.receive(index, &mut own)?;
        own.truncate(len);
        self.outbox.put(own);
        Ok(self.outbox.give(buf))
    }

    /// Puts lines at the front of `buf`, and says whether there may be more.
    fn receive_all(&mut self, buf: &mut [u8], now: Duration) -> io::Result<(usize, bool)> {
        let mut filled = self.outbox.give(buf);
        let mut left = DATAGRAMS_PER_CALL;
        for index in 0..self.sockets.len() {
            // A stop waits for no pause.
            if self.sockets[index].failures.is_pausing(now) && !self.is_draining {
                continue;
            }
            loop {
                // A datagram that does not fit where it belongs is worth a copy only if it is the first.
                let is_full = filled > 0 && buf.len() - filled < ROOM;
                if left == 0 || is_full || !self.outbox.is_empty() {
                    return Ok((filled, true));
                }
                left -= 1;
                match self.receive_somewhere(index, &mut buf[filled..]) {
                    Ok(count) => {
                        filled += count;
                        self.drops.is_stale = true;
                        self.sockets[index].failures.clear();
                    }
                    Err(cause) if cause.kind() == io::ErrorKind::WouldBlock => {
                        self.sockets[index].failures.clear();
                        break;
                    }
                    Err(cause) => match self.fail(index, &cause, now) {
                        Then::Retry => {}
                        Then::Pause => break,
                        Then::GiveUp if filled == 0 => return Err(cause),
                        // It comes again.
                        Then::GiveUp => return Ok((filled, true)),
                    },
                }
            }
        }
        self.is_stopped_early = false;
        Ok((filled, false))
    }

    /// Receiving from a socket failed.
    #[cold]
    fn fail(&mut self, index: usize, cause: &io::Error, now: Duration) -> Then {
        if cause.kind() != io::ErrorKind::Interrupted {
            self.failed.add(0);
            self.failed_cause = lower(cause);
        }
        self.sockets[index].failures.add(cause, now)
    }

    /// Counts what a graceful stop has left unread as lost.
    fn count_unread(&mut self) {
        let (mut datagrams, mut bytes) = (0, 0);
        let mut scratch = vec![0; ROOM];
        for bound in &mut self.sockets {
            for _ in 0..UNREAD_DATAGRAMS_MAX {
                match bound.recv(&mut scratch) {
                    Ok(0) => {}
                    Ok(len) => {
                        datagrams += 1;
                        bytes += len as u64;
                    }
                    Err(_) => break,
                }
            }
        }
        if let Some(port) = &self.port
            && datagrams > 0
        {
            port.lost(datagrams, bytes);
            port.report(NoticeKind::Unread { bytes: Some(bytes) });
        }
    }

    /// Looks what was dropped, if it is time to or `is_last`, and reports it.
    fn look(&mut self, now: Duration, is_last: bool) {
        let drops = &mut self.drops;
        if drops.is_stale && (is_last || now >= drops.look_at) {
            drops.look_at = now.saturating_add(Duration::from_millis(DROPS_LOOK_MS));
            drops.is_stale = false;
            let of = |bound: &Bound| proc::datagrams_dropped(bound.inode?);
            let dropped = self.sockets.iter().filter_map(of).sum::<u64>();
            let new = dropped.saturating_sub(drops.counted);
            drops.counted += new;
            if let Some(port) = &self.port
                && new > 0
            {
                port.lost(new, 0);
            }
        }
        self.tell(now);
    }

    /// Reports what failed and what was dropped, if there is more to report and it is time to.
    fn tell(&mut self, now: Duration) {
        if let Some((failures, _)) = self.failed.take(now)
            && let Some(port) = &self.port
        {
            port.report(NoticeKind::Unreceived {
                failures,
                reason: self.failed_cause.clone(),
            });
        }
        let drops = &mut self.drops;
        if drops.told == drops.counted || now < drops.tell_at {
            return;
        }
        drops.told = drops.counted;
        drops.tell_at = now.saturating_add(Duration::from_millis(NOTICE_PAUSE_MS));
        if let Some(port) = &self.port {
            port.report(NoticeKind::DatagramsLost {
                datagrams: self.drops.told,
            });
        }
    }

    /// When there is something to look at or to report though nothing comes.
    fn timer(&self) -> Option<Duration> {
        let drops = &self.drops;
        let look_at = drops.is_stale.then_some(drops.look_at);
        let tell_at = (drops.told < drops.counted).then_some(drops.tell_at);
        let again = self
            .sockets
            .iter()
            .filter_map(|bound| bound.failures.again());
        let tells = tell_at.into_iter().chain(self.failed.due_at());
        look_at.into_iter().chain(tells).chain(again).min()
    }

    /// Writes down what became of what was received.
    fn account(&self) {
        let Some(port) = &self.port else { return };
        port.account(|passage| {
            passage.received_bytes = Some(self.received);
            passage.added_bytes = self.added;
            passage.held_bytes = self.outbox.left() as u64;
            passage.held_records = u64::from(!self.outbox.is_empty());
        });
    }
}

/// A socket that receives on `address`. Nobody may share it, or they would share the datagrams.
fn bind_one(address: SocketAddr) -> io::Result<(Bound, SocketAddr)> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, None)?;
    socket.bind(&address.into())?;
    socket.set_nonblocking(true)?;
    // By which the kernel's tables call it.
    let file = File::from(OwnedFd::from(socket.try_clone()?));
    let inode = file.metadata().ok().map(|metadata| metadata.ino());
    let socket = UdpSocket::from_std(socket.into());
    set_buffer(&socket, UDP_BUFFER_BYTES_DEFAULT);
    let address = socket.local_addr()?;
    let bound = Bound {
        socket,
        inode,
        failures: Failures::default(),
        #[cfg(test)]
        scripted: std::collections::VecDeque::new(),
    };
    Ok((bound, address))
}

fn set_buffer(socket: &UdpSocket, bytes: usize) {
    // Without it there are more drops, which are told.
    let _ = SockRef::from(socket).set_recv_buffer_size(bytes);
}

impl fmt::Debug for UdpListen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UdpListen")
            .field("addresses", &self.addresses)
            .finish_non_exhaustive()
    }
}

impl Source for UdpListen {
    fn start(&mut self, port: Port, _now: Duration) {
        bind::report_listening(&self.addresses, &port);
        for bound in &mut self.sockets {
            if let Err(cause) = port.register(&mut bound.socket) {
                self.failure = Some(cause);
            }
        }
        self.port = Some(port);
    }

    fn fill(&mut self, buf: &mut [u8], now: Duration) -> Fill {
        let received = match self.failure.take() {
            Some(cause) => Err(cause),
            None => self.receive_all(buf, now),
        };
        self.account();
        // There is no call after the last one in which to say what was dropped.
        let is_last = self.is_draining && matches!(received, Err(_) | Ok((0, false)));
        self.look(now, is_last);
        match received {
            Err(cause) => Fill::Failed(Error::input(&self.name, &cause)),
            Ok((0, false)) if self.is_draining => Fill::End,
            Ok((0, false)) => Fill::Pending(self.timer()),
            Ok((0, true)) if self.is_draining => Fill::Finishing(now),
            Ok((0, true)) => Fill::Pending(Some(now)),
            Ok((filled, _)) => Fill::Bytes(filled),
        }
    }

    /// What was dropped so far belongs to this batch. Looking reads a table of the kernel's, so short batches
    /// share a look, except the last one.
    fn batch_due(&mut self, time: BatchTime) -> bool {
        let since = |before: BatchTime| time.as_millis().saturating_sub(before.as_millis());
        let is_time = (self.drops.looked_for).is_none_or(|before| since(before) >= DROPS_LOOK_MS);
        if is_time || self.is_draining {
            self.drops.looked_for = Some(time);
            self.look(Duration::from_millis(time.as_millis()), true);
        }
        false
    }

    fn drain(&mut self) -> usize {
        self.is_draining = true;
        self.is_stopped_early = true;
        DRAIN_BYTES_MAX
    }

    /// What is lost by now belongs to the last batch.
    fn ended(&mut self) {
        if std::mem::replace(&mut self.has_ended, true) {
            return;
        }
        if std::mem::take(&mut self.is_stopped_early) {
            self.count_unread();
        }
        self.drops.is_stale = true;
        self.look(Duration::MAX, true);
    }

    fn name(&self) -> &str {
        &self.name
    }
}

impl Drop for UdpListen {
    /// Whoever wraps the source need not forward [`ended`](Source::ended).
    fn drop(&mut self) {
        self.ended();
    }
}
