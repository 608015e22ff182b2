//! Starts everything, and ends it in order.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Context;
use jiff::SignedDuration;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::agents::Agents;
use crate::app::{App, Service};
use crate::checkups::Checkups;
use crate::config::Config;
use crate::driver::{self, Drivers};
use crate::events::Events;
use crate::fleet::Fleet;
use crate::metrics::Metrics;
use crate::policy::PolicyHolder;
use crate::preflight::Examinations;
use crate::proposals::{self, Proposals};
use crate::pulse::Pulse;
use crate::resize::Resizes;
use crate::store::{Retention, Store};
use crate::token::Tokens;
use crate::webhooks::Webhooks;
use crate::{clock, http, ingest, lines, peers, planner, token, webhooks};

/// So long open connections may take to end after a signal.
const SHUTDOWN_DEADLINE: Duration = Duration::from_secs(5);
/// How often the policy file is looked at.
const POLICY_LOOK: Duration = Duration::from_millis(500);
const RETENTION_PERIOD: Duration = Duration::from_secs(600);
/// How often delays whose minute is over are stored.
const DELAYS_PERIOD: Duration = Duration::from_secs(2);
/// So long a write's answer is kept for its repetition.
const KEEP_ANSWERS: SignedDuration = SignedDuration::from_hours(24);

/// Runs until a signal ends it.
pub async fn run(config: Config) -> anyhow::Result<()> {
    let policy = PolicyHolder::load(config.policy.clone())?;
    let app = open(config, policy).await?;
    let mut listeners = Vec::new();
    for address in &app.config.listen {
        let listener = TcpListener::bind(address)
            .await
            .with_context(|| format!("cannot listen on {address}: is another orchestrator running?"))?;
        tracing::info!("listening on http://{address}");
        listeners.push(listener);
    }
    driver::resume_all(&app).await?;
    webhooks::start_all(&app).await?;
    let ended = serve(&app, listeners).await;
    app.drivers.ended().await;
    app.store.close().await;
    tracing::info!("ended");
    ended
}

/// Opens the store and builds the service from what it knows.
pub async fn open(config: Config, policy: PolicyHolder) -> anyhow::Result<App> {
    std::fs::create_dir_all(&config.data_dir)
        .with_context(|| format!("cannot make the data directory {}", config.data_dir.display()))?;
    let private = std::os::unix::fs::PermissionsExt::from_mode(0o700);
    std::fs::set_permissions(&config.data_dir, private)
        .with_context(|| format!("cannot make {} private", config.data_dir.display()))?;
    let file = config.data_dir.join("fogshift.db");
    let store = Store::open(&file).await.with_context(|| format!("cannot open the database {}", file.display()))?;
    around(config, policy, store).await
}

/// The service around a store that is open.
pub async fn around(config: Config, policy: PolicyHolder, store: Store) -> anyhow::Result<App> {
    let token = token::read_or_make(&config.data_dir.join("token"))?;
    let days = |days: u32| SignedDuration::from_hours(24 * i64::from(days));
    let store = store.keeping(Retention {
        samples: SignedDuration::from_hours(config.keep_samples_h.into()),
        minutes: days(config.keep_minutes_d),
        hours: days(config.keep_hours_d),
    });
    let tokens = Tokens::new(store.tokens().await?);
    policy.settle(&store, clock::now()).await?;
    let now = clock::now();
    let day_ago = now - SignedDuration::from_hours(24);
    let mut fleet = Fleet::new(store.nodes().await?, store.ownerships().await?, &store.ended_since(day_ago).await?);
    fleet.restarted(now, SignedDuration::try_from_secs_f64(policy.get().policy.heartbeat.offline_s)?);
    let app = Arc::new(Service {
        config,
        store,
        policy,
        fleet: Mutex::new(fleet),
        agents: Agents::default(),
        events: Events::default(),
        drivers: Drivers::default(),
        metrics: Metrics::new()?,
        pulse: Pulse::default(),
        proposals: Proposals::default(),
        examinations: Examinations::default(),
        checkups: Checkups::default(),
        resizes: Resizes::default(),
        token,
        tokens,
        webhooks: Webhooks::new()?,
        shutdown: CancellationToken::new(),
    });
    let limits = app.store.limits().await?;
    app.fleet().limits.extend(limits);
    proposals::recall(&app).await?;
    Ok(app)
}

