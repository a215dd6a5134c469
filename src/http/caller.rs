//! Who asks: what a client says about itself decides with whom it takes turns, and never what it gets.

use http::HeaderMap;
use http::header::HeaderName;
use xxhash_rust::xxh3::xxh3_64_with_seed;

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

/// Whose request it is. `name`: the header that says it, if there is more than one tenant.
pub(super) fn tenant(headers: &HeaderMap, name: Option<&HeaderName>) -> Result<TenantId, ApiError> {
    let Some(name) = name else { return Ok(TenantId::anonymous()) };
    let refuse = |problem: String| {
        ApiError::new(ErrorKind::Unauthorized, format!("{problem} (header {name}; multitenancy.enabled is true)"))
    };
    let mut values = headers.get_all(name).into_iter();
    match (values.next(), values.next()) {
        (None, _) => Err(refuse("no tenant is named".to_owned())),
        (Some(_), Some(_)) => Err(refuse("the tenant is named more than once".to_owned())),
        (Some(value), None) => {
            let value =
                value.to_str().map_err(|_| refuse("the tenant's name is not made of ASCII characters".to_owned()))?;
            TenantId::parse(value).map_err(refuse)
        }
    }
}

/// Reads who asks.
pub(super) fn read(headers: &HeaderMap) -> Caller {
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
        let name = HeaderName::from_static("x-scope-orgid");
        let tenant = |values: &[&'static str]| {
            let headers: HeaderMap =
                values.iter().map(|value| (name.clone(), HeaderValue::from_static(value))).collect();
            tenant(&headers, Some(&name)).map_err(|error| (error.kind, error.message))
        };
        assert_eq!(tenant(&["team-a"]).expect("a name").as_str(), "team-a");
        for wrong in [&[][..], &["a", "b"], &[""], &[".."], &["a/b"], &["a|b"], &["a b"]] {
            let (kind, message) = tenant(wrong).expect_err("no tenant");
            assert!(kind == ErrorKind::Unauthorized && message.contains("x-scope-orgid"), "{wrong:?}: {message}");
        }
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
