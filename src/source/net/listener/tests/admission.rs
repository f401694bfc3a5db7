//! Who gets a place.

use super::*;

#[test]
fn case_22_one_too_many_is_ended_and_told_of_in_sums() {
    let mut bench = Bench::full_with_two();
    bench.arrive((0..3).map(|_| hello()));
    let fill = bench.fill(ms(1));
    assert!(matches!(fill, Fill::Pending(None)), "{fill:?}");
    bench.arrive((0..7).map(|_| hello()));
    let fill = bench.fill(ms(2));
    assert!(matches!(fill, Fill::Pending(Some(at)) if at == ms(1 + limits::NOTICE_PAUSE_MS)));
    bench.fill(ms(1 + limits::NOTICE_PAUSE_MS));
    let expected = ["somebody and 2 others", "somebody and 6 others"]
        .map(|who| format!("test://: 2 clients connected, which is the limit; refused {who}"));
    assert_eq!(bench.told(), expected);
    assert_eq!(
        (bench.listen.clients.count(), &bench.output[..]),
        (2, &b""[..])
    );
}

#[test]
fn case_22_who_is_refused_for_want_of_descriptors_is_told_with_the_limit_that_is_to_blame() {
    let mut bench = Bench::new(&Options::default(), 20);
    bench.arrive((0..13).map(|_| Ok(b"stays...".to_vec())));
    bench.fill(ms(0));
    let expected = "test://: 12 clients connected, which is all that the limit of 20 open files allows (raise ulimit \
                    -n); refused somebody";
    assert_eq!(bench.told(), [expected]);
}

#[test]
fn the_limit_of_connections_is_what_descriptors_allow() {
    let bench = Bench::new(&Options::default(), 1024);
    assert_eq!((bench.listen.connections_max, bench.told().len()), (960, 0));
    let asked = Options {
        connections_max: Some(5000),
        ..Options::default()
    };
    let bench = Bench::new(&asked, 256);
    assert_eq!(bench.listen.connections_max, 192);
    let expected = "test://: 5000 clients are more than the limit of 256 open files allows; lowered to 192 \
                    (raise ulimit -n)";
    assert_eq!(bench.told(), [expected]);
    assert_eq!(Bench::new(&asked, 10).listen.connections_max, 2);
    assert_eq!(Bench::new(&asked, 5).listen.connections_max, 1);
}

#[test]
fn a_client_that_cannot_be_registered_waits_as_it_is_said() {
    let mut bench = Bench::new(&Options::default(), 1024);
    bench.queue.unregistered.store(3, Relaxed);
    bench.arrive([hello(), hello()]);
    let pause = ms(limits::ACCEPT_AGAIN_MS);
    for attempt in 0..3 {
        let now = pause * attempt;
        bench.waits_until(now, now + pause);
    }
    assert!(matches!(bench.fill(pause * 3), Fill::Pending(None)));
    assert_eq!(bench.output, b"hello\nhello\n");
    let told = bench.told();
    assert_eq!(told.len(), 2, "{told:?}");
    assert_eq!(
        told[0],
        "test://: new clients have to wait: No space left on device"
    );
    assert_eq!(told[1], "test://: new clients are accepted again");
    // Where nobody can wait it is said as well.
    bench.queue.unregistered.store(3, Relaxed);
    bench.arrive([hello()]);
    bench.listen.drain();
    let told = bench.told();
    assert!(
        told.len() == 1 && told[0].contains("clients are not served: No space left on device"),
        "{told:?}"
    );
}

#[test]
fn who_has_ended_is_read_to_the_end_before_anybody_is_refused() {
    let mut bench = Bench::full_with_two();
    // Far more than one call reads, so that others come long before its end is seen.
    bench.send(0, 0, &b"x\n".repeat(10_000));
    bench.end(0, 0);
    bench.arrive((0..50).map(|_| Ok(b"in turn...".to_vec())));
    bench.fill(ms(1));
    let lines = |output: &[u8]| output.iter().filter(|&&byte| byte == b'\n').count();
    assert_eq!(lines(&bench.output), 10_000);
    // One has the place, and the others are refused: everybody is alive.
    assert_eq!(bench.listen.clients.count(), 2);
    let expected =
        "test://: 2 clients connected, which is the limit; refused somebody and 48 others";
    assert_eq!(bench.told(), [expected]);
    // One at a time: nobody is refused, however many there were before.
    for round in 0..100 {
        bench.end(0, 0);
        bench.arrive([Ok(b"next...".to_vec())]);
        bench.fill(ms(10_000 + round));
        assert_eq!(bench.listen.clients.count(), 2);
    }
    assert_eq!(lines(&bench.output), 10_100);
    bench.fill(ms(60_000));
    assert_eq!(bench.told(), [""; 0]);
}

#[test]
fn who_has_ended_makes_room_for_the_next_one_of_its_address() {
    let options = Options {
        connections_per_peer_max: Some(1),
        ..Options::default()
    };
    let mut bench = Bench::new(&options, 1024);
    bench.from("192.0.2.1");
    bench.arrive([Ok(b"first...".to_vec())]);
    bench.fill(ms(0));
    bench.from("192.0.2.2");
    bench.arrive([Ok(b"other...".to_vec())]);
    bench.fill(ms(0));
    bench.send(1, 0, &b"x\n".repeat(10_000));
    bench.end(1, 0);
    bench.arrive([Ok(b"next...".to_vec())]);
    bench.fill(ms(1));
    assert_eq!(
        (bench.listen.clients.count(), bench.told()),
        (2, Vec::<String>::new())
    );
    // The end of one of another address makes none.
    bench.end(0, 0);
    bench.arrive([Ok(b"crowded".to_vec())]);
    bench.fill(ms(2));
    let told = bench.told();
    assert!(
        told.len() == 1 && told[0].contains("from one address"),
        "{told:?}"
    );
}

#[test]
fn one_address_of_another_machine_cannot_take_every_place_unless_it_may() {
    let clients = || (0..100).map(|_| Ok(b"stays...".to_vec()));
    let connected = |options: &Options, address: &str| {
        let mut bench = Bench::new(options, 1024);
        bench.from(address);
        bench.arrive(clients());
        bench.fill(ms(0));
        bench.listen.clients.count()
    };
    let options = |connections_max, connections_per_peer_max| Options {
        connections_max: Some(connections_max),
        connections_per_peer_max,
        ..Options::default()
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
    let mut bench = Bench::new(&Options::default(), 1024);
    bench.arrive([silent()]);
    assert!(matches!(bench.fill(ms(0)), Fill::Pending(None)));
    bench.from("192.0.2.1");
    bench.arrive([silent()]);
    let fill = bench.fill(ms(0));
    assert!(
        matches!(fill, Fill::Pending(Some(at)) if at == hour),
        "{fill:?}"
    );
    bench.fill(hour - ms(1));
    assert_eq!(bench.listen.clients.count(), 2);
    bench.fill(hour);
    assert_eq!(
        (bench.listen.clients.count(), &bench.output[..]),
        (1, &b"begun...\n"[..])
    );
    assert_eq!(
        bench.told(),
        ["test://: nothing received for 3600s; closed somebody"]
    );
    assert!(matches!(bench.fill(hour * 1000), Fill::Pending(None)));
    // A limit may be taken away.
    let options = Options {
        idle_timeout: Some(Duration::MAX),
        ..Options::default()
    };
    let mut bench = Bench::new(&options, 1024);
    bench.from("192.0.2.1");
    bench.arrive([silent()]);
    assert!(matches!(bench.fill(ms(0)), Fill::Pending(None)));
}
