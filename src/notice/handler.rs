//! Where notices go.
//!
//! Promise: the library itself never prints. Must not know: source, sink, engine.

use std::fmt;
use std::sync::Arc;

use crate::notice::Notice;

/// The handler of a run's notices.
#[derive(Clone)]
pub(crate) struct Notices(Arc<dyn Fn(&Notice) + Send + Sync>);

impl Notices {
    /// Passes notices to `handler`, which may be called from any thread of the engine.
    pub(crate) fn to(handler: impl Fn(&Notice) + Send + Sync + 'static) -> Self {
        Notices(Arc::new(handler))
    }

    /// Calls the handler.
    pub(crate) fn report(&self, notice: Notice) {
        (self.0)(&notice);
    }

    /// Keeps notices, as their texts.
    #[cfg(test)]
    pub(crate) fn kept() -> (Self, NoticeTexts) {
        let texts = NoticeTexts::default();
        let kept = texts.clone();
        let keep = move |notice: &Notice| kept.0.lock().unwrap().push(notice.to_string());
        (Notices::to(keep), texts)
    }
}

/// The texts of notices, for tests.
#[cfg(test)]
#[derive(Clone, Default)]
pub(crate) struct NoticeTexts(Arc<std::sync::Mutex<Vec<String>>>);

#[cfg(test)]
impl NoticeTexts {
    /// Returns what was reported since the last call.
    pub(crate) fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

impl Default for Notices {
    fn default() -> Self {
        Notices::to(|_| ())
    }
}

impl fmt::Debug for Notices {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Notices")
    }
}
