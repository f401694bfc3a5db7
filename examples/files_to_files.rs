//! Counts the words of new files in one directory, batch by batch, and writes the counts into
//! another directory.
//!
//! ```sh
//! mkdir -p /tmp/in
//! cargo run --release --example files_to_files -- /tmp/in /tmp/out/words
//! echo 'to be or not to be' > /tmp/in/.new && mv /tmp/in/.new /tmp/in/hamlet  # another terminal
//! cat /tmp/out/words-*.txt/part-00000
//! ```

use std::path::Path;

use microtally::prelude::*;
use microtally::sources::FileOptions;

/// Counts the words of new files in `from`; writes the counts into directories that begin with
/// `to`.
fn count_files(ssc: &StreamingContext, from: &Path, to: &Path) -> microtally::error::Result<()> {
    // Existing files are counted in the first batch, unless they are older than a minute.
    let options = FileOptions::default().new_files_only(false);
    let lines = ssc.text_file_stream_with(from, options)?;
    let counts = lines.flat_map(split_whitespace()).count_by_value();
    counts.save_as_text_files(to, "txt")
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    let [from, to] = &arguments[..] else {
        return Err(
            "usage: files_to_files DIRECTORY PREFIX: the directory to watch, and the prefix of the results".into(),
        );
    };
    let ssc = StreamingContext::new(Duration::from_secs(2))?;
    count_files(&ssc, from.as_ref(), to.as_ref())?;
    ssc.start()?.await_termination()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use microtally::Stop;
    use microtally::time::Clock;
    use std::fs::{self, File};
    use std::time::UNIX_EPOCH;

    #[test]
    fn words_of_files_become_files() {
        let root = tempfile::tempdir().unwrap();
        let (from, to) = (root.path().join("in"), root.path().join("out/words"));
        fs::create_dir(&from).unwrap();
        let put = |name: &str, text: &str, modified_s| {
            fs::write(from.join(name), text).unwrap();
            let file = File::options().append(true).open(from.join(name)).unwrap();
            let modified = UNIX_EPOCH + Duration::from_secs(modified_s);
            file.set_modified(modified).unwrap();
        };
        put("there already", "early words", 999);
        put("hamlet", "to be or not to be\n", 1001);
        put("macbeth", "to-morrow and to-morrow\nand to-morrow", 1001);
        put(".hidden", "being written", 1001);
        put("later", "later", 1004);

        let ssc = StreamingContext::new(Duration::from_secs(2)).unwrap();
        let clock = Clock::manual(Duration::from_secs(1000));
        ssc.set_clock(clock.clone());
        count_files(&ssc, &from, &to).unwrap();
        let running = ssc.start().unwrap();
        let mut results = Vec::new();
        for second in [1002, 1004] {
            clock.advance(Duration::from_secs(2));
            let directory = root.path().join(format!("out/words-{second}000.txt"));
            while !directory.exists() {
                assert!(
                    running
                        .await_termination_or_timeout(Duration::from_millis(5))
                        .is_ok()
                );
            }
            assert!(directory.join("_SUCCESS").exists());
            results.push(fs::read_to_string(directory.join("part-00000")).unwrap());
        }
        assert_eq!(
            results,
            [
                "('to-morrow', 3)\n('and', 2)\n('be', 2)\n('to', 2)\n('early', 1)\n('not', 1)\n('or', 1)\n\
                 ('words', 1)\n",
                "('later', 1)\n"
            ]
        );
        running.stop(Stop::Immediate).unwrap();
    }
}
