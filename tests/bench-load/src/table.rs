//! The results as tables.

use std::path::PathBuf;

use anyhow::{Context, Result};
use serde_json::Value;

pub fn print(files: &[PathBuf]) -> Result<()> {
    let (mut curve, mut overload, mut database) = (Vec::new(), Vec::new(), Vec::new());
    for file in files {
        let text = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
        let value: Value = serde_json::from_str(&text).with_context(|| file.display().to_string())?;
        match value {
            Value::Array(lines) if lines.iter().any(|line| line.get("day").is_some()) => database.extend(lines),
            Value::Array(lines) => curve.extend(lines),
            other => overload.push(other),
        }
    }
    curve.sort_by_key(|line| line["nodes"].as_u64());
    if !curve.is_empty() {
        println!(
            "| nodes | samples/s | ingest p50 / p99 (ms) | not taken | list p99 (ms) | detail p99 (ms) | cores | generator's cores | \
             memory (MiB) | above 100 MiB, a node (KiB) | plan p99 below (s) | serving again (s) | all connected (s) | false offline | load |"
        );
        println!("|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|");
    }
    for line in &curve {
        let number =
            |value: &Value, digits: usize| value.as_f64().map_or("–".to_owned(), |value| format!("{value:.digits$}"));
        let worst = |kinds: &[&str]| {
            let all = kinds.iter().filter_map(|kind| line["reads"][*kind]["p99_ms"].as_f64());
            format!("{:.1}", all.fold(0.0, f64::max))
        };
        let restart = &line["restart"];
        println!(
            "| {} | {} | {} / {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} |",
            line["nodes"],
            number(&line["samples_per_s"], 0),
            number(&line["ingest"]["p50_ms"], 1),
            number(&line["ingest"]["p99_ms"], 1),
            line["dropped"],
            worst(&["nodes", "workloads", "migrations"]),
            worst(&["node", "workload"]),
            number(&line["cores"], 2),
            number(&line["generator_cores"], 2),
            number(&line["most_memory_mib"], 0),
            number(&line["kib_a_node"], 1),
            number(&line["planner_p99_below_s"], 3),
            number(&restart["serving_after_s"], 2),
            number(&restart["connected_after_s"], 1),
            number(&restart["most_offline"], 0),
            number(&line["load"][0], 1),
        );
    }
    for one in &overload {
        println!("\n```json\n{}\n```", serde_json::to_string_pretty(one)?);
    }
    if !database.is_empty() {
        println!("\n| day | KiB of the database a node | more than the day before (KiB) |\n|---|---|---|");
    }
    for day in &database {
        let kib = |value: &Value| value.as_f64().map_or("–".to_owned(), |bytes| format!("{:.0}", bytes / 1024.0));
        println!("| {} | {} | {} |", day["day"], kib(&day["bytes_a_node"]), kib(&day["grown_bytes_a_node"]));
    }
    Ok(())
}
