//! Pods as containers of a real engine. `CHOREO_TEST_CONTAINER_HOST` names its socket; without it these are not run, and say so.

mod access;
mod bed;
mod failing;
mod lifetime;
mod network;
mod running;
