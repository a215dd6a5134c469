//! Headers as queriers take them, and back.
//!
//! A real querier reads the first value of each header without looking whether there is one, and finds a header only under the
//! name as Go writes it (`X-Scope-Orgid`); of two headers with one name it sees the last. So: **each name once, in Go's form,
//! with at least one value.** On the way back nothing is taken that is no legal header, and nothing that speaks of one
//! connection.

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};

use super::messages::Header;
use crate::model::tenant::TenantId;
use crate::wire::hop::HOP_BY_HOP;

/// The tenant, as Cortex and Mimir read it.
pub const TENANT: HeaderName = HeaderName::from_static("x-scope-orgid");

/// What is said of a message as it was on one connection.
const OF_ONE_MESSAGE: [HeaderName; 2] = [header::HOST, header::CONTENT_LENGTH];

/// The headers of a message; with the tenant's, whatever the client says, unless there is no tenancy.
pub fn of_tenant(headers: &HeaderMap, tenant: &TenantId) -> Vec<Header> {
    let mut list = to_list(headers);
    if *tenant != TenantId::anonymous() {
        let key = in_go_form(&TENANT);
        list.retain(|header| header.key != key);
        list.push(Header { key, values: vec![Bytes::copy_from_slice(tenant.as_str().as_bytes())] });
    }
    list
}

/// The headers of a message.
pub fn to_list(headers: &HeaderMap) -> Vec<Header> {
    let named = named_by_connection(headers);
    let kept = headers.keys().filter(|name| travels(name, &named));
    let whole = |name| {
        let values = headers.get_all(name).iter().map(|value| Bytes::copy_from_slice(value.as_bytes())).collect();
        Header { key: in_go_form(name), values }
    };
    kept.map(whole).filter(|header| !header.values.is_empty()).collect()
}

/// The legal ones of a message's headers.
pub fn from_list(list: &[Header]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for Header { key, values } in list {
        let Ok(name) = HeaderName::from_bytes(key) else { continue };
        for value in values {
            let Ok(value) = HeaderValue::from_maybe_shared(value.clone()) else { continue };
            // There are more than a map can hold: the rest is left out.
            if headers.try_append(name.clone(), value).is_err() {
                break;
            }
        }
    }
    let named = named_by_connection(&headers);
    let gone: Vec<HeaderName> = headers.keys().filter(|name| !travels(name, &named)).cloned().collect();
    for name in gone {
        headers.remove(name);
    }
    headers
}

fn travels(name: &HeaderName, named: &[String]) -> bool {
    !HOP_BY_HOP.contains(name) && !OF_ONE_MESSAGE.contains(name) && !named.iter().any(|other| other == name.as_str())
}

/// What `Connection` names speaks of one connection too.
fn named_by_connection(headers: &HeaderMap) -> Vec<String> {
    let values = headers.get_all(header::CONNECTION).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(|name| name.trim().to_ascii_lowercase()).collect()
}