async fn serve(app: &App, listeners: Vec<TcpListener>) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    // Before anybody can know that we run: without a handler, the signal ends the process.
    let hangup = signal(SignalKind::hangup())?;
    let mut tasks = JoinSet::new();
    for listener in listeners {
        let server = axum::serve(listener, http::service(app.clone()))
            .with_graceful_shutdown(app.shutdown.clone().cancelled_owned());
        tasks.spawn(async move { server.await.context("a listener failed") });
    }
    let planner = app.clone();
    tasks.spawn(async move {
        planner::run(planner).await;
        Ok(())
    });
    let reloading = app.clone();
    tasks.spawn(follow_policy(reloading, hangup));
    let lines = app.clone();
    tasks.spawn(async move {
        lines::keep(lines).await;
        Ok(())
    });
    let silence = app.clone();
    tasks.spawn(async move {
        ingest::watch_silence(silence).await;
        Ok(())
    });
    let peers = app.clone();
    tasks.spawn(async move {
        peers::keep_told(peers).await;
        Ok(())
    });
    let pulse = app.clone();
    tasks.spawn(async move {
        pulse.pulse.beat(&pulse.shutdown).await;
        Ok(())
    });
    let history = app.clone();
    tasks.spawn(async move {
        keep_history_bounded(history).await;
        Ok(())
    });
    let retention = app.clone();
    tasks.spawn(async move {
        keep_bounded(retention).await;
        Ok(())
    });
    let delays = app.clone();
    tasks.spawn(async move {
        keep_delays(delays).await;
        Ok(())
    });
    let first = tokio::select! {
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
        // None of them ends by itself.
        ended = tasks.join_next() => match ended {
            Some(Ok(result)) => result,
            Some(Err(panic)) => Err(panic).context("a part of the service failed"),
            None => Ok(()),
        },
    };
    tracing::info!("ending; running migrations go on after the next start");
    app.shutdown.cancel();
    let rest = async { while tasks.join_next().await.is_some() {} };
    if tokio::time::timeout(SHUTDOWN_DEADLINE, rest).await.is_err() {
        tracing::warn!("some connections did not end in {} s and are cut", SHUTDOWN_DEADLINE.as_secs());
    }
    first
}

/// The policy file is read again when it has changed, and at SIGHUP.
async fn follow_policy(app: App, mut hangup: Signal) -> anyhow::Result<()> {
    // Looking at the text works on every file system, and for a file that is replaced, linked or mounted anew.
    let mut looks = tokio::time::interval(POLICY_LOOK);
    let text = || async {
        match &app.policy.get().file {
            Some(file) => tokio::fs::read(file).await.map_err(|error| error.kind()),
            None => Ok(Vec::new()),
        }
    };
    let mut taken = Ok(app.policy.read_at_start().as_bytes().to_vec());
    let mut last = taken.clone();
    loop {
        tokio::select! {
            _ = hangup.recv() => taken = text().await,
            _ = looks.tick() => {
                let now = text().await;
                // Twice the same: nobody is writing it just now.
                let settled = now == last;
                last = now;
                if !settled || last == taken {
                    continue;
                }
                taken = last.clone();
            }
            () = app.shutdown.cancelled() => return Ok(()),
        }
        match app.policy.reload(&app.store, clock::now()).await {
            Ok(Some(version)) => {
                tracing::info!(version, "the policy was reloaded");
            }
            Ok(None) => tracing::info!("the policy has not changed"),
            Err(error) => tracing::error!("the old policy stays in force: {error}"),
        }
    }
}

/// Brings samples from level to level and forgets old ones: every node once a minute, a few of them each second.
async fn keep_bounded(app: App) {
    let mut ticks = tokio::time::interval(Duration::from_secs(1));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut minute = 0;
    let mut next = 1;
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = app.shutdown.cancelled() => return,
        }
        let now = clock::now();
        let highest = match app.store.highest_number().await {
            Ok(highest) => highest,
            Err(error) => {
                tracing::error!("cannot count the nodes: {error}");
                continue;
            }
        };
        if now.as_second() / 60 != minute && next > highest {
            (minute, next) = (now.as_second() / 60, 1);
        }
        let until = (next + highest / 50 + 1).min(highest + 1);
        if next < until {
            match app.store.roll_up(next, until, now).await {
                Ok(()) => next = until,
                Err(error) => tracing::error!("cannot bring samples to the next level: {error}"),
            }
        }
    }
}

/// Stores the delays' history, a step at a time.
async fn keep_delays(app: App) {
    let mut ticks = tokio::time::interval(DELAYS_PERIOD);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = app.shutdown.cancelled() => return,
        }
        let steps = std::mem::take(&mut app.fleet().delays_over);
        if let Err(error) = app.store.save_delays(&steps).await {
            tracing::error!("cannot store how far nodes were from each other: {error}");
        }
    }
}

/// Forgets old events, answers and audit lines.
async fn keep_history_bounded(app: App) {
    let mut ticks = tokio::time::interval(RETENTION_PERIOD);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = app.shutdown.cancelled() => return,
        }
        let now = clock::now();
        let events_before = now - SignedDuration::from_hours(app.config.keep_events_h.into());
        let audit_before = now - SignedDuration::from_hours(24 * i64::from(app.config.keep_audit_days));
        if let Err(error) = app.store.forget_events(events_before, now - KEEP_ANSWERS).await {
            tracing::error!("cannot forget old events: {error}");
        }
        if let Err(error) = app.store.forget_audit(audit_before).await {
            tracing::error!("cannot forget the old audit: {error}");
        }
    }
}
