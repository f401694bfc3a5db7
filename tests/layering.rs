//! The walls of a crate that has none: which module may use which, and who may do what is
//! dangerous.
//!
//! Reads `src/**` as text and compares it with the tables below. A new module needs a line here,
//! which is the moment to think about where it belongs.

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
    ("save", 1),
    ("position", 2),
    ("config", 2),
    ("metrics", 2),
    ("notice", 2),
    ("ring", 2),
    ("table", 3),
    ("aggregate", 4),
    ("memory", 4),
    ("batch", 4),
    ("window", 4),
    ("epoch", 5),
    ("extract", 5),
    ("shard", 6),
    ("sink", 6),
    ("intake", 7),
    ("source", 8),
    ("engine", 9),
    ("tally", 10),
    ("stream", 11),
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

/// What code says that looks for record ends, or knows that a `\r` is one.
const RECORD_ENDS: &[&str] = &[
    ".first_end(",
    ".last_end(",
    ".is_end(",
    ".may_pair(",
    ".find_within(",
    "chr(b'\\n'",
    "b'\\r'",
    "b\"\\r\\n\"",
];

/// Files outside `split` and `intake` that may, with the reason.
const KNOW_RECORD_ENDS: &[(&str, &str)] = &[
    (
        "bin/microtally/counting/mod.rs",
        "refuses a separator that no line contains",
    ),
    (
        "bin/microtally/parse/units/mod.rs",
        "`\\r` on the command line",
    ),
    (
        "engine/push/writer.rs",
        "knows whether a line has begun, behind which no whole record may come",
    ),
    (
        "engine/simulation/sources.rs",
        "the definition that the engine is compared with",
    ),
    ("extract/json.rs", "white space between JSON values"),
    ("repr/text.rs", "`\\r` in a key that was saved"),
    ("source/sniff.rs", "the first line of an HTTP request"),
];

/// Words of `Must not know:` that this test understands, and what code says that knows it. The name
/// or path of a module stands for itself. What is neither is for people only.
const KNOWLEDGE: &[(&str, &[&str])] = &[
    ("argv", &["clap::", "env::args"]),
    ("batches", &["crate::batch"]),
    ("clap", &["clap::"]),
    ("decoders", &["crate::source::codec", "flate2::", "zstd::"]),
    ("epochs", &["crate::epoch"]),
    ("everything", &["crate::"]),
    ("event queues", &["mio::"]),
    ("files", &["std::fs", "crate::source::file"]),
    ("formats", &["crate::sink"]),
    ("operators", &["crate::stream"]),
    ("rings", &["crate::ring"]),
    ("shards", &["crate::shard"]),
    ("sinks", &["crate::sink"]),
    (
        "sockets",
        &["std::net", "mio::net", "crate::source::net", "socket2::"],
    ),
    ("sources", &["crate::source"]),
    ("streams", &["crate::stream"]),
    ("tables", &["crate::table"]),
    ("terminals", &["ratatui", "crossterm", "IsTerminal"]),
    ("the clock", &["Clock", "Instant", "SystemTime"]),
    ("the environment", &["std::env", "env::var"]),
    ("threads", &["std::thread", "thread::", "mpsc"]),
    ("windows", &["crate::window"]),
];

const LINES_MAX: usize = 600;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// Every source file: path below `src`, and its text. What the program includes from `benches`
/// counts as the program's.
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

