//! `fogctl policy test`: a person's own scenarios, as tests.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use fog_core::{Plan, Policy};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::offline;
use crate::exit::{Exit, Failure};
use crate::session::Session;

/// `expected.json`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Expected {
    #[serde(default)]
    actions: Vec<Map<String, Value>>,
    #[serde(default)]
    stay: BTreeMap<String, String>,
}

#[derive(Debug, Serialize)]
struct Outcome {
    scenario: String,
    passed: bool,
    /// What is not as expected.
    differences: Vec<String>,
}

pub(super) fn run(session: &Session, folder: &Path, policy: Option<&Path>) -> Result<Exit, Failure> {
    let mut outcomes = Vec::new();
    for scenario in scenarios(folder)? {
        let own = [scenario.join("policy.toml"), folder.join("policy.toml")].into_iter().find(|file| file.is_file());
        let policy = match policy.map(Path::to_path_buf).or(own) {
            Some(file) => offline::policy(&file)?,
            None => Policy::default(),
        };
        let snapshot = offline::snapshot(&scenario.join("snapshot.json"), &policy)?;
        let file = scenario.join("expected.json");
        let expected: Expected = serde_json::from_str(&offline::read(&file)?)
            .map_err(|error| Failure::new(Exit::Failed, format!("{}: {error}", file.display())))?;
        let differences = differences(&expected, &fog_core::plan(&snapshot, &policy, snapshot.at));
        let name = scenario.file_name().unwrap_or(scenario.as_os_str()).to_string_lossy().into_owned();
        outcomes.push(Outcome { scenario: name, passed: differences.is_empty(), differences });
    }
    let failed = outcomes.iter().filter(|outcome| !outcome.passed).count();
    session.result(&outcomes, |paint| {
        let mut out = String::new();
        for outcome in &outcomes {
            let word = if outcome.passed { "ok    ".to_owned() } else { paint.bad("FAILED") };
            out.push_str(&format!("{word}  {}\n", outcome.scenario));
            outcome.differences.iter().for_each(|difference| out.push_str(&format!("        {difference}\n")));
        }
        out.push_str(&format!("{} passed, {failed} failed\n", outcomes.len() - failed));
        out
    })?;
    Ok(if failed == 0 { Exit::Done } else { Exit::Failed })
}

fn scenarios(folder: &Path) -> Result<Vec<PathBuf>, Failure> {
    if folder.join("snapshot.json").is_file() {
        return Ok(vec![folder.to_path_buf()]);
    }
    let cannot = |error| Failure::new(Exit::Usage, format!("cannot read {}: {error}", folder.display()));
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(cannot)? {
        let path = entry.map_err(cannot)?.path();
        if path.join("snapshot.json").is_file() {
            found.push(path);
        }
    }
    found.sort();
    if found.is_empty() {
        return Err(Failure::new(Exit::Usage, format!("{} holds no scenario", folder.display()))
            .hint("A scenario is a folder with a snapshot.json and an expected.json; see fogctl policy test --help."));
    }
    Ok(found)
}

fn differences(expected: &Expected, plan: &Plan) -> Vec<String> {
    let mut differences = Vec::new();
    let planned: Vec<Value> = plan.actions.iter().filter_map(|action| serde_json::to_value(action).ok()).collect();
    let mut left: Vec<&Value> = planned.iter().collect();
    for wanted in &expected.actions {
        let fits = |action: &&Value| wanted.iter().all(|(field, value)| action.get(field) == Some(value));
        match left.iter().position(fits) {
            Some(at) => {
                left.remove(at);
            }
            None => differences.push(format!("missing: {}", Value::Object(wanted.clone()))),
        }
    }
    let text = |value: &Value, field: &str| value.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
    for action in left {
        differences.push(format!(
            "unexpected: {} {}: {}",
            text(action, "type"),
            text(action, "workload"),
            text(action, "reason")
        ));
    }
    for (workload, code) in &expected.stay {
        let stays = plan.not_moved.iter().find(|stays| stays.workload == workload.as_str());
        let codes: Vec<Value> = stays
            .iter()
            .flat_map(|stays| &stays.reasons)
            .filter_map(|reason| serde_json::to_value(reason.code).ok())
            .collect();
        if !codes.iter().any(|found| found == code.as_str()) {
            let why = stays.map_or("it is not among those that stay", |stays| stays.reason.as_str());
            differences.push(format!("{workload} should stay for {code:?}: {why}"));
        }
    }
    differences
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compare(expected: &str) -> Vec<String> {
        let folder = "../../tests/scenarios/planner/thesis-near-beats-idle";
        let text = std::fs::read_to_string(format!("{}/{folder}/plan.json", env!("CARGO_MANIFEST_DIR"))).unwrap();
        differences(&serde_json::from_str(expected).unwrap(), &serde_json::from_str(&text).unwrap())
    }

    #[test]
    fn what_differs_is_said() {
        let right = r#"{"actions": [{"workload": "looper", "to": "C"}]}"#;
        assert!(compare(right).is_empty());
        let wrong = compare(r#"{"actions": [{"workload": "looper", "to": "D"}], "stay": {"looper": "pinned"}}"#);
        assert_eq!(wrong[0], r#"missing: {"to":"D","workload":"looper"}"#);
        assert!(wrong[1].starts_with("unexpected: migrate looper: A has been at 90 % CPU"), "{wrong:?}");
        assert_eq!(wrong[2], "looper should stay for \"pinned\": it is not among those that stay");
    }
}
