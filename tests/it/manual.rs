//! What other programs show of ours: completions and manual pages.

use crate::util::{microtally, shell};

#[test]
fn every_shell_gets_completions_of_every_command_and_option() {
    for name in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let text = microtally(&["completions", name]).run().quietly().stdout;
        for part in [
            "microtally",
            "words",
            "top",
            "count",
            "max-memory",
            "follow",
            "approx",
        ] {
            assert!(text.contains(part), "no {part} for {name}");
        }
    }
    let ended = microtally(&["completions", "tcsh"]).run().exits_with(2);
    ended.says(&["'tcsh'", "bash, elvish, fish, powershell, zsh"]);
}

#[test]
fn bash_completes_with_what_is_printed() {
    // Completion in the shell itself, where there is one.
    let script = r#"command -v bash > /dev/null || { echo --max-memory count; exit; }
        "$0" completions bash > it
        bash -c '. ./it
            COMP_WORDS=(microtally count --max-m) COMP_CWORD=2
            _microtally microtally --max-m count; echo "${COMPREPLY[@]}"
            COMP_WORDS=(microtally cou) COMP_CWORD=1
            _microtally microtally cou microtally; echo "${COMPREPLY[@]}"'"#;
    let text = shell(script).run().exits_with(0).stdout;
    assert!(
        text.contains("--max-memory") && text.contains("count"),
        "{text}"
    );
}

#[test]
fn the_manual_page_tells_of_the_program_and_of_each_command() {
    let page = |args: &[&str]| {
        let text = microtally(&["man"]).args(args).run().quietly().stdout;
        assert!(
            text.contains(".TH ") && text.contains(".SH SYNOPSIS"),
            "{text}"
        );
        text.replace("\\-", "-")
    };
    let text = page(&[]);
    for part in ["words", "top", "count", "Exit codes", "Examples"] {
        assert!(text.contains(part), "no {part} in {text}");
    }
    let text = page(&["count"]);
    for part in [
        "microtally-count",
        "--max-memory",
        "--key",
        "sort *.log | uniq -c",
        "MICROTALLY_MAX_MEMORY",
    ] {
        assert!(text.contains(part), "no {part} in {text}");
    }
    // The text of options that -h does not show.
    for part in [
        "How long to wait before reconnecting, or never to end instead",
        "Split at runs of white space, like Python\\*(Aqs split()",
        "Print statistics to standard error at the end: text or json",
        "Do not pin counting threads to cores",
    ] {
        assert!(text.contains(part), "no {part} in {text}");
    }
    let ended = microtally(&["man", "cuont"]).run().exits_with(2);
    ended.says(&["unknown command \"cuont\"; the commands are words, top, count"]);
}

#[test]
fn a_closed_pipe_ends_printing_quietly() {
    let script = "{ \"$0\" man count; echo \"code $?\" >&2; } | true; \
                  { \"$0\" completions zsh; echo \"code $?\" >&2; } | true";
    let text = shell(script).run().stderr;
    assert_eq!(text, "code 0\ncode 0\n");
}
