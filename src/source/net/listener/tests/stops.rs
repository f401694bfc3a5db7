//! Graceful stops.

use super::*;

#[test]
fn a_graceful_stop_takes_in_who_waits_and_what_is_unfinished() {
    let mut harness = ListenerHarness::new(&ListenOptions::default(), 1024);
    harness.arrive([Ok(b"begun...".to_vec())]);
    harness.fill(ms(0));
    harness.arrive([hello(), Ok(b"more\nto come...".to_vec())]);
    assert!(harness.listener.drain() > 0);
    for client in harness.listener.clients.connections() {
        assert!(*client.stream.saw_end.lock().unwrap());
    }
    let until = ms(10 + limits::DRAIN_WAIT_MS_DEFAULT);
    let fill = harness.fill(ms(10));
    assert!(
        matches!(fill, Fill::Finishing(at) if at == until),
        "{fill:?}"
    );
    assert_eq!(harness.output, b"hello\nmore\n");
    assert!(matches!(harness.fill(until), Fill::End));
    assert_eq!(harness.output, b"hello\nmore\nbegun...\nto come...\n");
    let notices = harness.notices();
    assert_eq!(notices.len(), 1, "{notices:?}");
    assert!(
        notices[0].starts_with("test://: 2 clients did not disconnect"),
        "{notices:?}"
    );
    // Without clients there is nothing to wait for.
    let mut harness = ListenerHarness::new(&ListenOptions::default(), 1024);
    harness.listener.drain();
    assert!(matches!(harness.fill(ms(0)), Fill::End));
}

#[test]
fn a_stop_that_has_drained_its_share_waits_for_nobody() {
    let mut harness = ListenerHarness::new(&ListenOptions::default(), 1024);
    harness.arrive([Ok(b"begun...".to_vec())]);
    harness.fill(ms(0));
    harness.listener.drain();
    assert!(matches!(harness.fill(ms(1)), Fill::Finishing(_)));
    harness.listener.drain.as_mut().unwrap().bytes_left = 0;
    assert!(matches!(harness.fill(ms(2)), Fill::End));
    assert_eq!(
        (&harness.output[..], harness.notices().len()),
        (&b"begun...\n"[..], 1)
    );
}

#[test]
fn case_24_a_stop_that_cannot_accept_clients_reports_that_they_are_not_served() {
    let mut harness = ListenerHarness::new(&ListenOptions::default(), 1024);
    harness.arrive([Err(EMFILE), Err(EMFILE), Err(EMFILE), hello()]);
    harness.fill(ms(0));
    assert_eq!(harness.notices().len(), 1);
    harness.listener.drain();
    let expected = "test://: waiting clients are not served: Too many open files; what they sent \
                    is not counted";
    assert_eq!(harness.notices(), [expected]);
    assert!(matches!(harness.fill(ms(1)), Fill::End));
}

#[test]
fn a_stop_takes_in_everybody_who_waits_however_many_they_are() {
    let mut harness = ListenerHarness::new(&ListenOptions::default(), 2048);
    let waiting = limits::BACKLOG as usize - 1;
    harness.arrive((0..waiting).map(|_| hello()));
    harness.listener.drain();
    assert!(matches!(harness.fill(ms(1)), Fill::End));
    assert_eq!(harness.output, b"hello\n".repeat(waiting));
    assert_eq!(harness.notices(), [""; 0]);
}

#[test]
fn a_stop_takes_in_who_waits_for_the_place_of_one_who_has_ended() {
    let options = ListenOptions {
        connections_max: Some(1),
        ..ListenOptions::default()
    };
    let mut harness = ListenerHarness::new(&options, 1024);
    harness.arrive([Ok(b"first...".to_vec())]);
    harness.fill(ms(0));
    harness.end(0, 0);
    harness.arrive([hello()]);
    harness.listener.drain();
    assert!(matches!(harness.fill(ms(1)), Fill::End));
    assert_eq!(harness.output, b"first...\nhello\n");
    assert_eq!(harness.notices(), [""; 0]);
}

