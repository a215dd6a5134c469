//! The parameters of an API request, read as Prometheus's server reads them and written back as the client wrote them.
//!
//! Go merges the URL's query and a form body: for a parameter given once the body's value counts, repeated ones are
//! joined, body first. Grafana sends `query`, `start`, `end` and `step` in the body and custom parameters in the URL, so
//! both matter. A part of a query is the client's request with its times replaced: every other pair travels in its place
//! and with its own bytes, known or not. What Go's parser would drop or refuse (`;`, a broken `%` escape) makes the
//! request unreadable here: it passes whole.

use std::borrow::Cow;

use percent_encoding::{NON_ALPHANUMERIC, percent_decode, utf8_percent_encode};

/// Where a pair stood in the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// In a form body.
    Body,
    /// In the URL.
    Url,
}

/// More pairs than this are not read: no client of ours sends so many, and each costs more memory than it is long.
const MOST_PAIRS: usize = 1000;

/// One `name=value`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// Where it stood.
    pub place: Place,
    /// Its name, decoded.
    pub name: String,
    /// Its value, decoded.
    pub value: String,
    raw: String,
}

/// All parameters of a request: the body's, then the URL's, each in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Params {
    pairs: Vec<Pair>,
    has_body: bool,
}

/// A request's parameters, ready to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoded {
    /// The URL's query, without `?`; empty if there is none.
    pub url_query: String,
    /// The form body, if the client sent one.
    pub body: Option<String>,
}

impl Params {
    /// Reads the URL's query and, for a form, its body. `None` if Go would read it otherwise.
    pub fn read(url_query: Option<&str>, body: Option<&[u8]>) -> Option<Self> {
        let mut pairs = Vec::new();
        if let Some(body) = body {
            read_pairs(Place::Body, std::str::from_utf8(body).ok()?, &mut pairs)?;
        }
        read_pairs(Place::Url, url_query.unwrap_or_default(), &mut pairs)?;
        Some(Self { pairs, has_body: body.is_some() })
    }

    /// The value that counts for a parameter which is given once; absent and empty are the same to Prometheus.
    pub fn get(&self, name: &str) -> &str {
        self.pairs.iter().find(|pair| pair.name == name).map_or("", |pair| &pair.value)
    }

    /// All pairs: the body's, then the URL's.
    pub fn pairs(&self) -> &[Pair] {
        &self.pairs
    }

    /// The same parameters, all of them in the URL.
    #[must_use]
    pub fn into_url(mut self) -> Self {
        for pair in &mut self.pairs {
            pair.place = Place::Url;
        }
        self.has_body = false;
        self
    }

    /// The same parameters, but this one has this value; one that was not there joins the URL's.
    #[must_use]
    pub fn with(&self, name: &str, value: &str) -> Self {
        let raw = format!("{name}={}", utf8_percent_encode(value, NON_ALPHANUMERIC));
        let place = self.pairs.iter().find(|pair| pair.name == name).map_or(Place::Url, |pair| pair.place);
        let pair = Pair { place, name: name.to_owned(), value: value.to_owned(), raw };
        let at = self.pairs.iter().position(|pair| pair.name == name).unwrap_or(self.pairs.len());
        let mut pairs: Vec<Pair> = self.pairs.iter().filter(|pair| pair.name != name).cloned().collect();
        pairs.insert(at, pair);
        Self { pairs, has_body: self.has_body }
    }

    /// The same request with other values: a parameter in `replaced` stands once, where the value that counted stood;
    /// `None` removes it. Everything else keeps its place and its bytes.
    pub fn encode(&self, replaced: &[(&str, Option<&str>)]) -> Encoded {
        let (mut url_query, mut body) = (String::new(), String::new());
        for (i, pair) in self.pairs.iter().enumerate() {
            let text: Cow<'_, str> = match replaced.iter().find(|(name, _)| *name == pair.name) {
                None => Cow::Borrowed(&pair.raw),
                Some((_, None)) => continue,
                Some(_) if self.pairs[..i].iter().any(|before| before.name == pair.name) => continue,
                Some((name, Some(value))) => {
                    Cow::Owned(format!("{name}={}", utf8_percent_encode(value, NON_ALPHANUMERIC)))
                }
            };
            let target = if pair.place == Place::Url { &mut url_query } else { &mut body };
            if !target.is_empty() {
                target.push('&');
            }
            target.push_str(&text);
        }
        Encoded { url_query, body: self.has_body.then_some(body) }
    }
}

