//! Whatever a key or a record holds, what is written of it is one line of UTF-8 without control
//! characters (but for tabs in whole records), and the escaped form can be read back.
#![no_main]

use libfuzzer_sys::fuzz_target;
use microtally::internals::{escape_unprintable, write_escaped, write_repr};
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
    let mut text = [b"before\n", key].concat();
    escape_unprintable(&mut text, 7, &mut Vec::new());
    let shown = text.strip_prefix(b"before\n").expect("it stays");
    checked(
        &shown
            .iter()
            .map(|&byte| if byte == b'\t' { b' ' } else { byte })
            .collect::<Vec<_>>(),
    );
});
