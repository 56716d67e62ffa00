//! Object metadata: names, labels and the rules that every object obeys.

pub mod names;
