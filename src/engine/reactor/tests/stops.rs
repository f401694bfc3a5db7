//! How much a graceful stop reads, edges that are lost, and what is not counted.

use super::*;

/// Has endless lines once it is stopped, and lets the stop read this many bytes of them.
struct NeverPauses {
    drain_max: usize,
    is_stopped: bool,
}

impl Source for NeverPauses {
    fn fill(&mut self, out: &mut Intake<'_>, _now: Duration) -> Fill {
        read_once(out, |buf| {
            if !self.is_stopped {
                return ReadOutcome::Nothing(Fill::Pending(None));
            }
            let count = buf.len().min(2);
            buf[..count].copy_from_slice(&b"x\n"[..count]);
            ReadOutcome::Bytes(count)
        })
    }

    fn drain(&mut self) -> usize {
        self.is_stopped = true;
        self.drain_max
    }

    fn name(&self) -> &str {
        "never pauses"
    }
}

#[test]
fn a_graceful_stop_reads_as_many_bytes_as_the_source_said_and_no_more() {
    let source = NeverPauses {
        drain_max: 1000,
        is_stopped: false,
    };
    let mut rig = ReactorRig::new(vec![Box::new(source)], None, false);
    rig.settle();
    rig.control.stop(Stop::Graceful);
    assert_eq!(rig.settle(), Next::Done);
    let kept = rig.kept.0.lock().unwrap();
    let counts: Vec<u64> = (kept.iter())
        .flat_map(|(_, counts)| counts.values().copied())
        .collect();
    assert_eq!(counts, [500]);
}

#[test]
fn a_source_whose_edge_is_lost_is_called_again_within_a_second() {
    let wait = || SourceAct::Answer(ReadOutcome::Nothing(Fill::Pending(None)));
    let mut rig = ReactorRig::new(
        vec![ScriptedSource::of([
            SourceAct::Say("a\n"),
            wait(),
            SourceAct::Say("b\n"),
        ])],
        Some(200),
        false,
    );
    rig.settle();
    // `b` has come, and nobody says so.
    rig.advance(LOOK_AGAIN_MS - 1);
    rig.settle();
    assert!(
        rig.batches()
            .iter()
            .all(|(_, counts)| counts != &lines(&["b"]))
    );
    rig.advance(1);
    rig.settle();
    rig.advance(INTERVAL_MS);
    rig.settle();
    let with_b = rig.batches();
    let with_b: Vec<_> = with_b.iter().filter(|(_, c)| c == &lines(&["b"])).collect();
    assert_eq!(with_b.len(), 1);
    // And again a second later, but not in between.
    let next = rig.settle();
    assert!(
        matches!(next, Next::Sleep(wait) if wait <= LOOK),
        "{next:?}"
    );
}

#[test]
fn a_batched_source_that_owes_and_whose_edge_is_lost_is_called_again() {
    let wait = || SourceAct::Answer(ReadOutcome::Nothing(Fill::Pending(None)));
    let batch = vec![
        wait(),
        SourceAct::Say("x\n"),
        SourceAct::Answer(ReadOutcome::Nothing(Fill::Complete)),
    ];
    let mut rig = ReactorRig::new(vec![ScriptedSource::batched([batch])], Some(1), false);
    rig.settle();
    rig.advance(INTERVAL_MS);
    assert!(matches!(rig.settle(), Next::Sleep(_)));
    rig.advance(LOOK_AGAIN_MS);
    assert_eq!(rig.settle(), Next::Done);
    assert_eq!(rig.batches(), [(10, lines(&["x"]))]);
}

#[test]
fn a_run_whose_sources_are_over_looks_at_nobody() {
    let ended = ScriptedSource::of([
        SourceAct::Say("a\n"),
        SourceAct::Answer(ReadOutcome::Nothing(Fill::End)),
    ]);
    let mut rig = ReactorRig::new(vec![ended], None, true);
    rig.advance(LOOK_AGAIN_MS);
    assert_eq!(rig.settle(), Next::Sleep(Duration::from_millis(7)));
}

