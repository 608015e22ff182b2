//! Server-sent events, as the HTML standard's "event stream interpretation" has them: a line at a time, whatever way the
//! network cuts the bytes.

/// One event as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Frame {
    /// Its name; `message` when it had none.
    pub name: String,
    /// The last `id` that was given on the stream.
    pub id: Option<String>,
    /// Its data; several lines are joined by line feeds.
    pub data: String,
}

/// A decision about every node of a large cluster is some MiB long; what is longer is no event of ours.
const LONGEST_EVENT: usize = 64 << 20;

/// Puts frames together.
#[derive(Debug, Default)]
pub(super) struct Parser {
    line: Vec<u8>,
    /// The last byte was a carriage return: a line feed right after it belongs to it.
    after_return: bool,
    began: bool,
    name: String,
    data: String,
    id: Option<String>,
}

/// An event was longer than any of ours.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooLong;

impl Parser {
    /// Takes the next bytes and gives the events that they complete.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<Vec<Frame>, TooLong> {
        let mut frames = Vec::new();
        for &byte in bytes {
            let belongs_to_return = self.after_return && byte == b'\n';
            self.after_return = byte == b'\r';
            match byte {
                b'\n' if belongs_to_return => {}
                b'\n' | b'\r' => frames.extend(self.end_line()),
                byte if self.line.len() + self.data.len() < LONGEST_EVENT => self.line.push(byte),
                _ => return Err(TooLong),
            }
        }
        Ok(frames)
    }

    fn end_line(&mut self) -> Option<Frame> {
        let bytes = std::mem::take(&mut self.line);
        let text = String::from_utf8_lossy(&bytes);
        let mut line: &str = &text;
        if !std::mem::replace(&mut self.began, true) {
            line = line.strip_prefix('\u{feff}').unwrap_or(line);
        }
        if line.is_empty() {
            return self.end_event();
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut self.name),
            "id" => self.id = Some(value.to_owned()),
            "data" => {
                self.data.push_str(value);
                self.data.push('\n');
            }
            _ => {} // a comment (an empty field), `retry`, or what is not known yet
        }
        None
    }

    fn end_event(&mut self) -> Option<Frame> {
        let name = std::mem::take(&mut self.name);
        let mut data = std::mem::take(&mut self.data);
        data.pop()?; // the last line's feed; without data there is no event
        let name = if name.is_empty() { "message".to_owned() } else { name };
        Some(Frame { name, id: self.id.clone(), data })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(name: &str, data: &str) -> Frame {
        Frame { name: name.to_owned(), id: None, data: data.to_owned() }
    }

    const STREAM: &str = "\u{feff}: hello\r\nevent: node\r\ndata: {\"ä\":1}\r\n\r\n:keep-alive\n\ndata:first\ndata: second\nid: 7\nretry: 10\n\nevent: empty\n\nevent: last\rdata\r\rdata: unfinished\n";

    fn expected() -> Vec<Frame> {
        vec![
            frame("node", "{\"ä\":1}"),
            Frame { id: Some("7".to_owned()), ..frame("message", "first\nsecond") },
            Frame { id: Some("7".to_owned()), ..frame("last", "") },
        ]
    }

    #[test]
    fn whole() {
        assert_eq!(Parser::default().push(STREAM.as_bytes()).unwrap(), expected());
    }

    #[test]
    fn cut_anywhere_it_is_the_same() {
        let bytes = STREAM.as_bytes();
        for cut in 0..=bytes.len() {
            let mut parser = Parser::default();
            let mut frames = parser.push(&bytes[..cut]).unwrap();
            frames.extend(parser.push(&bytes[cut..]).unwrap());
            assert_eq!(frames, expected(), "cut at {cut}");
        }
        let mut parser = Parser::default();
        let frames: Vec<Frame> = bytes.iter().flat_map(|byte| parser.push(&[*byte]).unwrap()).collect();
        assert_eq!(frames, expected());
    }

    #[test]
    fn only_one_space_belongs_to_the_colon() {
        assert_eq!(Parser::default().push(b"data:  two\n\n").unwrap(), [frame("message", " two")]);
    }

    #[test]
    fn an_endless_line_ends_the_stream_not_the_memory() {
        let mut parser = Parser::default();
        let chunk = vec![b'x'; 1 << 20];
        let over = (0..65).map(|_| parser.push(&chunk)).find(Result::is_err);
        assert_eq!(over, Some(Err(TooLong)));
    }
}
