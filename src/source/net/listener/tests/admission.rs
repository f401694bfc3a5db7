//! Which clients get a place.

use super::*;

#[test]
fn case_22_one_too_many_is_closed_and_reported_in_sums() {
    let mut harness = ListenerHarness::full_with_two();
    harness.arrive((0..3).map(|_| hello()));
    let fill = harness.fill(ms(1));
    assert!(matches!(fill, Fill::Pending(None)), "{fill:?}");
    harness.arrive((0..7).map(|_| hello()));
    let fill = harness.fill(ms(2));
    assert!(matches!(fill, Fill::Pending(Some(at)) if at == ms(1 + limits::NOTICE_PAUSE_MS)));
    harness.fill(ms(1 + limits::NOTICE_PAUSE_MS));
    let expected = ["somebody and 2 others", "somebody and 6 others"]
        .map(|who| format!("test://: 2 clients connected, which is the limit; refused {who}"));
    assert_eq!(harness.notices(), expected);
    assert_eq!(
        (harness.listener.clients.count(), &harness.output[..]),
        (2, &b""[..])
    );
}

#[test]
fn case_22_clients_refused_for_lack_of_descriptors_are_reported_with_that_limit() {
    let mut harness = ListenerHarness::new(&ListenOptions::default(), 20);
    harness.arrive((0..13).map(|_| Ok(b"stays...".to_vec())));
    harness.fill(ms(0));
    let expected = "test://: 12 clients connected, which is all that the limit of 20 open files allows (raise ulimit \
                    -n); refused somebody";
    assert_eq!(harness.notices(), [expected]);
}

#[test]
fn the_limit_of_connections_is_what_descriptors_allow() {
    let harness = ListenerHarness::new(&ListenOptions::default(), 1024);
    assert_eq!(
        (harness.listener.connections_max, harness.notices().len()),
        (960, 0)
    );
    let asked = ListenOptions {
        connections_max: Some(5000),
        ..ListenOptions::default()
    };
    let harness = ListenerHarness::new(&asked, 256);
    assert_eq!(harness.listener.connections_max, 192);
    let expected = "test://: 5000 clients are more than the limit of 256 open files allows; lowered to 192 \
                    (raise ulimit -n)";
    assert_eq!(harness.notices(), [expected]);
    assert_eq!(ListenerHarness::new(&asked, 10).listener.connections_max, 2);
    assert_eq!(ListenerHarness::new(&asked, 5).listener.connections_max, 1);
}

#[test]
fn a_client_that_cannot_be_registered_waits_as_reported() {
    let mut harness = ListenerHarness::new(&ListenOptions::default(), 1024);
    harness.queue.unregistered.store(3, Relaxed);
    harness.arrive([hello(), hello()]);
    let pause = ms(limits::ACCEPT_AGAIN_MS);
    for attempt in 0..3 {
        let now = pause * attempt;
        harness.waits_until(now, now + pause);
    }
    assert!(matches!(harness.fill(pause * 3), Fill::Pending(None)));
    assert_eq!(harness.output, b"hello\nhello\n");
    let notices = harness.notices();
    assert_eq!(notices.len(), 2, "{notices:?}");
    assert_eq!(
        notices[0],
        "test://: new clients have to wait: No space left on device"
    );
    assert_eq!(notices[1], "test://: new clients are accepted again");
    // If clients cannot wait, this is reported too.
    harness.queue.unregistered.store(3, Relaxed);
    harness.arrive([hello()]);
    harness.listener.drain();
    let notices = harness.notices();
    assert!(
        notices.len() == 1
            && notices[0].contains("clients are not served: No space left on device"),
        "{notices:?}"
    );
}

#[test]
fn who_has_ended_is_read_to_the_end_before_anybody_is_refused() {
    let mut harness = ListenerHarness::full_with_two();
    // Far more than one call reads, so others connect long before its end is seen.
    harness.send(0, 0, &b"x\n".repeat(10_000));
    harness.end(0, 0);
    harness.arrive((0..50).map(|_| Ok(b"in turn...".to_vec())));
    harness.fill(ms(1));
    let lines = |output: &[u8]| output.iter().filter(|&&byte| byte == b'\n').count();
    assert_eq!(lines(&harness.output), 10_000);
    // One has the place, and the others are refused: all connections are alive.
    assert_eq!(harness.listener.clients.count(), 2);
    let expected =
        "test://: 2 clients connected, which is the limit; refused somebody and 48 others";
    assert_eq!(harness.notices(), [expected]);
    // One at a time: none is refused, however many there were before.
    for round in 0..100 {
        harness.end(0, 0);
        harness.arrive([Ok(b"next...".to_vec())]);
        harness.fill(ms(10_000 + round));
        assert_eq!(harness.listener.clients.count(), 2);
    }
    assert_eq!(lines(&harness.output), 10_100);
    harness.fill(ms(60_000));
    assert_eq!(harness.notices(), [""; 0]);
}

