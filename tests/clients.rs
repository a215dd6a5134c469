//! Clients as their users have them: promtool, and a client of Python's from its registry.
//!
//! Need: a library has habits that no table of requests shows. Rule: each client prints through promfront what it prints from
//! Prometheus itself, and what it asks again is not asked of Prometheus again. A client that cannot be had is a failure that says how to
//! get it.

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use support::{Prometheus, Promfront};

/// The client of Python, from its package index.
const PYTHON_CLIENT: &str = "prometheus-api-client==0.7.2";

/// What promtool asks. It has a method of its own for each: POST, and GET for the values of a label.
const PROMTOOL: &[&[&str]] = &[
    &["instant", "--time=1707350400", "URL", "up"],
    &["instant", "--time=2024-02-07T12:00:00Z", "URL", "sum by (job) (rate(http_requests_total[5m]))"],
    &["instant", "--time=1707350400.25", "URL", "temperature_celsius[10m]"],
    &["range", "--start=1707091200", "--end=1707350400", "--step=5m", "URL", "rate(http_requests_total[20m])"],
    &["range", "--start=1707091207", "--end=1707350407", "--step=61s", "URL", "up"],
    &["series", "--match=up", "--match=build_info", "--start=1707264000", "--end=1707350400", "URL"],
    &["series", "--match={job=\"api\"}", "--start=1707264000", "--end=1707350400", "URL"],
    &["labels", "--start=1707264000", "--end=1707350400", "URL", "job"],
    &["labels", "--start=1707264000", "--end=1707350400", "URL", "__name__"],
    &["--format=json", "instant", "--time=1707350401", "URL", "up"],
];

/// What promtool asks in vain: the same words and the same exit code.
const REFUSED: &[&[&str]] = &[
    &["instant", "--time=1707350400", "URL", "up{"],
    &["instant", "--time=1707350400", "URL", "up * on(job) up"],
    &["range", "--start=1707091200", "--end=1707350400", "--step=1s", "URL", "up"],
    &["series", "--match={", "--start=1707264000", "--end=1707350400", "URL"],
];

/// What a script would ask; it prints all that it gets.
const SCRIPT: &str = r#"
import json, sys
from datetime import datetime, timezone
from prometheus_api_client import PrometheusConnect
from prometheus_api_client.exceptions import PrometheusApiClientException

start, end = (datetime(2024, 2, day, 0, 0, 7, tzinfo=timezone.utc) for day in (5, 8))
window = {"start": start.timestamp(), "end": end.timestamp()}
for method in ("GET", "POST"):
    server = PrometheusConnect(url=sys.argv[1], method=method)
    answers = [
        server.custom_query_range("sum by (code) (rate(http_requests_total[5m]))", start, end, "300"),
        server.custom_query_range("temperature_celsius", start, end, "61s"),
        server.custom_query("up", {"time": end.timestamp()}),
        server.custom_query("1 + 1", {"time": "2024-02-07T12:00:00.5Z"}),
        server.get_current_metric_value("up", {"job": "node"}, {"time": end.timestamp()}),
        server.get_metric_range_data("queue_depth", None, start, end),
        server.all_metrics(dict(window)),
        server.get_label_names(dict(window)),
        server.get_label_values("job", dict(window)),
        server.get_series(start, end, {"match[]": ["up", "odd_labels"]}),
    ]
    try:
        server.custom_query("up{", {"time": end.timestamp()})
    except PrometheusApiClientException as error:
        refusal = str(error)
    print(json.dumps(answers))
    if len(sys.argv) > 2:
        print(refusal)
"#;

fn promtool(url: &str, args: &[&str]) -> Output {
    let (before, query) = match args[0].strip_prefix("--") {
        Some(_) => (&args[..1], &args[1..]),
        None => (&args[..0], args),
    };
    let query = query.iter().map(|arg| if *arg == "URL" { url } else { arg });
    let run = Command::new("promtool").arg("query").args(before).args(query).output();
    run.expect("promtool is not on the PATH: run `make tools`")
}

/// The requests that went to the server.
async fn asked(promfront: &Promfront) -> f64 {
    promfront.metrics().await.sum("promfront_downstream_requests_total", &[])
}

