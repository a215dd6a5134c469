//! Servers as they are behind URLs: TLS, credentials that rotate, names that change, against real servers.

mod support;

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use axum::body::Body;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use promfront::config;
use promfront::downstream::endpoint::{Endpoint, SendError};
use promfront::downstream::endpoints::{Endpoints, check};
use promfront::request::Outgoing;
use support::caches::{DnsServer, Record};
use support::log::Log;
use support::nginx::NginxServer;
use support::port::Port;
use support::redis::Certificates;
use support::scripted::Scripted;
use support::{Folder, Prometheus, until};

/// Longer than any state takes to come.
const PATIENCE: Duration = Duration::from_mins(1);
/// An answer that shows which connection it came over.
const CONNECTION: &str = "location / { return 200 $connection; }";

fn options(urls: &[&str]) -> config::Downstream {
    config::Downstream { urls: urls.iter().map(ToString::to_string).collect(), ..config::Downstream::default() }
}

fn trusting(certificates: &Certificates) -> config::Tls {
    config::Tls { ca_file: certificates.path("ca.crt").into(), ..config::Tls::default() }
}

fn open(options: &config::Downstream) -> Endpoints {
    Endpoints::open(options, &config::Discovery::default()).unwrap_or_else(|problem| panic!("{problem}"))
}

fn resolved(options: &config::Downstream, dns: &DnsServer) -> Endpoints {
    let resolving = config::Discovery { interval: Duration::from_millis(50), nameservers: vec![dns.address()] };
    Endpoints::open(options, &resolving).unwrap_or_else(|problem| panic!("{problem}"))
}

fn names(endpoints: &[Endpoint]) -> Vec<String> {
    endpoints.iter().map(|endpoint| endpoint.name().to_owned()).collect()
}

/// Waits until the servers are these.
async fn become_these(endpoints: &Endpoints, want: &[String]) {
    let mut changes = endpoints.changed();
    let are_there = tokio::time::timeout(PATIENCE, changes.wait_for(|current| names(current) == want)).await.is_ok();
    assert!(are_there, "{:?} did not become {want:?}", endpoints.current());
}

fn outgoing(path: &str, query: &str) -> Outgoing {
    Outgoing {
        method: Method::GET,
        path: path.to_owned(),
        query: query.to_owned(),
        headers: HeaderMap::new(),
        body: bytes::Bytes::new(),
    }
}

fn with_headers(headers: &[(&'static str, &'static str)]) -> Outgoing {
    let header = |(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value));
    Outgoing { headers: headers.iter().copied().map(header).collect(), ..outgoing("/", "") }
}

async fn read(answer: Response<Incoming>) -> (StatusCode, String) {
    let (head, body) = answer.into_parts();
    let body = body.collect().await.expect("a whole body").to_bytes();
    (head.status, String::from_utf8_lossy(&body).into_owned())
}

async fn ask(endpoint: &Endpoint, outgoing: &Outgoing) -> (StatusCode, String) {
    read(endpoint.send(outgoing).await.unwrap_or_else(|error| panic!("{error}"))).await
}

/// The text of an answer to `GET /`.
async fn text(endpoint: &Endpoint) -> String {
    let (status, text) = ask(endpoint, &outgoing("/", "")).await;
    assert_eq!(status, StatusCode::OK, "{text}");
    text
}

