//! Describes the machine, as far as the system does.
//!
//! Promise: every row has an answer, `unknown` if the system has none; nothing fails.
//! Must not know: matrix, loopback, programs.

use std::fmt::Write;
use std::fs;
use std::thread;

use microtally::Config;

use super::clock;

/// Returns the rows of the table: name and content.
pub(super) fn rows(kernel: &str) -> Vec<(&'static str, String)> {
    let kernels: Vec<_> = Config::kernels().collect();
    let version = env!("CARGO_PKG_VERSION");
    let compiler = compiler().unwrap_or_else(|| "unknown compiler".to_owned());
    let is_slow = if cfg!(debug_assertions) {
        ", NOT OPTIMISED: use a release build"
    } else {
        ""
    };
    vec![
        ("processor", processor()),
        ("cores this process may use", cores()),
        ("caches of the first core", caches()),
        ("system", system()),
        (
            "program",
            format!("microtally {version}, {compiler}{is_slow}"),
        ),
        ("kernel", format!("{kernel}, of {}", kernels.join(", "))),
        ("date", clock::today()),
    ]
}

fn unknown() -> String {
    "unknown".to_owned()
}

/// Returns the first line of a file, trimmed.
fn line_of(path: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    Some(text.lines().next()?.trim().to_owned())
}

fn processor() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let fields = || info.lines().filter_map(|line| line.split_once(':'));
    let field = |name: &str| {
        let found = fields().find(|(key, _)| key.trim() == name);
        found.map(|(_, value)| value.trim().to_owned())
    };
    match (field("model name"), field("cpu family"), field("model")) {
        (Some(name), Some(family), Some(model)) => {
            format!("{name} (family {family}, model {model})")
        }
        (Some(name), ..) => name,
        _ => std::env::consts::ARCH.to_owned(),
    }
}

fn cores() -> String {
    thread::available_parallelism().map_or_else(|_| unknown(), |count| count.to_string())
}

fn system() -> String {
    let release = line_of("/proc/sys/kernel/osrelease").unwrap_or_else(unknown);
    format!("{} {release}", std::env::consts::OS)
}

/// Returns the caches as `L1d 32K, L2 1024K (shared by 0-1)`.
fn caches() -> String {
    let mut text = String::new();
    for index in 0..8 {
        let file = |name| {
            line_of(&format!(
                "/sys/devices/system/cpu/cpu0/cache/index{index}/{name}"
            ))
        };
        let (Some(level), Some(kind), Some(size)) = (file("level"), file("type"), file("size"))
        else {
            continue;
        };
        let letter = match kind.as_str() {
            "Data" => "d",
            "Instruction" => continue,
            _ => "",
        };
        let separator = if text.is_empty() { "" } else { ", " };
        let shared = file("shared_cpu_list").filter(|list| list.contains([',', '-']));
        let shared = shared.map_or(String::new(), |list| format!(" (shared by {list})"));
        write!(text, "{separator}L{level}{letter} {size}{shared}")
            .expect("writing to a string succeeds");
    }
    if text.is_empty() { unknown() } else { text }
}

/// Returns the compiler's name from the program's own file, which saves a build script.
fn compiler() -> Option<String> {
    let program = fs::read("/proc/self/exe").ok()?;
    let name = b"rustc version ";
    for at in memchr::memmem::find_iter(&program, name) {
        let rest = &program[at + name.len()..];
        // The name stands here too, in the line above; only a compiler's has a number behind it.
        if rest.first().is_some_and(u8::is_ascii_digit) {
            let end = rest.iter().position(|byte| !byte.is_ascii_graphic())?;
            return Some(format!("rustc {}", rest[..end].escape_ascii()));
        }
    }
    None
}