#[test]
fn half_a_line_at_a_full_memory_is_dropped_and_reported() {
    let mut rig = ReactorRig::new(
        vec![ScriptedSource::of([SourceAct::Say("whole\nhalf")])],
        None,
        false,
    );
    rig.settle();
    rig.control.memory_is_full();
    assert_eq!(rig.settle(), Next::Done);
    assert_eq!(rig.batches(), [(10, lines(&["whole"]))]);
    let stats = rig.control.stats();
    assert_eq!((stats.truncated_records, stats.truncated_bytes), (1, 4));
    let told = rig.notices.lock().unwrap().clone();
    assert!(
        told.iter().any(|notice| notice.contains("4 bytes dropped")),
        "{told:?}"
    );
}

#[test]
fn half_a_line_where_a_graceful_stop_ends_reading_is_dropped_and_reported() {
    let script = |text| {
        ScriptedSource::of([
            SourceAct::Answer(ReadOutcome::Nothing(Fill::Pending(None))),
            SourceAct::Say(text),
        ])
    };
    // Twelve bytes are read of each: of the first there is more, of the second there is not.
    for (text, expected, bytes) in [
        ("whole\nhalf a line\n", &["whole"][..], 6),
        ("whole\nend", &["end", "whole"][..], 0),
    ] {
        let mut rig = ReactorRig::new(vec![script(text)], None, false);
        rig.core.drain_bytes_max = 12;
        rig.settle();
        rig.control.stop(Stop::Graceful);
        assert_eq!(rig.settle(), Next::Done);
        assert_eq!(rig.batches(), [(10, lines(expected))]);
        assert_eq!(rig.control.stats().truncated_bytes, bytes);
    }
}

/// Always has more, and is stopped in the middle of a line; nothing of it is received before it is
/// read.
struct InTheMiddle {
    control: Arc<Mutex<Option<Arc<Control>>>>,
    given: usize,
}

impl Source for InTheMiddle {
    fn fill(&mut self, out: &mut Intake<'_>, _now: Duration) -> Fill {
        read_once(out, |buf| {
            if let Some(control) = &*self.control.lock().unwrap() {
                control.stop(Stop::Graceful);
            }
            let count = buf.len().min(6);
            for byte in &mut buf[..count] {
                *byte = b"abcdef\n"[self.given % 7];
                self.given += 1;
            }
            ReadOutcome::Bytes(count)
        })
    }

    fn name(&self) -> &str {
        "in the middle"
    }
}

/// As with a file that is standard input: nobody knows the rest of the line, so that what was read
/// of it is no record.
#[test]
fn half_a_line_of_a_source_that_has_more_and_drains_nothing_is_dropped_and_reported() {
    let control = Arc::<Mutex<Option<Arc<Control>>>>::default();
    let source = InTheMiddle {
        control: Arc::clone(&control),
        given: 0,
    };
    let mut rig = ReactorRig::new(vec![Box::new(source)], None, false);
    *control.lock().unwrap() = Some(Arc::clone(&rig.control));
    assert_eq!(rig.settle(), Next::Done);
    assert_eq!(rig.batches(), [(10, lines(&["abcdef"]))]);
    let bytes = 6 * FILLS_PER_TURN as u64 % 7;
    let stats = rig.control.stats();
    assert_eq!((stats.truncated_records, stats.truncated_bytes), (1, bytes));
    assert_eq!(
        *rig.notices.lock().unwrap(),
        [format!(
            "in the middle: cut off in the middle of a line; {bytes} bytes dropped"
        )]
    );
}

#[test]
fn what_a_source_loses_is_in_the_statistics_of_the_batch_and_in_the_ledger() {
    let mut rig = ReactorRig::new(
        vec![ScriptedSource::of([SourceAct::Say("a\n")])],
        None,
        false,
    );
    let account = rig.core.router.account_of(0);
    rig.settle();
    account.update(|losses| {
        losses.records += 3;
        losses.bytes += 40;
        losses.refused_connections += 2;
    });
    rig.advance(INTERVAL_MS);
    rig.settle();
    let stats = rig.control.stats();
    assert_eq!((stats.lost_records, stats.lost_bytes), (3, 40));
    assert_eq!((stats.refused_connections, stats.dropped()), (2, 3));
    rig.control.stop(Stop::Graceful);
    assert_eq!(rig.settle(), Next::Done);
    assert!(rig.control.error().is_none());
}

