//! `/v1/links`: what each node measured of its way to the others.

use axum::Json;
use axum::extract::State;
use fog_api::list::List;
use fog_api::node::Link;
use serde::Deserialize;
use serde_json::Value;
use utoipa::IntoParams;

use super::RouteError;
use super::listing::{Listed, Paging, SortKey};
use crate::app::App;

#[derive(Clone, Copy, PartialEq)]
pub(super) enum By {
    From,
    To,
    Rtt,
    Loss,
    Bandwidth,
}

impl SortKey for By {
    const NAMES: &'static [(&'static str, Self)] = &[
        ("from", By::From),
        ("to", By::To),
        ("rtt_ms", By::Rtt),
        ("loss", By::Loss),
        ("bandwidth_mbps", By::Bandwidth),
    ];
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Filter {
    /// Only those that this node measured.
    from: Option<String>,
    /// Only those to this node.
    to: Option<String>,
    /// Only those with either end here.
    node: Option<String>,
    /// Only those with at least this round-trip time.
    #[param(minimum = 0)]
    min_rtt_ms: Option<f64>,
}

impl Filter {
    fn takes(&self, link: &Link) -> bool {
        self.from.as_ref().is_none_or(|from| link.from == *from)
            && self.to.as_ref().is_none_or(|to| link.to == *to)
            && self.node.as_ref().is_none_or(|node| link.from == *node || link.to == *node)
            && self.min_rtt_ms.is_none_or(|least| link.rtt_ms.is_some_and(|rtt_ms| rtt_ms >= least))
    }
}

fn key(link: &Link, by: By) -> Value {
    match by {
        By::From => link.from.clone().into(),
        By::To => link.to.clone().into(),
        By::Rtt => link.rtt_ms.into(),
        By::Loss => link.loss.into(),
        By::Bandwidth => link.bandwidth_mbps.into(),
    }
}

/// Links between nodes, each as one of its ends measured it.
#[utoipa::path(get, path = "/v1/links", tag = "links", params(Filter, Paging<By>),
    responses((status = 200, description = "A page of the links.", body = List<Link>)))]
pub(super) async fn list(
    State(app): State<App>,
    Listed(asked, filter): Listed<Filter, By>,
) -> Result<Json<List<Link>>, RouteError> {
    if filter.min_rtt_ms.is_some_and(|least| !least.is_finite() || least < 0.0) {
        return Err(RouteError::parameter("min_rtt_ms", "give a number of 0 or more"));
    }
    let fleet = app.fleet();
    let measured = fleet.nodes.iter().filter_map(|(from, view)| Some((from, view.latest.as_ref()?)));
    let links = measured.flat_map(|(from, sample)| {
        sample.links.iter().map(|link| Link {
            from: from.clone(),
            to: link.to.clone(),
            rtt_ms: link.rtt_ms,
            loss: link.loss,
            bandwidth_mbps: link.bandwidth_mbps,
            at: sample.at,
        })
    });
    let links = links.filter(|link| filter.takes(link)).collect();
    drop(fleet);
    asked.page(links, |link| format!("{} {}", link.from, link.to), key).map(Json)
}
