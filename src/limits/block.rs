//! What is not answered at all: somebody on duty says so, with a reason, a name and an end.
//!
//! The rule: all conditions of a rule must hold, and one of the rules. A condition on what a question does not have (the step of
//! an instant query, the text of a question about labels) does not hold. Whoever is refused is told why, by whom, and for how
//! long. Who asks is what the client says about itself, so this is help for people of good will and no protection.

use std::time::Duration;

use http::HeaderMap;
use regex::Regex;

use crate::config::{BlockRule, Config};
use crate::error::{ApiError, ErrorKind};
use crate::limits::tenants::of_tenant;
use crate::model::params::Params;
use crate::model::pattern;
use crate::model::tenant::TenantId;
use crate::model::time::{Step, Timestamp};

/// All rules.
#[derive(Debug, Default)]
pub struct Blocked {
    rules: Vec<Rule>,
}

#[derive(Debug)]
struct Rule {
    written: BlockRule,
    query: Option<Regex>,
    user_agent: Option<Regex>,
}

/// What is asked, as far as rules look at it.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'q> {
    tenant: &'q TenantId,
    headers: &'q HeaderMap,
    query: Option<&'q str>,
    range: Option<Duration>,
    step: Option<Duration>,
}

impl<'q> Subject<'q> {
    /// One without a query: about series, labels or metadata.
    pub fn without_query(tenant: &'q TenantId, headers: &'q HeaderMap) -> Self {
        Self { tenant, headers, query: None, range: None, step: None }
    }

    /// One with a query, and with the range and the step that its parameters say.
    pub fn of_query(tenant: &'q TenantId, headers: &'q HeaderMap, params: &'q Params) -> Self {
        let time = |name| Timestamp::parse(params.get(name));
        let range = time("start").zip(time("end")).map(|(start, end)| end.since(start));
        let step = Step::parse(params.get("step")).map(|step| Duration::from_millis(step.ms().unsigned_abs()));
        Self { tenant, headers, query: Some(params.get("query")), range, step }
    }
}

impl Blocked {
    /// The rules of a configuration.
    pub fn of(config: &Config) -> Result<Self, String> {
        let rules = config
            .block
            .iter()
            .enumerate()
            .map(|(i, rule)| Rule::of(rule).map_err(|problem| format!("block[{i}]{problem}")));
        Ok(Self { rules: rules.collect::<Result<_, _>>()? })
    }

    /// The refusal of a question, if a rule blocks it.
    pub fn refusal(&self, question: &Subject<'_>, now: Timestamp) -> Option<ApiError> {
        let rule = self.rules.iter().position(|rule| rule.blocks(question, now))?;
        let message = told(rule, &self.rules[rule].written, question.tenant);
        Some(ApiError::new(ErrorKind::Execution, message))
    }
}

impl Rule {
    fn of(written: &BlockRule) -> Result<Self, String> {
        Ok(Self {
            query: pattern(&written.query_regex).map_err(|problem| format!(".query_regex: {problem}"))?,
            user_agent: pattern(&written.user_agent_regex)
                .map_err(|problem| format!(".user_agent_regex: {problem}"))?,
            written: written.clone(),
        })
    }

    fn blocks(&self, question: &Subject<'_>, now: Timestamp) -> bool {
        let Self { written, query, user_agent } = self;
        let says = |name: &str| question.headers.get(name).and_then(|value| value.to_str().ok());
        let is = |want: &str, name: &str| want.is_empty() || says(name) == Some(want);
        let is_for = written.tenants.is_empty()
            || question.tenant.parts().any(|part| written.tenants.iter().any(|name| name == part));
        written.expires.is_none_or(|end| now < end)
            && is_for
            && is(&written.dashboard, "x-dashboard-uid")
            && is(&written.panel, "x-panel-id")
            && (written.query.is_empty() || question.query.is_some_and(|text| text.trim() == written.query.trim()))
            && (written.range_longer_than.is_zero()
                || question.range.is_some_and(|range| range > written.range_longer_than))
            && (written.step_shorter_than.is_zero()
                || question.step.is_some_and(|step| step < written.step_shorter_than))
            && user_agent.as_ref().is_none_or(|regex| says("user-agent").is_some_and(|agent| regex.is_match(agent)))
            && query.as_ref().is_none_or(|regex| question.query.is_some_and(|text| regex.is_match(text)))
    }
}

/// None if it is empty.
fn pattern(text: &str) -> Result<Option<Regex>, String> {
    if text.is_empty() { Ok(None) } else { pattern::whole(text).map(Some) }
}

