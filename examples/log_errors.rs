//! Errors per host from a log, joined against a table of hosts: whom to notify.
//!
//! Lines of the log are `HOST LEVEL MESSAGE`; lines of the table are `HOST OWNER`. The table is
//! read again for every batch, so it may be edited while the program runs.
//!
//! ```sh
//! printf 'web1 alice\nweb2 bob\n' > /tmp/owners
//! nc -lk 9999                                             # type: web1 ERROR disk full
//! cargo run --release --example log_errors -- localhost 9999 /tmp/owners
//! ```

use microtally::prelude::*;
use microtally::stream::{Rdd, RddStream};

/// Host and owner of each line of the table; other lines are skipped.
fn parse_table(text: &[u8]) -> Rdd<(Vec<u8>, String)> {
    let rows = text.split(|&byte| byte == b'\n').filter_map(|line| {
        let space = line.iter().position(|&byte| byte == b' ')?;
        let owner = String::from_utf8_lossy(&line[space + 1..]);
        Some((line[..space].to_vec(), owner.into_owned()))
    });
    rows.collect()
}

/// Returns the host of a line that reports an error.
fn host_of_error(line: &[u8]) -> Option<&[u8]> {
    let mut fields = line.splitn(3, |&byte| byte == b' ');
    let (host, level) = (fields.next()?, fields.next()?);
    (level == b"ERROR").then_some(host)
}

/// The owner of a host, the host, and its number of errors.
type ErrorsOfHost = (Option<String>, Vec<u8>, u64);

/// The hosts of each batch, most errors first. A host that is missing in the table has no owner.
fn errors_by_owner(
    errors: &RddStream<(Vec<u8>, u64)>,
    table: &RddStream<(Vec<u8>, String)>,
) -> microtally::error::Result<RddStream<ErrorsOfHost>> {
    let joined = errors.left_outer_join(table)?;
    let rows = joined.map(|(host, (count, owner))| (owner.clone(), host.clone(), *count));
    Ok(rows.sort_by(|a, b| b.2.cmp(&a.2).then_with(|| a.1.cmp(&b.1))))
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let host = arguments.next().unwrap_or("localhost".to_owned());
    let port = arguments.next().unwrap_or("9999".to_owned()).parse()?;
    let path = arguments.next().unwrap_or("owners".to_owned());

    let ssc = StreamingContext::new(Duration::from_secs(5))?;
    let lines = ssc.socket_text_stream(&host, port)?;
    let errors = lines.flat_map_with(|line, out| {
        if let Some(host) = host_of_error(line) {
            out.emit(host);
        }
    });
    let table = ssc.batch_stream(move |_| {
        let text =
            std::fs::read(&path).unwrap_or_else(|cause| panic!("cannot read {path}: {cause}"));
        Some(parse_table(&text))
    });
    errors_by_owner(&errors.count_by_value().pairs(), &table)?.pprint(20);
    ssc.start()?.await_termination()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::net::TcpListener;
    use std::sync::mpsc;

    #[test]
    fn errors_of_a_real_stream_are_joined_with_their_owners() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let ssc = StreamingContext::new(Duration::from_millis(50)).unwrap();
        let lines = ssc.socket_text_stream("127.0.0.1", port).unwrap();
        let errors = lines.flat_map_with(|line, out| {
            if let Some(host) = host_of_error(line) {
                out.emit(host);
            }
        });
        let table = ssc.batch_stream(|_| Some(parse_table(b"web1 alice\nweb2 bob\nnonsense\n")));
        let (out, rows) = mpsc::channel();
        errors_by_owner(&errors.count_by_value().pairs(), &table)
            .unwrap()
            .for_each_batch(move |rdd, _| rdd.iter().for_each(|row| drop(out.send(row.clone()))));
        let running = ssc.start().unwrap();
        let (mut log, _) = listener.accept().unwrap();
        log.write_all(
            b"web1 ERROR disk full\nweb2 INFO fine\nweb1 ERROR again\nweb9 ERROR whose?\nweb2 ERROR\n",
        )
        .unwrap();
        // The lines may have come in several batches.
        let mut sums = std::collections::BTreeMap::new();
        while sums.values().sum::<u64>() < 4 {
            let (owner, host, count) = rows.recv().unwrap();
            *sums.entry((owner, host)).or_insert(0) += count;
        }
        let sums: Vec<_> = sums.into_iter().collect();
        let row = |owner: Option<&str>, host: &str, count| {
            ((owner.map(str::to_owned), host.as_bytes().to_vec()), count)
        };
        assert_eq!(
            sums,
            [
                row(None, "web9", 1),
                row(Some("alice"), "web1", 2),
                row(Some("bob"), "web2", 1)
            ]
        );
        drop(log);
        running.stop(microtally::Stop::Immediate).unwrap();
    }
}
