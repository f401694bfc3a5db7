//! No argument makes the parser panic, and every error is a sentence.
#![no_main]
#![allow(dead_code)]

// It makes names public that the program uses and this target does not.
#[allow(unused_imports)]
#[path = "../../src/bin/microtally/parse/mod.rs"]
mod parse;

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    command: u8,
    arguments: Vec<(u8, &'a [u8])>,
}

const COMMANDS: &[&str] = &["words", "top", "count", "demo", "gen", "bench", "man", ""];
/// An argument is one of these and bytes behind it, or, with a space, the bytes as the next
/// argument.
const OPTIONS: &str = ",-i ,-n ,-o,-j,--split ,--split=,--split-whitespace,--interval=,--top=,--format ,\
    --reconnect ,--batches ,--stats=,--max-record ,--rate ,--zipf ,--vocabulary ,--seed=,--listen ,--total ,\
    --kernel ,--rounds ,--size ,--only ,-k ,-a ,-v ,-g ,-G ,-F,-w ,--slide ,--max-memory ,--on-limit ,--color ";

fuzz_target!(|input: Input<'_>| {
    let options: Vec<&str> = OPTIONS.split(',').collect();
    let mut line = vec![OsString::from("microtally")];
    line.push(COMMANDS[usize::from(input.command) % COMMANDS.len()].into());
    for (option, value) in input.arguments {
        let option = options[usize::from(option) % options.len()];
        match option.strip_suffix(' ') {
            Some(option) => line.extend([option.into(), OsString::from_vec(value.to_vec())]),
            None => line.push(OsString::from_vec([option.as_bytes(), value].concat())),
        }
    }
    if let Err(error) = parse::parse(line) {
        assert!(!error.to_string().is_empty());
    }
});
