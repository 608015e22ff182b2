//! Errors where Docker looks for them: in runc's log file, as JSON lines.

use std::io::Write;
use std::path::Path;
use std::time::SystemTime;

/// Tells an error, on standard error and in the log file.
pub(crate) fn error(file: Option<&Path>, message: &str) {
    eprintln!("fog-runc: {message}");
    let Some(file) = file else { return };
    let line = serde_json::json!({"level": "error", "msg": format!("fog-runc: {message}"), "time": now()});
    let opened = std::fs::OpenOptions::new().create(true).append(true).open(file);
    if let Err(error) = opened.and_then(|mut file| writeln!(file, "{line}")) {
        eprintln!("fog-runc: {} cannot be written: {error}", file.display());
    }
}

/// What runc said last in its log file, to go behind a message of ours.
pub(crate) fn last_error(file: Option<&Path>) -> String {
    let text = file.and_then(|file| std::fs::read_to_string(file).ok()).unwrap_or_default();
    let lines = text.lines().rev().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let mut errors = lines.filter(|line| line.get("level").and_then(|level| level.as_str()) == Some("error"));
    let said = errors.next().and_then(|line| Some(line.get("msg")?.as_str()?.to_owned()));
    said.map(|said| format!(": {said}")).unwrap_or_default()
}

/// RFC 3339, in UTC.
fn now() -> String {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    let (days, second) = (since / 86_400, since % 86_400);
    let (year, month, day) = date(days);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", second / 3600, second / 60 % 60, second % 60)
}

/// The Gregorian date so many days after 1970-01-01: counts in years that begin on 1 March, so that the leap day is
/// the last one.
fn date(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let (month_of_year, day) = (if month < 10 { month + 3 } else { month - 9 }, day - (153 * month + 2) / 5 + 1);
    (era * 400 + year + u64::from(month_of_year <= 2), month_of_year, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        assert_eq!(date(0), (1970, 1, 1));
        assert_eq!(date(11_016), (2000, 2, 29));
        assert_eq!(date(20_819), (2027, 1, 1));
    }

    #[test]
    fn the_log_is_json_lines() {
        let path = std::env::temp_dir().join(format!("fog-runc-log-{}", std::process::id()));
        error(Some(&path), "a \"quoted\" reason");
        error(Some(&path), "another");
        let text = std::fs::read_to_string(&path).expect("read");
        assert_eq!(last_error(Some(&path)), ": fog-runc: another");
        assert_eq!(last_error(None), "");
        std::fs::remove_file(&path).expect("remove");
        let lines: Vec<serde_json::Value> = text.lines().map(|l| serde_json::from_str(l).expect("json")).collect();
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[0]["level"], "error");
        assert_eq!(lines[0]["msg"], "fog-runc: a \"quoted\" reason");
    }
}
