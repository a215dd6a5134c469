//! Series, labels and the values of a label: kept whole, byte for byte, under everything that was asked.

use std::collections::BTreeSet;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::support::recorded::Recorded;
use crate::support::scripted::{ok, with_head};
use crate::support::{Answer, DATA_START, Http, Prometheus, Promfront, until};
use crate::{is_hit, send};

const WINDOW: &str = "start=1707264000&end=1707350400";
const ENDPOINTS: [&str; 3] = ["series", "labels", "label/job/values"];

#[expect(clippy::disallowed_methods, reason = "what is young has to be asked for")]
fn now_s() -> i64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    i64::try_from(since_epoch.as_secs()).expect("before the year 292 billion")
}

async fn get(promfront: &Promfront, endpoint: &str, params: &str) -> Answer {
    send("GET", &format!("{}/api/v1/{endpoint}?{params}", promfront.url), "", &[]).await
}

/// Within one block of the server's (two hours) series come and go: no wider range is known to have the same answer, so each range
/// has an answer of its own.
#[tokio::test]
async fn ranges_within_one_block_have_answers_of_their_own() {
    let prometheus = Prometheus::with_test_data().await;
    let promfront = Promfront::before(&prometheus.url);
    let mut seen = BTreeSet::new();
    for tenth_minute in 0..12 {
        let start = DATA_START + tenth_minute * 600;
        let params = format!("match%5B%5D=%7B__name__%3D~%22.%2B%22%7D&start={start}&end={}", start + 599);
        let want = send("GET", &format!("{}/api/v1/series?{params}", prometheus.url), "", &[]).await;
        for _ in 0..2 {
            assert_eq!(get(&promfront, "series", &params).await.body, want.body, "{params}");
        }
        assert!(is_hit(&get(&promfront, "series", &params).await));
        seen.insert(want.body);
    }
    assert!(seen.len() > 1, "the data has series that come and go");
}

#[tokio::test]
async fn every_kept_answer_is_that_of_the_server_itself() {
    let prometheus = Prometheus::with_test_data().await;
    let promfront = Promfront::before(&prometheus.url);
    let http = Http::new();
    let windows = [
        WINDOW,
        "start=1706745600&end=1707609600",
        "start=2024-02-07T00:00:00Z&end=2024-02-07T01:00:00.5Z",
        "start=1&end=2",
    ];
    let matches = [
        "match%5B%5D=up",
        "match%5B%5D=%7Bjob%3D%22api%22%7D",
        "match%5B%5D=odd_labels&match%5B%5D=build_info",
        "match%5B%5D=nothing",
    ];
    for endpoint in
        ["series", "labels", "label/job/values", "label/__name__/values", "label/text/values", "label/nothing/values"]
    {
        for window in windows {
            for selector in matches {
                let params = format!("{selector}&{window}");
                let want = http.get(&format!("{}/api/v1/{endpoint}?{params}", prometheus.url)).await;
                for turn in 0..2 {
                    let got = http.get(&format!("{}/api/v1/{endpoint}?{params}", promfront.url)).await;
                    assert_eq!((got.status, got.text()), (want.status, want.text()), "{endpoint}?{params}");
                    assert_eq!(got.header("content-type"), want.header("content-type"));
                    assert!(turn == 0 || is_hit(&got), "{endpoint}?{params}: {}", got.result());
                }
            }
        }
    }
    for bad in [
        "match%5B%5D=up%7B&start=1&end=2",
        "match%5B%5D=%7B%7D&start=1&end=2",
        "match%5B%5D=up&start=5&end=x",
        "match%5B%5D=up&start=9&end=2",
    ] {
        let want = http.get(&format!("{}/api/v1/series?{bad}", prometheus.url)).await;
        for _ in 0..2 {
            let got = http.get(&format!("{}/api/v1/series?{bad}", promfront.url)).await;
            assert_eq!((got.status, got.text()), (want.status, want.text()), "{bad}");
            assert!(want.status == 200 || !is_hit(&got), "{bad}: a refusal is not kept");
        }
    }
}

