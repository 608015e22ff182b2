//! What `make demo` shows, as a test: an overloaded node sheds its container by itself.

#![allow(clippy::unwrap_used, reason = "tests")]

#[test]
fn an_overloaded_node_sheds_its_looper_to_the_near_node() {
    fog_e2e::demo::play(true).unwrap();
}
