//! Whatever a key holds, what is written of it is one line of UTF-8 without control characters, and the
//! escaped form can be read back.
#![no_main]

use libfuzzer_sys::fuzz_target;
use microtally::internals::{write_escaped, write_repr};
use microtally_fuzz::unescape;

fn checked(text: &[u8]) -> &str {
    let text = std::str::from_utf8(text).expect("UTF-8");
    assert!(!text.contains(char::is_control), "{text:?}");
    assert!(
        !text.contains(['\u{2028}', '\u{2029}', '\u{202e}', '\u{feff}']),
        "{text:?}"
    );
    text
}

fuzz_target!(|key: &[u8]| {
    let mut text = b"before".to_vec();
    write_repr(key, &mut text);
    let quoted = checked(text.strip_prefix(b"before").expect("it appends"));
    assert!(quoted.len() >= 2 && quoted.as_bytes()[0] == quoted.as_bytes()[quoted.len() - 1]);
    text.clear();
    write_escaped(key, &mut text);
    assert_eq!(unescape(checked(&text)), key);
});
