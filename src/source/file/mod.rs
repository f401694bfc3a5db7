//! Sources that are files.
//!
//! `files` reads files to their ends, `stdin` an open descriptor. `follow` reads files that grow
//! and are rotated, `directory_files` those that are put into a directory. `directory` decides
//! which file belongs to which batch, and `glob` finds files by a pattern.

pub(crate) mod directory;
pub(crate) mod directory_files;
pub(crate) mod files;
pub(crate) mod follow;
pub(crate) mod glob;
pub(crate) mod stdin;

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;

/// The identity of a file while it exists: device and inode.
type FileId = (u64, u64);

fn file_id(metadata: &Metadata) -> FileId {
    (metadata.dev(), metadata.ino())
}
