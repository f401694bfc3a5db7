//! Graceful stops.

use super::*;

#[test]
fn a_graceful_stop_takes_in_who_waits_and_what_is_unfinished() {
    let mut bench = Bench::new(&Options::default(), 1024);
    bench.arrive([Ok(b"begun...".to_vec())]);
    bench.fill(ms(0));
    bench.arrive([hello(), Ok(b"more\nto come...".to_vec())]);
    assert!(bench.listen.drain() > 0);
    for guest in bench.listen.clients.connections() {
        assert!(*guest.stream.is_told.lock().unwrap());
    }
    let until = ms(10 + limits::DRAIN_WAIT_MS_DEFAULT);
    let fill = bench.fill(ms(10));
    assert!(
        matches!(fill, Fill::Finishing(at) if at == until),
        "{fill:?}"
    );
    assert_eq!(bench.output, b"hello\nmore\n");
    assert!(matches!(bench.fill(until), Fill::End));
    assert_eq!(bench.output, b"hello\nmore\nbegun...\nto come...\n");
    let told = bench.told();
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(
        told[0].starts_with("test://: 2 clients did not disconnect"),
        "{told:?}"
    );
    // With nobody there is nothing to wait for.
    let mut bench = Bench::new(&Options::default(), 1024);
    bench.listen.drain();
    assert!(matches!(bench.fill(ms(0)), Fill::End));
}

#[test]
fn a_stop_that_has_drained_its_share_waits_for_nobody() {
    let mut bench = Bench::new(&Options::default(), 1024);
    bench.arrive([Ok(b"begun...".to_vec())]);
    bench.fill(ms(0));
    bench.listen.drain();
    assert!(matches!(bench.fill(ms(1)), Fill::Finishing(_)));
    bench.listen.drain.as_mut().unwrap().bytes_left = 0;
    assert!(matches!(bench.fill(ms(2)), Fill::End));
    assert_eq!(
        (&bench.output[..], bench.told().len()),
        (&b"begun...\n"[..], 1)
    );
}

#[test]
fn case_24_a_stop_that_can_accept_nobody_says_that_they_are_not_served() {
    let mut bench = Bench::new(&Options::default(), 1024);
    bench.arrive([Err(EMFILE), Err(EMFILE), Err(EMFILE), hello()]);
    bench.fill(ms(0));
    assert_eq!(bench.told().len(), 1);
    bench.listen.drain();
    let expected = "test://: waiting clients are not served: Too many open files; what they sent \
                    is not counted";
    assert_eq!(bench.told(), [expected]);
    assert!(matches!(bench.fill(ms(1)), Fill::End));
}

#[test]
fn a_stop_takes_in_everybody_who_waits_however_many_they_are() {
    let mut bench = Bench::new(&Options::default(), 2048);
    let waiting = limits::BACKLOG as usize - 1;
    bench.arrive((0..waiting).map(|_| hello()));
    bench.listen.drain();
    assert!(matches!(bench.fill(ms(1)), Fill::End));
    assert_eq!(bench.output, b"hello\n".repeat(waiting));
    assert_eq!(bench.told(), [""; 0]);
}

#[test]
fn a_stop_takes_in_who_waits_for_the_place_of_one_who_has_ended() {
    let options = Options {
        connections_max: Some(1),
        ..Options::default()
    };
    let mut bench = Bench::new(&options, 1024);
    bench.arrive([Ok(b"first...".to_vec())]);
    bench.fill(ms(0));
    bench.end(0, 0);
    bench.arrive([hello()]);
    bench.listen.drain();
    assert!(matches!(bench.fill(ms(1)), Fill::End));
    assert_eq!(bench.output, b"first...\nhello\n");
    assert_eq!(bench.told(), [""; 0]);
}

