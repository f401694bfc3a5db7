//! Tests of the benches' texts: what each is said to be, and that it stays the same.

use super::*;
use std::collections::HashSet;

const BYTES: usize = 1 << 18;

fn tokens(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let text = text.strip_suffix(b"\n").unwrap();
    text.split(|&byte| byte == SEPARATOR || byte == b'\n')
}

#[test]
fn texts_are_whole_lines_of_the_size_asked_for() {
    for kind in Kind::ALL {
        for bytes in [1, 1_000, BYTES, 5 << 20] {
            if bytes > BYTES && kind != Kind::Giant {
                continue;
            }
            let text = kind.make(bytes);
            assert_eq!(text.last(), Some(&b'\n'), "{kind:?}");
            let slack = match kind {
                Kind::Giant => GIANT_BYTES_MAX,
                _ => 4_096,
            };
            let sizes = bytes.saturating_sub(slack)..=bytes + slack;
            assert!(sizes.contains(&text.len()), "{kind:?}: {}", text.len());
            assert!(!text.contains(&0), "{kind:?}");
            assert_eq!(text.contains(&b'\r'), kind == Kind::Crlf, "{kind:?}");
        }
    }
    let names: HashSet<_> = Kind::ALL.iter().map(|kind| kind.label().0).collect();
    assert_eq!(names.len(), Kind::ALL.len());
}

#[test]
fn keys_have_the_lengths_they_are_said_to_have() {
    for (kind, lengths) in [
        (Kind::Uniform, 8..=8),
        (Kind::Uuid, 36..=36),
        (Kind::Medium, 9..=16),
        (Kind::Letters, 1..=1),
        (Kind::Blanks, 0..=0),
        (Kind::Grow, 8..=8),
        (Kind::CollideFx, 8..=8),
        (Kind::CollideFold, 16..=16),
    ] {
        let text = kind.make(BYTES);
        assert!(
            tokens(&text).all(|token| lengths.contains(&token.len())),
            "{kind:?}"
        );
    }
    let text = Kind::Grow.make(BYTES);
    let different: HashSet<_> = tokens(&text).collect();
    assert_eq!(different.len(), tokens(&text).count());
}

#[test]
fn the_field_of_a_log_line_is_its_path() {
    let text = Kind::Log.make(BYTES);
    let lines = text.strip_suffix(b"\n").unwrap().split(|&b| b == b'\n');
    for line in lines {
        assert!(field(line, LOG_FIELD).starts_with(b"/api/v1/items/"));
        for number in 0..10 {
            let obvious = line.split(|&b| b == SEPARATOR).nth(number);
            assert_eq!(field(line, number), obvious.unwrap_or_default());
        }
    }
    assert_eq!(field(b"", 0), b"");
    assert_eq!(field(b"a ", 1), b"");
}

#[test]
fn keys_collide_in_the_functions_they_were_made_for() {
    let fx = |key: &Vec<u8>| {
        let hash = u64::from_le_bytes(key.as_slice().try_into().unwrap()).wrapping_mul(FX_FACTOR);
        (hash >> 57, hash & 0xf_ffff)
    };
    let keys = fx_keys(COLLIDE_FX_KEYS);
    assert_eq!(keys.iter().collect::<HashSet<_>>().len(), COLLIDE_FX_KEYS);
    assert!(keys.iter().all(|key| fx(key) == fx(&keys[0])));

    let fold = |key: &Vec<u8>| {
        let half = |at: usize| u64::from_le_bytes(key[at..at + 8].try_into().unwrap());
        let product = u128::from(half(0)) * u128::from(half(8));
        product as u64 ^ (product >> 64) as u64
    };
    let keys = fold_keys(COLLIDE_FOLD_KEYS);
    assert_eq!(keys.iter().collect::<HashSet<_>>().len(), COLLIDE_FOLD_KEYS);
    assert!(keys.iter().all(|key| fold(key) == fold(&keys[0])));
    assert_eq!(FX_FACTOR.wrapping_mul(inverse_of_odd(FX_FACTOR)), 1);
}

/// Changing one of these numbers makes figures of before and after incomparable.
#[test]
fn texts_are_the_same_for_ever() {
    let found = Kind::ALL.map(|kind| {
        let hash = kind
            .make(64 << 10)
            .iter()
            .fold(0xcbf2_9ce4_8422_2325_u64, |hash, &byte| {
                (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
            });
        (kind.label().0, hash)
    });
    let expected = [
        ("english", 0x7018_664d_9cfb_15e8),
        ("zipf-1m", 0x1db6_5092_c6ee_6650),
        ("uniform-8", 0x5972_d32c_a87c_9865),
        ("uuid", 0x562c_6afc_238f_dd08),
        ("log", 0xff45_4302_4f95_f23a),
        ("words-9-16", 0x8d7e_9d17_d796_952f),
        ("one-letter", 0x8ffb_ddfb_d5f5_367b),
        ("blanks", 0x94f1_f493_14b6_63b7),
        ("giant-word", 0xa9c6_e23f_0876_048f),
        ("crlf", 0x1d8b_7d6e_a42f_b776),
        ("grow", 0xb2a4_4538_ea80_b58b),
        ("collide-fx", 0xc8ed_f2a8_8648_91e0),
        ("collide-fold", 0x9f3b_0f15_3a0d_3c09),
    ];
    assert_eq!(found, expected, "found {found:#018x?}");
}
