//! `udp-listen`: lines that come in datagrams.
//!
//! Promise: a datagram is whole lines, and its end ends its last one; none is cut short for lack of
//! room; what the kernel dropped, and what a graceful stop left unread, is in the statistics and
//! reported. Must not know: engine.

mod failures;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use mio::net::UdpSocket;
use socket2::{Domain, SockRef, Socket, Type};

use crate::error::{Error, Result};
use crate::id::ChannelId;
use crate::intake::Intake;
use crate::limits::{
    DATAGRAM_BYTES_MAX, DRAIN_BYTES_MAX, DROPS_LOOK_MS, NOTICE_PAUSE_MS, UDP_BUFFER_BYTES_DEFAULT,
    UNREAD_DATAGRAMS_MAX,
};
use crate::notice::{NoticeKind, Throttled};
use crate::source::net::bind;
use crate::source::net::socket::{lower, url_host};
use crate::source::net::udp_listen::failures::{Failures, OnFailure};
use crate::source::{Fill, Port, Source};
use crate::sys::proc;
use crate::time::BatchTime;

/// Datagrams received in one call: no other source gets a turn between them.
const DATAGRAMS_PER_CALL: usize = 256;

/// Datagrams as lines.
///
/// A sender of datagrams does not wait for the receiver: if they come faster than they are read,
/// the kernel drops some. Each counts as one of the
/// [`lost_records`](crate::batch::BatchStats::lost_records) of the batch in which the drop was
/// noticed: the same batch or, if batches are shorter than a second, one up to a second later, but
/// no later than the last. [`NoticeKind::DatagramsLost`] reports them, a little later and at the
/// end. An empty datagram is no line.
///
/// A graceful stop reads what has arrived, up to [`DRAIN_BYTES_MAX`] bytes. What it leaves unread,
/// because a sender never pauses, is in the statistics as well, and [`NoticeKind::Unread`] reports
/// it. Calls that fail are repeated, with a pause when many fail in a row, and
/// [`NoticeKind::Unreceived`] reports them.
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
    sockets: Vec<BoundSocket>,
    addresses: Vec<SocketAddr>,
    port: Port,
    failure: Option<io::Error>,
    is_draining: bool,
    /// A graceful stop has not found the sockets empty yet.
    is_stopped_early: bool,
    /// What is lost is counted: what comes later is not part of the run.
    has_ended: bool,
    drops: Drops,
    /// Failed calls.
    failed: Throttled,
    /// What the system reports about the last one.
    failed_cause: String,
}

debug_fields!([] UdpListen, "UdpListen", addresses);

struct BoundSocket {
    socket: UdpSocket,
    inode: Option<u64>,
    failures: Failures,
    /// The next calls fail with these error numbers.
    #[cfg(test)]
    scripted: std::collections::VecDeque<i32>,
}

impl BoundSocket {
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
    /// Those in the statistics.
    counted: u64,
    /// Those that were reported.
    reported: u64,
    /// Something was received since the last check: only then can there be new ones.
    is_stale: bool,
    check_at: Duration,
    report_at: Duration,
    /// The batch before which the last check was.
    checked_for: Option<BatchTime>,
}