#[test]
fn a_stop_reads_no_more_than_its_share_of_a_client_that_never_ends() {
    let mut bench = Bench::new(&Options::default(), 1024);
    bench.arrive([Ok(b"~".to_vec())]);
    bench.listen.drain();
    let (mut buf, mut drained) = (vec![0; 1 << 20], 0);
    // Time stands still: the bytes alone say when it is enough.
    loop {
        match bench.listen.fill(&mut buf, ms(0)) {
            Fill::Bytes(count) => drained += count,
            Fill::Finishing(_) => {}
            other => break assert!(matches!(other, Fill::End), "{other:?}"),
        }
        assert!(drained <= limits::DRAIN_BYTES_MAX, "it is not counted down");
    }
    assert!(drained >= limits::DRAIN_BYTES_MAX / 2);
    assert!(drained <= limits::DRAIN_BYTES_MAX / 2 + buf.len());
    assert_eq!(bench.told().len(), 1);
}

#[test]
fn the_last_line_of_a_stop_is_given_however_many_end_before_it() {
    for silent in [0, 1, 62, 63, 64, 65, 127, 128] {
        let mut bench = Bench::new(&Options::default(), 1024);
        let texts = (0..silent).map(|_| Ok(Vec::new()));
        bench.arrive(texts.chain([Ok(b"the last...".to_vec())]));
        bench.fill(ms(0));
        bench.listen.drain();
        bench.fill(ms(0));
        assert!(matches!(
            bench.fill(ms(limits::DRAIN_WAIT_MS_DEFAULT)),
            Fill::End
        ));
        assert_eq!(bench.output, b"the last...\n", "{silent}");
    }
}

/// P12: who had sent more than was read when the time was over.
#[test]
fn a_graceful_stop_says_how_many_it_cut_off() {
    let mut bench = Bench::new(&Options::default(), 1024);
    bench.arrive((0..3).map(|_| Ok(b"begun...".to_vec())));
    bench.fill(ms(0));
    bench.listen.drain();
    bench.fill(ms(0));
    // More than is read in one call.
    bench.send(1, 0, &b"x\n".repeat(100));
    bench.listen.clients.on_ready(2);
    bench.output.clear();
    assert!(matches!(
        bench.fill(ms(limits::DRAIN_WAIT_MS_DEFAULT)),
        Fill::End
    ));
    assert_eq!(
        bench.told(),
        [
            "test://: 3 clients did not disconnect before the stop; later data is not counted, nor are 144 \
             unread bytes from 1 client"
        ]
    );
    assert_eq!(bench.lost(), (1, 144));
    let lines = bench.output.split_inclusive(|&byte| byte == b'\n');
    let begun = lines.clone().filter(|line| line.starts_with(b"begun..."));
    assert_eq!(begun.count(), 3);
    assert!(lines.count() < 100);
}

/// The time for the whole stop is over, or the memory is full: nobody fills any more.
#[test]
fn what_is_unread_when_a_stop_is_cut_short_is_in_the_statistics() {
    let mut bench = Bench::new(&Options::default(), 1024);
    bench.arrive((0..3).map(|_| Ok(b"begun...".to_vec())));
    bench.fill(ms(0));
    bench.listen.drain();
    bench.send(0, 0, b"more");
    bench.send(2, 0, b"and more");
    bench.listen.ended();
    assert_eq!(bench.lost(), (2, 12));
    assert!(bench.told()[0].ends_with(", nor are 12 unread bytes from 2 clients"));
    // Once; and without a stop nothing was promised.
    bench.listen.ended();
    assert_eq!((bench.lost(), bench.told()), ((2, 12), vec![]));
    let mut bench = Bench::new(&Options::default(), 1024);
    bench.arrive([Ok(b"begun...".to_vec())]);
    bench.fill(ms(0));
    bench.send(0, 0, b"more");
    bench.listen.ended();
    assert_eq!((bench.lost(), bench.told()), ((0, 0), vec![]));
}

#[test]
fn a_stop_that_does_not_wait_reads_what_is_there() {
    let options = Options {
        drain_wait: Duration::ZERO,
        ..Options::default()
    };
    let mut bench = Bench::new(&options, 1024);
    bench.arrive([Ok(b"begun...".to_vec())]);
    bench.fill(ms(0));
    bench.send(0, 0, b"and\nmore");
    bench.listen.drain();
    assert!(matches!(bench.fill(ms(1)), Fill::End));
    assert_eq!(bench.output, b"begun...and\nmore\n");
    assert!(!bench.told()[0].contains("unread"));
}
