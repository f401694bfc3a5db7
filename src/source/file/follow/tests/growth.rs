//! Files that grow in pieces of any size, whatever bytes are in them.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::limits::HELD_BYTES_DEFAULT;
use crate::split::{Delimiters, LineEnds, Rule, scalar};

/// What happens to one of two files.
#[derive(Clone, Debug)]
enum Step {
    Append(bool, Vec<u8>),
    /// The first one cannot be read, until it is checked again.
    Break,
    Look,
}

fn step() -> impl Strategy<Value = Step> {
    let byte = prop::sample::select(b"ab\r\n\0".to_vec());
    let piece = prop::collection::vec(byte, 0..12);
    prop_oneof![
        6 => (any::<bool>(), piece).prop_map(|(which, piece)| Step::Append(which, piece)),
        1 => Just(Step::Break),
        3 => Just(Step::Look),
    ]
}

/// How often each record is in `records`, all of which are complete.
fn count(records: &[u8], line_ends: LineEnds, counts: &mut BTreeMap<Vec<u8>, u64>) {
    scalar::tokens(records, Rule::Lines, line_ends, |record| {
        *counts.entry(record.to_vec()).or_default() += 1;
    });
}

proptest! {
    #[test]
    fn each_record_is_given_once_and_none_of_two_files_mix(
        steps in prop::collection::vec(step(), 0..40),
        line_ends in prop::sample::select(vec![LineEnds::Universal, LineEnds::Lf, LineEnds::Nul]),
        room in prop_oneof![1usize..9, Just(4096)],
        block_bytes in 4usize..64,
    ) {
        let names = ["a", "b"];
        let mut following = Following::new(&names, room, |root| {
            names.iter().for_each(|name| append(&root.join(name), ""));
        });
        let delimiters = Delimiters { rule: Rule::Lines, line_ends };
        following.follow.port.delimiters = delimiters;
        following.rig = IntakeRig::new(delimiters, 1 << 20, HELD_BYTES_DEFAULT, &[block_bytes]);
        let (mut contents, mut seen) = ([Vec::new(), Vec::new()], BTreeMap::new());
        following.fill_all();
        let mut look = |following: &mut Following| {
            following.now += Duration::from_millis(100);
            loop {
                let fill = following.fill();
                count(&following.rig.take(), line_ends, &mut seen);
                if matches!(fill, Fill::Pending(_)) {
                    return;
                }
            }
        };
        for step in steps {
            match step {
                Step::Append(which, piece) => {
                    append_bytes(&following.at(names[usize::from(which)]), &piece);
                    contents[usize::from(which)].extend(piece);
                }
                Step::Break => following.breaks(),
                Step::Look => look(&mut following),
            }
        }
        // A stop does not retry: something to read shows a failure, and the next check opens the
        // file again.
        append(&following.at("a"), "a");
        contents[0].push(b'a');
        look(&mut following);
        look(&mut following);
        following.follow.drain();
        look(&mut following);
        let mut expected = BTreeMap::new();
        for mut content in contents {
            let ends = content.last().is_none_or(|&last| line_ends.is_end(last));
            if !ends {
                let end = delimiters.end_behind(&content);
                content.extend_from_slice(end);
            }
            count(&content, line_ends, &mut expected);
        }
        prop_assert_eq!(seen, expected);
        prop_assert_eq!(following.rig.truncated_lines(), 0);
    }
}
