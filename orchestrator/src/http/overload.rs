//! What happens to requests while there is more to do than can be done.

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;

use super::RouteError;
use crate::app::App;
use crate::pulse::Work;

/// Turns reads of the API away while the service is late. Health, metrics, events and every write stay.
pub(super) async fn shed_reads(State(app): State<App>, request: Request, next: Next) -> Result<Response, RouteError> {
    if request.uri().path() == "/v1/events" {
        return Ok(next.run(request).await);
    }
    match app.pulse.admit(Work::Read) {
        Some(_permit) => Ok(next.run(request).await),
        None => {
            app.metrics.shed.with_label_values(&["read"]).inc();
            Err(RouteError::Busy { again_s: 1 })
        }
    }
}
