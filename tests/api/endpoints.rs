//! The table of endpoints.

use crate::support::recorded::Recorded;
use crate::support::{Http, Prometheus, Promfront};
use crate::{is_hit, request, send};

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Treatment {
    /// The second answer is a hit, and nothing more arrives downstream.
    Kept,
    /// Each request arrives downstream, and none is answered from the cache.
    Passed,
    /// It arrives downstream, or is answered as it was before: nobody promises either.
    Answered,
    /// Nothing of it arrives downstream.
    Here,
}
use Treatment::{Answered, Here, Kept, Passed};

/// How the method arrives: as it was sent, or as GET, since servers have only that there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum As {
    Sent,
    Get,
}

const RANGE: &str = "query=up&start=1707264000&end=1707350400&step=60";
const WINDOW: &str = "match%5B%5D=up&start=1707264000&end=1707350400";

/// Endpoint, its parameters, what becomes of it by GET, and by POST with the same parameters as a form.
const QUERY_API: &[(&str, &str, Treatment, As)] = &[
    ("query_range", RANGE, Kept, As::Sent),
    ("query", "query=up&time=1707350400", Kept, As::Sent),
    ("query", "query=up", Passed, As::Sent),
    ("query", "query=up&time=", Passed, As::Sent),
    ("query_exemplars", "query=up&start=1707264000&end=1707350400", Answered, As::Sent),
    ("series", WINDOW, Kept, As::Sent),
    ("series", "match%5B%5D=up", Passed, As::Sent),
    ("series", "match%5B%5D=up&start=1707264000", Passed, As::Sent),
    ("series", "match%5B%5D=up&end=1707264000", Passed, As::Sent),
    ("labels", WINDOW, Kept, As::Sent),
    ("labels", "", Passed, As::Sent),
    ("label/job/values", WINDOW, Kept, As::Get),
    ("label/job/values", "", Passed, As::Get),
    ("label/__name__/values", "start=1707264000&end=1707350400&limit=40000", Kept, As::Get),
    ("metadata", "limit=10", Passed, As::Get),
    ("format_query", "query=up", Answered, As::Sent),
    ("parse_query", "query=up", Answered, As::Sent),
    ("search/metric_names", "search=http", Passed, As::Sent),
    ("search/label_names", "search=http", Passed, As::Sent),
    ("search/label_values", "search=http", Passed, As::Sent),
    ("rules", "type=alert", Passed, As::Get),
    ("alerts", "", Passed, As::Get),
    ("targets", "state=active", Passed, As::Get),
    ("targets/metadata", "limit=1", Passed, As::Get),
    ("scrape_pools", "", Passed, As::Get),
    ("alertmanagers", "", Passed, As::Get),
    ("features", "", Passed, As::Get),
    ("notifications", "", Passed, As::Get),
    ("status/buildinfo", "", Passed, As::Get),
    ("status/config", "", Passed, As::Get),
    ("status/flags", "", Passed, As::Get),
    ("status/runtimeinfo", "", Passed, As::Get),
    ("status/tsdb", "limit=5", Passed, As::Get),
    ("status/walreplay", "", Passed, As::Get),
];

/// What is not of the query API.
const THE_REST: &[(&str, &str, Treatment)] = &[
    ("GET", "/graph", Passed),
    ("GET", "/static/js/main.js", Passed),
    ("GET", "/api/v1/stores", Passed),
    ("GET", "/api/v1/openapi.yaml", Passed),
    ("GET", "/-/healthy", Here),
    ("GET", "/-/ready", Here),
    ("POST", "/-/reload", Here),
    ("PUT", "/-/reload", Here),
    ("POST", "/-/quit", Here),
    ("GET", "/metrics", Here),
];

