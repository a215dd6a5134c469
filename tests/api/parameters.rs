//! Parameters of the URL and of the form are one list, the form's first, as in Go.

use crate::support::recorded::Recorded;
use crate::support::{Prometheus, Promfront};
use crate::{is_hit, send};

const WINDOW: &str = "start=1707264000&end=1707350400";

#[tokio::test]
async fn the_form_counts_before_the_url() {
    let prometheus = Prometheus::with_test_data().await;
    let promfront = Promfront::before(&prometheus.url);
    let mut wrong = Vec::new();
    for (path, url, form) in [
        ("query", "query=vector%281%29&time=1", "query=up&time=1707350400"),
        ("query", "time=1707350400", "query=up"),
        ("query", "query=up", "time=1707350400"),
        ("query", "query=up&time=1707350400", ""),
        ("query_range", "query=vector%281%29&step=1", "query=up&start=1707264000&end=1707350400&step=600"),
        ("query_range", "start=1707264000&end=1707350400", "query=up&step=600"),
        ("series", "match%5B%5D=build_info", "match%5B%5D=up&start=1707264000&end=1707350400"),
        ("series", "start=5&end=6&match%5B%5D=build_info", "start=1707264000&end=1707350400&match%5B%5D=up"),
        ("labels", "match%5B%5D=temperature_celsius", "match%5B%5D=up&start=1707264000&end=1707350400"),
        ("labels", "match%5B%5D=temperature_celsius&start=1707264000&end=1707350400", ""),
    ] {
        let [want, got] = [&prometheus.url, &promfront.url].map(|base| format!("{base}/api/v1/{path}?{url}"));
        let (want, got) = (send("POST", &want, form, &[]).await, send("POST", &got, form, &[]).await);
        if (want.status, want.text()) != (got.status, got.text()) {
            wrong.push(format!("{path}?{url} with {form}: {:.200} instead of {:.200}", got.text(), want.text()));
        }
        // The same said in the URL alone is the same question.
        let all = [form, url].into_iter().filter(|text| !text.is_empty()).collect::<Vec<_>>().join("&");
        let again = send("GET", &format!("{}/api/v1/{path}?{all}", promfront.url), "", &[]).await;
        if again.text() != want.text() {
            wrong.push(format!("{path}?{all}: {:.200} instead of {:.200}", again.text(), want.text()));
        }
    }
    assert!(wrong.is_empty(), "{}:\n{}", wrong.len(), wrong.join("\n"));
}

/// Where POST becomes GET nothing of what the client said is lost or said twice.
#[tokio::test]
async fn a_post_that_becomes_a_get_keeps_its_parameters() {
    let downstream = Recorded::usual().await;
    let promfront = Promfront::before(downstream.url());
    let cases = [
        ("label/job/values", "match%5B%5D=b&x=1", "match%5B%5D=a&limit=7", "match[]=a&limit=7&match[]=b&x=1"),
        ("label/job/values", "", WINDOW, WINDOW),
        ("label/job/values", WINDOW, "", WINDOW),
        ("metadata", "limit=5", "limit=1&metric=up", "limit=1&metric=up&limit=5"),
        ("rules", "type=alert", "rule_name%5B%5D=a+b%2B%26", "rule_name[]=a b+&&type=alert"),
        ("alerts", "", "", ""),
        ("targets", "", "state=active", "state=active"),
        ("status/tsdb", "limit=3", "", "limit=3"),
        ("status/buildinfo", "", "", ""),
    ];
    for (path, url, form, want) in cases {
        let mark = if url.is_empty() { "" } else { "?" };
        let answer = send("POST", &format!("{}/api/v1/{path}{mark}{url}", promfront.url), form, &[]).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        let asked = downstream.asked_for(&format!("/api/v1/{path}")).pop().expect("it arrived");
        let query =
            percent_encoding::percent_decode_str(&asked.query().replace('+', " ")).decode_utf8_lossy().into_owned();
        assert_eq!((asked.method(), query.as_str(), asked.body.as_str()), ("GET", want, ""), "{path}");
        assert!(asked.header("content-type").is_none(), "{path}: a GET has no form: {}", asked.head);
        assert!(asked.header("content-length").is_none_or(|length| length == "0"), "{path}: {}", asked.head);
    }
}

/// Where the same words mean the same to the server they are one question, whichever method asked it first.
#[tokio::test]
async fn post_and_get_of_label_values_share_an_answer() {
    let downstream = Recorded::usual().await;
    let promfront = Promfront::before(downstream.url());
    let url = format!("{}/api/v1/label/job/values", promfront.url);
    let first = send("POST", &url, WINDOW, &[]).await;
    let second = send("POST", &url, WINDOW, &[]).await;
    assert!(!is_hit(&first) && is_hit(&second), "{:?}, {:?}", first.result(), second.result());
    let third = send("GET", &format!("{url}?{WINDOW}"), "", &[]).await;
    assert_eq!((third.status, &third.body), (first.status, &first.body));
}

/// What is not a form, or is one that Go would read otherwise, is the server's to judge.
#[tokio::test]
async fn forms_that_cannot_be_read_are_the_servers_to_refuse() {
    let prometheus = Prometheus::with_test_data().await;
    let promfront = Promfront::before(&prometheus.url);
    for (path, form) in [
        ("query", "query=up&time=1707350400&x=%zz"),
        ("query", "query=up;time=1707350400"),
        ("series", "match%5B%5D=up&start=1707264000&end=1707350400;x"),
        ("labels", "start=1707264000&end=%"),
        ("query", "query=%ff&time=1707350400"),
    ] {
        let [want, got] = [&prometheus.url, &promfront.url].map(|base| format!("{base}/api/v1/{path}"));
        for _ in 0..2 {
            let (want, got) = (send("POST", &want, form, &[]).await, send("POST", &got, form, &[]).await);
            assert_eq!((got.status, got.text()), (want.status, want.text()), "{path} with {form}");
            assert!(!is_hit(&got));
        }
    }
}