/// The code of a file: no comments, and nothing from the first test module on whose code is here.
fn code(text: &str) -> String {
    let mut tests = text.match_indices("#[cfg(test)]\nmod ").map(|(at, _)| at);
    let is_here = |at: &usize| {
        text[*at..]
            .lines()
            .nth(1)
            .is_some_and(|line| line.ends_with('{'))
    };
    let end = tests.find(is_here).unwrap_or(text.len());
    text[..end]
        .lines()
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

/// The items of a header's `Must not know:`, up to the full stop.
fn must_not_know(text: &str) -> Vec<String> {
    let header = text.lines().take_while(|line| line.starts_with("//!"));
    let header = header.map(|line| line.trim_start_matches("//!").trim());
    let header = header.collect::<Vec<_>>().join(" ");
    let Some((_, list)) = header.split_once("Must not know: ") else {
        return Vec::new();
    };
    let end = list.find(". ").unwrap_or(list.trim_end_matches('.').len());
    let list = list[..end].replace(" and ", ", ");
    list.split(',').map(|item| item.trim().to_owned()).collect()
}

#[test]
fn what_a_header_says_that_its_code_must_not_know_it_does_not_know() {
    let files = files();
    let (mut wrong, mut enforced) = (Vec::new(), BTreeMap::new());
    for (header_file, text) in &files {
        for item in must_not_know(text) {
            let path = Some(item.trim_matches('`'));
            let path = path.filter(|path| {
                let is_module = LAYERS.iter().any(|(module, _)| module == path);
                is_module || path.contains("::") || item.starts_with('`')
            });
            let known = KNOWLEDGE.iter().find(|(word, _)| *word == item);
            let forms: Vec<String> = match (path, known) {
                (Some(path), _) => vec![format!("crate::{path}")],
                (_, Some((_, forms))) => forms.iter().map(|&form| form.to_owned()).collect(),
                _ => continue,
            };
            *enforced
                .entry(module_of(header_file).to_owned())
                .or_insert(0) += 1;
            // The header of a folder is for all files in it.
            let folder = header_file.strip_suffix("mod.rs");
            for (file, text) in &files {
                let is_meant =
                    file == header_file || folder.is_some_and(|folder| file.starts_with(folder));
                if !is_meant || file.contains("tests") {
                    continue;
                }
                let code = code(text);
                for form in &forms {
                    if code.contains(form.as_str()) {
                        wrong.push(format!(
                            "{file} says {form}; {header_file}: must not know {item}"
                        ));
                    }
                }
            }
        }
    }
    for (module, _) in LAYERS {
        if !enforced.contains_key(*module) {
            wrong.push(format!(
                "no header of {module} says what it must not know in words of this test"
            ));
        }
    }
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
fn the_intake_alone_looks_for_record_ends() {
    for (file, text) in files() {
        let is_home = matches!(module_of(&file), "split" | "intake");
        if is_home || file.contains("tests") || file.starts_with("bin/benches") {
            continue;
        }
        let code = code(&text);
        let says = RECORD_ENDS.iter().find(|word| code.contains(**word));
        let listed = KNOW_RECORD_ENDS.iter().any(|(name, _)| *name == file);
        assert_eq!(
            says.is_some(),
            listed,
            "{file} says {says:?}; does the list in this test say so?"
        );
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
fn no_comment_is_wider_than_a_hundred_columns() {
    let mut wide = Vec::new();
    for (file, text) in files() {
        let mut is_example = false;
        for (number, line) in text.lines().enumerate() {
            let is_comment = line.trim_start().starts_with("//");
            is_example ^= is_comment && line.contains("```");
            // What cannot be broken: an example, a picture, the row of a table, a link.
            let is_whole = is_example || line.contains(" | ") || line.contains("://");
            if is_comment && line.chars().count() > 100 && !is_whole {
                wide.push(format!("{file}:{}", number + 1));
            }
        }
    }
    assert!(wide.is_empty(), "{}", wide.join("\n"));
}

/// The name of the type that a line defines.
fn defined_type(line: &str) -> Option<&str> {
    let code = line.trim_start();
    let mut words = code
        .split_whitespace()
        .skip_while(|word| word.starts_with("pub"));
    let kind = words.next()?;
    // An associated type is no type of its own.
    let is_type =
        matches!(kind, "struct" | "enum" | "trait" | "union") || kind == "type" && code == line;
    let name = words.next().filter(|_| is_type)?;
    let end = name.find(|c: char| !c.is_alphanumeric() && c != '_');
    // In a macro it may be a parameter.
    Some(&name[..end.unwrap_or(name.len())]).filter(|name| !name.is_empty())
}

#[test]
fn one_type_name_is_one_type() {
    let mut types = BTreeMap::<String, Vec<String>>::new();
    for (file, text) in files() {
        // It takes the place of another file where that cannot be built.
        if file.ends_with("absent.rs") {
            continue;
        }
        for name in text.lines().filter_map(defined_type) {
            types.entry(name.to_owned()).or_default().push(file.clone());
        }
    }
    assert!(
        types.len() > 300,
        "the types were not found: {}",
        types.len()
    );
    types.retain(|_, files| files.len() > 1);
    assert!(types.is_empty(), "{types:#?}");
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
    assert_eq!(steps, 14);
}