#[test]
fn who_has_ended_makes_room_for_the_next_one_of_its_address() {
    let options = ListenOptions {
        connections_per_peer_max: Some(1),
        ..ListenOptions::default()
    };
    let mut harness = ListenerHarness::new(&options, 1024);
    harness.from("192.0.2.1");
    harness.arrive([Ok(b"first...".to_vec())]);
    harness.fill(ms(0));
    harness.from("192.0.2.2");
    harness.arrive([Ok(b"other...".to_vec())]);
    harness.fill(ms(0));
    harness.send(1, 0, &b"x\n".repeat(10_000));
    harness.end(1, 0);
    harness.arrive([Ok(b"next...".to_vec())]);
    harness.fill(ms(1));
    assert_eq!(
        (harness.listener.clients.count(), harness.notices()),
        (2, Vec::<String>::new())
    );
    // The end of a client of another address makes none.
    harness.end(0, 0);
    harness.arrive([Ok(b"crowded".to_vec())]);
    harness.fill(ms(2));
    let notices = harness.notices();
    assert!(
        notices.len() == 1 && notices[0].contains("from one address"),
        "{notices:?}"
    );
}

#[test]
fn one_address_of_another_machine_cannot_take_every_place_unless_it_may() {
    let clients = || (0..100).map(|_| Ok(b"stays...".to_vec()));
    let connected = |options: &ListenOptions, address: &str| {
        let mut harness = ListenerHarness::new(options, 1024);
        harness.from(address);
        harness.arrive(clients());
        harness.fill(ms(0));
        harness.listener.clients.count()
    };
    let options = |connections_max, connections_per_peer_max| ListenOptions {
        connections_max: Some(connections_max),
        connections_per_peer_max,
        ..ListenOptions::default()
    };
    for address in ["127.0.0.1", "::1", "127.1.2.3"] {
        assert_eq!(connected(&options(80, None), address), 80);
        assert_eq!(connected(&options(80, Some(3)), address), 3);
    }
    for address in ["192.0.2.1", "2001:db8::1"] {
        assert_eq!(connected(&options(80, None), address), 20);
        assert_eq!(connected(&options(20, None), address), 16);
        assert_eq!(connected(&options(3, None), address), 3);
        assert_eq!(connected(&options(80, Some(80)), address), 80);
    }
}

#[test]
fn clients_of_other_machines_may_be_silent_for_an_hour_and_those_of_this_one_for_ever() {
    let hour = ms(limits::IDLE_MS_DEFAULT);
    let silent = || Ok(b"begun...".to_vec());
    let mut harness = ListenerHarness::new(&ListenOptions::default(), 1024);
    harness.arrive([silent()]);
    assert!(matches!(harness.fill(ms(0)), Fill::Pending(None)));
    harness.from("192.0.2.1");
    harness.arrive([silent()]);
    let fill = harness.fill(ms(0));
    assert!(
        matches!(fill, Fill::Pending(Some(at)) if at == hour),
        "{fill:?}"
    );
    harness.fill(hour - ms(1));
    assert_eq!(harness.listener.clients.count(), 2);
    harness.fill(hour);
    assert_eq!(
        (harness.listener.clients.count(), &harness.output[..]),
        (1, &b"begun...\n"[..])
    );
    assert_eq!(
        harness.notices(),
        ["test://: nothing received for 3600s; closed somebody"]
    );
    assert!(matches!(harness.fill(hour * 1000), Fill::Pending(None)));
    // A limit may be taken away.
    let options = ListenOptions {
        idle_timeout: Some(Duration::MAX),
        ..ListenOptions::default()
    };
    let mut harness = ListenerHarness::new(&options, 1024);
    harness.from("192.0.2.1");
    harness.arrive([silent()]);
    assert!(matches!(harness.fill(ms(0)), Fill::Pending(None)));
}