impl UdpListen {
    /// Receives on `port` of `host`, a name or an address of this machine. Port 0 is any free port.
    /// A name may have several addresses: see [`TcpListen::bind`](crate::sources::TcpListen::bind).
    ///
    /// # Errors
    ///
    /// The name cannot be resolved, the port is in use on one of its addresses, or the system
    /// refuses.
    pub fn bind(host: &str, port: u16) -> Result<Self> {
        let (sockets, addresses) = bind::every("udp", host, port, bind_one)?;
        Ok(UdpListen {
            name: format!("udp-listen://{}:{}", url_host(host), addresses[0].port()),
            sockets,
            addresses,
            port: Port::detached(),
            failure: None,
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

    /// Sets how many bytes the kernel may hold for each socket, its own bookkeeping included. The
    /// kernel silently limits it to `net.core.rmem_max`. Default: 8 MiB.
    pub fn buffer_bytes(self, bytes: usize) -> Self {
        for bound in &self.sockets {
            set_buffer(&bound.socket, bytes);
        }
        self
    }

    /// Receives datagrams. Returns `true` if there may be more.
    fn receive_all(&mut self, out: &mut Intake<'_>, now: Duration) -> io::Result<bool> {
        let (mut left, mut filled) = (DATAGRAMS_PER_CALL, 0);
        for index in 0..self.sockets.len() {
            // A stop does not wait for a pause.
            if self.sockets[index].failures.is_pausing(now) && !self.is_draining {
                continue;
            }
            loop {
                if left == 0 {
                    return Ok(true);
                }
                left -= 1;
                let Some(space) = out.space_of(ChannelId::FIRST, DATAGRAM_BYTES_MAX) else {
                    return Ok(true);
                };
                match self.sockets[index].recv(space) {
                    Ok(count) => {
                        filled += count;
                        out.filled(count);
                        // A datagram is whole lines; an empty one is none.
                        out.end(ChannelId::FIRST, true);
                        self.drops.is_stale = true;
                        self.sockets[index].failures.clear();
                    }
                    Err(cause) if cause.kind() == io::ErrorKind::WouldBlock => {
                        self.sockets[index].failures.clear();
                        break;
                    }
                    Err(cause) => match self.fail(index, &cause, now) {
                        OnFailure::Retry => {}
                        OnFailure::Pause => break,
                        OnFailure::GiveUp if filled == 0 => return Err(cause),
                        // The error comes again.
                        OnFailure::GiveUp => return Ok(true),
                    },
                }
            }
        }
        self.is_stopped_early = false;
        Ok(false)
    }

    /// Receiving from a socket failed.
    #[cold]
    fn fail(&mut self, index: usize, cause: &io::Error, now: Duration) -> OnFailure {
        if cause.kind() != io::ErrorKind::Interrupted {
            self.failed.add(0);
            self.failed_cause = lower(cause);
        }
        self.sockets[index].failures.add(cause, now)
    }

    /// Counts what a graceful stop left unread as lost.
    fn count_unread(&mut self) {
        let (mut datagrams, mut bytes) = (0, 0);
        let mut scratch = vec![0; DATAGRAM_BYTES_MAX];
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
        if datagrams > 0 {
            self.port.lost(datagrams, bytes);
            (self.port).report(NoticeKind::Unread { bytes: Some(bytes) });
        }
    }

    /// Checks what was dropped, if it is time to or `is_last`, and reports it.
    fn check_drops(&mut self, now: Duration, is_last: bool) {
        let drops = &mut self.drops;
        if drops.is_stale && (is_last || now >= drops.check_at) {
            drops.check_at = now.saturating_add(Duration::from_millis(DROPS_LOOK_MS));
            drops.is_stale = false;
            let of = |bound: &BoundSocket| proc::datagrams_dropped(bound.inode?);
            let dropped = self.sockets.iter().filter_map(of).sum::<u64>();
            let new = dropped.saturating_sub(drops.counted);
            drops.counted += new;
            if new > 0 {
                self.port.lost(new, 0);
            }
        }
        self.report_due(now);
    }

    /// Reports failures and drops, if there are new ones and the last report is long enough ago.
    fn report_due(&mut self, now: Duration) {
        if let Some((failures, _)) = self.failed.take(now) {
            let reason = self.failed_cause.clone();
            (self.port).report(NoticeKind::Unreceived { failures, reason });
        }
        let drops = &mut self.drops;
        if drops.reported < drops.counted && now >= drops.report_at {
            drops.reported = drops.counted;
            drops.report_at = now.saturating_add(Duration::from_millis(NOTICE_PAUSE_MS));
            let datagrams = drops.reported;
            self.port.report(NoticeKind::DatagramsLost { datagrams });
        }
    }

    /// When there is something to check or to report though nothing comes.
    fn timer(&self) -> Option<Duration> {
        let drops = &self.drops;
        let check_at = drops.is_stale.then_some(drops.check_at);
        let report_at = (drops.reported < drops.counted).then_some(drops.report_at);
        let own = [check_at, report_at, self.failed.due_at()];
        let again = self.sockets.iter().map(|bound| bound.failures.again());
        own.into_iter().chain(again).flatten().min()
    }
}

/// A socket that receives on `address`. It is not shared, or datagrams would be.
fn bind_one(address: SocketAddr) -> io::Result<(BoundSocket, SocketAddr)> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, None)?;
    socket.bind(&address.into())?;
    socket.set_nonblocking(true)?;
    // The kernel's tables name sockets by their inodes.
    let file = File::from(OwnedFd::from(socket.try_clone()?));
    let inode = file.metadata().ok().map(|metadata| metadata.ino());
    let socket = UdpSocket::from_std(socket.into());
    set_buffer(&socket, UDP_BUFFER_BYTES_DEFAULT);
    let address = socket.local_addr()?;
    let bound = BoundSocket {
        socket,
        inode,
        failures: Failures::default(),
        #[cfg(test)]
        scripted: std::collections::VecDeque::new(),
    };
    Ok((bound, address))
}

fn set_buffer(socket: &UdpSocket, bytes: usize) {
    // If it fails there are more drops, which are reported.
    let _ = SockRef::from(socket).set_recv_buffer_size(bytes);
}

impl Source for UdpListen {
    fn start(&mut self, port: Port, _now: Duration) {
        for &address in &self.addresses {
            bind::report_listening(address, &port);
        }
        for bound in &mut self.sockets {
            if let Err(cause) = port.register(&mut bound.socket) {
                self.failure = Some(cause);
            }
        }
        self.port = port;
    }

    fn fill(&mut self, out: &mut Intake<'_>, now: Duration) -> Fill {
        let received = match self.failure.take() {
            Some(cause) => Err(cause),
            None => self.receive_all(out, now),
        };
        // After the last call drops could no longer be reported.
        let is_last = self.is_draining && matches!(received, Err(_) | Ok(false));
        self.check_drops(now, is_last);
        match received {
            Err(cause) => Fill::Failed(Error::input(&self.name, &cause)),
            Ok(false) if self.is_draining => Fill::End,
            Ok(false) => Fill::Pending(self.timer()),
            Ok(true) if self.is_draining => Fill::Finishing(now),
            Ok(true) => Fill::More,
        }
    }

    /// What was dropped so far belongs to this batch. A check reads a table of the kernel, so short
    /// batches share one, except the last batch.
    fn batch_due(&mut self, time: BatchTime) -> bool {
        let since = |before: BatchTime| time.as_millis().saturating_sub(before.as_millis());
        let is_time = (self.drops.checked_for).is_none_or(|before| since(before) >= DROPS_LOOK_MS);
        if is_time || self.is_draining {
            self.drops.checked_for = Some(time);
            self.check_drops(Duration::from_millis(time.as_millis()), true);
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
        self.check_drops(Duration::MAX, true);
    }

    fn name(&self) -> &str {
        &self.name
    }
}

impl Drop for UdpListen {
    /// A source that wraps this one may not forward [`ended`](Source::ended).
    fn drop(&mut self) {
        self.ended();
    }
}
