//! A real VictoriaMetrics. It moves the times of a query to multiples of its step, guesses from the samples of the whole range how
//! old a value may be, and adds in a random order: so its range answers are not the sum of their parts.

use std::fmt::Write as _;

use crate::support::victoriametrics::VictoriaMetrics;
use crate::support::{Answer, DATA_END, Prometheus, Promfront, escaped, range_params};
use crate::{get, is_hit};

/// What is configured before a VictoriaMetrics.
const YAML: &str = "";

const DAY: i64 = 86_400;

/// Ranges with whole and odd starts and steps, short ones and long ones: start, end, step.
const RANGES: &[(i64, i64, &str)] = &[
    (DATA_END - 6 * DAY, DATA_END - 3 * DAY, "300"),
    (DATA_END - 6 * DAY + 7, DATA_END - 3 * DAY + 7, "300"),
    (DATA_END - 6 * DAY, DATA_END - 3 * DAY, "61"),
    (DATA_END - 7 * DAY + 1800, DATA_END - DAY + 1800, "1h"),
    (DATA_END - 5 * DAY - 3600 + 7, DATA_END - 5 * DAY + 3600, "300"),
    (DATA_END - 5 * DAY - 1800, DATA_END - 5 * DAY + 1800, "10"),
    (DATA_END - 4 * DAY, DATA_END - 4 * DAY, "60"),
];

/// None that adds floats, for that is done in a random order.
const QUERIES: &[&str] = &[
    "up",
    "temperature_celsius",
    "rate(http_requests_total[5m])",
    "rate(http_requests_total)",
    "max_over_time(queue_depth[3h])",
    "count by (job) (up)",
    "nothing",
    "time()",
    "slower",
    "rate(slower[1m])",
    "rate(faster)",
    "rate(gaps[5m])",
    "keep_last_value(queue_depth)",
    "running_max(temperature_celsius)",
    "temperature_celsius @ end()",
    "start()",
    "topk_max(1, temperature_celsius)",
    r#"label_set(up, "a", "b")"#,
    "up default 7",
];

