//! Files as input, through the public doors.
//!
//! Goal: whatever is in files, however they are cut into pieces, shrunk, grown, rotated or packed,
//! every line is counted once. Method: property tests against the definition, and writers that do
//! to files what writers and rotators do to them, with every line numbered.

// The tests of the other doors use all of it.
#[allow(dead_code)]
#[path = "oracle/definition.rs"]
mod definition;

#[path = "files/all_at_once.rs"]
mod all_at_once;
#[cfg(feature = "compress")]
#[path = "files/compressed.rs"]
mod compressed;
#[path = "files/directory.rs"]
mod directory;
#[path = "files/follow.rs"]
mod follow;
#[path = "files/one_by_one.rs"]
mod one_by_one;
#[path = "files/rotation.rs"]
mod rotation;
#[path = "files/util.rs"]
mod util;
