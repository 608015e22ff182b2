//! `/v1/agents/samples`: samples of many nodes in one request, for whoever collects them (a gateway, a replay).
//!
//! All of them are stored when the answer is 200, none when it is not 2xx. It is the first to be turned away (429) when
//! there is more to do than can be done: what it brings can come again.

use axum::body::{Body, to_bytes};
use axum::extract::State;
use fog_api::agent::{SampleBatch, SamplesStored};
use futures_util::future::try_join_all;

use super::RouteError;
use crate::app::App;
use crate::ingest;
use crate::pulse::Work;
use crate::store::Class;

/// Ten thousand samples with ten containers each are 25 MB.
const LARGEST: usize = 32 << 20;

pub(super) async fn store(State(app): State<App>, body: Body) -> Result<axum::Json<SamplesStored>, RouteError> {
    let Some(_permit) = app.pulse.admit(Work::Batch) else {
        app.metrics.shed.with_label_values(&["batch"]).inc();
        return Err(RouteError::Busy { again_s: 2 });
    };
    let bytes = to_bytes(body, LARGEST).await.map_err(|_| RouteError::TooLarge { limit: LARGEST })?;
    let batch: SampleBatch = tokio::task::block_in_place(|| serde_json::from_slice(&bytes))
        .map_err(|error| RouteError::Malformed { pointer: String::new(), detail: error.to_string() })?;
    drop(bytes);
    {
        let fleet = app.fleet();
        let unknown = batch.reports.iter().position(|report| !fleet.nodes.contains_key(&report.node));
        if let Some(at) = unknown {
            let detail = format!("no node {:?} has ever connected; its agent has to, once", batch.reports[at].node);
            return Err(RouteError::Malformed { pointer: format!("/reports/{at}/node"), detail });
        }
    }
    let stored = batch.reports.iter().map(|report| report.samples.len() as u64).sum();
    let reports = batch.reports.into_iter();
    let app = &app;
    try_join_all(
        reports.map(|report| async move { ingest::samples(app, Class::Batch, &report.node, report.samples).await }),
    )
    .await?;
    Ok(axum::Json(SamplesStored { stored }))
}
