//! A scripted downstream that remembers what it was asked.
//!
//! Need: whether a request arrived, and as what, is half of how an endpoint is treated. Rule: nothing is judged here.

use std::sync::Arc;

use parking_lot::Mutex;

use super::scripted::{Asked, Scripted, ok};

/// The answer to every instant query.
pub const VECTOR: &str =
    r#"{"status":"success","data":{"resultType":"vector","result":[{"metric":{"a":"b"},"value":[1707350400,"7"]}]}}"#;
/// The answer to every range query: nothing, wherever the range lies.
pub const MATRIX: &str = r#"{"status":"success","data":{"resultType":"matrix","result":[]}}"#;

impl Asked {
    /// The first word.
    pub fn method(&self) -> &str {
        self.head.split(' ').next().unwrap_or_default()
    }

    /// What stands before the question mark.
    pub fn path(&self) -> &str {
        self.target().split('?').next().unwrap_or_default()
    }

    /// What follows the question mark.
    pub fn query(&self) -> &str {
        self.target().split_once('?').map_or("", |(_, query)| query)
    }

    fn target(&self) -> &str {
        self.head.split(' ').nth(1).unwrap_or_default()
    }

    /// A header, if it is there.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

/// A scripted downstream and what it was asked.
#[derive(Debug)]
pub struct Recorded {
    /// The downstream itself.
    pub server: Scripted,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Recorded {
    /// Answers each request with what `script` says.
    pub async fn start(script: impl Fn(&Asked) -> Option<Vec<u8>> + Send + Sync + 'static) -> Self {
        let recorded = Self::gated(script).await;
        recorded.server.open_gate();
        recorded
    }

    /// As `start`, but no answer is sent before the gate is opened.
    pub async fn gated(script: impl Fn(&Asked) -> Option<Vec<u8>> + Send + Sync + 'static) -> Self {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&asked);
        let server = Scripted::gated(move |request| {
            kept.lock().push(request.clone());
            script(request)
        });
        Self { server: server.await, asked }
    }

    /// Answers as a well-behaved server would.
    pub async fn usual() -> Self {
        Self::start(|asked| Some(usual(asked))).await
    }

    /// As `usual`, but no answer is sent before the gate is opened.
    pub async fn usual_gated() -> Self {
        Self::gated(|asked| Some(usual(asked))).await
    }

    /// Where it is.
    pub fn url(&self) -> &str {
        &self.server.url
    }

    /// Everything that came in for a path that ends so.
    pub fn asked_for(&self, end: &str) -> Vec<Asked> {
        self.asked.lock().iter().filter(|asked| asked.path().ends_with(end)).cloned().collect()
    }

    /// Everything that came in.
    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().clone()
    }
}

/// What a well-behaved server would say, with little in it.
fn usual(asked: &Asked) -> Vec<u8> {
    let body = match asked.path().rsplit("/api/v1/").next().unwrap_or_default() {
        "query_range" => MATRIX,
        "query" => VECTOR,
        "series" => r#"{"status":"success","data":[{"__name__":"up"}]}"#,
        "labels" => r#"{"status":"success","data":["__name__","job"]}"#,
        label if label.ends_with("/values") => r#"{"status":"success","data":["api","node"]}"#,
        _ => r#"{"status":"success","data":{}}"#,
    };
    ok(body.as_bytes())
}
