//! Values as people type them: sizes, durations, rates, addresses, separators and counts.
//!
//! Promise: exact integer arithmetic, no rounding of durations, and otherwise an error that says
//! what to write instead. Must not know: `clap`, `options`, `keys`.

mod source;
#[cfg(test)]
mod tests;

use std::fmt;
use std::net::Ipv6Addr;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

pub(crate) use source::{SourceSpec, source};

/// Largest exponent that `--zipf` allows.
const ZIPF_MAX: f64 = 4.0;

/// An address. An IPv6 host has no brackets; when listening, port 0 means any free port.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct AddressArg {
    /// Name or address.
    pub host: String,
    /// TCP or UDP port.
    pub port: u16,
}

impl fmt::Display for AddressArg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AddressArg { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            AddressArg { host, port } => write!(f, "{host}:{port}"),
        }
    }
}

/// What happens after a connection has failed or ended.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum ReconnectArg {
    /// A new attempt after this time.
    After(Duration),
    /// The run ends.
    Never,
}

/// How many results of a batch are printed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum TopArg {
    /// At most this many.
    First(usize),
    /// All of them.
    All,
}

/// How many threads count.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum WorkersArg {
    /// One less than the cores that the process may use, because the reading thread counts too.
    Auto,
    /// This many, 1 to 256.
    Exactly(usize),
}

/// How much memory the program may use.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum MemoryArg {
    /// This many bytes.
    Bytes(u64),
    /// No limit.
    Unlimited,
}

/// How fast the load generator sends.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum RateArg {
    /// As fast as the receiver reads.
    Max,
    /// Bytes per second, at least 1.
    BytesPerSecond(u64),
}

/// Longest duration: a year. A longer one is more likely a typing error.
const DURATION_MAX: Duration = Duration::from_secs(365 * 24 * 3600);

/// Prefixes of sizes with their powers of 1024 and of 1000.
const PREFIXES: [(char, u64, u64); 4] = [
    ('K', 1 << 10, 1_000),
    ('M', 1 << 20, 1_000_000),
    ('G', 1 << 30, 1_000_000_000),
    ('T', 1 << 40, 1_000_000_000_000),
];

/// `--listen`: an address.
pub(crate) fn listen(text: &str) -> Result<AddressArg, String> {
    endpoint(text.strip_prefix("tcp://").unwrap_or(text))
        .map_err(|reason| format!("{reason}; write HOST:PORT, for example 127.0.0.1:9999"))
}

/// Splits `HOST:PORT` or `[IPV6]:PORT`.
fn endpoint(text: &str) -> Result<AddressArg, String> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest
                .split_once("]:")
                .ok_or("it has no ]:PORT after the [")?;
            // The resolver checks a scope such as %eth0.
            let (address, scope) = host.split_once('%').unwrap_or((host, "0"));
            if address.parse::<Ipv6Addr>().is_err() || !is_name(scope) {
                return Err("there is no IPv6 address between [ and ]".into());
            }
            (host, port)
        }
        None => {
            let (host, port) = text.rsplit_once(':').ok_or("it has no :PORT")?;
            if host.contains(':') {
                return Err("an IPv6 address needs brackets, as in [::1]:9999".into());
            }
            if !is_name(host) {
                return Err("there is no host name or address before the port".into());
            }
            (host, port)
        }
    };
    match whole_number(port).and_then(|port| u16::try_from(port).ok()) {
        Some(port) => Ok(AddressArg {
            host: host.into(),
            port,
        }),
        None => Err("the port is not a number from 1 to 65535".into()),
    }
}

/// Returns `true` if this may be a host name: letters, digits, `.`, `-`, `_`, no longer than DNS
/// allows.
fn is_name(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
    (1..=253).contains(&text.len()) && text.bytes().all(allowed)
}

/// `--split`: one byte, literally or as an escape.
pub(crate) fn split_byte(text: &str) -> Result<u8, String> {
    match *text.as_bytes() {
        [byte] => Ok(byte),
        [b'\\', b'0'] => Ok(b'\0'),
        [b'\\', b't'] => Ok(b'\t'),
        [b'\\', b'n'] => Ok(b'\n'),
        [b'\\', b'v'] => Ok(b'\x0b'),
        [b'\\', b'f'] => Ok(b'\x0c'),
        [b'\\', b'r'] => Ok(b'\r'),
        [b'\\', b'\\'] => Ok(b'\\'),
        [b'\\', b'x', high, low] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
            u8::from_str_radix(&text[2..], 16).map_err(|error| error.to_string())
        }
        _ => Err(format!(
            "this is {} bytes and a separator is exactly one; write it as it is, or as one of \
             \\0 \\t \\n \\v \\f \\r \\\\ \\xNN, or use --split-whitespace",
            text.len()
        )),
    }
}

