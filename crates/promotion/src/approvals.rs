//! Who has approved, and whether that is enough.

use std::collections::BTreeSet;

use crate::types::{Approvers, Decision, Facts, Millis, Request, Text, Verdict};

/// How the approvals stand.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Count {
    /// Whose approval counts now.
    pub approved: Vec<Text>,
    /// Who said no.
    pub rejected: Option<Text>,
    /// Approvals that no longer count, and why.
    pub void: Vec<(Text, &'static str)>,
    /// When the next of those that count stops to.
    pub until: Option<Millis>,
}

fn may_approve(approvers: &Approvers, request: &Request, decision: &Decision) -> Result<(), &'static str> {
    let everybody = approvers.users.is_empty() && approvers.groups.is_empty();
    let named = approvers.users.contains(&decision.by);
    let in_group = decision
        .groups
        .iter()
        .any(|group| approvers.groups.contains(group));
    if !(everybody || named || in_group) {
        return Err("is not one of those who may approve");
    }
    if approvers.not_author {
        if request.author.is_empty() {
            return Err("may be the one who asked, which is not known");
        }
        if decision.by == request.author {
            return Err("asked for it");
        }
    }
    Ok(())
}

/// Counts the decisions of a promotion. The last word of each person counts.
pub fn count(approvers: &Approvers, request: &Request, facts: &Facts, now: Millis) -> Count {
    let mut count = Count::default();
    let spoken = |d: &&Decision| matches!(d.verdict, Verdict::Approve | Verdict::Reject | Verdict::Withdraw);
    // By their order: a clock that was put back must not make an older word the last one.
    let mut heard = BTreeSet::new();
    let mut last: Vec<&Decision> = facts.decisions.iter().rev().filter(spoken).collect();
    last.retain(|decision| heard.insert(&*decision.by));
    for decision in last.into_iter().rev() {
        if decision.verdict == Verdict::Withdraw {
            continue;
        }
        let by = Text::clone(&decision.by);
        if let Err(why) = may_approve(approvers, request, decision) {
            // Whoever may not approve may not stop it either, but for the author, who may withdraw what they asked for.
            if decision.verdict == Verdict::Reject && decision.by == request.author && !by.is_empty() {
                count.rejected = Some(by);
            } else {
                count.void.push((by, why));
            }
            continue;
        }
        if decision.verdict == Verdict::Reject {
            count.rejected = Some(by);
        } else if decision.digest != facts.digest {
            count.void.push((by, "approved another artifact"));
        } else if decision.diff != facts.diff {
            count
                .void
                .push((by, "approved before the rendered difference changed"));
        } else if let Some(end) = approvers.valid_for.map(|valid| decision.at + valid)
            && end <= now
        {
            count.void.push((by, "approved too long ago"));
        } else {
            let end = approvers.valid_for.map(|valid| decision.at + valid);
            count.until = match (count.until, end) {
                (Some(a), Some(b)) => Some(a.min(b)),
                (a, b) => a.or(b),
            };
            count.approved.push(by);
        }
    }
    count
}