#[tokio::test]
async fn a_range_that_may_still_grow_is_asked_for_again() {
    let downstream = Recorded::usual().await;
    let promfront = Promfront::before(downstream.url());
    let now = now_s();
    for endpoint in ENDPOINTS {
        for window in [
            String::new(),
            "start=1707264000".to_owned(),
            "end=1707350400".to_owned(),
            "start=&end=".to_owned(),
            "start=&end=1707350400".to_owned(),
            "start=1707264000&end=".to_owned(),
            format!("start=1707264000&end={now}"),
            format!("start={}&end={}", now - 3600, now - 60),
            format!("start={}&end={}", now - 3600, now - 540),
            format!("start=1707264000&end={}", now + 86_400),
            "start=-1h&end=-30m".to_owned(),
        ] {
            let params = format!("match%5B%5D=up&{window}");
            let [first, second] = [get(&promfront, endpoint, &params).await, get(&promfront, endpoint, &params).await];
            assert!(!is_hit(&first) && !is_hit(&second), "{endpoint}?{params}: {}", second.result());
            assert!(second.result().contains("reason="), "{endpoint}?{params}: {}", second.result());
        }
    }
}

/// Each pair is two questions, however alike they look; the second of a pair never gets the answer of the first.
#[tokio::test]
async fn questions_that_differ_do_not_share_answers() {
    let downstream = Recorded::usual().await;
    let promfront = Promfront::before(downstream.url());
    for endpoint in ENDPOINTS {
        for (one, other) in [
            ("match%5B%5D=a", "match%5B%5D=b"),
            ("match%5B%5D=c", "match%5B%5D=c&match%5B%5D=d"),
            ("match%5B%5D=ab&match%5B%5D=e", "match%5B%5D=a&match%5B%5D=be"),
            ("match%5B%5D=f&match%5B%5D=g", "match%5B%5D=f%26match%5B%5D%3Dg"),
            ("match%5B%5D=h%0Ai", "match%5B%5D=h&match%5B%5D=i"),
            ("match%5B%5D=j", "match%5B%5D=j&limit=1"),
            ("match%5B%5D=k&limit=1", "match%5B%5D=k&limit=2"),
            ("match%5B%5D=l&dedup=true", "match%5B%5D=l&dedup=false"),
            ("match%5B%5D=m", "match%5B%5D=m&extra_label=job%3Da"),
            ("match%5B%5D=n&never_heard_of=1", "match%5B%5D=n&never_heard_of=2"),
            ("match%5B%5D=o&replicaLabels%5B%5D=a", "match%5B%5D=o&replicaLabels%5B%5D=b"),
            ("match%5B%5D=p&storeMatch%5B%5D=a", "match%5B%5D=p&storeMatch%5B%5D=b"),
            ("match%5B%5D=q&partial_response=true", "match%5B%5D=q&partial_response=false"),
        ] {
            for params in [one, other] {
                let answer = get(&promfront, endpoint, &format!("{params}&{WINDOW}")).await;
                assert!(!is_hit(&answer), "{endpoint}?{params}: {}", answer.result());
            }
            for params in [one, other] {
                let answer = get(&promfront, endpoint, &format!("{params}&{WINDOW}")).await;
                let is_kept = is_hit(&answer) || params.contains("storeMatch");
                assert!(is_kept, "{endpoint}?{params}: {}", answer.result());
            }
        }
        for window in [
            "start=1707264001&end=1707350400",
            "start=1707264000&end=1707350401",
            "start=1707264000&end=1707350400.001",
        ] {
            assert!(!is_hit(&get(&promfront, endpoint, &format!("match%5B%5D=a&{window}")).await), "{window}");
        }
        for header in ["authorization", "x-scope-orgid", "thanos-tenant", "cookie"] {
            for value in ["a", "b"] {
                let url = format!("{}/api/v1/{endpoint}?match%5B%5D=a&{WINDOW}", promfront.url);
                let answer = send("GET", &url, "", &[(header, value)]).await;
                assert!(!is_hit(&answer), "{endpoint}, {header}: {value}: {}", answer.result());
            }
        }
    }
    // The same parameters at other endpoints, and of other labels.
    for endpoint in ["label/a/values", "label/b/values", "label/__name__/values"] {
        let answer = get(&promfront, endpoint, &format!("match%5B%5D=a&{WINDOW}")).await;
        assert!(!is_hit(&answer), "{endpoint}: {}", answer.result());
    }
}

