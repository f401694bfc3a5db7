//! Files that are written to, renamed, deleted, emptied, copied and looked at in any order: every
//! line that a look could find is given, none twice, and none in part.
#![no_main]

#[path = "../../tests/files/rotation.rs"]
mod rotation;

use std::fs;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let root = std::env::temp_dir().join(format!("microtally-fuzz-{}", std::process::id()));
    let _ = fs::remove_dir_all(&root);
    fs::create_dir_all(&root).expect("a fresh directory");
    // Each input opens files of its own, and a run takes no longer than some dozen of them.
    rotation::run(&root, &bytes[..bytes.len().min(500)]);
    fs::remove_dir_all(&root).expect("it can be removed");
});
