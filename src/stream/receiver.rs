//! What listeners are told of the sources of bytes.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::epoch::BatchTime;
use crate::epoch::clock::Clock;
use crate::source::{Fill, Notice, Notices, Port, Source};
use crate::stream::listener::{Bus, ReceiverInfo};

/// What listeners know of a source.
#[derive(Clone)]
pub(super) struct Receiver {
    bus: Bus,
    clock: Clock,
    info: Arc<Mutex<ReceiverInfo>>,
}

impl Receiver {
    /// The source called `name`, that of the numbered input stream.
    pub(super) fn new(bus: Bus, clock: Clock, stream_id: usize, name: &str) -> Self {
        let info = ReceiverInfo {
            stream_id,
            name: name.to_owned(),
            active: false,
            last_error_message: None,
            last_error_time: None,
        };
        let info = Arc::new(Mutex::new(info));
        Receiver { bus, clock, info }
    }

    /// Notices that go where `notices` does, and tell listeners of connections that come and go.
    pub(super) fn overhear(&self, notices: Notices) -> Notices {
        let receiver = self.clone();
        Notices::to(move |notice| {
            match notice {
                Notice::Waiting { reason, .. } => receiver.failed(reason),
                Notice::Connected { .. } => receiver.started(),
                _ => {}
            }
            notices.tell(notice.clone());
        })
    }

    fn lock(&self) -> MutexGuard<'_, ReceiverInfo> {
        self.info.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn started(&self) {
        let info = {
            let mut info = self.lock();
            info.active = true;
            info.clone()
        };
        self.bus
            .tell(|listener| listener.on_receiver_started(&info));
    }

    fn failed(&self, reason: &str) {
        let info = {
            let mut info = self.lock();
            info.last_error_message = Some(reason.to_owned());
            info.last_error_time = Some(self.clock.now());
            info.clone()
        };
        self.bus.tell(|listener| listener.on_receiver_error(&info));
        self.stopped();
    }

    /// Tells once that the source is not read any more.
    fn stopped(&self) {
        let (was_active, info) = {
            let mut info = self.lock();
            (std::mem::take(&mut info.active), info.clone())
        };
        if was_active {
            self.bus
                .tell(|listener| listener.on_receiver_stopped(&info));
        }
    }
}

/// A source whose beginning and end listeners are told.
pub(super) struct Overheard {
    source: Box<dyn Source>,
    receiver: Receiver,
}

impl Overheard {
    pub(super) fn new(source: Box<dyn Source>, receiver: Receiver) -> Self {
        Overheard { source, receiver }
    }
}

impl Source for Overheard {
    fn start(&mut self, port: Port, now: Duration) {
        self.receiver.started();
        self.source.start(port, now);
    }

    fn fill(&mut self, buf: &mut [u8], now: Duration) -> Fill {
        let fill = self.source.fill(buf, now);
        match &fill {
            Fill::End => self.receiver.stopped(),
            Fill::Failed(error) => self.receiver.failed(&error.to_string()),
            _ => {}
        }
        fill
    }

    fn batch_due(&mut self, time: BatchTime) -> bool {
        self.source.batch_due(time)
    }

    fn drain(&mut self) -> usize {
        self.source.drain()
    }

    fn name(&self) -> &str {
        self.source.name()
    }
}

impl Drop for Overheard {
    /// The run is over.
    fn drop(&mut self) {
        self.receiver.stopped();
    }
}
