//! The reactor with sources that are scripted call by call, everything on one thread.

mod stops;

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::config::Config;
use crate::engine::assemble::{Blueprint, Parts};
use crate::engine::plan::{CountTokens, EnginePlan, NamedPipeline, Output};
use crate::engine::publisher::{self, Publisher};
use crate::engine::simulation::{Keep, built};
use crate::error::ErrorKind;
use crate::id::StreamId;
use crate::intake::ChannelLimits;
use crate::intake::Intake;
use crate::memory::DecoderCounts;
use crate::ring::Wake;
use crate::shard::worker::Worker;
use crate::source::{ReadOutcome, read_once};
use crate::split::Rule;
use crate::time::{BatchTime, Clock};

const INTERVAL_MS: u64 = 10;

/// Time between two looks at sources that wait.
const LOOK: Duration = Duration::from_millis(LOOK_AGAIN_MS);

/// What a scripted source does when it is called.
enum SourceAct {
    Say(&'static str),
    Answer(ReadOutcome),
    Panic,
}

/// Does one act a call and then nothing more.
#[derive(Default)]
struct ScriptedSource {
    acts: VecDeque<SourceAct>,
    /// What belongs to the next batch times, one each.
    batches: VecDeque<Vec<SourceAct>>,
    panics_at_batch: bool,
    drained: Arc<AtomicUsize>,
}

impl ScriptedSource {
    fn of(acts: impl IntoIterator<Item = SourceAct>) -> Box<dyn Source> {
        Box::new(ScriptedSource {
            acts: acts.into_iter().collect(),
            ..ScriptedSource::default()
        })
    }

    fn batched(batches: impl IntoIterator<Item = Vec<SourceAct>>) -> Box<dyn Source> {
        Box::new(ScriptedSource {
            batches: batches.into_iter().collect(),
            ..ScriptedSource::default()
        })
    }
}

impl Source for ScriptedSource {
    fn fill(&mut self, out: &mut Intake<'_>, _now: Duration) -> Fill {
        read_once(out, |buf| match self.acts.pop_front() {
            None => ReadOutcome::Nothing(Fill::Pending(None)),
            Some(SourceAct::Say(text)) => {
                let (now, later) = text.split_at(text.len().min(buf.len()));
                buf[..now.len()].copy_from_slice(now.as_bytes());
                if !later.is_empty() {
                    self.acts.push_front(SourceAct::Say(later));
                }
                ReadOutcome::Bytes(now.len())
            }
            Some(SourceAct::Answer(fill)) => fill,
            Some(SourceAct::Panic) => panic!("the disk is on fire"),
        })
    }

    fn batch_due(&mut self, _time: BatchTime) -> bool {
        assert!(!self.panics_at_batch, "no such batch");
        match self.batches.pop_front() {
            Some(acts) => self.acts.extend(acts),
            None => return false,
        }
        true
    }

    fn drain(&mut self) -> usize {
        self.drained.fetch_add(1, Ordering::Relaxed);
        usize::MAX
    }

    fn name(&self) -> &str {
        "script"
    }
}

struct ReactorRig {
    clock: Clock,
    core: ReactorCore,
    workers: Vec<Worker>,
    publisher: Publisher,
    control: Arc<Control>,
    kept: Keep,
    notices: Arc<Mutex<Vec<String>>>,
}

impl ReactorRig {
    fn new(sources: Vec<Box<dyn Source>>, batches: Option<u64>, is_endless: bool) -> ReactorRig {
        let kept = Keep::default();
        let nodes = StreamId::first(sources.len())
            .map(|stream| NamedPipeline::tokens(CountTokens::new(stream, Rule::Lines)));
        let clock = Clock::manual(Duration::from_millis(1_000_003));
        let control = Control::new(Arc::new(|| ()));
        let told = Arc::<Mutex<Vec<String>>>::default();
        let notices = {
            let told = Arc::clone(&told);
            Notices::to(move |notice| told.lock().unwrap().push(notice.to_string()))
        };
        let mut outputs: Vec<Box<dyn Output>> = Vec::new();
        if !sources.is_empty() {
            outputs.push(Box::new(kept.clone()));
        }
        let names = sources.iter().map(|source| source.name().to_owned());
        let parts: Parts = built(Blueprint {
            config: Config::default().workers(1).block_bytes(64),
            plan: EnginePlan {
                nodes: nodes.collect(),
                outputs,
            },
            inputs: StreamId::first(sources.len())
                .zip(names)
                .map(|(stream, name)| (stream, name, ChannelLimits::default()))
                .collect(),
            decoders: DecoderCounts::default(),
            interval: Duration::from_millis(INTERVAL_MS),
            clock: clock.clone(),
            notices: notices.clone(),
            control: Arc::clone(&control),
            wake: Wake::new(|| ()),
            retained: crate::memory::RetainedTables::default(),
        });
        let core = ReactorCore::new(ReactorParts {
            router: parts.router,
            sources,
            clock: BatchClock::new(INTERVAL_MS, clock.now()),
            batches,
            is_endless,
            control: Arc::clone(&control),
            notices,
            watch: Box::new(|_, _| ()),
            record_bytes_max: 1 << 20,
        });
        ReactorRig {
            clock,
            core,
            workers: parts.workers,
            publisher: parts.publisher,
            control,
            kept,
            notices: told,
        }
    }