/// Series of whose interval the first samples of a range tell something that does not hold for the rest of it.
fn uneven() -> String {
    let turn = DATA_END - 5 * DAY - 11 * 3600;
    let every = |from: i64, to: i64, step: usize| (from..to).step_by(step).collect::<Vec<_>>();
    let (first, last) = (DATA_END - 7 * DAY, DATA_END);
    let gaps = every(first, last, 30).into_iter().filter(|time| time / 3600 % 5 != 0).collect();
    let mut lines = String::new();
    for (name, times) in [
        ("slower", [every(first, turn, 15), every(turn, last, 120)].concat()),
        ("faster", [every(first, turn, 120), every(turn, last, 15)].concat()),
        ("gaps", gaps),
    ] {
        let values: Vec<String> = (0..times.len()).map(|i| (i * 3).to_string()).collect();
        let times: Vec<String> = times.iter().map(|time| (time * 1000).to_string()).collect();
        let (values, times) = (values.join(","), times.join(","));
        let _ = writeln!(lines, r#"{{"metric":{{"__name__":"{name}"}},"values":[{values}],"timestamps":[{times}]}}"#);
    }
    lines
}

async fn both() -> (VictoriaMetrics, Promfront) {
    let prometheus = Prometheus::with_test_data().await;
    let server = VictoriaMetrics::with_data_of(&prometheus).await;
    server.import(&uneven()).await;
    let promfront = Promfront::configured(&server.url, YAML);
    (server, promfront)
}

/// The server's own answer, and promfront's twice. The server forgets what it keeps before each, for what it keeps changes what it says.
async fn asked(server: &VictoriaMetrics, promfront: &Promfront, what: &str) -> (Answer, [Answer; 2]) {
    server.forget().await;
    let want = get(&format!("{}/api/v1/{what}", server.url), &[]).await;
    server.forget().await;
    let first = get(&format!("{}/api/v1/{what}", promfront.url), &[]).await;
    server.forget().await;
    (want, [first, get(&format!("{}/api/v1/{what}", promfront.url), &[]).await])
}

#[tokio::test]
async fn ranges_are_those_of_the_server_itself() {
    let (server, promfront) = both().await;
    let mut wrong = Vec::new();
    for (start, end, step) in RANGES {
        for query in QUERIES {
            // Without its cache it leaves the times as they are.
            let is_exact = ["slower", "rate(gaps[5m])"].contains(query);
            for more in if is_exact { &["", "&nocache=1"][..] } else { &[""] } {
                let params = format!("{}{more}", range_params(query, &start.to_string(), &end.to_string(), step));
                let (want, got) = asked(&server, &promfront, &format!("query_range?{params}")).await;
                for got in got {
                    if (got.status, &got.body) != (want.status, &want.body) {
                        wrong.push(format!("{query} {start}..{end} by {step}{more}: {}", got.result()));
                    }
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}:\n{}", wrong.len(), wrong.join("\n"));
}

/// Refusals name the range that was asked for, so a part's would give itself away.
#[tokio::test]
async fn refusals_are_those_of_the_server_itself() {
    let (server, promfront) = both().await;
    for what in [
        "query_range?query=up%29&start=1707091200&end=1707350400&step=300",
        "query_range?query=up&start=1707350400&end=1707091200&step=300",
        "query_range?query=up&start=1707091200&end=1707350400&step=0",
        "query?query=up%29&time=1707350400",
        "series?start=1707091200&end=1707350400",
        "nothing_that_it_knows",
    ] {
        let (want, got) = asked(&server, &promfront, what).await;
        for got in got {
            // The refusal of an unknown path names the client's port.
            let is_same = want.body == got.body || what == "nothing_that_it_knows";
            assert!(is_same && got.status == want.status, "{what}: {} instead of {}", got.text(), want.text());
            assert!(want.status == 200 || !is_hit(&got), "{what}");
        }
    }
}

#[tokio::test]
async fn instants_series_and_labels_are_those_of_the_server_itself_and_are_kept() {
    let (server, promfront) = both().await;
    let window = "start=1707091200&end=1707350400";
    let whats = [
        format!("query?query=up&time={DATA_END}"),
        format!("query?query={}&time={}.5", escaped("rate(http_requests_total[5m])"), DATA_END - DAY),
        format!("query?query={}&time={DATA_END}", escaped("up[10m]")),
        format!("query?query={}&time={DATA_END}", escaped("1 + 1")),
        format!("series?match[]=up&{window}"),
        format!("series?match[]=http_requests_total&match[]=up&{window}"),
        format!("labels?{window}"),
        format!("labels?match[]=up&{window}"),
        format!("label/job/values?{window}"),
        format!("label/__name__/values?match[]=up&{window}"),
    ];
    for what in whats {
        let (want, got) = asked(&server, &promfront, &what).await;
        for got in &got {
            assert_eq!((got.status, sorted(&got.text())), (want.status, sorted(&want.text())), "{what}");
            assert_eq!(got.header("content-type"), want.header("content-type"), "{what}");
        }
        assert_eq!(got[0].text(), got[1].text(), "{what}: what was kept is what came");
        assert!(is_hit(&got[1]), "{what}: {}", got[1].result());
    }
}

/// The series of a selector with a range come in any order from this server, each time in another.
fn sorted(answer: &str) -> serde_json::Value {
    let mut answer: serde_json::Value = serde_json::from_str(answer).expect("JSON");
    if let Some(series) = answer.pointer_mut("/data/result").and_then(serde_json::Value::as_array_mut) {
        series.sort_by_key(ToString::to_string);
    }
    answer
}

/// Pages, exports and what only this server has are passed on.
#[tokio::test]
async fn the_rest_is_passed_on() {
    let (server, promfront) = both().await;
    for what in [
        "api/v1/export?match[]=up&start=1707091200&end=1707094800",
        "api/v1/status/buildinfo",
        "api/v1/rules",
        "api/v1/metadata",
        "prometheus/api/v1/labels?start=1707091200&end=1707350400",
        "federate?match[]=up",
    ] {
        let [want, got] = [&server.url, &promfront.url].map(|url| format!("{url}/{what}"));
        let (want, got) = (get(&want, &[]).await, get(&got, &[]).await);
        // The lines of an export come in any order.
        let sorted = |answer: &Answer| {
            let text = answer.text();
            let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
            lines.sort();
            lines
        };
        assert_eq!((got.status, sorted(&got)), (want.status, sorted(&want)), "{what}");
    }
}

#[tokio::test]
async fn times_that_are_relative_are_passed_on_whole() {
    let (server, promfront) = both().await;
    let shape = |answer: &Answer| answer.text().replace(|c: char| c.is_ascii_digit() || c == '.', "");
    for what in [
        "query_range?query=time%28%29&start=-3d&end=-1h&step=1h",
        "query_range?query=time%28%29&start=-10m&step=1m",
        "query?query=time%28%29&time=-1h",
        "query?query=up&time=-1d",
        "series?match[]=up&start=-1d&end=-1h",
        "labels?start=-1d&end=-1h",
        "label/job/values?start=-1d&end=-1h",
    ] {
        let (want, got) = asked(&server, &promfront, what).await;
        for got in got {
            assert_eq!((got.status, shape(&got)), (want.status, shape(&want)), "{what}: {}", got.result());
            assert!(!is_hit(&got), "{what}: {}", got.result());
        }
    }
}

/// What this server's own parameters change, they change in what is kept too.
#[tokio::test]
async fn its_own_parameters_are_in_the_key() {
    let (server, promfront) = both().await;
    let questions = [
        format!("query?query=temperature_celsius&time={DATA_END}"),
        "query_range?query=temperature_celsius&start=1707091200&end=1707094800&step=60".to_owned(),
        "series?match[]=up&start=1707091200&end=1707350400".to_owned(),
        "labels?start=1707091200&end=1707350400".to_owned(),
        "label/job/values?start=1707091200&end=1707350400".to_owned(),
    ];
    let mut answers = std::collections::BTreeSet::new();
    for question in &questions {
        for more in [
            "",
            "&extra_label=room%3Dhall",
            "&extra_label=room%3Droof",
            "&extra_label=room%3Droof&extra_label=site%3Doslo",
            "&extra_filters[]=%7Bsite%3D%22lima%22%7D",
            "&extra_label=job%3Dapi",
            "&extra_label=job%3Dnode",
            "&extra_filters[]=%7Bjob%3D~%22n.*%22%7D",
            "&round_digits=2",
            "&round_digits=1",
            "&nocache=1",
        ] {
            let what = format!("{question}{more}");
            let (want, got) = asked(&server, &promfront, &what).await;
            assert!(!is_hit(&got[0]), "{what}: {}", got[0].result());
            for got in &got {
                assert_eq!((got.status, got.text()), (want.status, want.text()), "{what}");
            }
            answers.insert(want.text());
        }
    }
    assert!(answers.len() > 15, "the parameters do something: {} answers", answers.len());
}

/// What goes in by promfront's door goes through it only if that is allowed.
#[tokio::test]
async fn imports_are_passed_as_they_were_asked() {
    let (server, promfront) = both().await;
    let before = get(&format!("{}/api/v1/label/__name__/values", server.url), &[]).await.text();
    let got = get(&format!("{}/api/v1/label/__name__/values", promfront.url), &[]).await;
    assert_eq!(got.text(), before);
    assert!(!is_hit(&got) && before.contains("gaps"));
}
