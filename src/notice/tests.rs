//! What notices say, word by word.

use super::*;

#[test]
fn one_is_not_spoken_of_as_many() {
    let source = || "test://".to_owned();
    let refused = |clients, connections_max, descriptors| {
        Notice::Refused {
            source: source(),
            peer: "somebody".to_owned(),
            clients,
            connections_max,
            descriptors,
        }
        .to_string()
    };
    assert_eq!(
        refused(1, 1, None),
        "1 client of test://, which is the limit: refused somebody"
    );
    assert_eq!(
        refused(2, 2, None),
        "2 clients of test://, which is the limit: refused somebody and another one"
    );
    assert_eq!(
        refused(3, 1, Some(20)),
        "1 client of test://, which is all that the limit of 20 open files allows (raise ulimit -n): \
         refused somebody and 2 others"
    );
    let unfinished = |clients, cut_off, unread_bytes| {
        Notice::Unfinished {
            source: source(),
            clients,
            cut_off,
            unread_bytes,
        }
        .to_string()
    };
    assert_eq!(
        unfinished(1, 1, 1),
        "1 client of test:// did not end when it was told to: what it sends now is not counted, nor is \
         what it had sent and was not read (1 byte)"
    );
    assert_eq!(
        unfinished(2, 1, 300),
        "2 clients of test:// did not end when they were told to: what they send now is not counted, nor \
         is what 1 of them had sent and was not read (300 bytes)"
    );
    let unread = |bytes| {
        let source = source();
        Notice::Unread { source, bytes }.to_string()
    };
    let begin = "test://: stopped with ";
    for (bytes, says) in [
        (Some(1), "1 byte unread; it is not counted"),
        (Some(2), "2 bytes unread; they are not counted"),
        (None, "some bytes unread; they are not counted"),
    ] {
        assert_eq!(unread(bytes), format!("{begin}{says}"));
    }
    let full = |error_max, other_records, missing_max| {
        Notice::MemoryLimit {
            bytes_max: 1 << 20,
            keys: 1,
            time: BatchTime::default(),
            error_max,
            other_records,
            missing_max,
        }
        .to_string()
    };
    let begin = "memory limit 1.0 MiB reached at 1 distinct key in batch 0 ms: ";
    let end = "; totals stay exact";
    for (error_max, other_records, missing_max, says) in [
        (0, 0, 0, "counts are too high by at most 0"),
        (0, 1, 0, "1 record of new keys is not counted by key"),
        (
            0,
            2,
            1,
            "2 records of new keys are not counted by key, the value of a key may lack 1 of them at most",
        ),
        (
            3,
            2,
            0,
            "counts are too high by at most 3, 2 records of new keys are not counted by key",
        ),
    ] {
        assert_eq!(
            full(error_max, other_records, missing_max),
            format!("{begin}{says}{end}")
        );
    }
}
