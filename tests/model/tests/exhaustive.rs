//! Every order of events within small bounds: the protocol keeps its promises, and each broken variant is caught.

use fog_model::{Bounds, Broken, Explored, Model, Past, explore};

/// Far above what the bounds allow: to be cut short fails the test.
const MOST: usize = 3_000_000;

/// Any number of crashes, failures, losses and repetitions.
const ALONE: Bounds =
    Bounds { messages: 2, crashes: true, failures: true, stalls: 1, past: Past::Nothing, pages: false };
/// After another migration of the workload, whose orders still come in.
const AGAIN: Bounds = Bounds { past: Past::RolledBack, crashes: false, failures: false, ..ALONE };
const BACK: Bounds = Bounds { past: Past::Done, ..AGAIN };
/// With post-copy or hybrid: the container runs before all of its memory is there.
const PAGES: Bounds = Bounds { pages: true, failures: false, ..ALONE };
const BACKUP: Bounds = Bounds { past: Past::Backup, ..AGAIN };

fn holds(name: &str, bounds: Bounds) -> Explored {
    let model = Model::new(bounds, None);
    let seen = explore(&model, MOST);
    eprintln!(
        "{name}: {} states, {} transitions, {} finished; {} states of the protocol itself",
        seen.states,
        seen.transitions,
        seen.finished,
        model.machine_states()
    );
    if let Some(trace) = &seen.broken {
        panic!("{name}: {trace}");
    }
    assert!(!seen.cut_short, "{name} was cut short");
    assert!(seen.finished > 0);
    seen
}

#[test]
fn a_migration_keeps_every_promise() {
    holds("a migration", ALONE);
}

#[test]
fn a_migration_whose_memory_follows_keeps_every_promise() {
    holds("a migration with post-copy", PAGES);
}

#[test]
fn late_orders_of_a_migration_that_was_rolled_back_change_nothing() {
    holds("again after a roll back", AGAIN);
}

#[test]
fn late_orders_of_a_migration_that_was_done_change_nothing() {
    holds("and back", BACK);
}

#[test]
fn an_orchestrator_from_an_old_backup_changes_nothing() {
    holds("orchestrator from a backup", BACKUP);
}

#[test]
fn every_broken_variant_is_caught() {
    let mut missed = Vec::new();
    for broken in Broken::ALL {
        let bounds = match broken {
            Broken::ThawsWhatIsClosed => AGAIN,
            Broken::IgnoresEpochs => BACKUP,
            Broken::DiscardsUndrained
            | Broken::RunsOnZeros
            | Broken::TellsBeforeNoting
            | Broken::ForgetsThatAllCame
            | Broken::LeavesTheLost
            | Broken::ThawsWhatIsLost => PAGES,
            _ => ALONE,
        };
        let seen = explore(&Model::new(bounds, Some(broken)), MOST);
        match seen.broken {
            Some(trace) => eprintln!("{broken:?} is caught after {} states: {trace}", seen.states),
            None => missed.push((broken, seen.states)),
        }
    }
    assert!(missed.is_empty(), "not caught, after so many states: {missed:?}");
}