#[test]
fn a_source_that_gives_an_answer_that_cannot_be_does_not_break_the_ledger() {
    let acts = [
        SourceAct::Say("a\n"),
        SourceAct::Answer(ReadOutcome::Bytes(65)),
    ];
    let mut rig = ReactorRig::new(vec![ScriptedSource::of(acts)], None, false);
    assert_eq!(rig.settle(), Next::Done);
    let error = rig.control.error().expect("it is an error");
    assert_eq!(error.kind(), ErrorKind::Source);
    assert_eq!(rig.batches(), [(10, lines(&["a"]))]);
}

/// Has a line at each call, and at its end knows of a lost record of five bytes.
#[derive(Default)]
struct KnowsLosses {
    port: Option<crate::source::Port>,
    panics: bool,
    asked: Arc<AtomicUsize>,
}

impl Source for KnowsLosses {
    fn fill(&mut self, out: &mut Intake<'_>, _now: Duration) -> Fill {
        read_once(out, |buf| match self.port.is_some() {
            true => ReadOutcome::Nothing(Fill::Pending(None)),
            false => {
                buf[..2].copy_from_slice(b"x\n");
                self.port = Some(crate::source::Port::detached());
                ReadOutcome::Bytes(2)
            }
        })
    }

    fn start(&mut self, port: crate::source::Port, _now: Duration) {
        self.port = Some(port);
    }

    fn ended(&mut self) {
        self.asked.fetch_add(1, Ordering::Relaxed);
        assert!(!self.panics, "at the end");
        if let Some(port) = &self.port {
            port.lost(1, 5);
        }
    }

    fn name(&self) -> &str {
        "knows"
    }
}

#[test]
fn what_a_source_knows_to_be_lost_when_it_is_not_read_any_more_is_in_the_last_batch() {
    for (batches, stops) in [(Some(1), false), (None, true)] {
        let asked = Arc::<AtomicUsize>::default();
        let source = KnowsLosses {
            asked: Arc::clone(&asked),
            ..KnowsLosses::default()
        };
        let mut rig = ReactorRig::new(vec![Box::new(source)], batches, false);
        let account = rig.core.router.account_of(0);
        let port = crate::source::Port {
            account,
            ..crate::source::Port::detached()
        };
        rig.settle();
        // What the context does with the sources that it starts.
        rig.core.slots[0].source.start(port, Duration::ZERO);
        if stops {
            rig.control.stop(Stop::Graceful);
        } else {
            rig.advance(INTERVAL_MS);
        }
        assert_eq!(rig.settle(), Next::Done);
        assert_eq!(rig.batches(), [(10, lines(&["x"]))]);
        let stats = rig.control.stats();
        assert_eq!((stats.lost_records, stats.lost_bytes), (1, 5));
        assert_eq!(asked.load(Ordering::Relaxed), 1);
        assert!(rig.control.error().is_none());
    }
}

#[test]
fn a_source_is_asked_for_its_losses_once_and_not_after_a_panic() {
    let asked = Arc::<AtomicUsize>::default();
    let source = |panics| {
        let asked = Arc::clone(&asked);
        let port = None;
        Box::new(KnowsLosses {
            port,
            panics,
            asked,
        })
    };
    // It panics when it is asked: what was counted is published all the same.
    let mut rig = ReactorRig::new(vec![source(true), source(false)], Some(1), false);
    rig.settle();
    rig.advance(INTERVAL_MS);
    assert_eq!(rig.settle(), Next::Done);
    assert_eq!(asked.swap(0, Ordering::Relaxed), 2);
    assert_eq!(rig.batches(), [(10, lines(&["x"]))]);
    let error = rig.control.error().expect("it is an error");
    assert_eq!(error.kind(), ErrorKind::UserFunction);
    // One that has panicked before is left alone, as is one at an immediate stop.
    let mut rig = ReactorRig::new(vec![ScriptedSource::of([SourceAct::Panic])], None, false);
    rig.settle();
    assert!(rig.core.slots[0].knows_end);
    let mut rig = ReactorRig::new(vec![source(false)], None, false);
    rig.settle();
    rig.control.stop(Stop::Immediate);
    assert_eq!(rig.settle(), Next::Done);
    assert_eq!(asked.load(Ordering::Relaxed), 0);
}
