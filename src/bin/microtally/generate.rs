//! The load generator: text to standard output or to every client, at a rate or without a limit.
//!
//! Promise: equal options make equal bytes, for every client from the first byte on.
//! Must not know: counting, output.

use std::fs::File;
use std::io::{self, Write};
use std::net::{TcpListener, TcpStream, ToSocketAddrs};
use std::os::fd::AsFd;
use std::thread;
use std::time::{Duration, Instant};

use microtally::Error;
use microtally::error::Result;

use crate::corpora::words::{Text, Words};
use crate::parse::{AddressArg, GenArgs, LoadArgs, RateArg};
use crate::run::signals;
use crate::say;

/// A paced sender writes this often a second, so that a rate is even within 5 ms.
const WRITES_PER_S: u64 = 200;

/// Returns the text that `load` describes.
pub(crate) fn text(load: &LoadArgs) -> Result<Text> {
    Words::new(load.seed)
        .vocabulary(load.vocabulary)
        .zipf_exponent(load.zipf_exponent)
        .build()
        .map_err(Error::refused)
}

/// `microtally gen`.
pub(crate) fn generate(options: &GenArgs) -> Result<()> {
    signals::exit_on_signal();
    let Some(endpoint) = &options.listen else {
        // Without Rust's buffering of standard output, which looks for line ends.
        let stdout = io::stdout().as_fd().try_clone_to_owned().map(File::from);
        let mut stdout = stdout.map_err(|cause| Error::output("stdout", &cause))?;
        return send(&mut text(&options.load)?, options, &mut stdout)
            .map_err(|cause| Error::output("stdout", &cause));
    };
    // Wrong options are refused before anybody connects.
    text(&options.load)?;
    let listener = listen(endpoint)?;
    let address = listener
        .local_addr()
        .map_err(|cause| cannot_listen(endpoint, &cause))?;
    say(&format_args!("listening on {address}"));
    loop {
        match listener.accept() {
            Ok((client, _)) => {
                let options = options.clone();
                let serving = thread::Builder::new().spawn(move || serve(client, &options));
                if let Err(cause) = serving {
                    say(&format_args!("cannot serve a connection: {cause}"));
                }
            }
            Err(cause) => {
                say(&format_args!("cannot accept a connection: {cause}"));
                // Out of descriptors, most likely: some are freed when clients leave.
                thread::sleep(Duration::from_millis(100));
            }
        }
    }
}

fn listen(endpoint: &AddressArg) -> Result<TcpListener> {
    (endpoint.host.as_str(), endpoint.port)
        .to_socket_addrs()
        .and_then(|addresses| TcpListener::bind(&addresses.collect::<Vec<_>>()[..]))
        .map_err(|cause| cannot_listen(endpoint, &cause))
}

fn cannot_listen(endpoint: &AddressArg, cause: &io::Error) -> Error {
    let AddressArg { host, port } = endpoint;
    Error::refused(format!(
        "cannot listen on {host}:{port}: {cause}; choose another address with --listen"
    ))
}

fn serve(mut client: TcpStream, options: &GenArgs) {
    let Ok(mut text) = text(&options.load) else {
        return;
    };
    // Most connections end because the client closes them.
    let _ = send(&mut text, options, &mut client);
}

fn send(text: &mut Text, options: &GenArgs, to: &mut impl Write) -> io::Result<()> {
    match send_until(text, options.load.rate, options.total_bytes, to) {
        Err(cause) if cause.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        outcome => outcome,
    }
}

/// Sends `text` at `rate` until `total_bytes` are sent or `to` returns an error.
pub(crate) fn send_until(
    text: &mut Text,
    rate: RateArg,
    total_bytes: Option<u64>,
    to: &mut impl Write,
) -> io::Result<()> {
    let start = Instant::now();
    let mut sent: u64 = 0;
    while total_bytes.is_none_or(|total| sent < total) {
        let left = total_bytes.map_or(u64::MAX, |total| total - sent);
        let piece = match rate {
            RateArg::Max => left,
            RateArg::BytesPerSecond(rate) => {
                let rate = rate.max(1);
                let due = Duration::from_secs_f64(sent as f64 / rate as f64);
                thread::sleep(due.saturating_sub(start.elapsed()));
                left.min((rate / WRITES_PER_S).max(1))
            }
        };
        let chunk = text.next_chunk_up_to(usize::try_from(piece).unwrap_or(usize::MAX));
        to.write_all(chunk)?;
        sent += chunk.len() as u64;
    }
    to.flush()
}

/// Serves one client on a free port, in a thread, until the client leaves. The text is made before,
/// so that it costs nothing while sending.
pub(crate) fn serve_one(load: &LoadArgs) -> Result<u16> {
    let mut text = text(load)?;
    let period = Words::new(load.seed).period_bytes;
    let mut made = 0;
    while made < period {
        made += text.next_chunk().len();
    }
    let refused =
        |cause: io::Error| Error::refused(format!("cannot listen on a loopback port: {cause}"));
    let listener = TcpListener::bind(("127.0.0.1", 0)).map_err(refused)?;
    let port = listener.local_addr().map_err(refused)?.port();
    let rate = load.rate;
    thread::spawn(move || {
        if let Ok((mut client, _)) = listener.accept() {
            // Ends when the engine has seen enough and closes the connection.
            let _ = send_until(&mut text, rate, None, &mut client);
        }
    });
    Ok(port)
}