/// The first letter and each after a hyphen is a capital, all others are small.
fn in_go_form(name: &HeaderName) -> Bytes {
    let mut is_first = true;
    let letter = |byte: &u8| {
        let letter = if is_first { byte.to_ascii_uppercase() } else { byte.to_ascii_lowercase() };
        is_first = *byte == b'-';
        letter
    };
    name.as_str().as_bytes().iter().map(letter).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    use proptest::prelude::*;
    use prost::Message;

    use crate::sched::grpc::messages::{FrontendToClient, HttpRequest, Kind};

    fn header(key: &'static [u8], values: &[&'static [u8]]) -> Header {
        Header { key: Bytes::from_static(key), values: values.iter().map(|value| Bytes::from_static(value)).collect() }
    }

    #[test]
    fn names_are_in_go_form_with_all_their_values() {
        let mut headers = HeaderMap::new();
        for (name, value) in [("accept", "a"), ("x-b3-traceid", "1"), ("accept", "b"), ("x--y", ""), ("9a-_b", "2")] {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        let mut list = to_list(&headers);
        list.sort_by(|a, b| a.key.cmp(&b.key));
        let want = [
            header(b"9a-_b", &[b"2"]),
            header(b"Accept", &[b"a", b"b"]),
            header(b"X--Y", &[b""]),
            header(b"X-B3-Traceid", &[b"1"]),
        ];
        assert_eq!(list, want);
    }

    #[test]
    fn the_tenant_is_said_whatever_the_client_says() {
        let (none, mut some) = (HeaderMap::new(), HeaderMap::new());
        some.insert(TENANT, HeaderValue::from_static("theirs"));
        let acme = TenantId::named("acme");
        assert_eq!(of_tenant(&none, &acme), [header(b"X-Scope-Orgid", &[b"acme"])]);
        assert_eq!(of_tenant(&some, &acme), [header(b"X-Scope-Orgid", &[b"acme"])]);
        assert_eq!(of_tenant(&some, &TenantId::anonymous()), [header(b"X-Scope-Orgid", &[b"theirs"])]);
        assert_eq!(of_tenant(&none, &TenantId::anonymous()), []);
    }

    #[test]
    fn what_speaks_of_one_connection_stays_there() {
        let list = [
            header(b"Connection", &[b"close, X-Mine"]),
            header(b"X-Mine", &[b"1"]),
            header(b"Content-Length", &[b"7"]),
            header(b"Transfer-Encoding", &[b"chunked"]),
            header(b"Content-Type", &[b"text/plain"]),
        ];
        assert_eq!(to_list(&from_list(&list)), [header(b"Content-Type", &[b"text/plain"])]);
    }

    #[test]
    fn what_is_no_header_is_left_out_and_the_rest_stays() {
        let list = [
            header(b"", &[b"x"]),
            header(b"a b", &[b"x"]),
            header(b"Good", &[b"evil\r\nInjected: 1", b"\xff latin", b"plain"]),
            header(b"Empty", &[]),
            header("Gr\u{fc}n".as_bytes(), &[b"x"]),
        ];
        let headers = from_list(&list);
        let left: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
        assert_eq!(left, [("good", b"\xff latin".as_slice()), ("good", b"plain".as_slice())]);
    }

    #[test]
    fn more_headers_than_a_map_can_hold_do_no_harm() {
        let list: Vec<Header> = (0..40_000)
            .map(|n| Header { key: Bytes::from(format!("x-{n}")), values: vec![Bytes::from_static(b"1")] })
            .collect();
        let headers = from_list(&list);
        assert!(headers.len() > 20_000 && headers.len() < 40_000, "{}", headers.len());
    }

    proptest! {
        /// Whatever a client sends, a querier is not hurt by it.
        #[test]
        fn a_message_never_breaks_a_rule(
            pairs in proptest::collection::vec(("[!#$%&'*+.^_`|~0-9a-zA-Z-]{1,12}|(?i:connection|te|accept|x-scope-orgid)", any::<Vec<u8>>()), 0..24),
            tenant in "anonymous|[a-z|]{1,9}",
        ) {
            let mut headers = HeaderMap::new();
            for (name, value) in pairs {
                if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_bytes(&value)) {
                    headers.append(name, value);
                }
            }
            let list = of_tenant(&headers, &TenantId::named(&tenant));
            let request = HttpRequest { headers: list, ..HttpRequest::default() };
            let bytes = FrontendToClient::run(request, false).encode_to_vec();
            let read = FrontendToClient::decode(bytes.as_slice()).expect("it was just written");
            prop_assert_eq!(read.kind, i32::from(Kind::HttpRequest));
            let request = read.http_request.expect("there is always a request");
            let mut seen = HashSet::new();
            for Header { key, values } in request.headers {
                prop_assert!(!values.is_empty(), "{key:?} has no values");
                prop_assert!(seen.insert(key.clone()), "{key:?} stands there twice");
                let text = std::str::from_utf8(&key).expect("names are ASCII");
                for (at, word) in text.split('-').enumerate() {
                    let mut letters = word.chars();
                    let first = letters.next();
                    prop_assert!(!first.is_some_and(|c| c.is_ascii_lowercase()), "{text}, word {at}");
                    prop_assert!(!letters.any(|c| c.is_ascii_uppercase()), "{text}, word {at}");
                }
                prop_assert!(!["Connection", "Te", "Host", "Content-Length"].contains(&text));
            }
        }

        /// Whatever a querier sends, it is read.
        #[test]
        fn any_list_is_read(list in proptest::collection::vec((any::<Vec<u8>>(), proptest::collection::vec(any::<Vec<u8>>(), 0..4)), 0..16)) {
            let list: Vec<Header> = list
                .into_iter()
                .map(|(key, values)| Header { key: key.into(), values: values.into_iter().map(Bytes::from).collect() })
                .collect();
            let _ = from_list(&list);
        }
    }
}