/// `--interval`: a duration from 1ms.
pub(crate) fn interval(text: &str) -> Result<Duration, String> {
    match parse_duration(text)? {
        Duration::ZERO => Err("the shortest interval is 1ms".into()),
        interval => Ok(interval),
    }
}

/// A duration from 1ms, or `never`: `None`.
fn or_never(text: &str) -> Result<Option<Duration>, String> {
    if text == "never" {
        return Ok(None);
    }
    match parse_duration(text).map_err(|reason| format!("{reason}; or write never"))? {
        Duration::ZERO => Err("the shortest time is 1ms; or write never".into()),
        duration => Ok(Some(duration)),
    }
}

/// `--reconnect`.
pub(crate) fn reconnect(text: &str) -> Result<ReconnectArg, String> {
    or_never(text).map(|pause| pause.map_or(ReconnectArg::Never, ReconnectArg::After))
}

/// `--idle-timeout`, for which `never` is the longest duration.
pub(crate) fn timeout(text: &str) -> Result<Duration, String> {
    or_never(text).map(|timeout| timeout.unwrap_or(Duration::MAX))
}

/// `--top`: a number, or `all`.
pub(crate) fn top(text: &str) -> Result<TopArg, String> {
    match whole_number(text).map(usize::try_from) {
        _ if text == "all" => Ok(TopArg::All),
        Some(Ok(count)) => Ok(TopArg::First(count)),
        _ => Err("write a whole number from 0, or all".into()),
    }
}

/// `--workers`: a number, or `auto`.
pub(crate) fn workers(text: &str) -> Result<WorkersArg, String> {
    if text == "auto" {
        return Ok(WorkersArg::Auto);
    }
    let count = number_in(text, &(1..=256)).map_err(|reason| format!("{reason}, or auto"))?;
    Ok(WorkersArg::Exactly(count as usize))
}

/// `--zipf`: an exponent.
pub(crate) fn zipf(text: &str) -> Result<f64, String> {
    match f64::from_str(text) {
        Ok(exponent) if (0.0..=ZIPF_MAX).contains(&exponent) => Ok(exponent),
        _ => Err(format!(
            "write a number from 0 to {ZIPF_MAX}, for example 1.0"
        )),
    }
}

/// `--max-memory`: a size, or `none`. The library checks whether it is enough for the command.
pub(crate) fn memory(text: &str) -> Result<MemoryArg, String> {
    if text == "none" {
        return Ok(MemoryArg::Unlimited);
    }
    match parse_size(text).map_err(|reason| format!("{reason}; or write none"))? {
        0 => Err(
            "nothing can be counted without memory; write a size, for example 512MiB, or none"
                .into(),
        ),
        bytes => Ok(MemoryArg::Bytes(bytes)),
    }
}

/// Parses a size within `range`, all of which fits a `usize`.
pub(crate) fn size(
    range: RangeInclusive<u64>,
) -> impl Fn(&str) -> Result<usize, String> + Clone + Send + Sync + 'static {
    move |text| {
        let bytes = parse_size(text)?;
        if range.contains(&bytes) {
            return Ok(bytes as usize);
        }
        let [bytes, min, max] = [bytes, *range.start(), *range.end()].map(format_bytes);
        Err(format!("{bytes} is outside {min} to {max}"))
    }
}

/// `--rate`: bytes per second, or `max`.
pub(crate) fn rate(text: &str) -> Result<RateArg, String> {
    if text == "max" {
        return Ok(RateArg::Max);
    }
    let bytes = parse_rate(text).map_err(|reason| format!("{reason}; or write max"))?;
    Ok(RateArg::BytesPerSecond(bytes))
}

/// `--total`: a size that is not 0.
pub(crate) fn total(text: &str) -> Result<u64, String> {
    match parse_size(text)? {
        0 => Err("write 1B or more, or leave --total out for no limit".into()),
        bytes => Ok(bytes),
    }
}

/// Parses a whole number within `range`.
pub(crate) fn number(
    range: RangeInclusive<u64>,
) -> impl Fn(&str) -> Result<u64, String> + Clone + Send + Sync + 'static {
    move |text| number_in(text, &range)
}

/// Parses a whole number within `range`, all of which fits a `usize`.
pub(crate) fn count(
    range: RangeInclusive<u64>,
) -> impl Fn(&str) -> Result<usize, String> + Clone + Send + Sync + 'static {
    move |text| number_in(text, &range).map(|number| number as usize)
}

fn number_in(text: &str, range: &RangeInclusive<u64>) -> Result<u64, String> {
    let number = whole_number(text).filter(|number| range.contains(number));
    let (min, max) = range.clone().into_inner();
    number.ok_or_else(|| format!("write a whole number from {min} to {max}"))
}

