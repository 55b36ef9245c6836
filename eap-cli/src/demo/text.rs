//! The text of the demonstration and what an agent says about its lines.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::exit::Failure;

/// The longest file that is taken, in bytes.
const MAX_BYTES: u64 = 4 * 1024 * 1024;
/// The most tasks that are made from paragraphs; a text with more has neighbours put together.
const MAX_PARAGRAPHS: usize = 200;

/// What is worked on when no file is named.
const BUILT_IN: &str = "\
The sky above the port was full of gulls, and every gull had an opinion.
A lighthouse keeper wrote them down, one line to a page,
and numbered the pages so that none could be lost.

When the storm took the lamp, the keeper lit another.
When it took the pen, the keeper borrowed one from the ferry.
When it took the book, the keeper opened a drawer:
the ferryman had kept a copy of every page he had acknowledged.

In the morning there were more gulls than pages.
The keeper began again with the next number.
";

/// What the agent on the SDK is given.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Paragraph {
    pub(super) number: usize,
    pub(super) text: String,
}

/// What it makes of it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct LineStatistics {
    pub(super) paragraph: usize,
    pub(super) lines: usize,
    pub(super) longest_chars: usize,
    pub(super) longest_line: String,
}

impl LineStatistics {
    /// Reads a paragraph line by line.
    pub(super) fn of(paragraph: &Paragraph) -> Self {
        let lines = || paragraph.text.lines().filter(|line| !line.trim().is_empty());
        let longest = lines().max_by_key(|line| line.chars().count()).unwrap_or_default();
        Self {
            paragraph: paragraph.number,
            lines: lines().count(),
            longest_chars: longest.chars().count(),
            longest_line: longest.to_owned(),
        }
    }
}

/// A text and its paragraphs.
#[derive(Debug)]
pub(super) struct Text {
    pub(super) name: String,
    pub(super) whole: String,
    pub(super) paragraphs: Vec<String>,
}

impl Text {
    /// Reads the file, or takes the built-in text.
    pub(super) fn read(file: Option<&Path>) -> Result<Self, Failure> {
        let Some(path) = file else { return Ok(Self::new("built-in text".to_owned(), BUILT_IN.to_owned())) };
        let name = path.display().to_string();
        let size = fs::metadata(path).map(|data| data.len());
        match size.and_then(|size| if size > MAX_BYTES { Ok(None) } else { fs::read_to_string(path).map(Some) }) {
            Ok(Some(whole)) => Ok(Self::new(name, whole)),
            Ok(None) => Err(Failure::usage(format!("{name} has more than {MAX_BYTES} bytes; choose a smaller file"))),
            Err(error) => Err(Failure::usage(format!("cannot read {name}: {error}; choose a text file"))),
        }
    }

    fn new(name: String, whole: String) -> Self {
        let mut paragraphs: Vec<String> = Vec::new();
        let mut is_open = false;
        for line in whole.lines() {
            if line.trim().is_empty() {
                is_open = false;
                continue;
            }
            match paragraphs.last_mut().filter(|_| is_open) {
                Some(paragraph) => {
                    paragraph.push('\n');
                    paragraph.push_str(line);
                }
                None => paragraphs.push(line.to_owned()),
            }
            is_open = true;
        }
        let together = paragraphs.len().div_ceil(MAX_PARAGRAPHS).max(1);
        let paragraphs = paragraphs.chunks(together).map(|some| some.join("\n\n")).collect();
        Self { name, whole, paragraphs }
    }

    /// How many lines are not blank, and how many characters the longest of them has.
    pub(super) fn lines_and_longest(&self) -> (usize, usize) {
        let lines = || self.whole.lines().filter(|line| !line.trim().is_empty());
        (lines().count(), lines().map(|line| line.chars().count()).max().unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paragraphs_are_what_blank_lines_set_apart_and_lose_no_line() {
        let text = Text::new("t".to_owned(), "one\ntwo\n\n \nthree\r\n\nnaïve ünïcode".to_owned());
        assert_eq!(text.paragraphs, ["one\ntwo", "three", "naïve ünïcode"]);
        let many: String = (0..950).map(|n| format!("line {n}\n\n")).collect();
        let text = Text::new("t".to_owned(), many);
        assert!(text.paragraphs.len() <= MAX_PARAGRAPHS);
        let of = |(index, text): (usize, &String)| {
            LineStatistics::of(&Paragraph { number: index + 1, text: text.clone() }).lines
        };
        assert_eq!(text.paragraphs.iter().enumerate().map(of).sum::<usize>(), 950);
        assert_eq!(text.lines_and_longest(), (950, 8));
        assert!(Text::new("t".to_owned(), String::new()).paragraphs.is_empty());
    }
}
