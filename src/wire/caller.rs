//! Who asks: whose the request is, and what the client says about itself, which decides with whom it takes turns.

use http::HeaderMap;
use http::header::{self, HeaderName};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::config::Multitenancy;
use crate::error::{ApiError, ErrorKind};
use crate::model::tenant::TenantId;
use crate::request::Caller;

/// By what the requests of one tenant are told apart, the most telling first: Grafana says all of them.
const SOURCES: [HeaderName; 4] = [
    HeaderName::from_static("x-rule-uid"),
    HeaderName::from_static("x-dashboard-uid"),
    HeaderName::from_static("x-grafana-user"),
    HeaderName::from_static("user-agent"),
];

/// Grafana's alerting says `Fromalert: true`, and which rule it is.
const FROM_ALERT: HeaderName = HeaderName::from_static("fromalert");

/// How a request says whose it is.
#[derive(Clone, Debug)]
pub struct Tenancy {
    header: HeaderName,
    /// Whether it may be of several tenants.
    federation: bool,
}

impl Tenancy {
    /// As configured; none if all requests are of one tenant.
    pub fn of(options: &Multitenancy) -> Result<Option<Self>, String> {
        let Multitenancy { enabled, header: name, federation } = options;
        if !enabled {
            return Ok(None);
        }
        let header = HeaderName::from_bytes(name.as_bytes());
        let header = header.map_err(|_| format!("multitenancy.header: {name:?} is not the name of a header"))?;
        Ok(Some(Self { header, federation: *federation }))
    }

    fn read(&self, names: &str) -> Result<TenantId, String> {
        if self.federation {
            TenantId::parse_federated(names)
        } else if names.contains('|') {
            Err(format!("{names:?} names several tenants, and multitenancy.federation is false"))
        } else {
            TenantId::parse(names)
        }
    }
}

/// Whose request it is. `tenancy`: how it says so, if there is more than one tenant.
pub fn tenant(headers: &HeaderMap, tenancy: Option<&Tenancy>) -> Result<TenantId, ApiError> {
    let Some(tenancy) = tenancy else { return Ok(TenantId::anonymous()) };
    let name = &tenancy.header;
    let refuse = |problem: String| {
        ApiError::new(ErrorKind::Unauthorized, format!("{problem} (header {name}; multitenancy.enabled is true)"))
    };
    if stays_on_its_hop(headers, name) {
        // It would not be passed on, and somebody else's answer would be kept under this name.
        return Err(refuse("the header Connection names the tenant's".to_owned()));
    }
    let mut values = headers.get_all(name).into_iter();
    match (values.next(), values.next()) {
        (None, _) => Err(refuse("no tenant is named".to_owned())),
        (Some(_), Some(_)) => Err(refuse("the tenant is named more than once".to_owned())),
        (Some(value), None) => {
            let value =
                value.to_str().map_err(|_| refuse("the tenant's name is not made of ASCII characters".to_owned()))?;
            tenancy.read(value).map_err(refuse)
        }
    }
}

fn stays_on_its_hop(headers: &HeaderMap, name: &HeaderName) -> bool {
    let values = headers.get_all(header::CONNECTION).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|named| named.trim().eq_ignore_ascii_case(name.as_str()))
}

/// Reads who asks.
pub fn read(headers: &HeaderMap) -> Caller {
    let said = SOURCES.iter().zip(0..).find_map(|(name, seed)| Some((headers.get(name)?, seed)));
    let source = said.map_or(0, |(value, seed)| xxh3_64_with_seed(value.as_bytes(), seed));
    let is_from_alert = headers.get(FROM_ALERT).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"true"));
    Caller { source, is_alert: is_from_alert || headers.contains_key(&SOURCES[0]) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn with_tenants_each_request_is_of_one() {
        let tenancy = |federation| {
            Tenancy::of(&Multitenancy { enabled: true, federation, ..Multitenancy::default() }).expect("sound")
        };
        let read = |values: &[&'static str], federation| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append("x-scope-orgid", HeaderValue::from_static(value));
            }
            tenant(&headers, tenancy(federation).as_ref()).map_err(|error| (error.kind, error.message))
        };
        assert_eq!(read(&["team-a"], true).expect("a name").as_str(), "team-a");
        assert_eq!(read(&["team-a"], false).expect("a name").as_str(), "team-a");
        assert_eq!(read(&["b|a|a"], true).expect("names").as_str(), "a|b");
        for (wrong, federation, says) in [
            (&[][..], true, "no tenant is named"),
            (&["a", "b"], true, "the tenant is named more than once"),
            (&["a", "a"], true, "the tenant is named more than once"),
            (&[""], true, "no tenant is named"),
            (&[".."], true, "neither . nor .."),
            (&["a/b"], true, "is not a tenant's name"),
            (&["a b"], true, "is not a tenant's name"),
            (&["a,b"], true, "is not a tenant's name"),
            (&["a%7Cb"], true, "it is percent-encoded"),
            (&["a|b"], false, "names several tenants, and multitenancy.federation is false"),
        ] {
            let (kind, message) = read(wrong, federation).expect_err("no tenant");
            assert_eq!(kind, ErrorKind::Unauthorized);
            assert!(message.contains(says) && message.contains("x-scope-orgid"), "{wrong:?}: {message}");
        }
        let mut headers = HeaderMap::new();
        headers.append("x-scope-orgid", HeaderValue::from_static("a"));
        headers.append(header::CONNECTION, HeaderValue::from_static("close, X-Scope-OrgId"));
        let error = tenant(&headers, tenancy(true).as_ref()).expect_err("it would not be passed on");
        assert!(error.message.contains("Connection names the tenant's"), "{error}");
        assert_eq!(super::tenant(&HeaderMap::new(), None).expect("there is one"), TenantId::anonymous());
    }

    #[test]
    fn dashboards_take_turns_and_alerts_are_alerts() {
        let caller = |headers: &[(&'static str, &'static str)]| {
            let headers =
                headers.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
            read(&headers.collect())
        };
        let a = caller(&[("x-dashboard-uid", "a"), ("user-agent", "Grafana/12")]);
        let b = caller(&[("x-dashboard-uid", "b"), ("user-agent", "Grafana/12")]);
        assert_ne!(a.source, b.source);
        assert_eq!(a, caller(&[("x-dashboard-uid", "a"), ("x-panel-id", "7")]));
        assert_ne!(a.source, caller(&[("x-grafana-user", "a")]).source, "a user is no dashboard of the same name");
        assert_eq!(caller(&[]), Caller::default());
        assert!(!a.is_alert);
        assert!(caller(&[("fromalert", "True")]).is_alert && caller(&[("x-rule-uid", "r")]).is_alert);
        assert!(!caller(&[("fromalert", "false")]).is_alert);
    }
}
