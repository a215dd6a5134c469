//! What several options together can mean.

use super::problem::Report;
use super::{BlockRule, Config, Remote};
use crate::model::tenant::TenantId;

/// A first tier before a shared one is at least this large.
const FEWEST_MEMORY_BYTES: u64 = 16 << 20;

/// Tells what does not go together.
pub(super) fn check(config: &Config, report: &mut Report) {
    downstream(config, report);
    if let Some(remote) = &config.cache.remote {
        remote_tier(config, remote, report);
    }
    report.within("tenants", |report| {
        for name in config.tenants.keys() {
            if let Err(problem) = TenantId::parse(name) {
                report.within(name, |report| report.refuse(problem));
            }
        }
    });
    for (i, rule) in config.block.iter().enumerate() {
        report.within("block", |report| report.within(format!("[{i}]"), |report| block(rule, report)));
    }
}

fn downstream(config: &Config, report: &mut Report) {
    let mode = config.downstream.mode;
    if mode.has_workers() && config.downstream.urls.is_empty() {
        let sentence = "there is none; write [\"http://127.0.0.1:9090\"], for example";
        report.refuse_of(&["downstream", "urls"], sentence);
    }
    if mode.has_queriers() && config.sched.grpc_listen_address.is_empty() {
        let sentence = "queriers have nowhere to connect, but downstream.mode says that they pull; write 127.0.0.1:9095, \
                        for example";
        report.refuse_of(&["sched", "grpc_listen_address"], sentence);
    }
}

fn remote_tier(config: &Config, remote: &Remote, report: &mut Report) {
    if remote.redis.is_some() == remote.memcached.is_some() {
        report.refuse_of(&["cache", "remote"], "it takes exactly one of redis and memcached");
    }
    if config.cache.memory.max_bytes < FEWEST_MEMORY_BYTES {
        let sentence = "it is the first tier before cache.remote and must have at least 16MiB";
        report.refuse_of(&["cache", "memory", "max_bytes"], sentence);
    }
    if remote.namespace.is_empty() && config.downstream.is_on_this_machine() {
        let sentence = "the downstream is on this machine, so its address does not tell replicas whether they stand \
                        before the same data; name the data, for example namespace: prod";
        report.refuse_of(&["cache", "remote", "namespace"], sentence);
    }
}

fn block(rule: &BlockRule, report: &mut Report) {
    if rule.reason.trim().is_empty() {
        report.refuse_of(&["reason"], "it is missing; write what people should be told, and do instead");
    }
    let nothing = BlockRule {
        reason: rule.reason.clone(),
        owner: rule.owner.clone(),
        expires: rule.expires,
        ..BlockRule::default()
    };
    if *rule == nothing {
        report.refuse("it has no condition, so it would block everything; name tenants, a query or a dashboard");
    }
    for name in &rule.tenants {
        if let Err(problem) = TenantId::parse(name) {
            report.refuse_of(&["tenants"], &problem);
        }
    }
}
