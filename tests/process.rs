//! What an engine is in its process: what a forked child may do with it, and which cores its
//! threads are on.
//!
//! A binary of its own: a test forks, and another looks at the affinity of all threads of the
//! process.
//!
//! Linux only: affinity is read from `/proc`.
#![cfg(target_os = "linux")]
#![allow(unsafe_code)]
// Why unsafe: `fork` and `_exit` are. Obligation: the child does nothing but what the tests are
// about, and leaves by `_exit`, which runs no code of the test harness.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use microtally::engine::Writer;
use microtally::error::ErrorKind;
use microtally::prelude::*;
use microtally::sources::TcpListen;
use microtally::time::BatchTime;
use microtally::{Config, Engine, Rule, RunningContext};

const PATIENCE: Duration = Duration::from_secs(60);

/// One test at a time: a child must not be forked while another test has a lock, and cores are the
/// process's.
static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> std::sync::MutexGuard<'static, ()> {
    ALONE
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Runs `f` in a forked process. Fails if it panics there, or takes a minute.
fn in_child(f: impl FnOnce()) {
    // SAFETY: the child runs `f` and leaves by `_exit`. Its only thread is this one; the
    // allocator's locks are in order, which glibc and musl see to.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let done = catch_unwind(AssertUnwindSafe(f)).is_ok();
        // SAFETY: ends the process; nothing is run afterwards.
        unsafe { libc::_exit(i32::from(!done)) };
    }
    assert!(child > 0, "fork: {}", std::io::Error::last_os_error());
    let begin = Instant::now();
    let mut status = 0;
    // SAFETY: `status` is an int that outlives the call; the child is ours and was not waited for.
    while unsafe { libc::waitpid(child, &raw mut status, libc::WNOHANG) } == 0 {
        if begin.elapsed() > PATIENCE {
            // SAFETY: the child is ours and was not waited for, so the number is its own.
            unsafe { libc::kill(child, libc::SIGKILL) };
            panic!("a call in the child does not return");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(status, 0, "the child failed");
}

fn engine() -> (Engine, Writer) {
    let config = Config::default().workers(1).pin(false);
    let engine = Engine::builder(Rule::Split(b' '))
        .config(config)
        .start(|_| ());
    let engine = engine.expect("it starts");
    let mut input = engine.writer().expect("there is one");
    input.write_all(b"a b c\n").expect("the engine runs");
    engine
        .cut(BatchTime::from_millis(1))
        .expect("the engine runs");
    (engine, input)
}

fn running() -> RunningContext {
    let config = Config::default().workers(1).pin(false);
    let context = StreamingContext::with_config(Duration::from_millis(10), config);
    let context = context.expect("in range");
    let listen = TcpListen::bind("127.0.0.1", 0).expect("loopback has a free port");
    let lines = context.source_stream(listen);
    lines.count_by_value().for_each_batch(|_, _| ());
    context.start().expect("it starts")
}

fn is_invalid_call(error: &microtally::Error, call: &str) {
    assert_eq!(error.kind(), ErrorKind::InvalidCall, "{error}");
    let message = format!("{call}: this process was forked off process ");
    assert!(error.to_string().starts_with(&message), "{error}");
}

#[test]
fn an_engines_calls_are_errors_in_a_forked_process_and_the_parents_goes_on() {
    let _alone = alone();
    let (engine, mut input) = engine();
    let mut held = Some((engine, &mut input));
    in_child(|| {
        let (engine, input) = held.take().expect("it is there");
        let error = engine
            .cut(BatchTime::from_millis(2))
            .expect_err("it cannot");
        is_invalid_call(&error, "cut");
        let error = input.flush().expect_err("it cannot");
        assert!(
            error
                .to_string()
                .starts_with("flush: this process was forked"),
            "{error}"
        );
        // A write looks now and then only.
        let line = [b'z'; 1000];
        let writes = (0..100_000).map(|_| input.write(&line));
        let error = writes.filter_map(Result::err).next().expect("it cannot");
        assert!(
            error
                .to_string()
                .starts_with("write: this process was forked"),
            "{error}"
        );
        let error = engine.finish().expect_err("it cannot");
        is_invalid_call(&error, "finish");
    });
    in_child(|| drop(held.take()));
    let (engine, input) = held.take().expect("the parent has it still");
    input.write_all(b"d\n").expect("the engine runs");
    let finished = engine.finish().expect("nothing failed");
    assert_eq!(finished.stats().tokens, 4);
}

#[test]
fn a_contexts_calls_are_errors_in_a_forked_process_and_the_parents_goes_on() {
    let _alone = alone();
    let mut held = Some(running());
    in_child(|| {
        let running = held.take().expect("it is there");
        running.stop_handle().stop(Stop::Immediate);
        let error = running.await_termination().expect_err("it cannot");
        is_invalid_call(&error, "await_termination");
        let error = running.stop(Stop::Graceful).expect_err("it cannot");
        is_invalid_call(&error, "stop");
    });
    in_child(|| drop(held.take()));
    let running = held.take().expect("the parent has it still");
    let batches = running.stats().batches;
    let begin = Instant::now();
    while running.stats().batches < batches + 2 {
        assert!(begin.elapsed() < PATIENCE, "batches do not go on");
        std::thread::sleep(Duration::from_millis(5));
    }
    running.stop(Stop::Graceful).expect("nothing failed");
}

#[test]
fn a_forked_process_may_have_an_engine_of_its_own() {
    let _alone = alone();
    let (parents, _input) = engine();
    in_child(|| {
        let (engine, mut input) = engine();
        input.write_all(b"q q\n").expect("the engine runs");
        drop(input);
        let finished = engine.finish().expect("nothing failed");
        assert_eq!(finished.stats().tokens, 5);
        assert_eq!(finished.batch().get(b"q"), Some(2));
    });
    parents.finish().expect("nothing failed");
}

/// Leaves this process as much address space as it has now and `spare` bytes more.
fn limit_memory(spare: u64) {
    let pages = fs::read_to_string("/proc/self/statm").expect("there is a /proc");
    let pages: u64 = pages
        .split(' ')
        .next()
        .expect("a number")
        .parse()
        .expect("a number");
    let limit = libc::rlimit {
        rlim_cur: pages * 4096 + spare,
        rlim_max: libc::RLIM_INFINITY,
    };
    // SAFETY: the limit is read during the call, and only this process has it.
    let outcome = unsafe { libc::setrlimit(libc::RLIMIT_AS, &raw const limit) };
    assert_eq!(outcome, 0);
}

/// Where memory is missing for the start, the start says so; it is no reason to abort the process.
#[test]
fn a_start_for_which_memory_is_missing_is_an_error() {
    const MIB: u64 = 1 << 20;
    let _alone = alone();
    for spare in [0, 3 * MIB, 20 * MIB, 80 * MIB, 150 * MIB] {
        in_child(|| {
            limit_memory(spare);
            let config = Config::default().workers(64).pin(false);
            let started = Engine::builder(Rule::Lines)
                .config(config.clone())
                .start(|_| ());
            let error = started.expect_err("64 workers do not fit");
            assert_eq!(error.kind(), ErrorKind::System, "{error}");
            let context = StreamingContext::with_config(Duration::from_millis(10), config);
            let context = context.expect("in range");
            let listen = TcpListen::bind("127.0.0.1", 0).expect("loopback has a free port");
            let lines = context.source_stream(listen);
            lines.count_by_value().for_each_batch(|_, _| ());
            let error = context.start().expect_err("64 workers do not fit");
            assert_eq!(error.kind(), ErrorKind::System, "{error}");
        });
    }
    in_child(|| {
        limit_memory(1024 * MIB);
        let config = Config::default().workers(2).pin(false);
        let engine = Engine::builder(Rule::Lines).config(config).start(|_| ());
        let engine = engine.expect("two workers fit");
        engine.finish().expect("nothing failed");
    });
}

/// The cores that each shard thread of this process may run on.
fn cores_of_shards() -> Vec<String> {
    let mut cores = Vec::new();
    for thread in fs::read_dir("/proc/self/task").expect("there is a /proc") {
        let folder = thread.expect("it is readable").path();
        // A thread may end meanwhile.
        let name = fs::read_to_string(folder.join("comm")).unwrap_or_default();
        let status = fs::read_to_string(folder.join("status")).unwrap_or_default();
        if name.starts_with("mt-shard") {
            let line = status
                .lines()
                .find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
            cores.extend(line.map(|line| line.trim().to_owned()));
        }
    }
    cores
}

fn pinned_engine() -> Engine {
    let config = Config::default().workers(1).pin(true);
    let engine = Engine::builder(Rule::Lines).config(config).start(|_| ());
    engine.expect("it starts")
}

/// Waits until as many shards as `count` are pinned to one core each, and returns the cores.
fn pinned_to(count: usize) -> Vec<String> {
    let begin = Instant::now();
    loop {
        let mut cores = cores_of_shards();
        cores.retain(|cores| cores.parse::<usize>().is_ok());
        if cores.len() == count {
            return cores;
        }
        assert!(
            begin.elapsed() < PATIENCE,
            "{:?}, {count} expected",
            cores_of_shards()
        );
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn engines_of_one_process_are_pinned_to_different_cores_and_one_too_many_to_none() {
    let _alone = alone();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    if cores < 2 {
        return;
    }
    let mut engines: Vec<Engine> = (0..cores).map(|_| pinned_engine()).collect();
    let all = pinned_to(cores);
    let different: BTreeSet<&String> = all.iter().collect();
    assert_eq!(different.len(), cores, "{all:?}");
    let unpinned = pinned_engine();
    // Its thread has started, so it is as it stays.
    unpinned.cut(BatchTime::from_millis(1)).expect("it runs");
    unpinned.finish().expect("nothing failed");
    assert_eq!(pinned_to(cores).len(), cores);
    // The next one takes what one returns.
    let freed = engines.pop().expect("there are some");
    freed.finish().expect("nothing failed");
    assert_eq!(pinned_to(cores - 1).len(), cores - 1);
    engines.push(pinned_engine());
    let different: BTreeSet<String> = pinned_to(cores).into_iter().collect();
    assert_eq!(different.len(), cores);
}