fn read_pairs(place: Place, text: &str, pairs: &mut Vec<Pair>) -> Option<()> {
    for raw in text.split('&').filter(|raw| !raw.is_empty()) {
        if raw.contains(';') || pairs.len() == MOST_PAIRS {
            return None;
        }
        let (name, value) = raw.split_once('=').unwrap_or((raw, ""));
        pairs.push(Pair { place, name: decode(name)?, value: decode(value)?, raw: raw.to_owned() });
    }
    Some(())
}

/// `+` is a blank, `%XX` a byte; the result must be UTF-8, as Prometheus requires of a query.
fn decode(text: &str) -> Option<String> {
    let escapes_are_whole = text
        .split('%')
        .skip(1)
        .all(|rest| rest.as_bytes().get(..2).is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit)));
    let blanks = text.replace('+', " ");
    let decoded = percent_decode(blanks.as_bytes()).decode_utf8().ok()?;
    escapes_are_whole.then(|| decoded.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(url: &str, body: Option<&str>) -> Params {
        Params::read(Some(url), body.map(str::as_bytes)).expect("readable")
    }

    #[test]
    fn a_body_wins_over_the_url_for_a_parameter_given_once() {
        let params = read("query=url&dedup=false&empty=", Some("query=body&start=1"));
        assert_eq!(params.get("query"), "body");
        assert_eq!(params.get("dedup"), "false");
        assert_eq!((params.get("empty"), params.get("absent")), ("", ""));
    }

    #[test]
    fn a_part_keeps_every_pair_in_its_place_and_with_its_bytes() {
        let params = read(
            "dedup=false&storeMatch%5B%5D=%7Ba%3D%22b%22%7D&storeMatch[]=x&start=7&limit=5",
            Some("query=a+%2b+b&start=1&end=2&step=5&unknown=%e2%82%ac&flag"),
        );
        let encoded = params.encode(&[("start", Some("10.5")), ("end", Some("20")), ("limit", None)]);
        assert_eq!(encoded.url_query, "dedup=false&storeMatch%5B%5D=%7Ba%3D%22b%22%7D&storeMatch[]=x");
        let body = encoded.body.expect("a form stays a form");
        assert_eq!(body, "query=a+%2b+b&start=10%2E5&end=20&step=5&unknown=%e2%82%ac&flag");
        assert_eq!(params.get("query"), "a + b");
    }

    #[test]
    fn a_parameter_is_set_where_it_stood_or_in_the_url() {
        let params = read("a=1&start=5&start=6", Some("b=2"));
        let encoded = params.with("start", "7").with("end", "8.5").encode(&[]);
        assert_eq!((encoded.url_query.as_str(), encoded.body.as_deref()), ("a=1&start=7&end=8%2E5", Some("b=2")));
        let set = read("a=1", Some("start=5")).with("start", "7");
        assert_eq!((set.get("start"), set.encode(&[]).body.as_deref()), ("7", Some("start=7")));
    }

    #[test]
    fn a_form_becomes_a_url_that_reads_the_same() {
        let encoded = read("a=1&c=u", Some("b=%20&a=2")).into_url().encode(&[]);
        assert_eq!(encoded, Encoded { url_query: "b=%20&a=2&a=1&c=u".to_owned(), body: None });
        let set = read("", Some("start=5&x=y")).into_url().with("start", "7").encode(&[]);
        assert_eq!((set.url_query.as_str(), set.body), ("start=7&x=y", None));
    }

    #[test]
    fn an_empty_form_stays_a_form() {
        let encoded = read("query=1&start=0", Some("")).encode(&[("start", Some("5"))]);
        assert_eq!(encoded, Encoded { url_query: "query=1&start=5".to_owned(), body: Some(String::new()) });
    }

    #[test]
    fn what_is_written_is_read_back() {
        let text = "sum by (é) (rate(x{a=~\"b|c;&=%\"}[5m])) + 1\n# note";
        let encoded = read("query=x", None).encode(&[("query", Some(text))]);
        assert_eq!(read(&encoded.url_query, None).get("query"), text);
    }

    #[test]
    fn what_go_reads_otherwise_is_not_read() {
        for bad in ["a=1;b=2", "a=%zz", "a=%4", "a=%", "%a", "a=%ff"] {
            assert_eq!(Params::read(Some(bad), None), None, "{bad}");
            assert_eq!(Params::read(None, Some(bad.as_bytes())), None, "{bad}");
        }
        assert_eq!(Params::read(None, Some(b"a=\xff")), None);
        assert!(Params::read(Some(&"a&".repeat(1000)), None).is_some());
        assert_eq!(Params::read(Some(&"a&".repeat(1000)), Some(b"b")), None);
    }
}
