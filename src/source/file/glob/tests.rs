//! Patterns against names, their definition, real directories, and what makes them too large.

use proptest::prelude::*;

use super::*;

fn fits_name(pattern: &str, name: &str) -> bool {
    let parts = PathPattern::new(Path::new(pattern))
        .expect("it has an end")
        .parts;
    match &parts[..] {
        [PatternPart::Name(literal)] => literal == Path::new(name),
        [PatternPart::Wild(wild)] => wild
            .iter()
            .any(|tokens| matches(tokens, &chars_of(name.as_ref()))),
        _ => panic!("one name"),
    }
}

#[test]
fn names_match_whole() {
    for (pattern, good, bad) in [
        ("sub*", &["sub", "sub1", "subway"][..], &["su", "asub"][..]),
        ("*", &["a", ".hidden"], &[]),
        ("a?c", &["abc", "aéc"], &["ac", "abbc"]),
        ("a[b-d_]", &["ab", "ad", "a_"], &["ae", "a", "a-"]),
        ("a[^b-d]", &["ae", "a-"], &["ab", "a"]),
        ("a[]x]", &["a]", "ax"], &["a"]),
        ("a[x-]", &["ax", "a-"], &["ay"]),
        (
            "a[gc-ea-db-bz-y]",
            &["aa", "ae", "ag"],
            &["af", "ah", "ay", "az"],
        ),
        ("[^d-fa-b]", &["c", "g"], &["a", "b", "d", "e", "f"]),
        ("{in,out}-*", &["in-1", "out-"], &["in", "inn-1"]),
        ("{a,b{c,d}}e", &["ae", "bce", "bde"], &["abce", "be"]),
        ("x{,y}", &["x", "xy"], &["y"]),
        ("a\\*", &["a*"], &["ab", "a\\*"]),
        ("a\\{b,c}", &["a{b,c}"], &["ab"]),
        ("*a*b*", &["ab", "xaybz", "aab"], &["ba", "xa"]),
    ] {
        for name in good {
            assert!(fits_name(pattern, name), "{pattern} {name}");
        }
        for name in bad {
            assert!(!fits_name(pattern, name), "{pattern} {name}");
        }
    }
    for pattern in ["a[b", "a[", "{a", "{a,{b}", "a\\", "[a-"] {
        let error = PathPattern::new(Path::new(pattern)).expect_err(pattern);
        assert!(
            error
                .to_string()
                .contains("unclosed bracket or brace, or a trailing backslash"),
            "{error}"
        );
    }
}

/// The definition: a star takes nothing, or one character and then takes on.
fn defined(pattern: &[char], name: &[char]) -> bool {
    match (pattern, name) {
        ([], []) => true,
        (['*', rest @ ..], _) => {
            defined(rest, name) || (!name.is_empty() && defined(pattern, &name[1..]))
        }
        (['?', rest @ ..], [_, behind @ ..]) => defined(rest, behind),
        ([wanted, rest @ ..], [given, behind @ ..]) => wanted == given && defined(rest, behind),
        _ => false,
    }
}

proptest! {
    #[test]
    fn matching_is_the_definition(pattern in "[ab*?]{1,8}", name in "[abc]{0,8}") {
        let chars = |text: &str| text.chars().collect::<Vec<_>>();
        let expected = defined(&chars(&pattern), &chars(&name));
        prop_assert_eq!(fits_name(&pattern, &name), expected);
    }

    #[test]
    fn nothing_makes_it_panic(pattern in "[a*?\\[\\]{},^!\\\\-]{0,12}", name in ".{0,6}") {
        if let Ok(pattern) = PathPattern::new(Path::new(&pattern)) {
            for part in &pattern.parts {
                if let PatternPart::Wild(wild) = part {
                    for tokens in wild {
                        matches(tokens, &chars_of(name.as_ref()));
                    }
                }
            }
        }
    }
}

#[test]
fn only_directories_are_found_and_in_order() {
    let root = tempfile::tempdir().unwrap();
    for name in ["sub2/in", "sub1/in", "other/in", "sub3"] {
        fs::create_dir_all(root.path().join(name)).unwrap();
    }
    fs::write(root.path().join("sub0"), "a file").unwrap();
    let find = |pattern: &str| {
        PathPattern::new(&root.path().join(pattern))
            .unwrap()
            .directories()
    };
    let at = |names: &[&str]| {
        names
            .iter()
            .map(|name| root.path().join(name))
            .collect::<Vec<_>>()
    };
    assert_eq!(find("sub*").paths, at(&["sub1", "sub2", "sub3"]));
    assert_eq!(find("sub*/in").paths, at(&["sub1/in", "sub2/in"]));
    assert_eq!(find("{other,sub2}/i?").paths, at(&["other/in", "sub2/in"]));
    assert_eq!(find("other").paths, at(&["other"]));
    for nothing in ["none", "none*", "sub0", "none*/in", "sub0/in"] {
        let found = find(nothing);
        assert!(found.paths.is_empty());
        assert_eq!(found.trouble.as_deref(), Some("no such directory"));
    }
}

