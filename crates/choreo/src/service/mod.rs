//! What commands share that run until they are told to stop.

pub(crate) mod logging;
pub(crate) mod signals;
