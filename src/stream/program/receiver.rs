//! Events of the sources of bytes, for listeners.

use std::sync::{Arc, Mutex, MutexGuard};

use crate::error::{Error, lock};
use crate::notice::{NoticeKind, Notices};
use crate::source::Source;
use crate::stream::program::listener::{ListenerBus, ReceiverInfo};
use crate::time::Clock;

/// A source, as listeners see it.
#[derive(Clone)]
struct Receiver {
    bus: ListenerBus,
    clock: Clock,
    info: Arc<Mutex<ReceiverInfo>>,
}

impl Receiver {
    /// The source `name` of the numbered input stream.
    fn new(bus: ListenerBus, clock: Clock, stream_id: usize, name: &str) -> Self {
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

    /// Notices that go to `notices`, and report connections made and lost to listeners.
    fn watch(&self, notices: Notices) -> Notices {
        let receiver = self.clone();
        Notices::to(move |notice| {
            match &notice.kind {
                NoticeKind::Waiting { reason, .. } => receiver.failed(reason),
                NoticeKind::Connected => receiver.started(),
                _ => {}
            }
            notices.report(notice.clone());
        })
    }

    fn lock(&self) -> MutexGuard<'_, ReceiverInfo> {
        lock(&self.info)
    }

    fn started(&self) {
        let info = {
            let mut info = self.lock();
            info.active = true;
            info.clone()
        };
        self.bus
            .notify(|listener| listener.on_receiver_started(&info));
    }

    fn failed(&self, reason: &str) {
        let info = {
            let mut info = self.lock();
            info.last_error_message = Some(reason.to_owned());
            info.last_error_time = Some(self.clock.now());
            info.clone()
        };
        self.bus
            .notify(|listener| listener.on_receiver_error(&info));
        self.stopped();
    }

    /// Reports, once, that the source is no longer read.
    fn stopped(&self) {
        let (was_active, info) = {
            let mut info = self.lock();
            (std::mem::take(&mut info.active), info.clone())
        };
        if was_active {
            self.bus
                .notify(|listener| listener.on_receiver_stopped(&info));
        }
    }
}

/// All sources, as listeners see them; none if there are no listeners.
pub(crate) struct Receivers(Vec<Receiver>);

impl Receivers {
    /// The receivers of `sources`, each with the number of its input stream.
    pub(crate) fn new<'s>(
        bus: &ListenerBus,
        clock: &Clock,
        sources: impl Iterator<Item = (&'s dyn Source, usize)>,
    ) -> Self {
        if bus.is_empty() {
            return Receivers(Vec::new());
        }
        let of = |(source, input): (&dyn Source, usize)| {
            Receiver::new(bus.clone(), clock.clone(), input, source.name())
        };
        Receivers(sources.map(of).collect())
    }

    /// The numbered source is read from now on. Returns where its notices go, which pass them on to
    /// `notices`.
    pub(crate) fn start(&self, index: usize, notices: Notices) -> Notices {
        let Some(receiver) = self.0.get(index) else {
            return notices;
        };
        receiver.started();
        receiver.watch(notices)
    }

    /// The numbered source ended.
    pub(crate) fn end(&self, index: usize, error: Option<&Error>) {
        match (self.0.get(index), error) {
            (Some(receiver), Some(error)) => receiver.failed(&error.to_string()),
            (Some(receiver), None) => receiver.stopped(),
            (None, _) => {}
        }
    }
}

impl Drop for Receivers {
    /// The run has finished.
    fn drop(&mut self) {
        for receiver in &self.0 {
            receiver.stopped();
        }
    }
}
