//! Where notices go.
//!
//! Promise: the library itself never prints. Must not know: what is done with a notice.

use std::fmt;
use std::sync::Arc;

use crate::notice::Notice;

/// The handler of a run's notices.
#[derive(Clone)]
pub(crate) struct Notices(Arc<dyn Fn(&Notice) + Send + Sync>);

impl Notices {
    /// Gives notices to `handler`, which may be called from any thread of the engine.
    pub(crate) fn to(handler: impl Fn(&Notice) + Send + Sync + 'static) -> Self {
        Notices(Arc::new(handler))
    }

    /// Tells.
    pub(crate) fn tell(&self, notice: Notice) {
        (self.0)(&notice);
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
