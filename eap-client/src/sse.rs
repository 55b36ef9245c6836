//! Server-Sent Events out of bytes, as the HTML standard reads them, with a limit on what one of them may hold.
//!
//! `retry` is not heeded: how fast a broken stream is opened again is for whoever reads it.

use bytes::{Buf as _, Bytes};

/// The mark that some put in front of UTF-8.
const BOM: &[u8] = "\u{feff}".as_bytes();

/// What stood between two empty lines, if it said anything.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Block {
    /// The last id that was set, here or before.
    pub(crate) id: Option<String>,
    /// The kind of event, `message` unless one is named.
    pub(crate) kind: String,
    /// The data; without any it is no event, and only the id counts.
    pub(crate) data: Option<String>,
}

/// An event, or a line, that is longer than is kept.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TooLong;

/// Takes bytes as they come and gives blocks once they are whole.
#[derive(Debug)]
pub(crate) struct Parser {
    /// How many bytes one event may hold.
    limit: usize,
    /// What came and was not looked at yet.
    chunk: Bytes,
    /// The line that has begun.
    line: Vec<u8>,
    /// Whether a line feed that comes next belongs to the end of the last line.
    is_after_cr: bool,
    is_first_line: bool,
    id: Option<String>,
    is_id_news: bool,
    kind: String,
    data: Option<String>,
}

