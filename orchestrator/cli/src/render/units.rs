//! Numbers with their units, as short as they stay honest. What is not known is a dash.

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// What is not known.
pub(crate) const UNKNOWN: &str = "–";

/// `640 B`, `1.5 MiB`
#[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
pub(crate) fn bytes(bytes: u64) -> String {
    scaled(bytes as f64)
}

fn scaled(mut amount: f64) -> String {
    if amount < 1024.0 {
        return format!("{amount:.0} B");
    }
    let mut unit = "";
    for next in ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"] {
        // What would be rounded up to 1024 belongs to the next unit.
        if amount < 1023.5 {
            break;
        }
        amount /= 1024.0;
        unit = next;
    }
    let digits = if amount < 9.95 { 1 } else { 0 };
    format!("{amount:.digits$} {unit}")
}

/// `12 MiB/s`
pub(crate) fn rate(bytes_per_s: f64) -> String {
    format!("{}/s", scaled(bytes_per_s.max(0.0)))
}

/// `87 %`
pub(crate) fn percent(fraction: f64) -> String {
    format!("{:.0} %", fraction * 100.0)
}

/// `0.8 ms`, `830 ms`, `2.3 s`, `4 min 10 s`, `2 h 5 min`
pub(crate) fn milliseconds(ms: f64) -> String {
    match ms {
        ms if ms < 9.95 => format!("{ms:.1} ms"),
        ms if ms < 999.5 => format!("{ms:.0} ms"),
        ms if ms < 9_950.0 => format!("{:.1} s", ms / 1000.0),
        ms if ms < 59_500.0 => format!("{:.0} s", ms / 1000.0),
        ms => long((ms / 1000.0).round()),
    }
}

fn long(seconds: f64) -> String {
    let part = |unit: f64, below: f64| ((seconds / unit).floor(), (seconds % unit / below).floor());
    let (big, small, names) = match seconds {
        s if s < 3600.0 => (part(60.0, 1.0).0, part(60.0, 1.0).1, ("min", "s")),
        s if s < 86_400.0 => (part(3600.0, 60.0).0, part(3600.0, 60.0).1, ("h", "min")),
        _ => (part(86_400.0, 3600.0).0, part(86_400.0, 3600.0).1, ("d", "h")),
    };
    if small == 0.0 { format!("{big} {}", names.0) } else { format!("{big} {} {small} {}", names.0, names.1) }
}

/// How long from one moment to the other; never less than nothing.
pub(crate) fn between(from: Timestamp, to: Timestamp) -> f64 {
    to.duration_since(from).as_millis_f64().max(0.0)
}

/// `12 s ago`: one unit is enough.
pub(crate) fn ago(at: Timestamp, now: Timestamp) -> String {
    match (between(at, now) / 1000.0).floor() {
        s if s < 1.0 => "now".to_owned(),
        s if s < 120.0 => format!("{s} s ago"),
        s if s < 7200.0 => format!("{} min ago", (s / 60.0).floor()),
        s if s < 172_800.0 => format!("{} h ago", (s / 3600.0).floor()),
        s => format!("{} days ago", (s / 86_400.0).floor()),
    }
}

/// The wall clock's time here: `14:03:07.512`
pub(crate) fn clock(at: Timestamp, zone: &TimeZone) -> String {
    at.to_zoned(zone.clone()).strftime("%H:%M:%S%.3f").to_string()
}

/// With the day: `2026-05-04 14:03:07 +02:00`
pub(crate) fn moment(at: Timestamp, zone: &TimeZone) -> String {
    at.to_zoned(zone.clone()).strftime("%Y-%m-%d %H:%M:%S %:z").to_string()
}

/// A number of a factor in its own unit.
pub(crate) fn measured(value: Option<f64>, unit: &str) -> String {
    match (value, unit) {
        (None, _) => "unknown".to_owned(),
        (Some(value), "fraction") => format!("{:.1} %", value * 100.0),
        (Some(value), "ms") => milliseconds(value),
        (Some(value), unit) => {
            let digits = format!("{value:.2}");
            format!("{} {unit}", digits.trim_end_matches('0').trim_end_matches('.'))
        }
    }
}

/// A number, or a dash.
pub(crate) fn or_unknown<T>(value: Option<T>, words: impl FnOnce(T) -> String) -> String {
    value.map_or_else(|| UNKNOWN.to_owned(), words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        let sizes = [0, 1023, 1024, 10 * 1024, 1_048_575, 48_234_496, 1 << 40, u64::MAX].map(bytes);
        assert_eq!(sizes, ["0 B", "1023 B", "1.0 KiB", "10 KiB", "1.0 MiB", "46 MiB", "1.0 TiB", "16 EiB"]);
        assert_eq!(rate(12.4 * 1024.0 * 1024.0), "12 MiB/s");
    }

    #[test]
    fn durations() {
        let durations =
            [0.0, 0.84, 9.96, 829.7, 999.6, 2_340.0, 59_499.0, 59_600.0, 250_000.0, 7_500_000.0, 90_000_000.0];
        let expected = [
            "0.0 ms",
            "0.8 ms",
            "10 ms",
            "830 ms",
            "1.0 s",
            "2.3 s",
            "59 s",
            "1 min",
            "4 min 10 s",
            "2 h 5 min",
            "1 d 1 h",
        ];
        assert_eq!(durations.map(milliseconds), expected);
    }

    #[test]
    fn ages() {
        let now: Timestamp = "2026-05-04T12:00:00Z".parse().unwrap();
        let age = |s: i64| ago(now - jiff::SignedDuration::from_secs(s), now);
        assert_eq!(
            [-5, 0, 12, 119, 120, 7200, 200_000].map(age),
            ["now", "now", "12 s ago", "119 s ago", "2 min ago", "2 h ago", "2 days ago"]
        );
    }

    #[test]
    fn times_are_shown_in_the_zone_of_the_reader() {
        let at: Timestamp = "2026-05-04T12:00:00.5129Z".parse().unwrap();
        let zone = TimeZone::fixed(jiff::tz::offset(2));
        assert_eq!(
            (clock(at, &zone).as_str(), moment(at, &zone).as_str()),
            ("14:00:00.512", "2026-05-04 14:00:00 +02:00")
        );
    }

    #[test]
    fn factors_keep_their_units() {
        assert_eq!(measured(Some(0.2512), "fraction"), "25.1 %");
        assert_eq!(measured(Some(83.2), "ms"), "83 ms");
        assert_eq!(measured(Some(47.5), "°C"), "47.5 °C");
        assert_eq!(measured(Some(100.0), "km"), "100 km");
        assert_eq!(measured(None, "km"), "unknown");
    }
}
