//! A batch whose bytes do not add up.

use super::*;
use crate::engine::plan::{CountTokens, NamedPipeline, Pipeline};
use crate::epoch::hand_over::hand_over;
use crate::epoch::header::header_channel;
use crate::error::ErrorKind;
use crate::split::Rule;
use crate::table::bound::MemoryCap;
use crate::table::keys::Seed;
use crate::time::BatchTime;

/// Publishes one batch: its only shard has counted nothing, and `intake` was read.
fn publish(intake: IntakeTotals) -> Result<Turn> {
    let node: Arc<dyn Pipeline> = Arc::new(CountTokens::new(StreamId(0), Rule::Lines));
    let seed = Seed::from_words(1, 2, 3);
    let tables = || Tables::new([node.partial(seed, MemoryCap::NONE)].into_iter());
    let (mut helper, publisher_end) = hand_over(tables());
    let (mut sender, headers) = header_channel(1, 1);
    let inbox = Inbox {
        shards: Vec::new(),
        helper: publisher_end,
        headers,
        stream_count: 1,
    };
    let plan = EnginePlan {
        nodes: vec![NamedPipeline {
            name: "tokens".into(),
            pipeline: Arc::clone(&node),
        }],
        outputs: Vec::new(),
    };
    let mut publisher = Publisher::new(
        plan,
        inbox,
        Duration::ZERO,
        None,
        Clock::manual(Duration::ZERO),
        Control::new(Arc::new(|| ())),
        Notices::default(),
    );
    let time = BatchTime::from_millis(1);
    let intakes = [intake].into_iter();
    let barrier = sender.send(time, true, ShardSet::default(), intakes, None);
    assert!(helper.try_swap(&mut tables(), barrier));
    publisher.step()
}

/// Bytes that no shard was given are in no pipeline's own check.
#[test]
fn bytes_that_came_in_and_that_nobody_counted_end_the_run() {
    assert_eq!(
        publish(IntakeTotals::default()).expect("it closes"),
        Turn::Done
    );
    let lost = IntakeTotals {
        bytes_read: 7,
        ..IntakeTotals::default()
    };
    let error = publish(lost).expect_err("seven bytes are missing");
    assert_eq!(error.kind(), ErrorKind::Internal);
    assert!(error.to_string().contains("7 bytes came in"), "{error}");
    let waiting = IntakeTotals {
        bytes_read: 7,
        bytes_carried: 7,
        ..IntakeTotals::default()
    };
    assert_eq!(publish(waiting).expect("they are held"), Turn::Done);
}
