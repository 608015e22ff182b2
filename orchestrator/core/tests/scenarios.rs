//! Every folder of `tests/scenarios/planner`: a snapshot, perhaps a policy, and the plan that a person agreed with.

use std::path::Path;

use fog_core::{Plan, Policy, Snapshot, plan};

#[test]
fn scenarios_give_their_committed_plans() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/scenarios/planner");
    let update = std::env::var_os("UPDATE_SCENARIOS").is_some();
    let mut stale = Vec::new();
    let mut seen = 0;
    for entry in std::fs::read_dir(&root).expect("tests/scenarios/planner") {
        let folder = entry.expect("a folder").path();
        let name = folder.file_name().expect("a name").to_string_lossy().into_owned();
        let text = std::fs::read_to_string(folder.join("snapshot.json")).unwrap_or_else(|e| panic!("{name}: {e}"));
        let snapshot: Snapshot = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{name}/snapshot.json: {e}"));
        snapshot.check().unwrap_or_else(|error| panic!("{name}/snapshot.json: {error}"));
        let policy = match std::fs::read_to_string(folder.join("policy.toml")) {
            Ok(text) => Policy::parse(&text, &format!("{name}/policy.toml")).unwrap_or_else(|error| panic!("{error}")),
            Err(_) => Policy::default(),
        };
        let planned = plan(&snapshot, &policy, snapshot.at);
        let fresh = serde_json::to_string_pretty(&planned).expect("json") + "\n";
        let again: Plan =
            serde_json::from_str(&fresh).unwrap_or_else(|e| panic!("{name}: the plan can't be read: {e}"));
        assert_eq!(again, planned, "{name}: the plan changes when written and read");
        if update {
            std::fs::write(folder.join("plan.json"), &fresh).expect("written");
        } else if std::fs::read_to_string(folder.join("plan.json")).unwrap_or_default() != fresh {
            stale.push(format!("{name}: {}", summary(&planned)));
        }
        seen += 1;
    }
    assert!(seen >= 12, "only {seen} scenarios found");
    assert!(
        stale.is_empty(),
        "these plans differ from the committed ones:\n{}\nIf a person would agree with them, run \
         `UPDATE_SCENARIOS=1 cargo test -p fog-core scenarios`, read the difference and commit it",
        stale.join("\n")
    );
}

fn summary(plan: &Plan) -> String {
    let moves = plan.actions.iter().map(|action| action.reason().to_owned());
    moves.chain(plan.not_moved.iter().map(|stays| stays.reason.clone())).collect::<Vec<_>>().join(" | ")
}
