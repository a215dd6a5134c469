//! Who is told apart from whom: several tenants in one request, what is passed on, and servers that differ by tenant.

use crate::ask;
use crate::support::scripted::{Asked, Scripted, ok};
use crate::support::{Promfront, range_params};

const FOR_TENANTS: &str = "multitenancy: {enabled: true}\n";

fn header(asked: &Asked, name: &str) -> String {
    let lines = asked.head.lines().filter_map(|line| line.split_once(": "));
    lines
        .filter(|(key, _)| key.eq_ignore_ascii_case(name))
        .map(|(_, value)| value.to_owned())
        .collect::<Vec<_>>()
        .join("+")
}

/// A downstream that answers with the name of the tenant, as it is sent.
async fn naming(name: &'static str) -> Scripted {
    Scripted::start(move |asked| {
        let tenant = header(asked, name);
        let series = format!(r#"{{"metric":{{"tenant":"{tenant}"}},"values":[[0,"1"]]}}"#);
        Some(ok(format!(r#"{{"status":"success","data":{{"resultType":"matrix","result":[{series}]}}}}"#).as_bytes()))
    })
    .await
}

fn question() -> String {
    format!("query_range?{}", range_params("up", "0", "600", "60"))
}

#[tokio::test]
async fn several_tenants_are_one_in_any_order_and_are_passed_on_as_they_were_written() {
    let downstream = naming("x-scope-orgid").await;
    let promfront = Promfront::configured(&downstream.url, FOR_TENANTS);
    for (tenant, says, series) in [
        ("b|a|a", "status=miss", "b|a|a"),
        ("a|b", "status=hit", "b|a|a"),
        ("b|a", "status=hit", "b|a|a"),
        ("a", "status=miss", "a"),
        ("b", "status=miss", "b"),
        ("a|b|c", "status=miss", "a|b|c"),
        ("ab", "status=miss", "ab"),
    ] {
        let answer = ask(&promfront.url, &question(), &[("x-scope-orgid", tenant)]).await;
        assert!(answer.result().starts_with(says), "{tenant}: {}", answer.result());
        assert_eq!(answer.json()["data"]["result"][0]["metric"]["tenant"], series, "{tenant}");
    }
    assert_eq!(downstream.asked(), 5);
}

#[tokio::test]
async fn several_tenants_can_be_forbidden() {
    let downstream = naming("x-scope-orgid").await;
    let yaml = "multitenancy: {enabled: true, federation: false}";
    let promfront = Promfront::configured(&downstream.url, yaml);
    let answer = ask(&promfront.url, &question(), &[("x-scope-orgid", "a|b")]).await;
    assert_eq!(answer.status.as_u16(), 401);
    let message = "\"a|b\" names several tenants, and multitenancy.federation is false (header x-scope-orgid; \
                   multitenancy.enabled is true)";
    assert_eq!(answer.json()["error"], message);
    assert_eq!(
        (ask(&promfront.url, &question(), &[("x-scope-orgid", "a")]).await.status.as_u16(), downstream.asked()),
        (200, 1)
    );
}

/// Nobody can have an answer kept in a tenant's name that the server made for another, or for nobody.
#[tokio::test]
async fn no_tenant_no_answer() {
    let downstream = naming("x-scope-orgid").await;
    let promfront = Promfront::configured(&downstream.url, FOR_TENANTS);
    for headers in [
        &[][..],
        &[("x-scope-orgid", "")],
        &[("x-scope-orgid", "a"), ("x-scope-orgid", "b")],
        &[("x-scope-orgid", "a"), ("X-Scope-OrgID", "a")],
        &[("x-scope-orgid", "a,b")],
        &[("x-scope-orgid", "a%7Cb")],
        &[("x-scope-orgid", "..")],
        &[("x-scope-orgid", "a|")],
        &[("x-scope-orgid", "a"), ("connection", "x-scope-orgid")],
        &[("x-scope-orgid", "a"), ("connection", "keep-alive, X-Scope-OrgID")],
    ] {
        for path in [question(), "query?query=up".to_owned(), "labels".to_owned()] {
            let answer = ask(&promfront.url, &path, headers).await;
            assert_eq!(answer.status.as_u16(), 401, "{headers:?}: {}", answer.text());
            assert!(
                answer.text().contains("(header x-scope-orgid; multitenancy.enabled is true)"),
                "{}",
                answer.text()
            );
        }
    }
    assert_eq!(downstream.asked(), 0);
}

#[tokio::test]
async fn the_tenant_is_passed_on_whichever_headers_are_named() {
    for (yaml, name) in [
        ("multitenancy: {enabled: true}\ndownstream: {forward_headers: []}", "x-scope-orgid"),
        ("multitenancy: {enabled: true, header: X-Customer}\ndownstream: {forward_headers: [X-User]}", "x-customer"),
    ] {
        let downstream = naming(name).await;
        let promfront = Promfront::configured(&downstream.url, yaml);
        for path in [question(), "query?query=up".to_owned(), "rules".to_owned()] {
            let answer = ask(&promfront.url, &path, &[(name, "acme"), ("x-other", "x")]).await;
            assert_eq!(answer.json()["data"]["result"][0]["metric"]["tenant"], "acme", "{path}");
        }
    }
}

/// Behind one URL two tenants may have servers of different versions, told apart by a header that is no other part of a key.
#[tokio::test]
async fn what_is_known_of_a_tenants_server_is_not_believed_of_anothers() {
    let downstream = Scripted::start(|asked| {
        let version = if header(asked, "x-customer") == "old" { "2.42.0" } else { "3.0.0" };
        if asked.head.contains("/buildinfo") {
            return Some(ok(format!(r#"{{"status":"success","data":{{"version":"{version}"}}}}"#).as_bytes()));
        }
        Some(ok(br#"{"status":"success","data":{"resultType":"matrix","result":[]}}"#))
    })
    .await;
    let promfront = Promfront::configured(&downstream.url, "multitenancy: {enabled: true, header: X-Customer}");
    let query = "label_replace(up, \"a\", \"$1\", \"b\", \"(.*)\")";
    let question = format!("query_range?{}", range_params(query, "0", "600", "60"));
    for (tenant, says) in [
        ("old", "status=miss"),
        ("new", "reason=label-rewrite"),
        ("old", "status=hit"),
        ("new", "reason=label-rewrite"),
    ] {
        let answer = ask(&promfront.url, &question, &[("x-customer", tenant)]).await;
        assert!(answer.result().contains(says), "{tenant}: {}", answer.result());
    }
}

#[tokio::test]
async fn parts_in_flight_are_bounded_by_tenant() {
    let yaml =
        "multitenancy: {enabled: true}\ntenants: {few: {limits: {max_parallelism: 2}}}\nlimits: {max_in_flight: 1}";
    for (tenant, in_flight) in [("few", 2), ("many|few", 2), ("many", 6)] {
        let downstream =
            Scripted::gated(|_| Some(ok(br#"{"status":"success","data":{"resultType":"matrix","result":[]}}"#))).await;
        let promfront = Promfront::configured(&downstream.url, yaml);
        let question = format!("query_range?{}", range_params("up", "0", &(6 * 86_400 - 600).to_string(), "600"));
        let headers = [("x-scope-orgid", tenant)];
        let watching = async {
            // When all that are in flight are answered, as many more are asked for.
            for asked in (in_flight..=6).step_by(in_flight) {
                downstream.until_asked(asked).await;
                assert_eq!(downstream.asked(), asked, "{tenant}: no more than {in_flight} at a time");
                downstream.open_gate_for(asked);
            }
            downstream.open_gate();
        };
        let (answer, ()) = tokio::join!(ask(&promfront.url, &question, &headers), watching);
        assert_eq!((answer.status.as_u16(), downstream.asked()), (200, 6), "{tenant}");
    }
}
