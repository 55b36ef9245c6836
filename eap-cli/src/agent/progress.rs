//! What a command says of its progress: lines that it appends to a file of its own.

use std::convert::Infallible;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use eap_agent_sdk::TaskContext;
use tokio::time::sleep;
use tracing::debug;

/// How often the file is looked at: an agent sends at most so many reports.
const LOOK: Duration = Duration::from_millis(200);
/// How much of the end of the file is read.
const TAIL_BYTES: u64 = 8 * 1024;

/// The newest line of a file that somebody else writes to.
#[derive(Debug)]
pub(super) struct ProgressFile {
    path: PathBuf,
    seen: Option<(u64, SystemTime)>,
}

/// One line, taken apart.
#[derive(Clone, Debug, PartialEq)]
struct Told {
    /// The part that is done, 0 to 1; not a number where the line says none.
    fraction: f64,
    words: String,
}

impl ProgressFile {
    /// A file that is there, and empty so far.
    pub(super) fn create(path: PathBuf) -> io::Result<Self> {
        File::create_new(&path)?;
        Ok(Self { path, seen: None })
    }

    /// Reports what is written to it; never ends by itself. Safe to drop.
    pub(super) async fn follow(mut self, ctx: &TaskContext) -> Infallible {
        loop {
            sleep(LOOK).await;
            // A few bytes of a local file: less than what a thread for it would cost.
            match self.news() {
                Ok(Some(told)) => ctx.progress(told.fraction, told.words).await,
                Ok(None) => {}
                Err(error) => debug!(%error, "the progress of a command cannot be read"),
            }
        }
    }

    /// The last line, if anything was written since the last look. The same line once more is news as well: the command
    /// shows that it is at work.
    fn news(&mut self) -> io::Result<Option<Told>> {
        let mut file = File::open(&self.path)?;
        let about = file.metadata()?;
        let seen = Some((about.len(), about.modified()?));
        if about.len() == 0 || self.seen == seen {
            return Ok(None);
        }
        file.seek(SeekFrom::Start(about.len().saturating_sub(TAIL_BYTES)))?;
        let mut tail = Vec::new();
        file.take(TAIL_BYTES).read_to_end(&mut tail)?;
        self.seen = seen;
        let tail = String::from_utf8_lossy(&tail);
        Ok(tail.lines().map(str::trim).rfind(|line| !line.is_empty()).map(told))
    }
}

/// A line may begin with the part that is done, as in `0.4` or `40%`; the rest is words.
fn told(line: &str) -> Told {
    let (first, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    // A number without point or percent sign may as well count something: `3 files read`.
    let fraction = match first.strip_suffix('%') {
        Some(percent) => percent.parse().map(|percent: f64| percent / 100.0).ok(),
        None if first.contains('.') || rest.is_empty() => first.parse().ok(),
        None => None,
    };
    match fraction.filter(|fraction| (0.0..=1.0).contains(fraction)) {
        Some(fraction) => Told { fraction, words: rest.trim().to_owned() },
        None => Told { fraction: f64::NAN, words: line.to_owned() },
    }
}

#[cfg(test)]
mod tests {
    use std::fs::OpenOptions;
    use std::io::Write as _;

    use super::*;

    #[test]
    fn a_line_is_a_part_and_words_or_either() {
        let of = |line: &str| {
            let Told { fraction, words } = told(line);
            ((!fraction.is_nan()).then_some(fraction), words)
        };
        assert_eq!(of("0.4 reading"), (Some(0.4), "reading".to_owned()));
        assert_eq!(of("40% reading  on"), (Some(0.4), "reading  on".to_owned()));
        assert_eq!(of("100%"), (Some(1.0), String::new()));
        assert_eq!([of("1").0, of("0").0, of("1.0").0], [Some(1.0), Some(0.0), Some(1.0)]);
        for words in ["reading", "3 files read", "1 file of 7", "7", "1.5 s left", "120% done", "-1% x", "nan", "inf"] {
            assert_eq!(of(words), (None, words.to_owned()));
        }
    }

    #[test]
    fn the_last_line_is_told_when_something_was_written() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("progress");
        let mut file = ProgressFile::create(path.clone()).unwrap();
        assert_eq!(file.news().unwrap(), None, "nothing was written yet");
        let append = |text: &str| {
            let mut file = OpenOptions::new().append(true).open(&path).unwrap();
            file.write_all(text.as_bytes()).unwrap();
        };
        append("0.1 one\n0.2 two\n\n");
        assert_eq!(file.news().unwrap(), Some(Told { fraction: 0.2, words: "two".to_owned() }));
        assert_eq!(file.news().unwrap(), None);
        append("0.2 two\n");
        assert!(file.news().unwrap().is_some(), "the same once more is a sign of life");
        append(&"x".repeat(100_000));
        assert_eq!(file.news().unwrap().map(|told| told.words.len()), Some(8 * 1024), "of a flood the end is read");
        // Written anew rather than added to.
        std::fs::write(&path, "0.5 half").unwrap();
        assert_eq!(file.news().unwrap(), Some(Told { fraction: 0.5, words: "half".to_owned() }));
    }
}