#[tokio::test]
async fn each_endpoint_is_treated_as_the_table_says() {
    let mut wrong = Vec::new();
    for method in ["GET", "POST"] {
        let (downstream, http) = (Recorded::usual().await, Http::new());
        let promfront = Promfront::before(downstream.url());
        for &(endpoint, params, treatment, arrives) in QUERY_API {
            let path = format!("/api/v1/{endpoint}");
            let before = downstream.asked_for(&path).len();
            let mark = if method == "POST" || params.is_empty() { String::new() } else { format!("?{params}") };
            let url = format!("{}{path}{mark}", promfront.url);
            let form = if method == "POST" { params } else { "" };
            let mut hits = Vec::new();
            for _ in 0..2 {
                let answer = http.send(request(method, &url, form, &[])).await;
                hits.push(is_hit(&answer));
                if answer.status != 200 || !answer.result().starts_with("status=") {
                    wrong.push(format!("{method} {path}: {} {:?} {}", answer.status, answer.result(), answer.text()));
                }
                if !is_hit(&answer) && !answer.result().contains("; reason=") {
                    wrong.push(format!("{method} {path}: no reason in {:?}", answer.result()));
                }
            }
            let asked = downstream.asked_for(&path).split_off(before);
            let is_as_said = match treatment {
                // One that is cut arrives in parts.
                Kept => hits == [false, true] && !asked.is_empty() && (asked.len() == 1 || endpoint == "query_range"),
                Passed => hits == [false, false] && asked.len() == 2,
                Answered => true,
                Here => asked.is_empty(),
            };
            if !is_as_said {
                wrong
                    .push(format!("{method} {path}?{params}: {treatment:?}, but hits {hits:?}, asked {}", asked.len()));
            }
            let want = if arrives == As::Get { "GET" } else { method };
            for asked in &asked {
                let has_params = asked.query() == params || asked.body == params || endpoint == "query_range";
                if asked.method() != want || !has_params {
                    wrong.push(format!("{method} {path}?{params} arrived as {:?} {:?}", asked.head, asked.body));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}:\n{}", wrong.len(), wrong.join("\n"));
}

#[tokio::test]
async fn what_is_no_query_is_passed_on_or_is_ours() {
    let downstream = Recorded::usual().await;
    let promfront = Promfront::before(downstream.url());
    for (method, path, treatment) in THE_REST {
        let before = downstream.asked_for(path).len();
        let answer = send(method, &format!("{}{path}", promfront.url), "", &[]).await;
        let arrived = downstream.asked_for(path).len() - before;
        assert_eq!(arrived, usize::from(*treatment == Passed), "{method} {path}: {} {}", answer.status, answer.text());
    }
}

/// A datasource URL may have a path before `/api/v1`, and what is behind it too.
#[tokio::test]
async fn a_prefix_changes_nothing() {
    let downstream = Recorded::usual().await;
    let promfront = Promfront::before(&format!("{}/base", downstream.url()));
    for (endpoint, params) in [
        ("query_range", RANGE),
        ("query", "query=up&time=1707350400"),
        ("series", WINDOW),
        ("labels", WINDOW),
        ("label/job/values", WINDOW),
    ] {
        let url = format!("{}/prometheus/tenant-a/api/v1/{endpoint}?{params}", promfront.url);
        let [first, second] = [send("GET", &url, "", &[]).await, send("GET", &url, "", &[]).await];
        assert!(!is_hit(&first) && is_hit(&second), "{endpoint}: {:?}, {:?}", first.result(), second.result());
        assert_eq!(first.body, second.body);
        let path = format!("/base/prometheus/tenant-a/api/v1/{endpoint}");
        assert!(!downstream.asked_for(&path).is_empty(), "{endpoint}: {:?}", downstream.asked());
        let elsewhere = url.replace("tenant-a", "tenant-b");
        assert!(!is_hit(&send("GET", &elsewhere, "", &[]).await), "{endpoint}: another path is another server");
    }
}

/// Grafana takes a `features` map for Mimir, and an altered version for another server.
#[tokio::test]
async fn buildinfo_is_the_servers_own() {
    let prometheus = Prometheus::start(None, &[]).await;
    let promfront = Promfront::before(&prometheus.url);
    let [want, got] = [&prometheus.url, &promfront.url].map(|url| format!("{url}/api/v1/status/buildinfo"));
    let (want, got) = (Http::new().get(&want).await, Http::new().get(&got).await);
    assert_eq!((got.status, &got.body), (want.status, &want.body));
    assert!(got.json()["data"]["version"].is_string());
}