#[test]
fn a_stop_reads_no_more_than_its_share_of_a_client_that_never_ends() {
    let mut harness = ListenerHarness::new(&ListenOptions::default(), 1024);
    harness.arrive([Ok(b"~".to_vec())]);
    harness.listener.drain();
    let mut drained = 0;
    // Time stands still: only the bytes are a limit.
    loop {
        let (fill, taken) = harness.rig.fill(|out| harness.listener.fill(out, ms(0)));
        harness.rig.take();
        drained += taken.bytes;
        match fill {
            Fill::More | Fill::Finishing(_) => {}
            other => break assert!(matches!(other, Fill::End), "{other:?}"),
        }
        assert!(drained <= limits::DRAIN_BYTES_MAX, "it is not counted down");
    }
    assert!(drained >= limits::DRAIN_BYTES_MAX / 2);
    assert!(drained <= limits::DRAIN_BYTES_MAX / 2 + limits::CLIENT_READ_BYTES_MAX);
    assert_eq!(harness.notices().len(), 1);
}

#[test]
fn the_last_line_of_a_stop_is_given_however_many_end_before_it() {
    for silent in [0, 1, 62, 63, 64, 65, 127, 128] {
        let mut harness = ListenerHarness::new(&ListenOptions::default(), 1024);
        let texts = (0..silent).map(|_| Ok(Vec::new()));
        harness.arrive(texts.chain([Ok(b"the last...".to_vec())]));
        harness.fill(ms(0));
        harness.listener.drain();
        harness.fill(ms(0));
        assert!(matches!(
            harness.fill(ms(limits::DRAIN_WAIT_MS_DEFAULT)),
            Fill::End
        ));
        assert_eq!(harness.output, b"the last...\n", "{silent}");
    }
}

/// P12: clients that had sent more than was read in time.
#[test]
fn a_graceful_stop_reports_how_many_it_cut_off() {
    let mut harness = ListenerHarness::new(&ListenOptions::default(), 1024);
    harness.arrive((0..3).map(|_| Ok(b"begun...".to_vec())));
    harness.fill(ms(0));
    harness.listener.drain();
    harness.fill(ms(0));
    // More than is read in one call.
    const SENT: u64 = 200_000;
    harness.send(1, 0, &b"x\n".repeat(SENT as usize / 2));
    harness.listener.clients.on_ready(2);
    harness.output.clear();
    assert!(matches!(
        harness.fill(ms(limits::DRAIN_WAIT_MS_DEFAULT)),
        Fill::End
    ));
    let received = harness.rig.channels.intake().bytes_read - 3 * 8;
    let unread = SENT - received;
    assert!(received > 0 && unread > 0);
    let expected = format!(
        "test://: 3 clients did not disconnect before the stop; later data is not counted, nor are {unread} \
         unread bytes from 1 client"
    );
    assert_eq!(harness.notices(), [expected]);
    assert_eq!(harness.lost(), (1, unread));
    let lines = harness.output.split_inclusive(|&byte| byte == b'\n');
    let begun = lines.clone().filter(|line| line.starts_with(b"begun..."));
    assert_eq!(begun.count(), 3);
    assert!((lines.count() as u64) < SENT / 2);
}

/// The time for the whole stop has passed, or the memory is full: `fill` is no longer called.
#[test]
fn what_is_unread_when_a_stop_is_cut_short_is_in_the_statistics() {
    let mut harness = ListenerHarness::new(&ListenOptions::default(), 1024);
    harness.arrive((0..3).map(|_| Ok(b"begun...".to_vec())));
    harness.fill(ms(0));
    harness.listener.drain();
    harness.send(0, 0, b"more");
    harness.send(2, 0, b"and more");
    harness.listener.ended();
    assert_eq!(harness.lost(), (2, 12));
    assert!(harness.notices()[0].ends_with(", nor are 12 unread bytes from 2 clients"));
    // Only once. Without a stop nothing was promised.
    harness.listener.ended();
    assert_eq!((harness.lost(), harness.notices()), ((2, 12), vec![]));
    let mut harness = ListenerHarness::new(&ListenOptions::default(), 1024);
    harness.arrive([Ok(b"begun...".to_vec())]);
    harness.fill(ms(0));
    harness.send(0, 0, b"more");
    harness.listener.ended();
    assert_eq!((harness.lost(), harness.notices()), ((0, 0), vec![]));
}

#[test]
fn a_stop_that_does_not_wait_reads_what_is_there() {
    let options = ListenOptions {
        drain_wait: Duration::ZERO,
        ..ListenOptions::default()
    };
    let mut harness = ListenerHarness::new(&options, 1024);
    harness.arrive([Ok(b"begun...".to_vec())]);
    harness.fill(ms(0));
    harness.send(0, 0, b"and\nmore");
    harness.listener.drain();
    assert!(matches!(harness.fill(ms(1)), Fill::End));
    assert_eq!(harness.output, b"begun...and\nmore\n");
    assert!(!harness.notices()[0].contains("unread"));
}
