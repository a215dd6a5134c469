//! A real browser, on a page that lies behind promfront as Prometheus's own pages do.
//!
//! Need: a browser's decoder is its own, it cannot be told not to ask for gzip, and where it stops a page stays empty. Rule: a page fetches
//! answers, cold, held, and put together, and sends home a digest of what its script was given; that has to be the digest of the
//! direct answer. A browser that cannot be had is a failure that says how to get it.

use std::fs;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use crate::rig::{Rig, Row};
use crate::support::recorded::Recorded;
use crate::support::scripted::ok;
use crate::support::{DATA_END, DATA_START, Folder, Prometheus, test_data, until};

const BROWSER: &str = "chromium-headless-shell";
const PAGE: &str = include_str!("page.html");

/// What is asked for in turn, and how it has to come about.
fn questions() -> Vec<(String, &'static str)> {
    let row = |query: &str, step_ms| Row { query: query.to_owned(), start_ms: DATA_START * 1000 + 7_123, step_ms };
    let mut questions = Vec::new();
    for query in ["temperature_celsius", "odd_labels", "special_values", "pod_cpu_usage", "http_requests_total"] {
        for step_ms in [61_000, 7_300] {
            let row = row(query, step_ms);
            for (first, last, status) in [(0, 999, "miss"), (0, 999, "hit"), (-100, 1400, "phit"), (5, 1300, "hit")] {
                questions.push((row.params(first, last), status));
            }
        }
    }
    let long = Row { query: "{job=~\"api|node\"}".to_owned(), start_ms: (DATA_END - 600_000) * 1000, step_ms: 60_000 };
    questions.extend(["miss", "hit"].map(|status| (long.params(200, 9_999), status)));
    questions
}

/// By a program, since nothing that is tested knows how.
fn sha256(bytes: &[u8]) -> String {
    let child = Command::new("sha256sum").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let mut child = child.expect("sha256sum is there");
    child.stdin.take().expect("it is piped").write_all(bytes).expect("it reads all");
    let said = child.wait_with_output().expect("it is our child").stdout;
    String::from_utf8_lossy(&said).chars().take(64).collect()
}

/// A browser that shows an address until it is dropped.
struct Browser(Child);

impl Drop for Browser {
    /// With all the processes that it made, of which what was started may be a script around it.
    fn drop(&mut self) {
        let _ = Command::new("kill").args(["-s", "KILL", "--", &format!("-{}", self.0.id())]).status();
        let _ = self.0.wait();
    }
}

fn browser(folder: &Folder, address: &str) -> Browser {
    let log = fs::File::create(folder.path().join("log")).expect("a file");
    let child = Command::new(BROWSER)
        // A sandbox needs what containers and root do not have; the page is our own.
        .args(["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--remote-debugging-port=0"])
        .args(["--no-first-run", "--disable-background-networking", "--disable-component-update", "--no-proxy-server"])
        .arg(format!("--user-data-dir={}", folder.path().join("profile").display()))
        .arg(address)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .process_group(0)
        .spawn();
    Browser(child.unwrap_or_else(|error| {
        panic!(
            "{BROWSER} does not start: {error}. This test needs Debian's package of that name: run `make tools`, or \
             put a program of that name on the PATH"
        )
    }))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_browser_reads_the_same() {
    let (folder, questions) = (Folder::new("browser"), questions());
    fs::write(folder.path().join("page.html"), PAGE).expect("a file");
    let list: Vec<String> = questions.iter().map(|(params, _)| format!("/api/v1/query_range?{params}")).collect();
    fs::write(folder.path().join("list.json"), json!(list).to_string()).expect("a file");
    // Prometheus shows pages of its user's own, and promfront hands them on: so the page and the answers are of one origin.
    let assets = format!("--web.user-assets={}", folder.path().display());
    let prometheus = Prometheus::start(Some(test_data()), &[&assets]).await;
    let rig = Rig::before(&prometheus.url);
    let home = Recorded::start(|_| Some(ok(b""))).await;
    let address = format!("{}/user/page.html?list=/user/list.json&report={}/report", rig.promfront.url, home.url());
    let mut browser = browser(&folder, &address);
    until("the page tells what it read", async || {
        let log = || fs::read_to_string(folder.path().join("log")).unwrap_or_default();
        assert!(matches!(browser.0.try_wait(), Ok(None)), "{BROWSER} ended: {}", log());
        !home.asked_for("/report").is_empty()
    })
    .await;
    let report = home.asked_for("/report").remove(0).body;
    let read: Vec<Value> = serde_json::from_str(&report).expect("JSON");
    for (number, (params, status)) in questions.iter().enumerate() {
        let read = read.get(number).unwrap_or_else(|| panic!("{params} was not read: {:?}", read.last()));
        assert!(read["problem"].is_null(), "{params}: {read}");
        let want = rig.direct(params).await.body;
        let result = read["result"].as_str().unwrap_or_default();
        assert!(result.starts_with(&format!("status={status};")), "{params}: not a {status}: {read}");
        assert_eq!((&read["status"], &read["packing"]), (&json!(200), &json!("gzip")), "{params}");
        let travelled = read["travelled"].as_u64().expect("a number");
        assert!(travelled > 0 && travelled < want.len() as u64 / 2, "{params}: {travelled} of {} bytes", want.len());
        assert_eq!((&read["length"], &read["digest"]), (&json!(want.len()), &json!(sha256(&want))), "{params}");
    }
    assert_eq!(read.len(), questions.len(), "and nothing else");
    let longest = read.iter().filter_map(|read| read["length"].as_u64()).max();
    assert!(longest > Some(20_000_000), "{longest:?} bytes at most");
}
