//! What a client of `CORO_INSPECT` is told.

use std::process;

use rustix::time::{ClockId, clock_gettime};

use super::fresh::fresh_tasks;
use super::metrics::metrics;
use super::worker_metrics::{WorkerMetrics, workers};
use crate::base::json::Json;
use crate::dump::{self, Which};
use crate::inspect_socket::Request;

pub(super) fn answer(request: Request) -> String {
    match request {
        Request::Metrics => counts(),
        Request::Dump(groups) => dump::take(Which::All, fresh_tasks).limit(groups).to_json(),
        Request::Text(groups) => dump::take(Which::All, fresh_tasks).limit(groups).to_string(),
    }
}

fn counts() -> String {
    let now = clock_gettime(ClockId::Monotonic);
    let mut json = Json::new();
    json.object(|json| {
        json.member("process", process::id());
        json.member("time_ms", now.tv_sec * 1000 + now.tv_nsec / 1_000_000);
        json.key("metrics");
        metrics().write(json);
        json.key("workers");
        json.array(&workers(), |json, worker: &WorkerMetrics| worker.write(json));
    });
    json.into_text()
}