/// Why a server cannot be reached.
async fn refusal(options: &config::Downstream) -> String {
    match open(options).current()[0].send(&outgoing("/", "")).await {
        Err(SendError::Unreachable(why)) => {
            assert!(why.starts_with(&format!("the downstream {} can't be reached: ", options.urls[0])), "{why}");
            why
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_prometheus_behind_tls_and_a_prefix_answers() {
    let (certificates, prometheus) = (Certificates::make(), Prometheus::empty().await);
    let pass = format!("location /prom/ {{ proxy_pass {}/; }}", prometheus.url);
    let nginx = NginxServer::start_tls(&certificates, "good", &pass).await;
    for host in ["127.0.0.1", "localhost"] {
        let url = format!("https://{host}:{}/prom/", nginx.port());
        let endpoints = open(&config::Downstream { tls: trusting(&certificates), ..options(&[&url]) });
        let endpoint = &endpoints.current()[0];
        assert_eq!(endpoint.name(), url.trim_end_matches('/'));
        let (status, text) = ask(endpoint, &outgoing("/api/v1/query", "query=vector(7)")).await;
        assert!(status.is_success() && text.contains("\"7\""), "{status} {text}");
        let mut form = outgoing("/api/v1/query", "");
        (form.method, form.body) = (Method::POST, bytes::Bytes::from_static(b"query=vector(8)"));
        let kind = HeaderValue::from_static("application/x-www-form-urlencoded");
        form.headers.insert(http::header::CONTENT_TYPE, kind.clone());
        let (status, text) = ask(endpoint, &form).await;
        assert!(status.is_success() && text.contains("\"8\""), "{status} {text}");

        let request = Request::post("/api/v1/query").header(http::header::CONTENT_TYPE, kind);
        let pieces = ["query=", "vector", "(9)"].map(Ok::<_, std::io::Error>);
        let streamed = Body::from_stream(futures::stream::iter(pieces));
        let answer = endpoint.forward(request.body(streamed).expect("a request")).await.expect("an answer");
        let (status, text) = read(answer).await;
        assert!(status.is_success() && text.contains("\"9\""), "{status} {text}");
    }
}

#[tokio::test]
async fn a_server_that_does_not_prove_its_name_is_not_spoken_with() {
    let certificates = Certificates::make();
    for (name, says) in [
        ("stranger", "downstream.tls.ca_file says which authorities are trusted"),
        ("wrong-name", "downstream.tls.server_name says which name is expected"),
        ("expired", "expired"),
    ] {
        let nginx = NginxServer::start_tls(&certificates, name, "return 200 hello;").await;
        let url = format!("https://{}", nginx.address());
        let mut options = config::Downstream { tls: trusting(&certificates), ..options(&[&url]) };
        let why = refusal(&options).await;
        assert!(why.contains("TLS: invalid peer certificate") && why.to_lowercase().contains(says), "{why}");
        options.tls.server_name = "elsewhere.example.org".to_owned();
        if name == "wrong-name" {
            assert_eq!(text(&open(&options).current()[0]).await, "hello");
        } else {
            refusal(&options).await;
        }
        options.tls.server_name.clear();
        options.tls.insecure_skip_verify = true;
        assert_eq!(text(&open(&options).current()[0]).await, "hello");
    }
    let nginx = NginxServer::start_tls(&certificates, "good", "return 200 hello;").await;
    let why = refusal(&options(&[&format!("https://{}", nginx.address())])).await;
    assert!(why.contains("UnknownIssuer"), "the system does not know it: {why}");
    let plain = NginxServer::start("return 200 hello;").await;
    let why = refusal(&options(&[&format!("https://{}", plain.address())])).await;
    assert!(why.contains("is it a server of http://"), "{why}");
}

#[tokio::test]
async fn a_renewed_certificate_is_shown_without_a_restart() {
    let log = Log::of("promfront::downstream");
    let (certificates, folder) = (Certificates::make(), Folder::new("renewed"));
    certificates.sign("renewed", "ca", "DNS:renewed", 2);
    let directives = format!(
        "ssl_client_certificate {}; ssl_verify_client on; keepalive_timeout 0; return 200 $ssl_client_s_dn;",
        certificates.path("ca.crt")
    );
    let nginx = NginxServer::start_tls(&certificates, "good", &directives).await;
    let [cert_file, key_file] = ["cert", "key"].map(|file| folder.path().join(file));
    let put = |name: &str| {
        fs::copy(certificates.path(&format!("{name}.crt")), &cert_file).expect("a file");
        fs::copy(certificates.path(&format!("{name}.key")), &key_file).expect("a file");
    };
    put("client");
    let url = format!("https://{}", nginx.address());
    let mut options = config::Downstream { tls: trusting(&certificates), ..options(&[&url]) };
    let (status, _) = ask(&open(&options).current()[0], &outgoing("/", "")).await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "it wants a certificate");
    (options.tls.cert_file, options.tls.key_file) = (cert_file.clone(), key_file.clone());
    let endpoints = open(&options);
    let endpoint = &endpoints.current()[0];
    assert_eq!(text(endpoint).await, "CN=client");
    assert!(log.lines().is_empty(), "{:?}", log.lines());

    // Half of a pair.
    fs::copy(certificates.path("renewed.crt"), &cert_file).expect("a file");
    let stays = "WARN a file can't be used: what it held before stays";
    until("it is told", async || !log.lines().is_empty()).await;
    assert_eq!(text(endpoint).await, "CN=client");
    put("renewed");
    until("the new one is shown", async || text(endpoint).await == "CN=renewed").await;
    assert_eq!(log.lines(), [stays, "INFO a file has changed and is used as it is now"]);
    assert!(!log.text().contains("PRIVATE"), "{}", log.text());
}

/// Waits until files have been looked at again: all are at the same pace, and the changes of one are seen.
async fn looked_again(folder: &Folder) {
    let nginx = NginxServer::start("return 200 $http_authorization;").await;
    let token = folder.path().join("pace");
    fs::write(&token, "0").expect("a file");
    let url = format!("http://{}", nginx.address());
    let endpoints = open(&config::Downstream { bearer_token_file: token.clone(), ..options(&[&url]) });
    for round in ["1", "2"] {
        fs::write(&token, round).expect("a file");
        let shown = format!("Bearer {round}");
        until("it is seen", async || text(&endpoints.current()[0]).await == shown).await;
    }
}

#[tokio::test]
async fn a_rotated_password_is_shown_without_a_restart() {
    let (all, log) = (Log::of_all(), Log::of_all().about("downstream.basic_auth"));
    let folder = Folder::new("rotated");
    let [users, password_file] = ["users", "password"].map(|file| folder.path().join(file));
    fs::write(&users, "prom:{PLAIN}first-s3cret\n").expect("a file");
    fs::write(&password_file, "first-s3cret\n").expect("a file");
    // What is answered at once is answered to everybody, so something is looked for first.
    let directives = "location / { try_files /nothing @hello; } location @hello { return 200 hello; }";
    let directives = format!("auth_basic realm; auth_basic_user_file {}; {directives}", users.display());
    let nginx = NginxServer::start(&directives).await;
    let url = format!("http://{}", nginx.address());
    let basic_auth = config::BasicAuth { username: "prom".to_owned(), password_file: password_file.clone() };
    let options = config::Downstream { basic_auth: Some(basic_auth), ..options(&[&url]) };
    let endpoints = open(&options);
    let endpoint = &endpoints.current()[0];
    // Its own credentials, not those of the client.
    let request = with_headers(&[("authorization", "Basic YTpi")]);
    assert_eq!(ask(endpoint, &request).await.0, StatusCode::OK);

    let lines = |word: &str| log.lines().iter().filter(|line| line.contains(word)).count();
    fs::remove_file(&password_file).expect("it was there");
    until("it is told", async || lines("what it held before stays") == 1).await;
    assert_eq!(ask(endpoint, &request).await.0, StatusCode::OK);
    looked_again(&folder).await;
    assert_eq!(lines("what it held before stays"), 1, "{:?}", log.lines());
    fs::write(&users, "prom:{PLAIN}second-s3cret\n").expect("a file");
    assert_eq!(ask(endpoint, &request).await.0, StatusCode::UNAUTHORIZED);
    fs::write(&password_file, "second-s3cret").expect("a file");
    until("the new one is shown", async || ask(endpoint, &request).await.0 == StatusCode::OK).await;
    assert_eq!((lines("what it held before stays"), lines("used as it is now")), (1, 1), "{:?}", log.lines());

    let debug = format!("{options:?} {endpoints:?} {endpoint:?} {:?}", endpoints.changed());
    for secret in ["s3cret", "cHJvbTpmaXJzdC", "cHJvbTpzZWNvbm"] {
        assert!(!debug.contains(secret) && !all.text().contains(secret), "{debug} {}", all.text());
    }
}

#[tokio::test]
async fn a_token_is_shown_and_followed() {
    let folder = Folder::new("token");
    // As secrets are mounted: by a link that is turned.
    let [first, second, token] = ["first", "second", "token"].map(|file| folder.path().join(file));
    fs::write(&first, "token-1\n").expect("a file");
    fs::write(&second, "token-2\n").expect("a file");
    let link = |target: &PathBuf| {
        let made = folder.path().join("made");
        std::os::unix::fs::symlink(target, &made).expect("a link");
        fs::rename(made, &token).expect("ours");
    };
    link(&first);
    let nginx = NginxServer::start("return 200 $http_authorization;").await;
    let url = format!("http://{}", nginx.address());
    let endpoints = open(&config::Downstream { bearer_token_file: token.clone(), ..options(&[&url]) });
    let endpoint = &endpoints.current()[0];
    assert_eq!(text(endpoint).await, "Bearer token-1");
    link(&second);
    until("the new one is shown", async || text(endpoint).await == "Bearer token-2").await;
    let request = Request::get("/").header("authorization", "Basic YTpi").body(Body::empty()).expect("a request");
    assert_eq!(read(endpoint.forward(request).await.expect("an answer")).await.1, "Bearer token-2");
}

#[tokio::test]
async fn headers_are_forwarded_by_list() {
    let seen = "return 200 '$http_x_user $http_x_other $http_accept $http_authorization $http_host $http_x_hop';";
    let nginx = NginxServer::start(seen).await;
    let url = format!("http://{}", nginx.address());
    let sent = with_headers(&[
        ("x-user", "user"),
        ("x-other", "other"),
        ("accept", "accept"),
        ("authorization", "authorization"),
        ("connection", "x-hop"),
        ("x-hop", "hop"),
        ("host", "elsewhere"),
    ]);
    for (list, want) in [
        (&["*"][..], format!("user other accept authorization {} ", nginx.address())),
        (&["X-User"], format!("user  accept  {} ", nginx.address())),
        (&["x-hop", "host"], format!("  accept  {} ", nginx.address())),
        (&[], format!("  accept  {} ", nginx.address())),
    ] {
        let forward_headers = list.iter().map(ToString::to_string).collect();
        let endpoints = open(&config::Downstream { forward_headers, ..options(&[&url]) });
        let endpoint = &endpoints.current()[0];
        assert_eq!(ask(endpoint, &sent).await.1, want, "{list:?}");
        let mut request = Request::new(Body::empty());
        *request.uri_mut() = "/".parse().expect("a path");
        *request.headers_mut() = sent.headers.clone();
        assert_eq!(read(endpoint.forward(request).await.expect("an answer")).await.1, want, "{list:?}");
    }
}

#[tokio::test]
async fn servers_follow_their_name() {
    let one = Record::Host("prom.test", &[std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST)]);
    let mut dns = DnsServer::start(&[Record::Line("host-record=prom.test,127.0.0.2"), one]).await;
    let nginx = NginxServer::start(
        "listen 127.0.0.2:PORT; location / { return 200 '$server_addr $http_host'; }
         location /connection { return 200 $connection; }",
    )
    .await;
    let port = nginx.port();
    let endpoints = resolved(&options(&[&format!("dns+http://prom.test:{port}")]), &dns);
    let [first, second] = ["127.0.0.1", "127.0.0.2"].map(|ip| format!("http://{ip}:{port}"));
    become_these(&endpoints, &[first.clone(), second]).await;
    let before = endpoints.current();
    for (endpoint, ip) in before.iter().zip(["127.0.0.1", "127.0.0.2"]) {
        assert_eq!(text(endpoint).await, format!("{ip} prom.test:{port}"), "the host of the URL, not the address");
    }
    let connection = ask(&before[0], &outgoing("/connection", "")).await;

    dns.set(&[one]).await;
    become_these(&endpoints, std::slice::from_ref(&first)).await;
    let after = endpoints.current();
    assert_eq!(ask(&after[0], &outgoing("/connection", "")).await, connection, "it keeps its connections");

    dns.kill();
    let failures = endpoints.failures();
    until("DNS fails", async || endpoints.failures() > failures).await;
    assert_eq!(names(&endpoints.current()), [first]);
    assert_eq!(text(&endpoints.current()[0]).await, format!("127.0.0.1 prom.test:{port}"));
}

#[tokio::test]
async fn the_name_that_is_verified_is_that_of_the_url_or_of_the_record() {
    let certificates = Certificates::make();
    certificates.sign("named", "ca", "DNS:prom.test", 2);
    let echo = "return 200 '$ssl_server_name $http_host';";
    let nginx = NginxServer::start_tls(&certificates, "named", echo).await;
    let port = nginx.port();
    let dns = DnsServer::start(&[
        Record::Line("host-record=prom.test,127.0.0.1"),
        Record::Line("host-record=other.test,127.0.0.1"),
        Record::Service("_prom._tcp.test", "prom.test", port),
        Record::Service("_other._tcp.test", "other.test", port),
    ])
    .await;
    let name = format!("https://127.0.0.1:{port}");
    for (url, is_right) in [
        (format!("dns+https://prom.test:{port}"), true),
        (format!("dns+https://prom.test.:{port}"), true),
        (format!("dns+https://other.test:{port}"), false),
        ("dnssrv+https://_prom._tcp.test".to_owned(), true),
        ("dnssrv+https://_other._tcp.test".to_owned(), false),
    ] {
        let endpoints = resolved(&config::Downstream { tls: trusting(&certificates), ..options(&[&url]) }, &dns);
        become_these(&endpoints, std::slice::from_ref(&name)).await;
        let endpoint = &endpoints.current()[0];
        if is_right {
            assert_eq!(text(endpoint).await, format!("prom.test prom.test:{port}"), "{url}");
        } else {
            let why = endpoint.send(&outgoing("/", "")).await.expect_err("another name").to_string();
            assert!(why.contains("other.test"), "{url}: {why}");
        }
    }
    // Their targets are taken as they are: the system is to know them.
    let named = DnsServer::start(&[Record::Service("_prom._tcp.test", "localhost", port)]).await;
    let mut options =
        config::Downstream { tls: trusting(&certificates), ..options(&["dnssrvnoa+https://_prom._tcp.test"]) };
    options.tls.server_name = "prom.test".to_owned();
    let endpoints = resolved(&options, &named);
    become_these(&endpoints, &[format!("https://localhost:{port}")]).await;
    assert_eq!(text(&endpoints.current()[0]).await, format!("prom.test localhost:{port}"));
}

#[tokio::test]
async fn a_server_of_several_urls_or_records_is_there_once() {
    let dns = DnsServer::start(&[
        Record::Line("host-record=prom.test,127.0.0.1"),
        Record::Line("host-record=six.test,::1"),
        Record::Service("_prom._tcp.test", "six.test", 90),
        Record::Service("_prom._tcp.test", "prom.test", 90),
        Record::Service("_prom._tcp.test", "prom.test", 91),
    ])
    .await;
    let urls = ["http://127.0.0.1:90/", "dns+http://prom.test:90", "http://127.0.0.1:90", "http://b", "http://a:80/p"];
    let endpoints = resolved(&options(&[&urls[..], &["dns+six.test", "dnssrv+_prom._tcp.test"]].concat()), &dns);
    let plain = ["http://127.0.0.1:90", "http://a/p", "http://b"].map(str::to_owned);
    assert_eq!(names(&endpoints.current()), plain, "at once");
    let all =
        ["http://127.0.0.1:90", "http://127.0.0.1:91", "http://[::1]", "http://[::1]:90", "http://a/p", "http://b"];
    become_these(&endpoints, &all.map(str::to_owned)).await;
}

#[tokio::test]
async fn connections_are_kept_and_renewed() {
    let certificates = Certificates::make();
    let mut servers =
        [NginxServer::start(CONNECTION).await, NginxServer::start_tls(&certificates, "good", CONNECTION).await];
    for (server, scheme) in servers.iter_mut().zip(["http", "https"]) {
        let url = format!("{scheme}://{}", server.address());
        let endpoints = open(&config::Downstream { tls: trusting(&certificates), ..options(&[&url]) });
        let endpoint = &endpoints.current()[0];
        let connection = text(endpoint).await;
        for _ in 0..3 {
            assert_eq!(text(&endpoint.clone()).await, connection, "{url}");
        }
        for _ in 0..5 {
            server.restart().await;
            text(endpoint).await;
        }
        server.kill();
        let error = endpoint.send(&outgoing("/", "")).await.expect_err("it is gone");
        assert!(matches!(error, SendError::Unreachable(_)), "{error:?}");
        assert!(error.to_string().to_lowercase().contains("refused"), "{error}");
    }
}

#[tokio::test]
async fn only_reads_are_sent_again_when_a_connection_ends() {
    let silent = Scripted::start(|_| Some(Vec::new())).await;
    let endpoints = open(&options(&[&silent.url]));
    let endpoint = &endpoints.current()[0];
    let error = endpoint.send(&outgoing("/", "")).await.expect_err("no answer");
    let SendError::Vanished(why) = error else { panic!("{error:?}") };
    assert!(why.starts_with(&format!("the downstream {} closed the connection: ", silent.url)), "{why}");
    assert_eq!(silent.asked(), 1, "nobody had kept that connection");
    let written = Request::post("/").body(Body::from("a")).expect("a request");
    assert!(matches!(endpoint.forward(written).await, Err(SendError::Vanished(_))));
    assert_eq!(silent.asked(), 2);
    let read = Request::get("/").body(Body::empty()).expect("a request");
    assert!(matches!(endpoint.forward(read).await, Err(SendError::Vanished(_))));
    assert_eq!(silent.asked(), 3);
    let error = endpoint.send(&outgoing("/a b", "")).await.expect_err("no path");
    assert!(matches!(error, SendError::Unsendable(_)), "{error:?}");
    assert_eq!(silent.asked(), 3);
}

#[tokio::test]
async fn a_tls_connection_that_ends_without_a_farewell_is_one_that_ended() {
    let certificates = Certificates::make();
    let hanging_up = "location / { return 444; } location /status { stub_status; }";
    let nginx = NginxServer::start_tls(&certificates, "good", hanging_up).await;
    let url = format!("https://{}", nginx.address());
    let endpoints = open(&config::Downstream { tls: trusting(&certificates), ..options(&[&url]) });
    let endpoint = &endpoints.current()[0];
    let requests = async || {
        let text = ask(endpoint, &outgoing("/status", "")).await.1;
        let line = text.lines().nth(2).expect("connections and requests so far");
        line.split_whitespace().last().and_then(|count| count.parse::<u32>().ok()).expect("a number")
    };
    assert_eq!(requests().await, 1);
    let error = endpoint.send(&outgoing("/", "")).await.expect_err("no answer");
    assert!(matches!(error, SendError::Vanished(_)), "{error:?}");
    assert_eq!(requests().await, 4, "it was sent twice");
}

#[tokio::test]
async fn connecting_has_an_end_and_leaving_closes() {
    let port = Port::reserved();
    let _deaf = port.listen(8);
    let url = format!("https://{}", port.socket());
    let began = Instant::now();
    let why = refusal(&config::Downstream { connect_timeout: Duration::from_millis(300), ..options(&[&url]) }).await;
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
    assert!(why.ends_with("no connection within 300ms (downstream.connect_timeout)"), "TLS too: {why}");

    let never = Scripted::start(|_| None).await;
    let endpoints = open(&options(&[&never.url]));
    let endpoint = endpoints.current()[0].clone();
    let asking = tokio::spawn(async move { endpoint.send(&outgoing("/", "")).await.map(drop) });
    never.until_asked(1).await;
    asking.abort();
    never.until_left().await;
}

#[tokio::test]
async fn a_server_that_leaves_loses_its_connections() {
    let nginx = NginxServer::start("location / { return 200 hello; } location /status { stub_status; }").await;
    let (port, url) = (nginx.port(), format!("http://{}", nginx.address()));
    let mut dns = DnsServer::start(&[Record::Line("host-record=prom.test,127.0.0.1")]).await;
    let endpoints = resolved(&options(&[&format!("dns+http://prom.test:{port}")]), &dns);
    become_these(&endpoints, std::slice::from_ref(&url)).await;
    assert_eq!(text(&endpoints.current()[0]).await, "hello");
    let watching = open(&options(&[&url]));
    let connections = async || ask(&watching.current()[0], &outgoing("/status", "")).await.1;
    assert!(connections().await.contains("Active connections: 2"), "{}", connections().await);
    dns.set(&[Record::Line("host-record=prom.test,127.0.0.7")]).await;
    become_these(&endpoints, &[format!("http://127.0.0.7:{port}")]).await;
    until("they are closed", async || connections().await.contains("Active connections: 1")).await;
}

#[tokio::test]
async fn options_that_cannot_be_meant_are_refused() {
    type Change = fn(&mut config::Downstream);
    let changes: [(&str, &str, Change); 7] = [
        ("downstream.urls", "there are none", |options| options.urls.clear()),
        ("downstream.urls", "must begin with http://", |options| options.urls.push("a:9090".to_owned())),
        ("downstream.forward_headers", "no name of a header", |options| {
            options.forward_headers = vec!["a b".to_owned()];
        }),
        ("downstream.basic_auth", "password_file", |options| options.basic_auth = Some(config::BasicAuth::default())),
        ("downstream.basic_auth", "only one", |options| {
            options.bearer_token_file = "/t".into();
            options.basic_auth = Some(config::BasicAuth { username: "a".to_owned(), password_file: "/p".into() });
        }),
        ("downstream.tls", "belong together", |options| options.tls.cert_file = "/c".into()),
        ("downstream.tls.server_name", "is no name", |options| options.tls.server_name = "a b".to_owned()),
    ];
    for (option, says, change) in changes {
        let mut options = options(&["http://a"]);
        assert_eq!(check(&options), Ok(()));
        change(&mut options);
        let (named, problem) = check(&options).expect_err(option);
        assert!(named == option && problem.contains(says), "{named}: {problem}");
        let problem = Endpoints::open(&options, &config::Discovery::default()).expect_err(option);
        assert!(problem.starts_with(&format!("{option}: ")) && problem.contains(says), "{problem}");
    }
    let resolving = config::Discovery::default();
    let mut missing = options(&["https://a"]);
    missing.bearer_token_file = "/nowhere/token".into();
    let problem = Endpoints::open(&missing, &resolving).expect_err("no such file");
    assert!(problem.starts_with("downstream.bearer_token_file: can't read /nowhere/token"), "{problem}");
    missing.bearer_token_file = PathBuf::new();
    missing.tls.ca_file = "/nowhere/ca".into();
    let problem = Endpoints::open(&missing, &resolving).expect_err("no such file");
    assert!(problem.starts_with("downstream.tls: can't read /nowhere/ca"), "{problem}");
    missing.urls = vec!["http://a".to_owned()];
    assert!(Endpoints::open(&missing, &resolving).is_ok(), "nobody speaks TLS");
}

#[tokio::test]
async fn an_answer_has_the_headers_that_are_meant_for_all_of_its_way() {
    let head =
        "HTTP/1.1 200 OK\r\nconnection: x-hop\r\nx-hop: a\r\nx-end: b\r\nkeep-alive: c\r\ncontent-length: 2\r\n\r\n";
    let server = Scripted::start(|_| Some([head.as_bytes(), b"ok"].concat())).await;
    let endpoints = open(&options(&[&server.url]));
    let answer = endpoints.current()[0].send(&outgoing("/", "")).await.expect("an answer");
    let mut kept: Vec<_> = answer.headers().keys().map(HeaderName::as_str).collect();
    kept.sort_unstable();
    assert_eq!(kept, ["content-length", "x-end"]);
}
