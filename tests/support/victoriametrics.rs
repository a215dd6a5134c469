//! A real VictoriaMetrics with the test data of a Prometheus in it, sample for sample.
//!
//! Need: a downstream that speaks the API of Prometheus and has rules of its own. Rule: as for every server here, it has a port
//! and a folder to itself and is gone with its value.

use std::fmt::Write as _;
use std::fs;
use std::process::{Command, Stdio};

use axum::body::Body;
use http::Request;
use serde_json::Value;

use super::port::Port;
use super::{DATA_END, Folder, Http, Process, Prometheus, escaped, until};

/// A server that is killed when it goes out of scope.
#[derive(Debug)]
pub struct VictoriaMetrics {
    _process: Process,
    _folder: Folder,
    _port: Port,
    /// `http://127.0.0.1:port`
    pub url: String,
}

impl VictoriaMetrics {
    /// An empty one.
    pub async fn empty() -> Self {
        let (folder, port) = (Folder::new("victoria-metrics"), Port::reserved());
        let log = fs::File::create(folder.path().join("log")).expect("a file");
        let child = Command::new("victoria-metrics")
            .arg(format!("-storageDataPath={}", folder.path().join("data").display()))
            .arg(format!("-httpListenAddr=127.0.0.1:{}", port.number()))
            .args(["-retentionPeriod=100y", "-memory.allowedBytes=128MB"])
            .stdout(Stdio::null())
            .stderr(log)
            .spawn();
        let process = Process(child.expect("victoria-metrics is not on the PATH: run `make tools`"));
        let url = format!("http://127.0.0.1:{}", port.number());
        let (http, health) = (Http::new(), format!("{url}/health"));
        until("VictoriaMetrics answers", async || http.try_get(&health).await.is_some()).await;
        Self { _process: process, _folder: folder, _port: port, url }
    }

    /// With some of the test data that `prometheus` has, sample for sample.
    pub async fn with_data_of(prometheus: &Prometheus) -> Self {
        let server = Self::empty().await;
        let some = r#"{__name__=~"up|build_info|queue_depth|temperature_celsius|http_requests_total",instance!~"api-[023].*"}[10d]"#;
        let all = escaped(some);
        let url = format!("{}/api/v1/query?query={all}&time={DATA_END}", prometheus.url);
        let series = Http::new().get(&url).await.json();
        let series = series["data"]["result"].as_array().expect("a matrix").iter();
        server.import(&series.map(line).collect::<String>()).await;
        server
    }

    /// Takes lines of its own form, and shows them to queries at once.
    pub async fn import(&self, lines: &str) {
        let request = Request::post(format!("{}/api/v1/import", self.url)).body(Body::from(lines.to_owned()));
        let taken = Http::new().send(request.expect("sound")).await;
        assert!(taken.status.is_success(), "{}: {}", taken.status, taken.text());
        let flushed = Http::new().get(&format!("{}/internal/force_flush", self.url)).await;
        assert!(flushed.status.is_success(), "{}: {}", flushed.status, flushed.text());
    }

    /// Has it forget what it keeps of its answers, so that the next answer does not depend on earlier questions.
    pub async fn forget(&self) {
        let done = Http::new().get(&format!("{}/internal/resetRollupResultCache", self.url)).await;
        assert!(done.status.is_success(), "{}: {}", done.status, done.text());
    }
}

/// A series of Prometheus's matrix as a line for the import.
fn line(series: &Value) -> String {
    let (mut values, mut times) = (String::new(), String::new());
    for pair in series["values"].as_array().into_iter().flatten() {
        let comma = if values.is_empty() { "" } else { "," };
        let seconds = pair[0].as_f64().expect("a time");
        let _ = write!(values, "{comma}{}", pair[1].as_str().expect("a value"));
        let _ = write!(times, "{comma}{:.0}", seconds * 1000.0);
    }
    format!("{{\"metric\":{},\"values\":[{values}],\"timestamps\":[{times}]}}\n", series["metric"])
}
