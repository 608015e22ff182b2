//! See `oracle.rs`. `fog-oracle NAME WITNESS`, where the witness is an address with a port.

use anyhow::Context;

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let (name, witness) = arguments.next().zip(arguments.next()).context("fog-oracle NAME ADDRESS:PORT")?;
    fog_e2e::oracle::run(&name, witness.parse().context("the witness has no address")?)
}
