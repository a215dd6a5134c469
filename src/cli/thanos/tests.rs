//! The flags of Thanos, as people and kube-thanos give them.

use super::*;

fn draft_of(words: &[&str]) -> Result<Draft, String> {
    let words: Vec<_> = words.iter().map(ToString::to_string).collect();
    let read = |path: &str| match path {
        "/cache.yaml" => Ok("type: IN-MEMORY\nconfig: {max_size: 64MB}\n".to_owned()),
        _ => Err("no such file".to_owned()),
    };
    config(&ThanosArgs::read(&words, &read)?)
}

/// What is otherwise than in a query-frontend without flags.
fn changed(words: &[&str]) -> String {
    let draft = draft_of(words).unwrap_or_else(|refusal| panic!("{words:?}: {refusal}"));
    draft.config.print(crate::config::Shown::Difference)
}

const PLAIN: &str = "downstream:\n  urls: [\"http://localhost:9090\"]\ncache:\n  memory:\n    max_bytes: 0\n  whole:\n    \
                     max_bytes: 0\n    instant_ttl: 0s\n";

#[test]
fn without_flags_it_is_as_thanos_is() {
    let draft = draft_of(&[]).expect("nothing is wrong with nothing");
    assert_eq!(draft.config.print(crate::config::Shown::Difference), PLAIN);
    assert_eq!((draft.serve.listen_address.as_str(), draft.serve.shutdown_timeout.as_secs()), ("0.0.0.0:10902", 120));
    assert!(draft.notes.len() == 1 && draft.notes[0].contains("nothing is kept"), "{:?}", draft.notes);
}