/// What is said to whoever is refused.
fn told(number: usize, rule: &BlockRule, tenant: &TenantId) -> String {
    let reason = &rule.reason;
    let until =
        rule.expires.map_or_else(|| "until it is removed".to_owned(), |end| format!("until {}", end.to_rfc3339()));
    let (owner, ask) = match rule.owner.as_str() {
        "" => (String::new(), "whoever runs promfront".to_owned()),
        owner => (format!(", by {owner}"), owner.to_owned()),
    };
    format!(
        "this is blocked{}: {reason} (block[{number}]{owner}, {until}); ask something else, or ask {ask} to change the rule",
        of_tenant(tenant)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;
    use http::header::HeaderName;

    const NOW: Timestamp = Timestamp::from_ms(1_700_000_000_000);

    fn blocked(rule: &str) -> Result<Blocked, String> {
        Blocked::of(&Config::parse(&format!("block: [{{{rule}}}]")).expect("sound YAML"))
    }

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let pair = |&(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value));
        pairs.iter().map(pair).collect()
    }

    #[test]
    fn all_conditions_of_a_rule_must_hold() {
        let asked = Params::read(Some("query=sum(up)%0A&start=0&end=7200&step=15"), None).expect("readable");
        let headers = headers(&[("x-dashboard-uid", "d1"), ("x-panel-id", "7"), ("user-agent", "Grafana/12.1")]);
        let tenant = TenantId::named("a|b");
        let question = Subject::of_query(&tenant, &headers, &asked);
        for (rule, want) in [
            ("tenants: [b]", true),
            ("tenants: [c, a]", true),
            ("tenants: [c]", false),
            ("query: sum(up)", true),
            ("query: up", false),
            ("query_regex: 'sum.*'", true),
            ("query_regex: up", false),
            ("query_regex: 'x|sum.*'", true),
            ("dashboard: d1", true),
            ("dashboard: d2", false),
            ("panel: '7'", true),
            ("panel: '70'", false),
            ("user_agent_regex: 'Grafana/.*'", true),
            ("user_agent_regex: Grafana", false),
            ("range_longer_than: 1h59m59s", true),
            ("range_longer_than: 2h", false),
            ("step_shorter_than: 16s", true),
            ("step_shorter_than: 15s", false),
            ("dashboard: d1, panel: '7', tenants: [a], range_longer_than: 1h", true),
            ("dashboard: d1, panel: '8', tenants: [a], range_longer_than: 1h", false),
            ("tenants: [a], expires: 2023-11-14T22:13:20.001Z", true),
            ("tenants: [a], expires: 2023-11-14T22:13:20Z", false),
        ] {
            let is_blocked = blocked(rule).expect(rule).refusal(&question, NOW).is_some();
            assert_eq!(is_blocked, want, "{rule}");
        }
    }

    #[test]
    fn a_condition_on_what_is_not_there_does_not_hold() {
        let (tenant, headers) = (TenantId::anonymous(), headers(&[("x-dashboard-uid", "d1")]));
        let bare = Subject::without_query(&tenant, &headers);
        for rule in ["query_regex: '.*'", "range_longer_than: 1ms", "step_shorter_than: 1d", "user_agent_regex: '.*'"] {
            assert!(blocked(rule).expect(rule).refusal(&bare, NOW).is_none(), "{rule}");
        }
        assert!(blocked("dashboard: d1").expect("sound").refusal(&bare, NOW).is_some());
        let instant = Params::read(Some("query=up&time=4"), None).expect("readable");
        let instant = Subject::of_query(&tenant, &headers, &instant);
        assert!(blocked("step_shorter_than: 1d").expect("sound").refusal(&instant, NOW).is_none());
        assert!(blocked("query: up").expect("sound").refusal(&instant, NOW).is_some());
    }

    #[test]
    fn a_refusal_says_why_by_whom_and_until_when() {
        let tell = |rule: &str, tenant: &str| {
            let (tenant, headers) = (TenantId::named(tenant), headers(&[("x-dashboard-uid", "d1")]));
            let question = Subject::without_query(&tenant, &headers);
            let error = blocked(rule).expect(rule).refusal(&question, NOW).expect("blocked");
            assert_eq!(error.kind, ErrorKind::Execution);
            error.message
        };
        assert_eq!(
            tell("dashboard: d1, reason: it melts the store, owner: '#sre', expires: 2030-01-31T00:00:00Z", "a"),
            "this is blocked for tenant a: it melts the store (block[0], by #sre, until 2030-01-31T00:00:00Z); ask \
             something else, or ask #sre to change the rule"
        );
        assert_eq!(
            tell("dashboard: d1, reason: it is being mended", "anonymous"),
            "this is blocked: it is being mended (block[0], until it is removed); ask something else, or ask whoever runs \
             promfront to change the rule"
        );
    }

    #[test]
    fn rules_that_cannot_be_meant_are_refused_with_their_place() {
        for (rule, says) in [
            ("query_regex: '('", "block[0].query_regex: \"(\" is no regular expression"),
            ("query_regex: 'a)|(b'", "block[0].query_regex:"),
            ("user_agent_regex: '['", "block[0].user_agent_regex:"),
        ] {
            let problem = blocked(rule).expect_err(rule);
            assert!(problem.starts_with(says), "{rule}: {problem}");
        }
    }
}
