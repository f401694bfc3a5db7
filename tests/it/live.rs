//! The live view in a real terminal emulator.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::Duration;

use crate::terminal::Terminal;
use crate::util::{PROGRAM, Port, until};

/// The batch that is on the screen.
fn batch(screen: &str) -> u64 {
    let number = screen
        .lines()
        .next()
        .and_then(|title| title.split("batch ").nth(1));
    let number = number.and_then(|number| number.split_whitespace().next());
    number
        .and_then(|number| number.parse().ok())
        .unwrap_or_else(|| panic!("no batch:\n{screen}"))
}

/// The rows' keys: what is behind the last run of blanks below the heading.
fn keys(screen: &str) -> Vec<String> {
    let below = screen.lines().skip_while(|line| !line.contains(" share"));
    let rows = below.skip(1).filter(|line| line.contains(" %  "));
    rows.filter_map(|line| line.rsplit("  ").next())
        .map(str::to_owned)
        .collect()
}

#[test]
fn the_view_follows_its_window_and_leaves_its_table() {
    let Some(terminal) = Terminal::open(80, 24) else {
        return;
    };
    terminal.watch("");
    let screen = terminal.wait("changes", |screen| screen.contains("  change  key"));
    assert_eq!(keys(&screen)[0], "the");
    terminal.resize(40, 10);
    let screen = terminal.wait("a small table", |screen| {
        let is_small = screen.contains("   share  key\n") && screen.lines().count() == 10;
        is_small && screen.contains(" q quit ")
    });
    assert!(
        screen.lines().all(|line| line.chars().count() <= 40),
        "{screen}"
    );
    assert_eq!(keys(&screen).len(), 6, "{screen}");
    terminal.resize(130, 30);
    let screen = terminal.wait("a large table", |screen| keys(screen).len() == 25);
    assert!(
        screen.contains('█') && screen.contains(" rate "),
        "{screen}"
    );
    terminal.press(&["q"]);
    let text = terminal.is_as_before(0);
    // The table stays, and not twice.
    assert_eq!(text.matches(" %  ").count(), 25, "{text}");
    let rest = text.lines().find(|line| line.starts_with("… and "));
    assert!(
        rest.is_some_and(|line| line.contains(" more keys, ")),
        "{text}"
    );
}

#[test]
fn the_title_names_standard_input_however_it_was_chosen() {
    for source in ["", "-"] {
        let Some(terminal) = Terminal::open(80, 24) else {
            return;
        };
        terminal.run("stty -g > before");
        terminal.run(&format!(
            "{PROGRAM} gen --rate 100KB/s | {PROGRAM} top -k word -i 200ms {source}; echo left with $?"
        ));
        terminal.wait("the title", |screen| {
            screen.contains(" microtally · standard input ")
        });
        terminal.press(&["q"]);
        terminal.is_as_before(0);
    }
}

/// The keys of one terminal cannot steer the view and be the input.
#[test]
fn a_terminal_as_input_is_explained() {
    let Some(terminal) = Terminal::open(80, 24) else {
        return;
    };
    terminal.run("stty -g > before");
    terminal.run(&format!("{PROGRAM} top; echo refused with $?"));
    terminal.wait("the refusal", |screen| {
        screen.contains("whose keys control the live view") && screen.contains("refused with 2\n")
    });
    terminal.run(&format!("{PROGRAM} count; echo left with $?"));
    terminal.wait("the hint", |screen| {
        screen.contains("this terminal; type lines, and end them with Ctrl-D")
    });
    terminal.run("a line");
    terminal.press(&["C-d"]);
    let text = terminal.is_as_before(0);
    assert!(text.contains("1  100.0 %  a line\n"), "{text}");
}

#[test]
fn a_filter_finds_a_key_behind_the_first_thousand() {
    let Some(terminal) = Terminal::open(80, 24) else {
        return;
    };
    terminal.run("stty -g > before");
    terminal.run(&format!(
        "{{ seq 1500; seq 1500; echo needle; sleep 600; }} | {PROGRAM} top -i 200ms; echo left with $?"
    ));
    terminal.wait("the view", |screen| {
        screen.contains("of the first 1 000 of 1 501 key")
    });
    terminal.type_text("/needle");
    terminal.press(&["Enter"]);
    terminal.wait("the key", |screen| {
        screen.contains("filter \"needle\": 1 key") && keys(screen) == ["needle"]
    });
    terminal.press(&["q"]);
}

