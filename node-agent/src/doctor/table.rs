//! The report for people.

use std::fmt::Write as _;

use tabled::builder::Builder;
use tabled::settings::object::Columns;
use tabled::settings::peaker::Priority;
use tabled::settings::{Modify, Style, Width};

use super::{Check, Findings, Status};

/// Lays the findings out for a terminal of this width.
pub fn render(findings: &Findings, width: usize, colours: bool) -> String {
    let mut table = Builder::default();
    table.push_record(["STATUS", "CHECK", "FOUND"]);
    for check in &findings.checks {
        table.push_record([word(check.status).to_owned(), check.check.to_owned(), found(check)]);
    }
    let mut table = table.build();
    table
        .with(Style::blank())
        .with(Modify::new(Columns::new(2..3)).with(Width::wrap(width.saturating_sub(28).max(30)).keep_words(true)))
        .with(Width::wrap(width.max(60)).priority(Priority::max(true)).keep_words(true));
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

fn found(check: &Check) -> String {
    match &check.fix {
        Some(fix) => format!("{}\n-> {fix}", check.found),
        None => check.found.clone(),
    }
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
        };
        let text = render(&findings, 80, false);
        assert!(text.contains("-> apt-get install criu"), "{text}");
        assert!(text.contains(" FAIL "), "{text}");
        assert!(!text.contains('\x1b'));
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        assert!(render(&findings, 80, true).contains("\x1b[31mFAIL"));
    }
}