#[test]
fn files_are_found_as_a_shell_finds_them() {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir_all(root.path().join("logs/old.log")).unwrap();
    for name in ["b.log", "a.log", ".hidden.log", "c.txt", "[x].log", "x.log"] {
        fs::write(root.path().join("logs").join(name), "").unwrap();
    }
    let find = |pattern: &str| {
        let found = expand([root.path().join(pattern)])?;
        let names = found
            .iter()
            .map(|path| path.file_name().unwrap().to_owned());
        Ok::<_, Error>(
            names
                .map(|name| name.into_string().unwrap())
                .collect::<Vec<_>>(),
        )
    };
    assert_eq!(find("logs/?.log").unwrap(), ["a.log", "b.log", "x.log"]);
    assert_eq!(find("l*/*.{log,txt}").unwrap().len(), 5);
    assert_eq!(find("logs/.*.log").unwrap(), [".hidden.log"]);
    assert_eq!(find("logs/[x].log").unwrap(), ["[x].log"], "it exists");
    assert_eq!(find("logs/[a]*").unwrap(), ["a.log"]);
    assert_eq!(find("logs/none.log").unwrap(), ["none.log"], "no pattern");
    for nothing in ["logs/*.gz", "none*/a.log", "logs/old*"] {
        let error = find(nothing).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Source);
        assert!(error.to_string().contains(nothing), "{error}");
    }
    assert_eq!(find("logs/{a").unwrap_err().kind(), ErrorKind::Config);
}

/// The message names the pattern, what it comes to and the limit.
#[test]
fn braces_that_stand_for_too_many_names_are_refused_at_once() {
    let many = PATTERN_NAMES_MAX.to_string();
    let bytes = PATTERN_BYTES_MAX.to_string();
    for (pattern, limit) in [
        ("{a,b}".repeat(20), &many),
        ("{a,b}".repeat(60_000), &bytes),
        (format!("in/{}.log", "{a,b,{c,d}}".repeat(9)), &many),
        (format!("{0}/{0}/{0}", "{a,b,c,d,e,f,g,h}".repeat(3)), &many),
        ("{a}".repeat(40_000), &bytes),
        (
            format!("{}{}", "{".repeat(150_000), "}".repeat(150_000)),
            &bytes,
        ),
        ("?".repeat(300_000), &bytes),
    ] {
        let error = expand([&pattern]).expect_err(&pattern[..20]);
        assert_eq!(error.kind(), ErrorKind::Config);
        let text = error.to_string();
        assert!(
            text.contains(&pattern[..15]) && text.contains(limit),
            "{text}"
        );
        assert!(text.len() < 1000, "{} bytes", text.len());
    }
    // As many as are allowed are no trouble.
    let pattern = PathPattern::new(Path::new(&"{a,b}".repeat(10))).unwrap();
    let PatternPart::Wild(wild) = &pattern.parts[0] else {
        panic!("{pattern:?}")
    };
    assert_eq!(wild.len(), PATTERN_NAMES_MAX);
    assert!(pattern.has_part(OsStr::new("abbaabbaab")));
}

/// They would take longer than anybody waits.
#[test]
fn many_stars_do_not_take_exponential_time() {
    let name = format!("{}b", "a".repeat(254));
    for (pattern, is_so) in [
        ("a*".repeat(100) + "c", false),
        ("*a".repeat(254) + "b", true),
        ("*".repeat(10_000) + "c", false),
        ("a*a*".repeat(60) + "?b", true),
        ("{a*,*a}".repeat(10) + "x", false),
    ] {
        assert_eq!(name_fits(&pattern, &name).unwrap(), is_so, "{pattern}");
    }
}

/// Two links that lead back are a tree without end, and stand here for every tree that is too
/// large.
#[test]
fn a_pattern_that_fits_more_than_the_limit_is_refused_and_held_in_bounds() {
    let root = tempfile::tempdir().unwrap();
    for name in ["a", "b", "c", "d"] {
        std::os::unix::fs::symlink(".", root.path().join(name)).unwrap();
    }
    fs::write(root.path().join("log"), "").unwrap();
    let pattern = root.path().join("**/".repeat(30) + "log");
    let error = expand([&pattern]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    let text = error.to_string();
    let limit = PATTERN_DIRECTORIES_MAX.to_string();
    assert!(text.contains("**/**") && text.contains(&limit), "{text}");
    let matched = PathPattern::new(&pattern).unwrap().files();
    assert!(matched.is_cut && matched.listed.len() <= PATTERN_DIRECTORIES_MAX);
    // What is narrow enough finds everything.
    assert_eq!(expand([root.path().join("*/*/*/log")]).unwrap().len(), 64);
}
