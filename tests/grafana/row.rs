//! A request as a client sends it, and how its two answers are compared.

use axum::body::Body;
use http::{Request, header};
use serde_json::Value;

use crate::support::{Answer, Http, Prometheus, Promfront};

/// A request of a client.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// Who sends it, and when.
    pub name: &'static str,
    /// The method.
    pub method: &'static str,
    /// The path.
    pub path: &'static str,
    /// What follows the question mark.
    pub url: &'static str,
    /// The form of a POST.
    pub form: &'static str,
    /// Headers besides the content type of a form.
    pub headers: &'static [(&'static str, &'static str)],
    /// What the second answer owes to the cache.
    pub second: Second,
    /// In what the answer may differ from Prometheus's own, and why.
    pub differs: Differs,
}

/// A row without anything in it.
pub const ROW: Row = Row {
    name: "",
    method: "POST",
    path: "",
    url: "",
    form: "",
    headers: &[],
    second: Second::Anew,
    differs: Differs::Nowhere,
};

/// Where the second answer comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Second {
    /// Out of the cache.
    Hit,
    /// From the server, whatever was asked before.
    Anew,
    /// Nobody promises anything.
    Either,
}

/// How the answer may differ from that of the server itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Differs {
    /// Not at all.
    Nowhere,
    /// Prometheus has only GET there, and Grafana sends POST: what equals it is GET with the same parameters.
    IsGetThere,
    /// `data.stats` has timings, which are measured anew each time, and a peak, which the parts of a range have lower.
    Statistics,
    /// It speaks of the present moment: numbers are not compared.
    Numbers,
}

impl Row {
    /// The request as the client sends it.
    pub fn request(&self, to: &str) -> Request<Body> {
        self.build(to, self.method, self.url, self.form, true)
    }

    /// What is asked of Prometheus itself, unpacked.
    pub fn direct(&self, to: &str) -> Request<Body> {
        match self.differs {
            Differs::IsGetThere => {
                let both = [self.form, self.url].into_iter().filter(|text| !text.is_empty()).collect::<Vec<_>>();
                self.build(to, "GET", &both.join("&"), "", false)
            }
            _ => self.build(to, self.method, self.url, self.form, false),
        }
    }

    fn build(&self, to: &str, method: &str, url: &str, form: &str, with_encoding: bool) -> Request<Body> {
        let mark = if url.is_empty() { "" } else { "?" };
        let mut request = Request::builder().method(method).uri(format!("{to}{}{mark}{url}", self.path));
        if method == "POST" {
            request = request.header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
        }
        for (name, value) in self.headers.iter().filter(|(name, _)| with_encoding || *name != "Accept-Encoding") {
            request = request.header(*name, *value);
        }
        request.body(Body::from(form.to_owned())).expect("a sound request")
    }

    /// What is compared of an answer.
    fn compared(&self, answer: &Answer) -> (u16, String, String) {
        let body = answer.plain();
        let body = match self.differs {
            Differs::Nowhere | Differs::IsGetThere => body,
            Differs::Statistics => {
                let mut json: Value = serde_json::from_str(&body).unwrap_or_else(|error| panic!("{error} in {body}"));
                let measured = ["/data/stats/timings", "/data/stats/samples/peakSamples"]
                    .map(|place| json.pointer_mut(place).map_or(Value::Null, Value::take));
                assert!(measured[0].is_object() && measured[1].is_number(), "{}: {measured:?} in {body}", self.name);
                json.to_string()
            }
            Differs::Numbers => body.chars().filter(|c| !c.is_ascii_digit() && *c != '.').collect(),
        };
        (answer.status.as_u16(), answer.header("content-type").to_owned(), body)
    }
}

/// Asks all of them, and tells about all that are wrong.
pub async fn replay(rows: &[Row]) {
    let prometheus = Prometheus::with_test_data().await;
    let promfront = Promfront::before(&prometheus.url);
    let http = Http::new();
    let mut wrong = Vec::new();
    for row in rows {
        let want = row.compared(&http.send(row.direct(&prometheus.url)).await);
        for turn in ["first", "second"] {
            let answer = http.send(row.request(&promfront.url)).await;
            let got = row.compared(&answer);
            if got != want {
                wrong.push(format!(
                    "{} ({turn}, {}):\n  want {want:.300?}\n  got  {got:.300?}",
                    row.name,
                    answer.result()
                ));
            }
            let is_hit = answer.result().starts_with("status=hit");
            let is_as_said = match row.second {
                Second::Hit => turn == "first" || is_hit,
                Second::Anew => !is_hit,
                Second::Either => true,
            };
            if !is_as_said {
                wrong.push(format!("{} ({turn}): {:?}, but {:?}", row.name, row.second, answer.result()));
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {} rows:\n{}", wrong.len(), rows.len(), wrong.join("\n"));
}
