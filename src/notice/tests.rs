//! The texts of notices, word for word.

use super::*;

fn text(kind: NoticeKind) -> String {
    Notice::new("test://", kind).to_string()
}

#[test]
fn numbers_agree_with_their_nouns() {
    let refused = |clients, connections_max, descriptors| {
        text(NoticeKind::Refused {
            peer: "somebody".to_owned(),
            clients,
            connections_max,
            descriptors,
        })
    };
    let unfinished = |clients, cut_off, unread_bytes| {
        text(NoticeKind::Unfinished {
            clients,
            cut_off,
            unread_bytes,
        })
    };
    let unread = |bytes| text(NoticeKind::Unread { bytes });
    for (text, expected) in [
        (
            refused(1, 1, None),
            "1 client connected, which is the limit; refused somebody",
        ),
        (
            refused(2, 2, None),
            "2 clients connected, which is the limit; refused somebody and 1 other",
        ),
        (
            refused(3, 1, Some(20)),
            "1 client connected, which is all that the limit of 20 open files allows (raise ulimit -n); \
             refused somebody and 2 others",
        ),
        (
            unfinished(1, 1, 1),
            "1 client did not disconnect before the stop; later data is not counted, nor is 1 unread byte \
             from 1 client",
        ),
        (
            unfinished(2, 1, 300),
            "2 clients did not disconnect before the stop; later data is not counted, nor are 300 unread \
             bytes from 1 client",
        ),
        (
            unread(Some(1)),
            "stopped with 1 byte unread; it is not counted",
        ),
        (
            unread(Some(2)),
            "stopped with 2 bytes unread; they are not counted",
        ),
        (
            unread(None),
            "stopped with some bytes unread; they are not counted",
        ),
    ] {
        assert_eq!(text, format!("test://: {expected}"));
    }
    let full = |error_max, other_records, missing_max| {
        text(NoticeKind::MemoryLimit {
            bytes_max: 1 << 20,
            keys: 1,
            time: BatchTime::default(),
            error_max,
            other_records,
            missing_max,
        })
    };
    let begin = "memory limit 1.0 MiB reached at 1 distinct key in batch 0 ms: ";
    let end = "; totals stay exact";
    for (error_max, other_records, missing_max, effects) in [
        (0, 0, 0, "counts are too high by at most 0"),
        (0, 1, 0, "1 record of new keys is not counted by key"),
        (
            0,
            2,
            1,
            "2 records of new keys are not counted by key, the value of a key may lack up to 1 of them",
        ),
        (
            3,
            2,
            0,
            "counts are too high by at most 3, 2 records of new keys are not counted by key",
        ),
    ] {
        let text = full(error_max, other_records, missing_max);
        assert_eq!(text, format!("{begin}{effects}{end}"));
    }
}
