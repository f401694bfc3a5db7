//! The segmented table against all numbers inserted, and under floods.

use super::*;

/// A good hash of a number: the middle of a product of odd constants (splitmix64's finisher).
fn mix(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

fn filled(numbers: u64, hash: impl Fn(u64) -> u64) -> (SegmentedTable<u64>, u64) {
    let mut segments = SegmentedTable::with_capacity(100);
    let mut floods = 0;
    for number in 0..numbers {
        let flood = segments.insert(hash(number), number, |number| hash(*number));
        floods += u64::from(flood == HashFlood::Flood);
    }
    (segments, floods)
}

#[test]
fn everything_is_found_after_many_splits_and_no_segment_is_large() {
    let numbers = 200_000;
    let (mut segments, floods) = filled(numbers, mix);
    assert_eq!(floods, 0, "good hashes are no flood");
    assert_eq!(segments.len() as u64, numbers);
    assert!(segments.segment_count() > numbers as usize / SEGMENT_KEYS_MAX);
    assert!(
        segments.growths() >= segments.segment_count() as u64 - 1,
        "each was split off"
    );
    for segment in &segments.segments {
        assert!(
            segment.table.len() <= SEGMENT_KEYS_MAX
                && segment.table.num_buckets() <= SEGMENT_BUCKETS
        );
    }
    for number in 0..numbers {
        let found = segments.find(mix(number), |entry| *entry == number);
        assert_eq!(found, Some(&number));
        assert_eq!(segments.find(mix(number), |entry| *entry == numbers), None);
    }
    let mut all: Vec<u64> = segments.iter().copied().collect();
    all.sort_unstable();
    assert!(all.into_iter().eq(0..numbers));
    segments.rebuild(|number| mix(!*number), |number| mix(!*number));
    assert_eq!(segments.find(mix(!7), |entry| *entry == 7), Some(&7));
    assert_eq!(segments.len() as u64, numbers);
    segments.clear();
    assert_eq!(segments.len(), 0);
    assert_eq!(segments.find(mix(7), |entry| *entry == 7), None);
}

#[test]
fn prefetching_looks_where_the_entry_is() {
    let (segments, _) = filled(20_000, mix);
    let mut near = 0;
    for number in 0..20_000 {
        let (hash, segment) = (mix(number), segments.segment(mix(number)));
        let entry = segment
            .table
            .find(hash, |entry| *entry == number)
            .expect("inserted");
        let hint = segment.control - ((hash as usize & segment.mask) + 1) * size_of::<u64>();
        near += usize::from(hint.abs_diff(std::ptr::from_ref(entry).addr()) < 16 * 8);
    }
    // Most entries are in the first group that is looked at. With another layout none would be.
    assert!(near > 15_000, "{near} of 20000");
}

#[test]
fn every_way_of_colliding_is_reported_and_nothing_is_lost() {
    let same = |_: u64| 42;
    let same_place = |number: u64| mix(number) & !0x1fff;
    let same_segment = |number: u64| mix(number) & !(0xff_ffff << 33);
    let ways: [&dyn Fn(u64) -> u64; 3] = [&same, &same_place, &same_segment];
    for (way, hash) in ways.into_iter().enumerate() {
        let numbers = [2_000, 2_000, 60_000][way];
        let (segments, floods) = filled(numbers, hash);
        assert!(floods > 0, "way {way}");
        assert_eq!(segments.len() as u64, numbers);
        for number in (0..numbers).step_by(97) {
            assert!(
                segments
                    .find(hash(number), |entry| *entry == number)
                    .is_some()
            );
        }
    }
}