    fn turn(&mut self) -> Next {
        self.core.turn(self.clock.now())
    }

    /// Turns until there is nothing to do at this time, everybody else working too.
    fn settle(&mut self) -> Next {
        for _ in 0..1000 {
            let next = self.turn();
            for worker in &mut self.workers {
                // Everything it has: a reactor at rest says nothing of the others.
                for _ in 0..100 {
                    let _ = worker.step();
                }
            }
            while matches!(self.publisher.step(), Ok(publisher::Turn::Published(_))) {}
            if matches!(next, Next::Sleep(_) | Next::Done) {
                return next;
            }
        }
        panic!("the reactor does not come to rest");
    }

    fn advance(&mut self, ms: u64) {
        self.clock.advance(Duration::from_millis(ms));
    }

    /// The batches published: milliseconds since the start of the first, and the lines.
    fn batches(&self) -> Vec<(u64, Vec<String>)> {
        let kept = self.kept.0.lock().unwrap();
        let text = |key: &Vec<u8>| String::from_utf8(key.clone()).unwrap();
        kept.iter()
            .map(|(time, counts)| (time - 1_000_000, counts.keys().map(text).collect()))
            .collect()
    }
}

fn lines(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

#[test]
fn a_source_that_panics_costs_itself_and_not_the_run() {
    let bad = ScriptedSource::of([SourceAct::Say("before\nhalf a li"), SourceAct::Panic]);
    let good = ScriptedSource::of([SourceAct::Say("good\n")]);
    let mut rig = ReactorRig::new(vec![bad, good], None, false);
    rig.settle();
    let error = rig.control.wait(None).expect_err("it is told at once");
    assert_eq!(error.kind(), ErrorKind::UserFunction);
    let message = "source script panicked and is read no more: the disk is on fire";
    assert_eq!(error.to_string(), message);
    let told = rig.notices.lock().unwrap().clone();
    assert!(
        told[0].contains("the other sources continue") && told[0].contains(message),
        "{told:?}"
    );
    rig.advance(INTERVAL_MS);
    rig.settle();
    assert_eq!(rig.batches(), [(10, lines(&["before", "good"]))]);
    assert!(!rig.core.is_finished());
}

#[test]
fn the_only_source_that_panics_ends_the_run() {
    let mut rig = ReactorRig::new(
        vec![ScriptedSource::of([
            SourceAct::Say("one\n"),
            SourceAct::Panic,
        ])],
        None,
        false,
    );
    assert_eq!(rig.settle(), Next::Done);
    assert_eq!(rig.batches(), [(10, lines(&["one"]))]);
    assert!(rig.control.error().is_some());
    // A panic at a batch's time as well.
    let script = ScriptedSource {
        panics_at_batch: true,
        ..ScriptedSource::default()
    };
    let mut rig = ReactorRig::new(vec![Box::new(script)], None, false);
    rig.settle();
    rig.advance(INTERVAL_MS);
    assert_eq!(rig.settle(), Next::Done);
    assert!(
        rig.control
            .error()
            .unwrap()
            .to_string()
            .contains("no such batch")
    );
    assert_eq!(rig.batches(), [(10, lines(&[]))]);
}

#[test]
fn answers_that_cannot_be_are_errors_with_a_reason() {
    let too_many = "source script says it put 65 bytes into room for 64";
    let script = ScriptedSource::of([SourceAct::Answer(ReadOutcome::Bytes(65))]);
    let mut rig = ReactorRig::new(vec![script], None, false);
    assert_eq!(rig.settle(), Next::Done);
    let error = rig.control.error().expect("it is an error");
    assert_eq!(error.kind(), ErrorKind::Source);
    assert_eq!(error.to_string(), too_many);
}

#[test]
fn an_endless_run_goes_on_without_sources_until_it_is_stopped() {
    let ended = || {
        ScriptedSource::of([
            SourceAct::Say("a\n"),
            SourceAct::Answer(ReadOutcome::Nothing(Fill::End)),
        ])
    };
    for sources in [vec![ended()], Vec::new()] {
        let has_source = !sources.is_empty();
        let mut rig = ReactorRig::new(sources, None, true);
        assert!(matches!(rig.settle(), Next::Sleep(_)));
        assert_eq!(rig.core.epochs_cut(), 0);
        rig.advance(2 * INTERVAL_MS);
        assert!(matches!(rig.settle(), Next::Sleep(_)));
        assert_eq!(rig.core.epochs_cut(), 2);
        rig.control.stop(Stop::Graceful);
        assert_eq!(rig.settle(), Next::Done);
        assert_eq!(rig.core.epochs_cut(), 3);
        if has_source {
            let expected = [(10, lines(&["a"])), (20, lines(&[])), (30, lines(&[]))];
            assert_eq!(rig.batches(), expected);
        }
    }
    let mut rig = ReactorRig::new(Vec::new(), Some(2), true);
    rig.settle();
    rig.advance(50);
    assert_eq!(rig.settle(), Next::Done);
    assert_eq!(rig.core.epochs_cut(), 2);
}

#[test]
fn a_batched_source_is_read_when_its_batch_is_due_and_others_are_not() {
    let done = || SourceAct::Answer(ReadOutcome::Nothing(Fill::Complete));
    let wait = || SourceAct::Answer(ReadOutcome::Nothing(Fill::Pending(None)));
    let batched = ScriptedSource::batched([
        vec![
            SourceAct::Say("x1\n"),
            wait(),
            SourceAct::Say("x2\n"),
            done(),
        ],
        vec![done()],
        vec![
            SourceAct::Say("x3"),
            SourceAct::Answer(ReadOutcome::Break { clean: true }),
            done(),
        ],
    ]);
    // The third call is made only when the first batch has been cut.
    let other = ScriptedSource::of([SourceAct::Say("y1\n"), wait(), SourceAct::Say("y2\n")]);
    let mut rig = ReactorRig::new(vec![batched, other], None, false);
    rig.settle();
    rig.advance(INTERVAL_MS);
    assert_eq!(
        rig.settle(),
        Next::Sleep(LOOK - Duration::from_millis(INTERVAL_MS)),
        "the batch waits for its source"
    );
    rig.core.on_ready(1);
    rig.settle();
    assert!(rig.batches().is_empty());
    rig.core.on_ready(0);
    rig.settle();
    assert_eq!(rig.batches(), [(10, lines(&["x1", "x2", "y1"]))]);
    // Two batches at once, each with its own.
    rig.advance(2 * INTERVAL_MS);
    rig.settle();
    assert_eq!(
        rig.batches()[1..],
        [(20, lines(&["y2"])), (30, lines(&["x3"]))]
    );
}

#[test]
fn the_last_batch_of_a_run_holds_what_batched_sources_owe_it() {
    let batches = || {
        [vec![
            SourceAct::Say("x\n"),
            SourceAct::Answer(ReadOutcome::Nothing(Fill::Complete)),
        ]]
    };
    // Because it is the last of as many as were asked for.
    let mut rig = ReactorRig::new(vec![ScriptedSource::batched(batches())], Some(1), false);
    rig.settle();
    rig.advance(INTERVAL_MS);
    assert_eq!(rig.settle(), Next::Done);
    assert_eq!(rig.batches(), [(10, lines(&["x"]))]);
    // At a graceful stop.
    let mut rig = ReactorRig::new(vec![ScriptedSource::batched(batches())], None, false);
    rig.settle();
    rig.control.stop(Stop::Graceful);
    assert_eq!(rig.settle(), Next::Done);
    assert_eq!(rig.batches(), [(10, lines(&["x"]))]);
    // Because the source ends in it: there is no empty batch behind it.
    let ends = [vec![
        SourceAct::Say("x"),
        SourceAct::Answer(ReadOutcome::Nothing(Fill::End)),
    ]];
    let mut rig = ReactorRig::new(vec![ScriptedSource::batched(ends)], None, false);
    rig.settle();
    rig.advance(INTERVAL_MS);
    assert_eq!(rig.settle(), Next::Done);
    assert_eq!(rig.batches(), [(10, lines(&["x"]))]);
}

#[test]
fn what_comes_while_the_last_batch_is_gathered_is_too_late() {
    let wait = || SourceAct::Answer(ReadOutcome::Nothing(Fill::Pending(None)));
    let batched = ScriptedSource::batched([vec![
        wait(),
        SourceAct::Say("x\n"),
        SourceAct::Answer(ReadOutcome::Nothing(Fill::Complete)),
    ]]);
    let other = ScriptedSource::of([wait(), wait(), SourceAct::Say("late\n")]);
    let mut rig = ReactorRig::new(vec![batched, other], None, false);
    rig.settle();
    rig.control.stop(Stop::Graceful);
    rig.settle();
    rig.core.on_ready(1);
    rig.settle();
    rig.core.on_ready(0);
    assert_eq!(rig.settle(), Next::Done);
    assert_eq!(rig.batches(), [(10, lines(&["x"]))]);
}

#[test]
fn a_batch_that_does_not_fit_waits_for_room_and_for_no_event() {
    let text = "some words on one line that is nearly a block\n";
    let mut acts: Vec<SourceAct> = (0..100).map(|_| SourceAct::Say(text)).collect();
    acts.push(SourceAct::Answer(ReadOutcome::Nothing(Fill::Complete)));
    let mut rig = ReactorRig::new(vec![ScriptedSource::batched([acts])], None, false);
    rig.settle();
    // Epochs whose tables nobody takes: the helper may not count either then.
    rig.core
        .router
        .cut(BatchTime::from_millis(1), false)
        .expect("there is room");
    rig.core
        .router
        .cut(BatchTime::from_millis(2), false)
        .expect("there is room");
    rig.advance(INTERVAL_MS);
    let mut next = Next::Again;
    for _ in 0..200 {
        next = rig.turn();
    }
    assert!(matches!(next, Next::Stalled(_)), "{next:?}");
    rig.settle();
    let total: u64 = rig
        .kept
        .0
        .lock()
        .unwrap()
        .iter()
        .flat_map(|(_, counts)| counts.values().copied())
        .sum();
    assert_eq!(total, 100);
}

#[test]
fn an_immediate_stop_does_not_wait_for_a_batched_source() {
    let batched = ScriptedSource::batched([vec![SourceAct::Answer(ReadOutcome::Nothing(
        Fill::Pending(None),
    ))]]);
    let mut rig = ReactorRig::new(vec![batched], None, false);
    rig.settle();
    rig.advance(INTERVAL_MS);
    let until_look = LOOK - Duration::from_millis(INTERVAL_MS);
    assert_eq!(rig.settle(), Next::Sleep(until_look));
    rig.control.stop(Stop::Graceful);
    assert!(matches!(rig.settle(), Next::Sleep(_)), "that one does");
    rig.control.stop(Stop::Immediate);
    assert_eq!(rig.turn(), Next::Done);
}

#[test]
fn a_graceful_stop_waits_for_a_source_that_is_finishing() {
    let until =
        |ms: u64| ReadOutcome::Nothing(Fill::Finishing(Duration::from_millis(1_000_003 + ms)));
    let acts = [
        SourceAct::Say("before\n"),
        SourceAct::Answer(ReadOutcome::Nothing(Fill::Pending(None))),
    ];
    let after = [
        SourceAct::Answer(until(30)),
        SourceAct::Say("after\n"),
        SourceAct::Answer(until(30)),
        SourceAct::Say("last"),
        SourceAct::Answer(ReadOutcome::Nothing(Fill::End)),
    ];
    let mut rig = ReactorRig::new(
        vec![ScriptedSource::of(acts.into_iter().chain(after))],
        None,
        false,
    );
    rig.settle();
    rig.control.stop(Stop::Graceful);
    assert_eq!(rig.settle(), Next::Sleep(Duration::from_millis(7)));
    // Batches go on meanwhile; an edge has it called before its time.
    rig.advance(INTERVAL_MS);
    rig.core.on_ready(0);
    rig.settle();
    assert!(!rig.core.is_finished());
    rig.advance(20);
    assert_eq!(rig.settle(), Next::Done);
    let expected: [(u64, &[&str]); 4] = [
        (10, &["before"]),
        (20, &["after"]),
        (30, &[]),
        (40, &["last"]),
    ];
    let expected = expected.map(|(time, texts)| (time, lines(texts)));
    assert_eq!(rig.batches(), expected);
}

#[test]
fn calls_from_threads_are_kept_once_each() {
    let signals = ReadySignals::default();
    assert!(signals.raise(3) && signals.raise(1));
    assert!(!signals.raise(3));
    assert_eq!(*signals.lock(), [3, 1]);
}