impl Parser {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            limit,
            chunk: Bytes::new(),
            line: Vec::new(),
            is_after_cr: false,
            is_first_line: true,
            id: None,
            is_id_news: false,
            kind: String::new(),
            data: None,
        }
    }

    /// Takes the next bytes; those before were all looked at, by calling [`Self::next`] until it had nothing more.
    pub(crate) fn feed(&mut self, bytes: Bytes) {
        self.chunk = bytes;
    }

    /// The next block, if what came so far has one.
    pub(crate) fn next(&mut self) -> Result<Option<Block>, TooLong> {
        while let Some(line) = self.take_line()? {
            if !line.is_empty() {
                self.field(&String::from_utf8_lossy(&line));
                continue;
            }
            let (kind, data) = (std::mem::take(&mut self.kind), self.data.take());
            if std::mem::take(&mut self.is_id_news) || data.is_some() {
                let kind = if kind.is_empty() { "message".to_owned() } else { kind };
                return Ok(Some(Block { id: self.id.clone(), kind, data }));
            }
        }
        Ok(None)
    }

    /// The next line without its end, which is LF, CR or both.
    fn take_line(&mut self) -> Result<Option<Vec<u8>>, TooLong> {
        if self.is_after_cr && !self.chunk.is_empty() {
            self.is_after_cr = false;
            if self.chunk[0] == b'\n' {
                self.chunk.advance(1);
            }
        }
        let end = self.chunk.iter().position(|byte| matches!(byte, b'\n' | b'\r'));
        let length = end.unwrap_or(self.chunk.len());
        let held = self.line.len() + self.kind.len() + self.data.as_ref().map_or(0, String::len);
        if held + length > self.limit {
            return Err(TooLong);
        }
        self.line.extend_from_slice(&self.chunk.split_to(length));
        if end.is_none() {
            return Ok(None);
        }
        self.is_after_cr = self.chunk.get_u8() == b'\r';
        let mut line = std::mem::take(&mut self.line);
        if std::mem::take(&mut self.is_first_line) && line.starts_with(BOM) {
            line.drain(..BOM.len());
        }
        Ok(Some(line))
    }

    fn field(&mut self, line: &str) {
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match name {
            "data" => match &mut self.data {
                Some(data) => {
                    data.push('\n');
                    data.push_str(value);
                }
                None => self.data = Some(value.to_owned()),
            },
            "event" => value.clone_into(&mut self.kind),
            "id" if !value.contains('\0') => {
                self.id = Some(value.to_owned());
                self.is_id_news = true;
            }
            // A comment has no name; other fields are for others.
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(chunks: &[&[u8]]) -> Vec<(Option<String>, String, Option<String>)> {
        let (mut parser, mut blocks) = (Parser::new(1_000), Vec::new());
        for chunk in chunks {
            parser.feed(Bytes::copy_from_slice(chunk));
            while let Some(block) = parser.next().unwrap() {
                blocks.push((block.id, block.kind, block.data));
            }
        }
        blocks
    }

    fn message(data: &str) -> (Option<String>, String, Option<String>) {
        (None, "message".to_owned(), Some(data.to_owned()))
    }

    #[test]
    fn a_line_ends_with_any_of_three_ends() {
        for end in ["\n", "\r", "\r\n"] {
            let text = ["id: 7", "event: task.ready", "data: a", "data: b", "", "data: c", "", ""].join(end);
            let expected = [("7", "task.ready", "a\nb"), ("7", "message", "c")];
            let expected =
                expected.map(|(id, kind, data)| (Some(id.to_owned()), kind.to_owned(), Some(data.to_owned())));
            assert_eq!(read(&[text.as_bytes()]), expected, "{end:?}");
        }
        assert_eq!(read(&[b"data: a\r\rdata: b\n\r\n"]), [message("a"), message("b")]);
    }

    #[test]
    fn it_does_not_matter_where_the_chunks_are_cut() {
        let text =
            "\u{feff}: comment\r\nid: 1\r\ndata: na\u{ef}ve \u{1f600}\r\ndata\r\n\r\n\rdata: x\n\nid: 2\n\n".as_bytes();
        let whole = read(&[text]);
        assert_eq!(whole.len(), 3, "{whole:?}");
        assert_eq!(whole[0].2.as_deref(), Some("na\u{ef}ve \u{1f600}\n"));
        for size in 1..text.len() {
            assert_eq!(read(&text.chunks(size).collect::<Vec<_>>()), whole, "{size}");
        }
        let with_empty: Vec<&[u8]> = text.chunks(1).flat_map(|chunk| [chunk, b""]).collect();
        assert_eq!(read(&with_empty), whole);
    }

    #[test]
    fn one_space_after_the_colon_is_not_the_value_and_a_name_may_stand_alone() {
        assert_eq!(read(&[b"data:a\n\ndata:  b\n\ndata: c:d\n\n"]), [message("a"), message(" b"), message("c:d")]);
        assert_eq!(read(&[b"data\n\n"]), [message("")]);
        assert_eq!(read(&[b"data\ndata\n\n"]), [message("\n")]);
        assert_eq!(read(&[b"event: x\nevent\ndata: a\n\n"]), [message("a")]);
        assert_eq!(read(&[b"data : a\nDATA: b\n data: c\nretry: 5\nother: d\n\n"]), []);
    }

    #[test]
    fn a_comment_says_nothing_and_an_id_alone_only_where_to_go_on() {
        assert_eq!(read(&[b":\n\n: data: x\n\n"]), []);
        assert_eq!(read(&[b"event: lost\n\ndata: a\n\n"]), [message("a")]);
        let alone = (Some("5".to_owned()), "message".to_owned(), None);
        for text in [":\nid: 5\n\n:\n\n", "id: 5\n\nid: a\0b\n\n"] {
            assert_eq!(read(&[text.as_bytes()]), std::slice::from_ref(&alone), "{text}");
        }
        assert_eq!(read(&[b"id: 5\n\nid\n\n"])[1].0.as_deref(), Some(""));
    }

    #[test]
    fn a_mark_counts_at_the_very_beginning_alone() {
        assert_eq!(read(&["\u{feff}data: a\n\n\u{feff}data: b\n\n".as_bytes()]), [message("a")]);
        assert_eq!(read(&["\u{feff}\u{feff}data: a\n\n".as_bytes()]), []);
    }

    #[test]
    fn what_is_no_utf8_is_replaced() {
        assert_eq!(read(&[b"data: a\xffb\n\n"]), [message("a\u{fffd}b")]);
    }

    #[test]
    fn what_was_not_finished_is_no_event() {
        assert_eq!(read(&[b"data: a\n\nid: 9\ndata: b\n"]), [message("a")]);
    }

    #[test]
    fn an_event_over_the_limit_is_refused_however_it_is_cut() {
        let long = "x".repeat(1_000);
        let one_line = format!("data: {long}\n\n");
        let many_lines = "data: 1234567890\n".repeat(100) + "\n";
        let comment = format!(":{long}");
        for text in [one_line, many_lines, comment] {
            for size in [1, 7, text.len()] {
                let mut parser = Parser::new(1_000);
                let outcomes = text.as_bytes().chunks(size).map(|chunk| {
                    parser.feed(Bytes::copy_from_slice(chunk));
                    parser.next()
                });
                assert!(outcomes.into_iter().any(|outcome| outcome == Err(TooLong)), "{size}");
            }
        }
        // What was given away does not count.
        assert_eq!(read(&["data: 1234567890\n\n".repeat(1_000).as_bytes()]).len(), 1_000);
    }
}
