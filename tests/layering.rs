//! The walls of a crate that has none: which module may use which, and who may do what is dangerous.
//!
//! Reads `src/**` as text and compares it with the tables below. A new module needs a line here, which
//! is the moment to think about where it belongs.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Module and layer; a module may use itself and modules of lower layers.
const LAYERS: &[(&str, u32)] = &[
    ("limits", 0),
    ("error", 0),
    ("id", 0),
    ("split", 1),
    ("sys", 1),
    ("ledger", 1),
    ("time", 1),
    ("repr", 1),
    ("config", 2),
    ("notice", 2),
    ("ring", 2),
    ("table", 3),
    ("memory", 4),
    ("batch", 4),
    ("window", 4),
    ("epoch", 5),
    ("extract", 5),
    ("shard", 6),
    ("source", 6),
    ("sink", 6),
    ("intake", 7),
    ("engine", 8),
    ("tally", 9),
    ("stream", 9),
];

/// Files that may opt out of `unsafe_code = "deny"`, with the reason.
const UNSAFE: &[(&str, &str)] = &[
    ("ring/arena.rs", "blocks share one arena across threads"),
    (
        "table/keys.rs",
        "long keys live in the arena of the table that points to them",
    ),
    ("split/avx2.rs", "vector instructions"),
    ("split/avx512.rs", "vector instructions"),
    ("shard/pack/avx2.rs", "vector instructions"),
    ("shard/pack/avx512.rs", "vector instructions"),
    ("shard/pack/lanes.rs", "an empty piece of assembler"),
    ("sys/prefetch.rs", "an intrinsic that takes a pointer"),
    ("sys/fenced.rs", "guard pages, for tests"),
    (
        "bin/microtally/run/allocations.rs",
        "a global allocator is an unsafe trait",
    ),
    (
        "bin/microtally/run/streams.rs",
        "looks at standard output before the standard library replaces it",
    ),
];

/// Files that may read a clock.
const CLOCKS: &[&str] = &[
    "time/mod.rs",
    "bin/microtally/output/report.rs",
    "bin/microtally/generate.rs",
    "bin/microtally/output/progress.rs",
    "bin/benches/machine/harness/clock.rs",
];

const LINES_MAX: usize = 600;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// Every source file: path below `src`, and its text. What the program includes from `benches` counts as the program's.
fn files() -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let benches = root().parent().expect("src has a parent").join("benches");
    let machine = benches.join("machine");
    let mut folders = vec![root(), machine.join("corpora"), machine.join("harness")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("src is readable") {
            let path = entry.expect("src is readable").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = match path.strip_prefix(root()) {
                    Ok(name) => name.to_path_buf(),
                    Err(_) => Path::new("bin/benches")
                        .join(path.strip_prefix(&benches).expect("below benches")),
                };
                let text = fs::read_to_string(&path).expect("readable");
                found.insert(name.to_str().expect("UTF-8").to_owned(), text);
            }
        }
    }
    assert!(found.len() > 30, "the files were not found");
    found
}

/// The code of a file: no comments, and nothing from the first test module on.
fn code(text: &str) -> String {
    let text = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
    text.lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .collect::<Vec<_>>()
        .join("\n")
}

fn module_of(file: &str) -> &str {
    file.split(['/', '.']).next().unwrap_or_default()
}

/// The names behind `crate::` in some code, also in `use crate::{a, b}`.
fn used(code: &str) -> Vec<String> {
    let mut names = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        let word = |text: &str| {
            text.chars()
                .take_while(|c| c.is_alphanumeric() || *c == '_')
                .collect::<String>()
        };
        if let Some(list) = rest.strip_prefix('{') {
            let list = list.split('}').next().unwrap_or_default();
            names.extend(list.split(',').map(|item| word(item.trim())));
        } else {
            names.push(word(rest));
        }
    }
    names
}