#[test]
fn a_filter_is_typed_and_cleared() {
    let Some(terminal) = Terminal::open(80, 24) else {
        return;
    };
    terminal.watch("");
    terminal.type_text("/HE");
    terminal.wait("no key", |screen| {
        screen.contains("no key matches the filter")
    });
    terminal.press(&["BSpace", "BSpace"]);
    terminal.type_text("he");
    terminal.press(&["Enter"]);
    let screen = terminal.wait("filtered rows", |screen| {
        screen.contains("filter \"he\": ") && !keys(screen).is_empty()
    });
    assert!(
        keys(&screen).iter().all(|key| key.contains("he")),
        "{screen}"
    );
    terminal.press(&["Escape"]);
    terminal.wait("all rows", |screen| {
        keys(screen).iter().any(|key| key == "of")
    });
    terminal.press(&["C-c"]);
    terminal.is_as_before(0);
}

#[test]
fn pausing_holds_the_picture_while_counting_goes_on() {
    let Some(terminal) = Terminal::open(80, 24) else {
        return;
    };
    terminal.watch("");
    terminal.press(&["p"]);
    let paused = terminal.wait("the pause", |screen| screen.contains("PAUSED"));
    thread::sleep(Duration::from_secs(1));
    assert_eq!(terminal.screen().lines().next(), paused.lines().next());
    assert_eq!(keys(&terminal.screen()), keys(&paused));
    terminal.press(&["p"]);
    let on = terminal.wait("the end of the pause", |screen| !screen.contains("PAUSED"));
    let before = batch(&paused);
    terminal.wait("later batches", |screen| batch(screen) >= before + 4);
    assert!(batch(&on) >= before);
    terminal.press(&["Escape"]);
    terminal.is_as_before(0);
}

#[test]
fn a_signal_gives_the_terminal_back() {
    for (name, columns) in [("TERM", 80), ("INT", 40), ("HUP", 100)] {
        let Some(terminal) = Terminal::open(columns, 24) else {
            return;
        };
        terminal.watch("");
        terminal.signal(name);
        let text = terminal.is_as_before(0);
        assert!(
            text.contains("  the\n") && text.contains("… and "),
            "{text}"
        );
    }
}

#[test]
fn a_suspended_view_comes_back() {
    let Some(terminal) = Terminal::open(80, 24) else {
        return;
    };
    terminal.watch("");
    for _ in 0..2 {
        // The whole pipeline stops, or the shell would go on waiting for the rest of it.
        terminal.press(&["C-z"]);
        terminal.wait("the shell", |screen| {
            !screen.contains(" share") && screen.trim_end().ends_with("ready>")
        });
        terminal.run("fg");
        terminal.wait("the table", |screen| screen.contains("  change  key"));
    }
    terminal.press(&["q"]);
    terminal.wait("the shell", |screen| {
        !screen.contains("change  key") && screen.trim_end().ends_with("ready>")
    });
    // What the shell echoes of a job that was continued is its own business; its modes are checked.
    terminal.run("stty -g > after; echo so it is");
    terminal.wait("the shell", |screen| screen.contains("\nso it is\n"));
    let modes = |name| fs::read_to_string(terminal.path(name)).expect("stty ran");
    assert_eq!(modes("before"), modes("after"));
}

/// A terminal that runs nothing but the program has no shell to go on with: the key does nothing.
#[test]
fn a_view_without_a_shell_cannot_be_suspended() {
    let Some(terminal) = Terminal::open(80, 24) else {
        return;
    };
    let pipe = format!("{PROGRAM} gen --rate 200KB/s | exec {PROGRAM} top -k word -i 200ms -");
    terminal.tmux(&["respawn-pane", "-k", &pipe]);
    let screen = terminal.wait("the table", |screen| screen.contains("  change  key"));
    terminal.press(&["C-z"]);
    let before = batch(&screen);
    terminal.wait("later batches", |screen| batch(screen) > before + 3);
}

#[test]
fn nothing_of_a_stream_steers_the_terminal() {
    let Some(terminal) = Terminal::open(80, 24) else {
        return;
    };
    let hostile = r"\033]0;owned\007 \033[2J\033[31m \302\233H left\342\200\256right 汉字 \377";
    terminal.run("stty -g > before");
    terminal.run(&format!(
        "while printf '{hostile}\\n'; do sleep 0.05; done 2> errors | \
         {PROGRAM} top -k word -i 300ms -n 20 -; echo left with $?"
    ));
    let screen = terminal.wait("the words", |screen| screen.contains("  汉字"));
    for key in [
        r"\x1b]0;owned\x07",
        r"\x1b[2J\x1b[31m",
        r"\xc2\x9bH",
        r"left\xe2\x80\xaeright",
        r"\xff",
    ] {
        assert!(screen.contains(&format!("  {key}\n")), "{key}:\n{screen}");
    }
    let title = terminal.tmux(&["display-message", "-p", "#{pane_title}"]);
    assert!(!title.contains("owned"), "{title}");
    terminal.press(&["q"]);
    terminal.is_as_before(0);
}