#[tokio::test]
async fn promtool_prints_the_same() {
    let prometheus = Prometheus::with_test_data().await;
    let promfront = Promfront::before(&prometheus.url);
    for args in PROMTOOL {
        let want = promtool(&prometheus.url, args);
        assert!(want.status.success() && !want.stdout.is_empty(), "{args:?}: {want:?}");
        let first = promtool(&promfront.url, args);
        let after_first = asked(&promfront).await;
        let second = promtool(&promfront.url, args);
        for got in [first, second] {
            assert_eq!(got, want, "{args:?}");
        }
        let more = asked(&promfront).await - after_first;
        assert!(more < 0.5, "{args:?}: asked again, {more} requests went to Prometheus");
    }
    for args in REFUSED {
        let (want, got) = (promtool(&prometheus.url, args), promtool(&promfront.url, args));
        assert!(!want.status.success() && got == want, "{args:?}: {got:?} instead of {want:?}");
    }
    let metrics = promfront.metrics().await;
    assert!(
        (metrics.sum("promfront_range_queries_total", &["status=\"hit\""]) - 2.0).abs() < 0.5,
        "both ranges were kept"
    );
}

/// promtool looks for these two at the URL that it is given.
#[tokio::test]
async fn promtool_finds_it_healthy() {
    let promfront = Promfront::before("http://127.0.0.1:9");
    for what in ["healthy", "ready"] {
        let run = Command::new("promtool").args(["check", what, &format!("--url={}", promfront.url)]).output();
        let run = run.expect("promtool is not on the PATH: run `make tools`");
        let said = String::from_utf8_lossy(&run.stderr);
        // Releases before 2.45 do not know these commands.
        assert!(run.status.success() || said.contains("expected command"), "{what}: {said}");
    }
}

#[tokio::test]
async fn a_script_of_python_prints_the_same() {
    let packages = python_client();
    let prometheus = Prometheus::with_test_data().await;
    let promfront = Promfront::before(&prometheus.url);
    let script = |url: &str, more: &[&str]| {
        let run = Command::new("python3").env("PYTHONPATH", &packages).args(["-c", SCRIPT, url]).args(more).output();
        let run = run.expect("python3 is there");
        assert!(run.status.success(), "{url}: {}", String::from_utf8_lossy(&run.stderr));
        String::from_utf8(run.stdout).expect("JSON")
    };
    let want = script(&prometheus.url, &[]);
    let first = script(&promfront.url, &[]);
    let after_first = asked(&promfront).await;
    let second = script(&promfront.url, &[]);
    assert!(want.lines().count() == 2 && first == want && second == want, "the answers differ");
    let more = asked(&promfront).await - after_first;
    // The refused query is asked by each method, and never kept.
    assert!(more < 2.5, "{more} requests of the second run went to Prometheus, of which 2 are refusals");
    assert_eq!(script(&promfront.url, &["refusal"]), script(&prometheus.url, &["refusal"]));
    let metrics = promfront.metrics().await;
    assert!(metrics.sum("promfront_range_queries_total", &["status=\"hit\""]) > 3.5);
}

/// Where the packages of the Python client are: put there on the first run, and kept under `target/`.
fn python_client() -> PathBuf {
    let name = format!("python-{}", PYTHON_CLIENT.replace("==", "-"));
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    if !folder.exists() {
        // Made beside its place and then moved there, so that half of it is never taken for all of it.
        let unfinished = folder.with_extension(std::process::id().to_string());
        let run = Command::new("python3")
            .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input", "--target"])
            .arg(&unfinished)
            .arg(PYTHON_CLIENT)
            .output()
            .expect("python3 is there");
        assert!(
            run.status.success(),
            "this test needs the package {PYTHON_CLIENT} of PyPI, and pip could not get it. Is pip there (`make tools`), and \
             can it reach PyPI or the index that PIP_INDEX_URL names? Or put it there yourself: python3 -m pip install \
             --target {} {PYTHON_CLIENT}\n{}",
            folder.display(),
            String::from_utf8_lossy(&run.stderr)
        );
        if fs::rename(&unfinished, &folder).is_err() {
            fs::remove_dir_all(&unfinished).expect("ours to remove");
        }
    }
    folder
}
