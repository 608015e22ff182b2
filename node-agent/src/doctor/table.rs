//! The report for people.

use std::fmt::Write as _;

use tabled::builder::Builder;
use tabled::settings::Style;

use super::{Check, Findings, Status};

/// Lays the findings out for a terminal of this width.
pub fn render(findings: &Findings, width: usize, colours: bool) -> String {
    let name_width = findings.checks.iter().map(|check| check.check.len()).max().unwrap_or(0);
    // Status, three gaps and the margins take 15.
    let room = width.saturating_sub(name_width + 15).max(20);
    let mut table = Builder::default();
    table.push_record(["STATUS", "CHECK", "FOUND"]);
    for check in &findings.checks {
        table.push_record([word(check.status), &check.check, &found(check, room)]);
    }
    let mut table = table.build();
    table.with(Style::blank());
    let mut text = String::new();
    for line in table.to_string().lines() {
        let line = line.trim_end();
        let line = if colours { coloured(line) } else { line.to_owned() };
        let _ = writeln!(text, "{line}");
    }
    let verdict = if findings.can_migrate {
        "This node can give and take containers."
    } else {
        "This node can neither give nor take containers."
    };
    let _ = writeln!(text, "\n{verdict}");
    text
}

fn found(check: &Check, room: usize) -> String {
    let mut lines = wrapped(&check.found, room, "");
    if let Some(fix) = &check.fix {
        lines.extend(wrapped(&format!("-> {fix}"), room, "   "));
    }
    lines.join("\n")
}

/// Breaks between words; a word that is longer than a line stays whole, so that it can be copied.
fn wrapped(text: &str, room: usize, indent: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = String::new();
    for word in text.split_whitespace() {
        if !line.trim().is_empty() && line.chars().count() + 1 + word.chars().count() > room {
            lines.push(std::mem::replace(&mut line, indent.to_owned()));
        } else if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    lines.push(line);
    lines
}

fn word(status: Status) -> &'static str {
    match status {
        Status::Ok => "ok",
        Status::Warn => "warn",
        Status::Fail => "FAIL",
    }
}

fn coloured(line: &str) -> String {
    for (status, colour) in [(Status::Ok, 32), (Status::Warn, 33), (Status::Fail, 31)] {
        if let Some(rest) = line.strip_prefix(&format!(" {} ", word(status))) {
            return format!(" \x1b[{colour}m{}\x1b[0m {rest}", word(status));
        }
    }
    line.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_failing_line_has_its_fix_and_fits() {
        let findings = Findings {
            can_migrate: false,
            checks: vec![
                Check::ok("kernel", "6.18"),
                Check::fail("CRIU", "not installed, which is a pity ".repeat(5), "apt-get install criu"),
            ],
            docker_version: None,
            docker_data: None,
        };
        let text = render(&findings, 80, false);
        assert!(text.contains("-> apt-get install criu"), "{text}");
        assert!(text.contains(" FAIL "), "{text}");
        assert!(!text.contains('\x1b'));
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        assert!(render(&findings, 80, true).contains("\x1b[31mFAIL"));
    }
}
