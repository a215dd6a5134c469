//! A promfront whose configuration file is the test's to change, and the words to change it.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use axum::body::Body;
use http::{Method, Request};
use serde_json::Value;
use tokio::task::JoinHandle;

use crate::support::scripted::{Scripted, ok};
use crate::support::{Answer, DATA_START, Folder, Http, Promfront, escaped, range_params, until};

/// Headers of a request.
pub type Headers<'h> = &'h [(&'h str, &'h str)];

/// No series.
pub const EMPTY: &[u8] = br#"{"status":"success","data":{"resultType":"vector","result":[]}}"#;

/// A running promfront and its file.
#[derive(Debug)]
pub struct Rig {
    folder: Folder,
    pub promfront: Promfront,
    pub http: Http,
}

impl Rig {
    /// One that can be reloaded over HTTP.
    pub fn start(yaml: &str) -> Self {
        Self::prepared(yaml, |command| _ = command.arg("--web.enable-lifecycle"))
    }

    /// One with flags of the test's own.
    pub fn prepared(yaml: &str, prepare: impl FnOnce(&mut Command)) -> Self {
        let folder = Folder::new("reload");
        let file = folder.path().join("promfront.yaml");
        fs::write(&file, yaml).expect("a file");
        let promfront = Promfront::of_file(&file, prepare);
        Self { folder, promfront, http: Http::new() }
    }

    /// Where the file is.
    pub fn file(&self) -> PathBuf {
        self.folder.path().join("promfront.yaml")
    }

    /// Puts another file into its place, whole.
    pub fn write(&self, yaml: &str) {
        let unfinished = self.folder.path().join("unfinished");
        fs::write(&unfinished, yaml).expect("a file");
        fs::rename(&unfinished, self.file()).expect("ours to move");
    }

    /// Asks for something under `/-/`.
    pub async fn lifecycle(&self, method: Method, what: &str) -> Answer {
        let request = Request::builder().method(method).uri(format!("{}/-/{what}", self.promfront.url));
        self.http.send(request.body(Body::empty()).expect("sound")).await
    }

    /// Reloads what is in the file now.
    pub async fn post(&self) -> Answer {
        self.lifecycle(Method::POST, "reload").await
    }

    /// Puts another configuration into force.
    pub async fn reload(&self, yaml: &str) {
        self.write(yaml);
        let answer = self.post().await;
        assert_eq!(answer.status.as_u16(), 200, "{yaml}\n{}", answer.text());
    }

    /// Offers a configuration that is refused, and gives the reason.
    pub async fn refused(&self, yaml: &str) -> String {
        self.write(yaml);
        let answer = self.post().await;
        assert_eq!(answer.status.as_u16(), 500, "{yaml}\n{}", answer.text());
        answer.text()
    }

    /// Asks the API.
    pub async fn ask(&self, path_and_query: &str, headers: Headers<'_>) -> Answer {
        self.http.send(api(&self.promfront.url, path_and_query, headers)).await
    }

    /// Asks the API while the test goes on, on a connection of its own.
    pub fn asking(&self, path_and_query: &str, headers: Headers<'_>) -> JoinHandle<Answer> {
        let request = api(&self.promfront.url, path_and_query, headers);
        tokio::spawn(async move { Http::new().send(request).await })
    }

    /// What waits and runs.
    pub async fn queues(&self) -> Value {
        self.http.get(&format!("{}/promfront/api/v1/queues", self.promfront.url)).await.json()["data"].clone()
    }

    /// Waits until a tenant has so many waiting and running.
    pub async fn until_queued(&self, tenant: &str, waiting: usize, running: usize) {
        until(&format!("{tenant}: {waiting} wait, {running} run"), async || {
            let queues = self.queues().await;
            let tenants = queues["tenants"].as_array().cloned().unwrap_or_default();
            let counts = tenants.iter().find(|one| one["tenant"] == tenant);
            counts.map_or(waiting + running == 0, |one| one["waiting"] == waiting && one["running"] == running)
        })
        .await;
    }

    /// How the last reload went, where everybody who wants to know looks: the page and the metrics say the same.
    pub async fn last(&self) -> Last {
        let mut seen = self.page().await;
        until("the page and the metrics agree", async || {
            let metrics = self.promfront.metrics().await;
            let gauge = |name: &str| metrics.sum(&format!("promfront_config_last_reload_{name}"), &[]);
            let (before, now) = (seen, self.page().await);
            seen = now;
            let said = format!("{now:?}, {} and {}", gauge("successful"), gauge("success_timestamp_seconds"));
            #[expect(clippy::cast_precision_loss, reason = "a second of this century")]
            let second = now.success_at.as_second() as f64;
            let agrees = (gauge("successful") - f64::from(u8::from(now.is_success))).abs() < 0.1
                && (gauge("success_timestamp_seconds") - second).abs() < 1.0;
            // While nothing was loaded between the looks they have no excuse.
            assert!(agrees || before != now, "{said}");
            agrees
        })
        .await;
        seen
    }

    async fn page(&self) -> Last {
        let page = self.http.get(&format!("{}/-/runtimeinfo", self.promfront.url)).await;
        assert_eq!((page.status.as_u16(), page.header("content-type")), (200, "application/json"));
        let page = page.json();
        assert_eq!(page["status"], "success");
        let time = page["data"]["lastConfigTime"].as_str().expect("it is told");
        Last {
            is_success: page["data"]["reloadConfigSuccess"].as_bool().expect("it is told"),
            success_at: time.parse().unwrap_or_else(|error| panic!("{time}: {error}")),
        }
    }

    /// Waits until the last reload went so.
    pub async fn until_last(&self, is_success: bool) {
        until(&format!("a reload that succeeds: {is_success}"), async || self.last().await.is_success == is_success)
            .await;
    }
}

/// How the last reload went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Last {
    pub is_success: bool,
    /// When the configuration in force was loaded.
    pub success_at: jiff::Timestamp,
}

fn api(base: &str, path_and_query: &str, headers: Headers<'_>) -> Request<Body> {
    let mut request = Request::get(format!("{base}/api/v1/{path_and_query}"));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(Body::empty()).expect("a sound request")
}

/// A range query over the beginning of the test data.
pub fn range(query: &str, hours: i64, step: &str) -> String {
    let end = DATA_START + hours * 3600;
    format!("query_range?{}", range_params(query, &DATA_START.to_string(), &end.to_string(), step))
}

/// An instant query at a time of the test data.
pub fn instant(query: &str) -> String {
    format!("query?query={}&time={}", escaped(query), DATA_START + 7200)
}

/// A configuration with one server.
pub fn before(url: &str, rest: &str) -> String {
    format!("downstream: {{urls: [\"{url}\"]}}\n{rest}\n")
}

/// The words of the server of that name.
pub fn words_of(name: &str) -> Vec<u8> {
    let series = format!(r#"{{"metric":{{"server":"{name}"}},"value":[1707350400,"1"]}}"#);
    format!(r#"{{"status":"success","data":{{"resultType":"vector","result":[{series}]}}}}"#).into_bytes()
}

/// A server that always says its name.
pub async fn server(name: &'static str) -> Scripted {
    Scripted::start(move |_| Some(ok(&words_of(name)))).await
}

/// A server that says its name when the gate is opened.
pub async fn gated(name: &'static str) -> Scripted {
    Scripted::gated(move |_| Some(ok(&words_of(name)))).await
}
