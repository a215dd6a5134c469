//! Thanos, Cortex and Mimir, and the cluster of VictoriaMetrics, as far as they differ from Prometheus in what may be kept and for whom.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::support::Promfront;
use crate::support::recorded::Recorded;
use crate::support::scripted::{Asked, ok, with_head};
use crate::{get, is_hit};

const QUESTIONS: [&str; 5] = [
    "query?query=up&time=1707350400",
    "query_range?query=up&start=1707264000&end=1707350400&step=3600",
    "series?match[]=up&start=1707264000&end=1707350400",
    "labels?start=1707264000&end=1707350400",
    "label/job/values?start=1707264000&end=1707350400",
];

/// A sound answer in which `says` stands.
fn body(asked: &Asked, says: &str, more: &str) -> String {
    let says = serde_json::Value::from(says);
    let data = match asked.path().rsplit('/').next().unwrap_or_default() {
        "query" => {
            format!(r#"{{"resultType":"vector","result":[{{"metric":{{"says":{says}}},"value":[1707350400,"1"]}}]}}"#)
        }
        "query_range" => {
            let time = |name: &str| -> i64 {
                let text = asked.param(name).unwrap_or_default();
                text.split('.').next().unwrap_or_default().parse().expect("seconds")
            };
            let step = usize::try_from(time("step")).expect("positive");
            let values: Vec<String> =
                (time("start")..=time("end")).step_by(step).map(|at| format!(r#"[{at},"1"]"#)).collect();
            let values = values.join(",");
            format!(r#"{{"resultType":"matrix","result":[{{"metric":{{"says":{says}}},"values":[{values}]}}]}}"#)
        }
        "series" => format!(r#"[{{"says":{says}}}]"#),
        _ => format!("[{says}]"),
    };
    format!(r#"{{"status":"success",{more}"data":{data}}}"#)
}

/// What a Thanos Querier takes into account: its parameters and its tenant.
fn thanos(asked: &Asked) -> String {
    let known = |pair: &&str| {
        ["dedup", "partial_response", "max_source_resolution", "replicaLabels", "storeMatch", "engine", "analyze"]
            .iter()
            .any(|name| pair.starts_with(name))
    };
    let params: Vec<&str> = asked.query().split('&').filter(known).collect();
    let tenant = asked.header("THANOS-TENANT").unwrap_or("default-tenant");
    format!("{} for {tenant}", params.join(" "))
}

#[tokio::test]
async fn the_parameters_and_the_tenant_of_thanos_are_in_the_key() {
    let downstream = Recorded::start(|asked| Some(ok(body(asked, &thanos(asked), "").as_bytes()))).await;
    let promfront = Promfront::before(downstream.url());
    let variants: [(&str, &[(&str, &str)]); 13] = [
        ("", &[]),
        ("&dedup=true", &[]),
        ("&dedup=false", &[]),
        ("&partial_response=false", &[]),
        ("&max_source_resolution=5m", &[]),
        ("&max_source_resolution=0s", &[]),
        ("&replicaLabels[]=a", &[]),
        ("&replicaLabels[]=a&replicaLabels[]=b", &[]),
        ("&storeMatch[]=%7Ba%3D%22b%22%7D", &[]),
        ("&engine=thanos", &[]),
        ("&analyze=true", &[]),
        ("", &[("THANOS-TENANT", "team-a")]),
        ("&dedup=false", &[("THANOS-TENANT", "team-a")]),
    ];
    let mut wrong = Vec::new();
    for turn in ["first", "second"] {
        for question in QUESTIONS {
            for (more, headers) in variants {
                let url = format!("{}/api/v1/{question}{more}", promfront.url);
                let tenant = headers.first().map_or("default-tenant", |(_, tenant)| tenant);
                let want = format!("{} for {tenant}", more.trim_start_matches('&').replace('&', " "));
                let answer = get(&url, headers).await;
                let want_text = serde_json::Value::from(want.as_str()).to_string();
                if !answer.text().contains(&want_text) {
                    wrong.push(format!("{question}{more} {headers:?} ({turn}): {:.300}", answer.text()));
                }
                // What single stores say is never kept by Thanos itself, and need not be here.
                let may_pass = more.contains("storeMatch") || more.contains("analyze");
                if is_hit(&answer) != (turn == "second") && !may_pass {
                    wrong.push(format!("{question}{more} {headers:?} ({turn}): {}", answer.result()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}:\n{}", wrong.len(), wrong.join("\n"));
}

/// While a store is away answers are partial, warned about and `no-store`; when it is back everybody sees it at once.
#[tokio::test]
async fn partial_answers_are_gone_when_the_store_is_back() {
    for (head, more) in [
        ("cache-control: no-store\r\n", r#""warnings":["fetch series from store-2: connection refused"],"#),
        ("Cache-Control: no-cache, no-store\r\n", ""),
        ("", r#""isPartial":true,"#),
    ] {
        let is_back = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&is_back);
        let downstream = Recorded::start(move |asked| {
            if seen.load(Ordering::SeqCst) {
                return Some(ok(body(asked, "everything", "").as_bytes()));
            }
            let body = body(asked, "half", more);
            let length = body.len();
            let head =
                format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n{head}content-length: {length}\r\n\r\n");
            Some(with_head(&head, body.as_bytes()))
        })
        .await;
        let promfront = Promfront::before(downstream.url());
        for question in QUESTIONS {
            let partial = get(&format!("{}/api/v1/{question}", promfront.url), &[]).await;
            assert!(
                partial.text().contains("half") && partial.text().contains(more.trim_end_matches(',')),
                "{question}"
            );
            let forbids = partial.header("cache-control").to_ascii_lowercase().contains("no-store");
            assert!(forbids || head.is_empty(), "{question}: whoever is in front of us must not keep it either");
        }
        is_back.store(true, Ordering::SeqCst);
        for question in QUESTIONS {
            let whole = get(&format!("{}/api/v1/{question}", promfront.url), &[]).await;
            assert!(whole.text().contains("everything"), "{question}, {head}{more}: {}", whole.result());
        }
    }
}

/// `isPartial:false` and the statistics of VictoriaMetrics are no reason against keeping.
#[tokio::test]
async fn whole_answers_of_a_cluster_may_be_kept() {
    let downstream = Recorded::start(|asked| Some(ok(body(asked, "all", r#""isPartial":false,"#).as_bytes()))).await;
    let promfront = Promfront::before(downstream.url());
    for question in [QUESTIONS[0], QUESTIONS[2], QUESTIONS[3], QUESTIONS[4]] {
        let url = format!("{}/api/v1/{question}", promfront.url);
        let [first, second] = [get(&url, &[]).await, get(&url, &[]).await];
        assert_eq!(first.body, second.body, "{question}");
        assert!(second.text().contains(r#""isPartial":false"#) && is_hit(&second), "{question}: {}", second.result());
    }
}

/// Cortex and Mimir: under `/prometheus`, each tenant by its header, and nobody without one.
#[tokio::test]
async fn cortex_has_a_prefix_and_tenants() {
    let cortex = |asked: &Asked| match asked.header("X-Scope-OrgID") {
        Some(tenant) if asked.path().starts_with("/prometheus/api/v1/") => {
            Some(ok(body(asked, &format!("data of {tenant}"), "").as_bytes()))
        }
        Some(_) => Some(with_head("HTTP/1.1 404 Not Found\r\ncontent-length: 19\r\n\r\n", b"404 page not found\n")),
        None => Some(with_head(
            "HTTP/1.1 401 Unauthorized\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: 10\r\n\r\n",
            b"no org id\n",
        )),
    };
    for (yaml, base) in [("", ""), ("multitenancy: {enabled: true}\n", ""), ("", "/prometheus")] {
        let downstream = Recorded::start(cortex).await;
        let promfront = Promfront::configured(&format!("{}{base}", downstream.url()), yaml);
        let prefix = if base.is_empty() { "/prometheus" } else { "" };
        for question in QUESTIONS {
            let url = format!("{}{prefix}/api/v1/{question}", promfront.url);
            for turn in 0..2 {
                for tenant in ["team-a", "team-b"] {
                    let answer = get(&url, &[("X-Scope-OrgID", tenant)]).await;
                    assert!(answer.text().contains(&format!("\"data of {tenant}\"")), "{question}: {}", answer.text());
                    assert_eq!(is_hit(&answer), turn == 1, "{question} of {tenant}: {}", answer.result());
                }
                let nobody = get(&url, &[]).await;
                assert_eq!(nobody.status, 401, "{question}: {}", nobody.text());
                assert!(!is_hit(&nobody) && (!yaml.is_empty() || nobody.text() == "no org id\n"), "{}", nobody.text());
            }
        }
    }
}
