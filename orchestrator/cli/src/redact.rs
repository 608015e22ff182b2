//! Takes secrets out of what leaves the cluster: tokens, tickets, passwords, whatever is called like one.

use serde_json::Value;

/// Names whose values are secrets, wherever in a name these words stand.
const WORDS: [&str; 11] = [
    "token",
    "secret",
    "password",
    "passwd",
    "authorization",
    "credential",
    "ticket",
    "private_key",
    "api_key",
    "apikey",
    "cookie",
];
/// What stands in a secret's place.
pub(crate) const REMOVED: &str = "(removed)";
/// A hexadecimal text of this length is a token or a ticket, or Docker's id of something: twelve characters of it still tell
/// which.
const HEX: usize = 64;
const KEPT: usize = 12;

/// What is known to be secret, besides what looks like it.
#[derive(Debug, Default)]
pub(crate) struct Redactor {
    known: Vec<String>,
}

impl Redactor {
    pub(crate) fn new(known: impl IntoIterator<Item = String>) -> Self {
        Self { known: known.into_iter().filter(|secret| secret.len() >= 8).collect() }
    }

    /// JSON without its secrets.
    pub(crate) fn json(&self, value: &mut Value) {
        match value {
            Value::String(text) => *text = self.text(text),
            Value::Array(items) => items.iter_mut().for_each(|item| self.json(item)),
            Value::Object(fields) => {
                for (name, value) in fields.iter_mut() {
                    // A file's place, a switch or a count is no secret.
                    let telling = value.is_string() || value.is_array() || value.is_object();
                    if is_secret(name) && telling && !is_place(name) {
                        *value = REMOVED.into();
                    } else {
                        self.json(value);
                    }
                }
            }
            _ => {}
        }
    }

    /// Text without its secrets: `name = value`, `name: value`, `NAME=value`, `Bearer value`, `user:password@`, long
    /// hexadecimal numbers, and what is known.
    pub(crate) fn text(&self, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        for line in text.split_inclusive('\n') {
            let mut line = line.to_owned();
            for secret in &self.known {
                line = line.replace(secret.as_str(), REMOVED);
            }
            out.push_str(&shortened(&without_user(&without_bearer(&without_values(&line)))));
        }
        out
    }
}

fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase().replace('-', "_");
    WORDS.iter().any(|word| name.contains(word))
}

fn is_place(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    name.ends_with("file") || name.ends_with("path") || name.ends_with("_id")
}

fn is_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.')
}

/// Behind every name of a secret and its `=` or `:`, up to the end of the word or of what is quoted.
fn without_values(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(at) = rest.find(['=', ':']) {
        let (before, behind) = rest.split_at(at);
        let name = before.trim_end_matches([' ', '"', '\'']);
        let begin = name.char_indices().rev().take_while(|(_, c)| is_name(*c)).last().map_or(name.len(), |(at, _)| at);
        out.push_str(before);
        out.push_str(&behind[..1]);
        rest = &behind[1..];
        if !is_secret(&name[begin..]) || is_place(&name[begin..]) {
            continue;
        }
        let value = rest.trim_start_matches(' ');
        out.push_str(&rest[..rest.len() - value.len()]);
        let quote = value.chars().next().filter(|c| matches!(c, '"' | '\''));
        let end = match quote {
            Some(quote) => value[1..].find(quote).map_or(value.len(), |end| end + 2),
            None if value.starts_with("Bearer ") => {
                value[7..].find(char::is_whitespace).map_or(value.len(), |end| end + 7)
            }
            None => {
                value.find(|c: char| c.is_whitespace() || matches!(c, ',' | '}' | ']' | '&')).unwrap_or(value.len())
            }
        };
        if end > 0 {
            out.push_str(REMOVED);
        }
        rest = &value[end..];
    }
    out.push_str(rest);
    out
}

fn without_bearer(line: &str) -> String {
    let mut out = String::new();
    let mut rest = line;
    while let Some(at) = rest.find("Bearer ") {
        let begin = at + "Bearer ".len();
        let end = rest[begin..].find(|c: char| c.is_whitespace() || c == '"').map_or(rest.len(), |end| begin + end);
        out.push_str(&rest[..begin]);
        out.push_str(REMOVED);
        rest = &rest[end..];
    }
    out + rest
}

/// `http://user:password@host`
fn without_user(line: &str) -> String {
    let mut out = String::new();
    let mut rest = line;
    while let Some(at) = rest.find("://") {
        let (before, behind) = rest.split_at(at + 3);
        out.push_str(before);
        let end = behind.find(|c: char| c.is_whitespace() || matches!(c, '/' | '"')).unwrap_or(behind.len());
        rest = match behind[..end].rfind('@') {
            Some(at) => {
                out.push_str(REMOVED);
                &behind[at..]
            }
            None => behind,
        };
    }
    out + rest
}

fn shortened(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    let mut run = String::new();
    for c in line.chars().chain(std::iter::once('\0')) {
        if c.is_ascii_hexdigit() {
            run.push(c);
            continue;
        }
        if run.len() >= HEX {
            run.truncate(KEPT);
            run.push('…');
        }
        out.push_str(&run);
        run.clear();
        if c != '\0' {
            out.push(c);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn planted_secrets_are_found_in_every_form() {
        let hex = "0123456789abcdef".repeat(4);
        let redactor = Redactor::new(["known-token-1".to_owned()]);
        for line in [
            "FOG_TOKEN=planted-1 fog-agent run",
            "token = \"planted-2 with blanks\"",
            "MYSQL_ROOT_PASSWORD: planted-3, user: me",
            "Authorization: Bearer planted-4",
            "curl -H 'x: Bearer planted-5'",
            "{\"api_key\":\"planted-6\",\"x\":1}",
            "webhook https://me:planted-7@host/path",
            "GET /x?access_token=planted-8&y=1",
        ] {
            let clean = redactor.text(line);
            assert!(!clean.contains("planted"), "{clean}");
            assert!(clean.contains(REMOVED), "{clean}");
        }
        assert_eq!(redactor.text("said known-token-1 aloud"), format!("said {REMOVED} aloud"));
        assert_eq!(redactor.text(&format!("container {hex}.")), "container 0123456789ab….");
        let plain = "token_file = \"/etc/fogshift/token\"\nat 12:34:56: http://10.0.0.1:7700/v1 key: value\n";
        assert_eq!(redactor.text(plain), plain);
    }

    #[test]
    fn planted_secrets_are_found_in_json() {
        let mut value = serde_json::json!({
            "webhooks": [{"url": "https://u:planted-1@h/", "secret": "planted-2", "name": "x"}],
            "env": ["DB_PASSWORD=planted-3", "HOME=/"], "tokens": ["planted-4"], "nested": {"Ticket": {"a": "planted-5"}},
            "token_file": "/a/b", "rounds": 3
        });
        Redactor::default().json(&mut value);
        let text = value.to_string();
        assert!(!text.contains("planted"), "{text}");
        assert!(text.contains("HOME=/") && text.contains("/a/b") && text.contains("\"rounds\":3"), "{text}");
    }
}
