//! What goes to standard output: aligned columns for people, one JSON document for programs.

use std::io::{self, IsTerminal as _, Write as _};
use std::time::Duration;

use eap_orchestrator::{Clock as _, SystemClock};
use eap_types::Timestamp;
use serde::Serialize;

use crate::exit::{Exit, Failure};

/// Whether anybody still reads standard output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reader {
    /// As far as is known.
    There,
    /// It left, as `head` does.
    Gone,
}

/// Writes text to standard output; a reader that left early is no error.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    print_to_reader(text).map(drop)
}

/// The same, and says whether to go on.
pub(crate) fn print_to_reader(text: &str) -> Result<Reader, Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(Reader::There),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(Reader::Gone),
        Err(error) => Err(Failure::new(Exit::Failed, format!("cannot write to standard output: {error}"))),
    }
}

/// Writes text to standard error; a terminal that is gone is no reason to stop halfway.
pub(crate) fn tell(text: &str) {
    let _ = io::stderr().lock().write_all(text.as_bytes());
}

/// Writes one JSON document: indented for a terminal, in one line for a program.
pub(crate) fn print_json(value: &impl Serialize) -> Result<(), Failure> {
    let text =
        if io::stdout().is_terminal() { serde_json::to_string_pretty(value) } else { serde_json::to_string(value) };
    let text = text.map_err(|error| Failure::new(Exit::Failed, format!("the answer has no JSON form: {error}")))?;
    print(&format!("{text}\n"))
}

/// Rows in columns that line up.
#[derive(Debug)]
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these words above its columns.
    pub(crate) fn with_header(words: &[&str]) -> Self {
        Self { rows: vec![words.iter().map(|word| (*word).to_owned()).collect()] }
    }

    /// A table without a header, for names and their values.
    pub(crate) fn new() -> Self {
        Self { rows: Vec::new() }
    }

    /// Adds a row; what would break the lines is taken out of its cells.
    pub(crate) fn row<C: AsRef<str>>(&mut self, cells: impl IntoIterator<Item = C>) {
        self.rows.push(cells.into_iter().map(|cell| one_line(cell.as_ref())).collect());
    }

    /// Adds a name with a text of one line, which stays as it is but for what a terminal would obey.
    pub(crate) fn line(&mut self, name: &str, text: &str) {
        self.rows.push(vec![name.to_owned(), harmless(text)]);
    }

    /// The rows as text, each ending with a line feed.
    pub(crate) fn render(&self) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let mut widths = vec![0; columns];
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        let mut text = String::new();
        for row in &self.rows {
            let mut line = String::new();
            for (width, cell) in widths.iter().zip(row) {
                line.push_str(cell);
                line.extend(std::iter::repeat_n(' ', width + 2 - cell.chars().count()));
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

/// How long ago `at` was by this machine's clock, in one unit.
pub(crate) fn age(at: Timestamp) -> String {
    length(SystemClock::new().now().saturating_since(at))
}

/// A length of time in the largest unit it fills, as in `12s`.
pub(crate) fn length(length: Duration) -> String {
    match length.as_secs() {
        seconds @ 0..60 => format!("{seconds}s"),
        seconds @ 60..3600 => format!("{}m", seconds / 60),
        seconds @ 3600..86_400 => format!("{}h", seconds / 3600),
        seconds => format!("{}d", seconds / 86_400),
    }
}

/// A number with its thousands set apart, as in `12,345`.
pub(crate) fn thousands(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Text of somebody else without what a terminal would obey; lines stay lines.
pub(crate) fn harmless(text: &str) -> String {
    text.replace(|char: char| char.is_control() && !matches!(char, '\n' | '\t'), "\u{fffd}")
}

/// The same in one line.
pub(crate) fn one_line(text: &str) -> String {
    harmless(&text.split_whitespace().collect::<Vec<_>>().join(" "))
}

/// The first characters of a text, with a sign that there are more.
pub(crate) fn beginning(text: &str, chars: usize) -> String {
    let text = one_line(text);
    match text.char_indices().nth(chars) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_lines_have_no_tail() {
        let mut table = Table::with_header(&["ID", "STATUS", "NOTE"]);
        table.row(["1", "completed", ""]);
        table.row(["naïve", "ok", "two\nlines"]);
        assert_eq!(table.render(), "ID     STATUS     NOTE\n1      completed\nnaïve  ok         two lines\n");
    }

    #[test]
    fn a_length_has_one_unit() {
        let of = |seconds| length(Duration::from_secs(seconds));
        assert_eq!([of(0), of(59), of(60), of(7199), of(86_400 * 3)], ["0s", "59s", "1m", "1h", "3d"]);
        assert_eq!([thousands(7), thousands(1234), thousands(1_234_567)], ["7", "1,234", "1,234,567"]);
    }

    #[test]
    fn a_terminal_is_not_told_what_to_do_by_an_agent() {
        assert_eq!(harmless("a\x1b[2Jb\nc"), "a\u{fffd}[2Jb\nc");
        assert_eq!(beginning("one two three", 7), "one two…");
    }
}