#[test]
fn modules_use_lower_layers_only() {
    let layers: BTreeMap<_, _> = LAYERS.iter().copied().collect();
    let mut wrong = Vec::new();
    let mut seen = 0;
    for (file, text) in files() {
        let module = module_of(&file);
        let is_test = file.ends_with("tests.rs") || file.contains("/tests/");
        if module == "lib" || module == "bin" || is_test {
            continue;
        }
        let Some(&layer) = layers.get(module) else {
            wrong.push(format!("{file}: module {module} has no layer"));
            continue;
        };
        for name in used(&code(&text)) {
            if name == module {
                continue;
            }
            seen += 1;
            match layers.get(name.as_str()) {
                Some(&other) if other < layer => {}
                Some(&other) => {
                    wrong.push(format!("{file}: layer {layer} uses {name}, layer {other}"))
                }
                None => wrong.push(format!("{file}: uses {name}, which has no layer")),
            }
        }
    }
    assert!(seen > 100, "the uses were not found: {seen}");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn unsafe_stays_on_its_list_and_every_block_says_why() {
    for (file, text) in files() {
        let code = code(&text);
        let forms = ["unsafe {", "unsafe fn", "unsafe impl", "#[unsafe("];
        let says = forms.iter().any(|form| code.contains(form));
        let listed = UNSAFE.iter().any(|(name, _)| *name == file);
        assert_eq!(
            says, listed,
            "{file}: unsafe code and the list in this test disagree"
        );
        if listed {
            assert!(text.contains("allow(unsafe_code)"), "{file}: opts in");
            let forms = ["unsafe {", "unsafe impl", "#[unsafe("];
            let blocks: usize = forms.iter().map(|form| code.matches(form).count()).sum();
            let notes = text.matches("SAFETY:").count();
            assert!(
                notes >= blocks,
                "{file}: {blocks} unsafe blocks, {notes} SAFETY notes"
            );
        }
    }
}

#[test]
fn the_library_does_not_print_exit_or_read_the_environment() {
    for (file, text) in files() {
        let code = code(&text);
        for word in ["println!(", "print!(", "eprintln!(", "eprint!("] {
            assert!(!code.contains(word), "{file} says {word}");
        }
        if !file.starts_with("bin/") {
            for word in ["process::exit", "std::env", "env::var", "signal_hook"] {
                assert!(!code.contains(word), "{file} says {word}");
            }
        }
    }
}

#[test]
fn one_file_reads_the_clock() {
    for (file, text) in files() {
        let code = code(&text);
        let reads = code.contains("Instant::now")
            || code.contains("SystemTime::now")
            || code.contains(".elapsed()");
        assert_eq!(
            reads,
            CLOCKS.contains(&file.as_str()),
            "{file}: reads a clock"
        );
    }
}

#[test]
fn the_program_sees_the_public_api_only() {
    for (file, text) in files() {
        if file.starts_with("bin/") {
            assert!(!text.contains("microtally::internals"), "{file}");
        }
    }
}

#[test]
fn no_file_outgrows_its_reader() {
    for (file, text) in files() {
        let lines = text.lines().count();
        assert!(
            lines <= LINES_MAX,
            "{file} has {lines} lines, more than {LINES_MAX}"
        );
    }
}

#[test]
fn files_named_in_the_crate_documentation_exist() {
    let text = fs::read_to_string(root().join("lib.rs")).expect("readable");
    let mut seen = 0;
    for word in text.split(['`', ' ', '(', ')', ',', ';']) {
        if word.ends_with(".rs") {
            seen += 1;
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(word);
            assert!(path.exists(), "{word} is named in lib.rs and is not there");
        }
    }
    assert!(seen > 0);
}

#[test]
fn the_steps_of_one_word_exist() {
    let files = files();
    let text = &files["lib.rs"];
    let section = text
        .split("# Follow one word")
        .nth(1)
        .and_then(|rest| rest.split("//! # ").next())
        .expect("the section");
    let mut steps = 0;
    for path in section.split('`').skip(1).step_by(2) {
        let names: Vec<&str> = path.split("::").collect();
        if names.len() < 2 {
            continue; // The name of this file.
        }
        steps += 1;
        let module = (1..names.len()).rev().find_map(|len| {
            let folder = names[..len].join("/");
            let file = [format!("{folder}.rs"), format!("{folder}/mod.rs")];
            let text = file.iter().find_map(|file| files.get(file))?;
            Some((text, &names[len..]))
        });
        let (text, items) = module.unwrap_or_else(|| panic!("{path}: there is no such module"));
        for item in items {
            let kinds = ["fn", "struct", "trait", "enum"];
            let is_there = kinds.iter().any(|kind| {
                let defined = format!("{kind} {item}");
                let mut ends = text
                    .match_indices(&defined)
                    .map(|(at, _)| at + defined.len());
                ends.any(|end| !text[end..].starts_with(|c: char| c.is_alphanumeric() || c == '_'))
            });
            assert!(is_there, "{path}: {item} is missing there");
        }
    }
    assert_eq!(steps, 13);
}