#[tokio::test]
async fn the_order_of_selectors_does_not_matter() {
    let downstream = Recorded::usual().await;
    let promfront = Promfront::before(downstream.url());
    for endpoint in ENDPOINTS {
        let first = get(&promfront, endpoint, &format!("match%5B%5D=a&match%5B%5D=b&{WINDOW}")).await;
        let turned = get(&promfront, endpoint, &format!("match%5B%5D=b&match%5B%5D=a&{WINDOW}")).await;
        assert!(!is_hit(&first) && is_hit(&turned), "{endpoint}: {:?}, {:?}", first.result(), turned.result());
        assert_eq!(first.body, turned.body);
    }
}

/// Blanks, order, doubles, numbers and keys that nobody knows: what came is what is given.
#[tokio::test]
async fn the_bytes_are_kept_and_not_their_meaning() {
    const ODD: &str =
        "{ \"status\" : \"success\",\n\"data\":[\"b\",\"a\",\"a\",\"\\u00e9\\/\"] ,\"x\":1.50e40, \"infos\" : [] }\n";
    let downstream = Recorded::start(|_| {
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/json; charset=utf-8\r\ncontent-length: {}\r\n\r\n",
            ODD.len()
        );
        Some(with_head(&head, ODD.as_bytes()))
    })
    .await;
    let promfront = Promfront::before(downstream.url());
    for endpoint in ["labels", "label/job/values"] {
        let [first, second] = [get(&promfront, endpoint, WINDOW).await, get(&promfront, endpoint, WINDOW).await];
        assert_eq!((first.text(), second.text()), (ODD.to_owned(), ODD.to_owned()), "{endpoint}");
        assert_eq!(second.header("content-type"), first.header("content-type"), "{endpoint}");
        assert!(is_hit(&second), "{endpoint}: {}", second.result());
    }
}

#[tokio::test]
async fn what_must_not_be_kept_is_not() {
    let bodies = [
        ("HTTP/1.1 200 OK\r\ncache-control: no-store\r\n", r#"{"status":"success","data":["a"]}"#),
        ("HTTP/1.1 200 OK\r\n", r#"{"status":"success","data":["a"],"warnings":["store 10.0.0.7 was not reached"]}"#),
        ("HTTP/1.1 200 OK\r\n", r#"{"status":"success","isPartial":true,"data":["a"]}"#),
        ("HTTP/1.1 200 OK\r\n", r#"{"status":"error","errorType":"internal","error":"no"}"#),
        ("HTTP/1.1 200 OK\r\n", r#"{"status":"success","data":["a""#),
        ("HTTP/1.1 200 OK\r\n", "<html>sign in</html>"),
        ("HTTP/1.1 422 Unprocessable Entity\r\n", r#"{"status":"error","errorType":"execution","error":"no"}"#),
        ("HTTP/1.1 404 Not Found\r\n", "404 page not found\n"),
    ];
    for (head, body) in bodies {
        let answer = with_head(
            &format!("{head}content-type: application/json\r\ncontent-length: {}\r\n\r\n", body.len()),
            body.as_bytes(),
        );
        let downstream = Recorded::start(move |_| Some(answer.clone())).await;
        let promfront = Promfront::before(downstream.url());
        for endpoint in ENDPOINTS {
            for _ in 0..2 {
                let answer = get(&promfront, endpoint, &format!("match%5B%5D=a&{WINDOW}")).await;
                assert!(!is_hit(&answer) && answer.text() == body, "{endpoint}, {head}{body}: {}", answer.result());
            }
        }
    }
}

#[tokio::test]
async fn what_is_kept_ends_with_its_time() {
    let downstream = Recorded::start(|_| Some(ok(br#"{"status":"success","data":["a"]}"#))).await;
    let promfront = Promfront::configured(downstream.url(), "cache: {whole: {labels_ttl: 5s}}\n");
    for endpoint in ENDPOINTS {
        let params = format!("match%5B%5D=a&{WINDOW}");
        get(&promfront, endpoint, &params).await;
        let second = get(&promfront, endpoint, &params).await;
        assert!(is_hit(&second), "{endpoint}: {}", second.result());
        until("it is asked for again", async || {
            get(&promfront, endpoint, &params).await;
            downstream.asked_for(endpoint).len() > 1
        })
        .await;
    }
}
