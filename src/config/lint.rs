//! What can be meant, and probably is not.

use super::Config;
use super::problem::{Problem, Report};
use super::scalar::print_duration;
use crate::model::time::Timestamp;

/// Everything that somebody should look at.
pub(super) fn lint(config: &Config, now: Timestamp) -> Vec<Problem> {
    let mut report = Report::default();
    tenants(config, &mut report);
    for (i, rule) in config.block.iter().enumerate() {
        if rule.expires.is_some_and(|expires| expires <= now) {
            report.refuse_of(
                &["block", &format!("[{i}]"), "expires"],
                "the rule holds no more; take it out, or give it more time",
            );
        }
    }
    if config.downstream.tls.insecure_skip_verify {
        let sentence = "whoever is between here and the servers can read and change everything; give ca_file instead";
        report.refuse_of(&["downstream", "tls", "insecure_skip_verify"], sentence);
    }
    let cache = &config.cache;
    if cache.out_of_order_ttl > cache.ttl {
        let (young, ttl) = (print_duration(cache.out_of_order_ttl), print_duration(cache.ttl));
        let sentence = format!("what may still change holds longer ({young}) than what does not (cache.ttl, {ttl})");
        report.refuse_of(&["cache", "out_of_order_ttl"], &sentence);
    }
    report.problems
}

fn tenants(config: &Config, report: &mut Report) {
    for (name, tenant) in &config.tenants {
        let mut same = tenant.limits.same_as(&config.limits);
        if tenant.limits.max_queued == Some(config.sched.max_queued_per_tenant) {
            same.push("max_queued");
        }
        for option in same {
            report.refuse_of(&["tenants", name, "limits", option], "it is the common limit anyway; take it out");
        }
    }
}
