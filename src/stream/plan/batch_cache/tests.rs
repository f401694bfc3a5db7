//! What is kept, for how long, and when a failed batch is made again.

use super::*;

fn ms(ms: u64) -> BatchTime {
    BatchTime::from_millis(ms)
}

fn made(record: u64) -> CachedBatch<u64> {
    CachedBatch::Produced(Some(Rdd::from(vec![record])))
}

#[test]
fn batches_are_kept_as_long_as_they_may_be_asked_for() {
    let cache = BatchCache::new();
    cache.keep_for(300);
    for time in 1..=9u64 {
        match time {
            4 => cache.put(ms(400), CachedBatch::Produced(None)),
            5 => cache.put_failed(ms(500), &Failure::of_records("five"), None),
            _ => cache.put(ms(time * 100), made(time)),
        }
    }
    assert_eq!(cache.peek(ms(900)).unwrap().unwrap().to_vec(), [9]);
    assert!(cache.peek(ms(500)).unwrap().is_none(), "forgotten");
    let between = |after, until| {
        let batches = cache.between(ms(after), ms(until));
        batches
            .iter()
            .map(|(time, _)| time.as_millis())
            .collect::<Vec<_>>()
    };
    assert_eq!(between(600, 900), [700, 800, 900]);
    assert_eq!(between(600, 800), [700, 800]);
}

#[test]
fn batches_may_be_kept_for_ever() {
    let cache = BatchCache::new();
    cache.keep_for(u64::MAX);
    for time in 1..=3u64 {
        cache.put(ms(time * 100), made(time));
    }
    assert_eq!(
        rdds_of(&cache.between(ms(0), ms(300)), ms(300))
            .unwrap()
            .len(),
        3
    );
}

#[test]
fn a_window_over_a_batch_that_fails_again_and_again_fails() {
    let cache = BatchCache::new();
    cache.keep_for(1000);
    cache.put(ms(100), made(1));
    let retry: Retry<u64> = Box::new(|_| panic!("two again"));
    cache.put_failed(ms(200), &Failure::of_records("two"), Some(retry));
    let why = |now| {
        let window = rdds_of(&cache.between(ms(0), ms(200)), ms(now));
        window.unwrap_err().message
    };
    assert_eq!(&*why(200), "two", "not tried again in its own batch");
    assert_eq!(&*why(300), "two again");
    assert_eq!(
        rdds_of(&cache.between(ms(0), ms(100)), ms(300))
            .unwrap()
            .len(),
        1
    );
    assert!(cache.peek(ms(200)).is_err());
    assert!(cache.peek(ms(300)).unwrap().is_none());
}

#[test]
fn a_failed_batch_is_made_again_once_a_batch_until_it_works() {
    let cache = BatchCache::new();
    cache.keep_for(1000);
    let mut left = 2;
    let retry: Retry<u64> = Box::new(move |now| {
        left -= 1;
        match left {
            0 => Ok(Some(Rdd::from(vec![now.as_millis()]))),
            _ => Err(Failure::of_records("again")),
        }
    });
    cache.put_failed(ms(100), &Failure::of_records("first"), Some(retry));
    let held = cache.batch(ms(100));
    for _ in 0..3 {
        assert_eq!(&*held.get(ms(200)).unwrap_err().message, "again");
    }
    assert!(cache.peek(ms(100)).is_err(), "looking does not try");
    assert_eq!(held.get(ms(300)).unwrap().unwrap().to_vec(), [300]);
    assert_eq!(cache.peek(ms(100)).unwrap().unwrap().to_vec(), [300]);
}