#[test]
fn what_is_said_is_seen_in_the_view_and_stays_behind_it() {
    let Some(terminal) = Terminal::open(80, 24) else {
        return;
    };
    let port = Port::closed();
    terminal.run("stty -g > before");
    terminal.run(&format!(
        "{PROGRAM} top -i 200ms localhost:{}; echo left with $?",
        port.number()
    ));
    terminal.wait("the message", |screen| {
        screen.contains("microtally · tcp://") && screen.contains("waiting for tcp://")
    });
    terminal.press(&["q"]);
    let text = terminal.is_as_before(0);
    assert!(text.contains("microtally: waiting for tcp://"), "{text}");
}

/// The numbers of the codes that give characters of a screen a colour.
fn colours(screen: &str) -> Vec<u32> {
    let codes = screen.split("\x1b[").skip(1);
    let codes = codes.filter_map(|rest| Some(&rest[..rest.find('m')?]));
    let numbers = codes.flat_map(|code| code.split([';', ':']));
    let numbers = numbers.filter_map(|number| number.parse().ok());
    // 39 and 49 are the terminal's own.
    numbers
        .filter(|number| matches!(number, 30..=38 | 40..=48 | 90..=107))
        .collect()
}

#[test]
fn colours_are_left_out_where_they_are_not_wanted() {
    for (variable, options, is_colourful) in [
        ("", "", true),
        ("1", "", false),
        ("", "--color never", false),
        ("1", "--color always", true),
    ] {
        let Some(terminal) = Terminal::open(80, 24) else {
            return;
        };
        terminal.run(&format!("export NO_COLOR={variable}"));
        terminal.watch(options);
        // What is typed is yellow, whatever the rows are.
        terminal.type_text("/he");
        terminal.wait("the filter", |screen| screen.contains(" filter: he"));
        let screen = terminal.coloured_screen();
        let found = colours(&screen);
        let case = format!("NO_COLOR={variable} {options}: {found:?}\n{screen}");
        assert_eq!(found.is_empty(), !is_colourful, "{case}");
        // What is not a colour stays: bold, dim and reversed.
        assert!(
            screen.contains("\x1b[") && keys(&terminal.screen())[0] == "the",
            "{case}"
        );
        terminal.press(&["C-c"]);
        terminal.is_as_before(0);
    }
}

#[test]
fn a_dumb_terminal_gets_plain_tables_one_below_the_other() {
    let Some(terminal) = Terminal::open(80, 24) else {
        return;
    };
    terminal.run("export TERM=dumb; stty -g > before");
    terminal.run(&format!(
        "echo a b a | {PROGRAM} top -k word --color always -; echo left with $?"
    ));
    let text = terminal.is_as_before(0);
    assert!(text.contains("\n2   66.7 %  a\n1   33.3 %  b\n"), "{text}");
    let screen = terminal.coloured_screen();
    assert!(!screen.contains('\x1b'), "{screen}");
}

/// Sources take every descriptor that there is: the view has had its own before, and needs none to
/// go.
#[test]
fn a_view_of_more_files_than_can_be_open_is_drawn_and_goes() {
    let Some(terminal) = Terminal::open(80, 24) else {
        return;
    };
    terminal.run("for n in $(seq 10 69); do echo of $n > log-$n; done; stty -g > before");
    let command = "top -j 1 -F --from start log-*; echo left with $?";
    terminal.run(&format!("(ulimit -n 40; {PROGRAM} {command})"));
    terminal.wait("the view", |screen| {
        screen.contains("no more files can be open") && screen.contains("  of 10")
    });
    terminal.press(&["C-c"]);
    terminal.is_as_before(0);
}

/// Nothing is typed and nothing comes: it is the terminal alone that ends the run, also where its
/// hangup is ignored.
#[test]
fn a_terminal_that_vanishes_ends_the_view() {
    for trap in ["", "trap '' HUP; "] {
        let Some(terminal) = Terminal::open(80, 24) else {
            return;
        };
        let start = "sh -c 'echo $$ > pid; exec \"$0\" \"$@\"'";
        terminal.run(&format!(
            "{trap}{start} {PROGRAM} top udp-listen://127.0.0.1:0"
        ));
        terminal.wait("the view", |screen| {
            screen.contains("microtally · udp-listen://")
        });
        let pid = fs::read_to_string(terminal.path("pid")).expect("the shell wrote it");
        let process = format!("/proc/{}", pid.trim());
        assert!(Path::new(&process).exists(), "{process}");
        terminal.tmux(&["kill-server"]);
        until("the end of the program", || !Path::new(&process).exists());
    }
}
