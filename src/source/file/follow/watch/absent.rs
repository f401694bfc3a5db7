//! Where the kernel reports nothing that we understand: files are looked at in turn.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::path::Path;

use crate::source::Port;

pub(super) type WatchId = i32;

#[expect(dead_code, reason = "nothing is heard here")]
pub(super) enum Heard<'a> {
    Written(WatchId),
    Named(&'a OsStr),
    Everything,
}

pub(super) struct Watch;

impl Watch {
    pub(super) fn new(_port: &Port) -> io::Result<Self> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(super) fn file(&self, _file: &File, _path: &Path) -> io::Result<WatchId> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(super) fn directory(&self, _path: &Path) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(super) fn forget(&self, _id: WatchId) {}

    pub(super) fn hear(&self, _each: impl FnMut(Heard<'_>)) {}
}
