//! What must hold when a run has ended.

use std::collections::BTreeSet;

use super::*;

/// Compares what was published with what was read.
pub(super) fn check(world: &World) {
    let kept = world.kept.0.lock().unwrap();
    let kept_of_channels = world.kept_of_channels.0.lock().unwrap();
    let times: Vec<u64> = kept.iter().map(|(time, _)| *time).collect();
    let expected: Vec<u64> = (1..=kept.len() as u64)
        .map(|n| 1_000_000 + n * INTERVAL_MS)
        .collect();
    assert_eq!(times, expected, "batch times are consecutive multiples");
    assert_eq!(kept.len(), world.expected.len());
    let (mut all, mut all_expected) = (EpochCounts::new(), EpochCounts::new());
    for (number, ((time, counts), expected)) in kept.iter().zip(&world.expected).enumerate() {
        let (mut counts, mut expected) = (counts.clone(), expected.clone());
        add(&mut expected, world.owed(*time));
        if world.is_exact() {
            let of_channels = world.expected_of_channels.get(number);
            add(&mut expected, of_channels.cloned().unwrap_or_default());
        } else if world.channels.is_some() {
            // What is in which batch, their positions say.
            for (key, count) in &kept_of_channels[number].1 {
                let left = counts.get_mut(key).expect("these are some of them");
                *left -= count;
            }
            counts.retain(|_, count| *count > 0);
        }
        if world.is_exact() {
            assert_eq!(counts, expected, "batch {number} at {time}");
        }
        add(&mut all, counts);
        add(&mut all_expected, expected);
    }
    assert_same(&all, &all_expected, format_args!("all batches together"));
    drop(kept_of_channels);
    check_positions(world);
    let times: BTreeSet<u64> = kept.iter().map(|(time, _)| *time).collect();
    let in_time = |from_ms: u64| times.contains(&from_ms.next_multiple_of(INTERVAL_MS));
    assert!(
        world.shelved.iter().all(|(from_ms, _)| in_time(*from_ms)),
        "every piece has a batch"
    );
    let stats = world.control.stats();
    let sum = |of: fn(&Backlog) -> u64| -> u64 {
        let kernels = world.kernels.iter();
        let of_channels = |channels: &Arc<Mutex<SimChannels>>| channels.lock().unwrap().sum(of);
        let of_channels = world.channels.as_ref().map_or(0, of_channels);
        of_channels
            + kernels
                .map(|kernel| of(&kernel.lock().unwrap()))
                .sum::<u64>()
    };
    assert_eq!(stats.lost_records, sum(|kernel| kernel.lost_records));
    assert_eq!(stats.lost_bytes, sum(|kernel| kernel.lost_bytes));
    assert_eq!(stats.truncated_records, sum(|kernel| kernel.truncated));
    if world.rule == Rule::Lines && world.shelf.is_none() && !world.is_short {
        assert_eq!(stats.oversize_tokens, sum(|kernel| kernel.oversize));
    }
}

/// Compares what was committed with what was published.
fn check_positions(world: &World) {
    let Some(channels) = &world.channels else {
        return;
    };
    let channels = channels.lock().unwrap();
    let kept = world.kept_of_channels.0.lock().unwrap();
    let start = (0, Places::new());
    for (epoch, places) in std::iter::once(&start).chain(&world.committed) {
        let behind = channels.check(*epoch, places, world.is_exact());
        let mut published = EpochCounts::new();
        for (_, counts) in &kept[*epoch..] {
            add(&mut published, counts.clone());
        }
        if !world.is_short {
            assert_same(&behind, &published, format_args!("behind epoch {epoch}"));
            continue;
        }
        // What is missing was dropped for want of memory, and counted.
        let count_of = |counts: &EpochCounts, key| counts.get(key).copied().unwrap_or(0);
        for (key, &count) in &published {
            assert!(count <= count_of(&behind, key), "behind epoch {epoch}");
        }
        let missing = behind.values().sum::<u64>() - published.values().sum::<u64>();
        let stats = world.control.stats();
        assert!(missing <= stats.oversize_tokens, "behind epoch {epoch}");
    }
    let (_, places) = world.committed.last().expect("the last turn was noted");
    let behind = channels.check(kept.len(), places, false);
    assert!(behind.is_empty(), "the last batch is committed");
}

/// Panics if the counts differ, and says where.
fn assert_same(left: &EpochCounts, right: &EpochCounts, what: std::fmt::Arguments<'_>) {
    let keys: BTreeSet<_> = left.keys().chain(right.keys()).collect();
    let difference = keys
        .into_iter()
        .filter(|&key| left.get(key) != right.get(key));
    let difference: Vec<_> = difference
        .map(|key| (key, left.get(key), right.get(key)))
        .collect();
    assert!(difference.is_empty(), "{what}: {difference:?}");
}