/// The arguments of kube-thanos's Deployment, with its caches and traces.
#[test]
fn the_deployment_of_kube_thanos_runs() {
    let memcached = "\"config\":\n  \"addresses\":\n  - \"dnssrv+_client._tcp.memcached.thanos.svc\"\n  \
                     \"dns_provider_update_interval\": \"10s\"\n  \"max_async_buffer_size\": 10000\n  \
                     \"max_async_concurrency\": 20\n  \"max_get_multi_batch_size\": 0\n  \
                     \"max_get_multi_concurrency\": 100\n  \"max_idle_connections\": 100\n  \"timeout\": \"500ms\"\n\
                     \"type\": \"memcached\"";
    let memory = "\"config\":\n  \"max_size\": \"0\"\n  \"max_size_items\": 2048\n  \"validity\": \"6h\"\n\"type\": \"in-memory\"";
    let draft = draft_of(&[
        "--log.level=info",
        "--log.format=logfmt",
        "--query-frontend.compress-responses",
        "--http-address=0.0.0.0:9090",
        "--query-frontend.downstream-url=http://thanos-query.thanos.svc.cluster.local.:9090",
        "--query-range.split-interval=12h",
        "--labels.split-interval=12h",
        "--query-range.max-retries-per-request=5",
        "--labels.max-retries-per-request=5",
        "--query-frontend.log-queries-longer-than=0",
        &format!("--query-range.response-cache-config={memcached}"),
        &format!("--labels.response-cache-config={memory}"),
        "--tracing.config=\"config\":\n  \"service_name\": \"thanos-query-frontend\"\n\"type\": \"JAEGER\"",
    ])
    .unwrap_or_else(|refusal| panic!("{refusal}"));
    load::check(&draft.config).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(draft.serve.listen_address, "0.0.0.0:9090");
    let want = "\
downstream:
  urls: [\"http://thanos-query.thanos.svc.cluster.local.:9090\"]
split:
  interval: 12h
cache:
  memory:
    max_bytes: 256MiB
  remote:
    memcached:
      addresses: [\"dnssrv+_client._tcp.memcached.thanos.svc\"]
      timeout: 500ms
  whole:
    max_bytes: 1GiB
    instant_ttl: 0s
    labels_ttl: 6h
  ttl: 1d
discovery:
  interval: 10s
";
    assert_eq!(draft.config.print(crate::config::Shown::Difference), want);
    let notes = draft.notes.join("\n");
    assert!(notes.contains("--tracing.config: no traces") && notes.contains("max_size_items"), "{notes}");
    assert_eq!(draft.notes.len(), 2, "{notes}");
}

#[test]
fn flags_are_mapped_where_they_mean_the_same() {
    let memory = "type: IN-MEMORY\nconfig: {max_size: 512MB, validity: 12h}";
    let redis = "type: REDIS\nconfig: {addr: 'redis:6379', db: 2, username: u, tls_enabled: true, tls_config: {ca_file: /ca}, expiration: 48h}";
    let sentinel = "type: REDIS\nconfig: {addr: 'a:1,b:2', master_name: mymaster, password: ''}";
    let tripper =
        "{max_conns_per_host: 7, idle_conn_timeout: 1m, tls_config: {ca_file: /ca, insecure_skip_verify: true}}";
    for (words, says) in [
        (vec!["--query-range.split-interval=0"], "max_parts: 1"),
        (vec!["--query-range.split-interval", "6h"], "interval: 6h"),
        (vec!["--query-range.max-query-length=720h"], "max_query_length: 30d"),
        (vec!["--query-range.max-query-parallelism=32"], "max_parallelism: 32"),
        (vec!["--query-range.response-cache-max-freshness=1m"], "freshness: 1m"),
        (vec!["--labels.response-cache-max-freshness=30m"], "freshness: 30m"),
        (vec!["--query-frontend.forward-header=X-One", "--query-frontend.forward-header=X-Two"], "[X-One, X-Two]"),
        (vec!["--query-frontend.tenant-header=X-Team"], "key_headers: [X-Team]"),
        (vec!["--query-frontend.org-id-header", "X-Org"], "key_headers: [X-Org]"),
        (vec!["--query-range.response-cache-config", memory], "max_bytes: 512MiB"),
        (vec!["--query-range.response-cache-config", memory], "ttl: 12h"),
        (vec!["--query-range.response-cache-config-file=/cache.yaml"], "max_bytes: 64MiB"),
        (vec!["--query-range.response-cache-config", redis], "url: \"rediss://redis:6379/2\""),
        (vec!["--query-range.response-cache-config", redis], "ttl: 2d"),
        (vec!["--query-range.response-cache-config", sentinel], "sentinel_master: mymaster"),
        (vec!["--query-range.response-cache-config", redis], "namespace: thanos"),
        (
            vec!["--labels.response-cache-max-freshness=30m", "--query-range.response-cache-max-freshness=1m"],
            "freshness: 30m",
        ),
        (vec!["--query-frontend.downstream-tripper-config", tripper], "max_concurrent: 7"),
        (vec!["--query-frontend.downstream-tripper-config", tripper], "insecure_skip_verify: true"),
    ] {
        let changed = changed(&words);
        assert!(changed.contains(says), "{words:?}: {changed}");
    }
    let draft = draft_of(&["--log.level=debug", "--log.format=json", "--http-grace-period=30s"]).expect("sound");
    assert_eq!(draft.serve.shutdown_timeout.as_secs(), 30);
    assert!(matches!((draft.log_level, draft.log_format), (log::Level::Debug, log::Format::Json)));
}

#[test]
fn what_is_off_or_makes_no_difference_changes_nothing() {
    for words in [
        vec!["--no-query-range.align-range-with-step"],
        vec!["--query-range.partial-response", "--labels.partial-response"],
        vec!["--query-frontend.compress-responses", "--web.disable-cors", "--enable-auto-gomemlimit"],
        vec!["--no-query-frontend.compress-responses", "--auto-gomemlimit.ratio=0.9", "--alert.query-url=http://x"],
        vec!["--query-range.horizontal-shards=0", "--query-range.min-split-interval=0", "--http.config="],
        vec!["--query-frontend.vertical-shards=4", "--query-frontend.log-queries-longer-than=-1s"],
        vec!["--cache-compression-type=snappy", "--query-frontend.default-tenant=default-tenant"],
        vec!["--query-range.response-cache-config=", "--labels.response-cache-config", ""],
        vec!["--query-frontend.slow-query-logs-user-header=X-User", "--tracing.config-file=/no/such/file"],
    ] {
        assert_eq!(changed(&words), PLAIN, "{words:?}");
    }
}

#[test]
fn what_has_no_counterpart_is_refused_with_what_to_do() {
    let redis =
        |more: &str| format!("--query-range.response-cache-config={{type: REDIS, config: {{addr: 'r:1', {more}}}}}");
    for (words, says) in [
        (vec!["--query-range.align-range-with-step".to_owned()], "never moves a range"),
        (vec!["--no-query-range.partial-response".to_owned()], "--no-query.partial-response"),
        (vec!["--query-range.horizontal-shards=4".to_owned()], "split-interval alone"),
        (vec!["--http.config=tls_server_config: {}".to_owned()], "clear text"),
        (vec!["--query-frontend.default-tenant=a".to_owned()], "--query.default-tenant-id"),
        (
            vec!["--query-range.split-interval=soon".to_owned()],
            "--query-range.split-interval: \"soon\" is not a duration",
        ),
        (vec!["--query-range.split-interval".to_owned()], "has no value"),
        (vec!["--log.level=info".to_owned(), "--log.level=warn".to_owned()], "--log.level is given twice"),
        (vec!["--log.format=xml".to_owned()], "neither logfmt nor json"),
        (vec!["--query-frontend.compress-responses=true".to_owned()], "takes no value"),
        (vec!["--no-log.level".to_owned()], "no flag --no-log.level"),
        (vec!["--query-range.split-intervals=1h".to_owned()], "did you mean --query-range.split-interval?"),
        (vec!["extra".to_owned()], "no flag"),
        (vec![redis("password: secret")], "password_file"),
        (vec![redis("tls_config: {insecure_skip_verify: true}")], "the name of its address"),
        (vec![redis("colour: red")], "no option \"colour\""),
        (
            vec!["--query-range.response-cache-config={type: MEMCACHED, config: {auto_discovery: true}}".to_owned()],
            "dnssrv+",
        ),
        (vec!["--query-range.response-cache-config={type: GROUPCACHE}".to_owned()], "none of IN-MEMORY"),
        (vec!["--query-range.response-cache-config={config: {max_size: 1}}".to_owned()], "type is missing"),
        (vec!["--query-range.response-cache-config={type: [".to_owned()], "no YAML"),
        (vec!["--query-range.response-cache-config-file=/none".to_owned()], "can't read /none"),
    ] {
        let words: Vec<_> = words.iter().map(String::as_str).collect();
        let refusal = draft_of(&words).expect_err(says);
        assert!(refusal.contains(says) && !refusal.contains("secret"), "{words:?}: {refusal}");
    }
}

#[test]
fn every_flag_stands_once_in_the_table_of_the_readme() {
    let readme = include_str!("../../../README.md");
    for (i, flag) in FLAGS.iter().enumerate() {
        assert!(FLAGS[..i].iter().all(|other| other.name < flag.name), "{} is in its place", flag.name);
        let name = flag.name.strip_suffix("-file").unwrap_or(flag.name);
        assert!(readme.contains(&format!("`--{name}")), "README.md does not say what --{name} is");
        assert!(help().contains(&format!("{}=", flag.name)) || flag.takes == Takes::Switch);
    }
}
