//! Text that came from elsewhere.

use uuid::Uuid;

/// Makes text harmless to a terminal, on one line: what a container or a log says must not move the cursor.
pub(crate) fn clean(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '\n' | '\t' => ' ',
            c if c.is_control() || ('\u{202a}'..='\u{202e}').contains(&c) || ('\u{2066}'..='\u{2069}').contains(&c) => {
                '\u{fffd}'
            }
            c => c,
        })
        .collect()
}

/// Breaks at spaces so that no line is wider; every line but the first begins with the indent.
pub(crate) fn wrap(text: &str, width: usize, indent: &str) -> String {
    let mut out = String::new();
    let mut used = 0;
    for word in clean(text).split_whitespace() {
        let length = word.chars().count();
        if used > 0 && used + 1 + length > width {
            out.push('\n');
            out.push_str(indent);
            used = 0;
        } else if used > 0 {
            out.push(' ');
            used += 1;
        }
        out.push_str(word);
        used += length;
    }
    out
}

/// Enough of an id to find it again: its first 48 bits are the time, to the millisecond.
pub(crate) fn short(id: Uuid) -> String {
    id.to_string().chars().take(13).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_break_at_spaces() {
        assert_eq!(wrap("one two three four", 9, "  "), "one two\n  three\n  four");
        assert_eq!(wrap("unbreakable word", 4, ""), "unbreakable\nword");
        assert_eq!(wrap("", 4, ""), "");
    }

    #[test]
    fn directions_and_escapes_are_taken_out() {
        assert_eq!(clean("a\u{202e}b\u{7}"), "a\u{fffd}b\u{fffd}");
    }
}
