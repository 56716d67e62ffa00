//! Who refers to whom: the edges of the graph, backwards.

use std::{cmp::Ordering, collections::BTreeSet};

use equivalent::{Comparable, Equivalent};
use imbl::OrdSet;

use super::{Kind, ObjectRef};

/// One reference. Edges are sorted by where they lead.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Edge {
    to: ObjectRef,
    from: ObjectRef,
}

/// All edges in one set, since most objects are referred to by few: a set for each would take more than what is in it.
#[derive(Debug, Clone, Default)]
pub(super) struct Edges(OrdSet<Edge>);

/// Where the edges to an object begin, or those from objects of a kind: before the first one.
struct Start<'a> {
    to: &'a ObjectRef,
    kind: Option<Kind>,
}

impl Equivalent<Edge> for Start<'_> {
    fn equivalent(&self, _: &Edge) -> bool {
        false
    }
}

impl Comparable<Edge> for Start<'_> {
    fn compare(&self, edge: &Edge) -> Ordering {
        let kinds = self.kind.map(|kind| kind.cmp(&edge.from.kind));
        self.to
            .cmp(&edge.to)
            .then(kinds.unwrap_or(Ordering::Equal))
            .then(Ordering::Less)
    }
}

impl Edges {
    /// Who refers to an object, in order; of objects of a kind and of those after it, if one is given.
    pub(super) fn to<'a>(
        &'a self,
        to: &ObjectRef,
        first: Option<Kind>,
    ) -> impl Iterator<Item = &'a ObjectRef> + use<'a> {
        let mut all = self.0.range(Start { to, kind: first }..).peekable();
        let to = all.peek().filter(|edge| edge.to == *to).map(|edge| &edge.to);
        all.take_while(move |edge| Some(&edge.to) == to)
            .map(|edge| &edge.from)
    }

    /// What an object refers to, found by looking at every edge.
    pub(super) fn from(&self, from: &ObjectRef) -> BTreeSet<ObjectRef> {
        let all = self.0.iter().filter(|edge| edge.from == *from);
        all.map(|edge| edge.to.clone()).collect()
    }

    /// The address of an object that something refers to, to be shared.
    pub(super) fn shared(&self, to: &ObjectRef) -> Option<ObjectRef> {
        let first = self.0.range(Start { to, kind: None }..).next();
        first.filter(|edge| edge.to == *to).map(|edge| edge.to.clone())
    }

    /// What an object refers to is another than before.
    pub(super) fn change(&mut self, from: &ObjectRef, was: &BTreeSet<ObjectRef>, is: &BTreeSet<ObjectRef>) {
        for to in was.difference(is) {
            self.0.remove(&Edge {
                to: to.clone(),
                from: from.clone(),
            });
        }
        for to in is.difference(was) {
            self.0.insert(Edge {
                to: to.clone(),
                from: from.clone(),
            });
        }
    }
}