/// Digits only: the standard library would also accept a plus sign.
fn whole_number(text: &str) -> Option<u64> {
    text.parse()
        .ok()
        .filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Bytes: `4096`, `64KiB` and `64K` (powers of 1024), `1MB` (powers of 1000), `1.5GiB`.
///
/// A fraction of a byte is cut off.
pub(crate) fn parse_size(text: &str) -> Result<u64, String> {
    let (number, unit) = split_unit(text);
    let scale = size_scale(unit).ok_or_else(|| size_hint(unit))?;
    let number = TypedNumber::parse(number).ok_or_else(|| size_hint(unit))?;
    u64::try_from(number.times(scale).0).map_err(|_| "more than 2^64 bytes".to_owned())
}

/// A duration: `500ms`, `1.5s`, `2m`, `1h`. Whole milliseconds only, up to a year.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let hint = "write a number and one of the units ms, s, m, h, for example 500ms or 1.5s";
    let (number, unit) = split_unit(text);
    let Some(number) = TypedNumber::parse(number) else {
        return Err(hint.to_owned());
    };
    let scale = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "" => return Err(format!("the unit is missing; write {text}s or {text}ms")),
        _ => return Err(hint.to_owned()),
    };
    let (milliseconds, exact) = number.times(scale);
    if !exact {
        return Err("only whole milliseconds are allowed; 1ms is the smallest step".to_owned());
    }
    match u64::try_from(milliseconds).map(Duration::from_millis) {
        Ok(duration) if duration <= DURATION_MAX => Ok(duration),
        _ => Err("longer than a year (8760h)".to_owned()),
    }
}

/// Bytes per second: a size and `/s`, for example `100MB/s`. Never 0.
pub(crate) fn parse_rate(text: &str) -> Result<u64, String> {
    let Some(size) = text.strip_suffix("/s") else {
        return Err("write a size per second, for example 100MB/s or 1GiB/s".to_owned());
    };
    match parse_size(size)? {
        0 => Err("a rate of 0 sends nothing; write 1B/s or more".to_owned()),
        bytes => Ok(bytes),
    }
}

/// Formats a size in the shortest exact way that [`parse_size`] reads: `16MiB`, `5MB`, `4097B`.
pub(crate) fn format_bytes(bytes: u64) -> String {
    for (prefix, binary, decimal) in PREFIXES.into_iter().rev() {
        for (scale, unit) in [(binary, "iB"), (decimal, "B")] {
            if bytes >= scale && bytes.is_multiple_of(scale) {
                return format!("{}{prefix}{unit}", bytes / scale);
            }
        }
    }
    format!("{bytes}B")
}

/// Splits before the first character that is not part of a number.
fn split_unit(text: &str) -> (&str, &str) {
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    text.split_at(end)
}

/// Bytes of a unit. `KB` or `kb` is 1000, `K`, `k`, `KiB` or `kib` is 1024, as in GNU programs.
///
/// `Mb` and `Gb` are refused, because they may mean bits.
fn size_scale(unit: &str) -> Option<u64> {
    if matches!(unit, "" | "B" | "b") {
        return Some(1);
    }
    let mut chars = unit.chars();
    let first = chars.next()?;
    let (_, binary, decimal) = PREFIXES
        .into_iter()
        .find(|(prefix, ..)| prefix.eq_ignore_ascii_case(&first))?;
    match chars.as_str() {
        "" | "iB" => Some(binary),
        "ib" if first.is_ascii_lowercase() => Some(binary),
        "B" => Some(decimal),
        "b" if first.is_ascii_lowercase() => Some(decimal),
        _ => None,
    }
}

fn size_hint(unit: &str) -> String {
    match unit {
        "Kb" | "Mb" | "Gb" | "Tb" => format!("{unit} may mean bits; write {}B", &unit[..1]),
        _ => "write a number of bytes, for example 4096, 64KiB, 1MB or 2G".to_owned(),
    }
}

/// A decimal fraction as typed: `digits / 10^places`.
struct TypedNumber {
    digits: u64,
    places: u32,
}

impl TypedNumber {
    /// Parses digits and perhaps a point and more digits. All digits together fit a `u64` and at
    /// most 18 follow the point, so that [`times`](Self::times) cannot overflow.
    fn parse(text: &str) -> Option<Self> {
        let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
        let all_digits = |part: &str| {
            !part.is_empty() && part.len() <= 20 && part.bytes().all(|byte| byte.is_ascii_digit())
        };
        if !all_digits(whole) || !all_digits(fraction) {
            return None;
        }
        let fraction = fraction.trim_end_matches('0');
        let places = fraction.len() as u32;
        if places > 18 {
            return None;
        }
        let digits = format!("{whole}{fraction}").parse().ok()?;
        Some(Self { digits, places })
    }

    /// Returns the product with `scale`, rounded down, and whether it is exact.
    fn times(&self, scale: u64) -> (u128, bool) {
        let product = u128::from(self.digits) * u128::from(scale);
        let divisor = 10_u128.pow(self.places);
        (product / divisor, product.is_multiple_of(divisor))
    }
}
