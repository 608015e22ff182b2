//! `getrandom` (the crate) looks the function of that name up at run time: ours must be found there.

fn main() {
    println!("cargo:rustc-link-arg-bins=-Wl,--export-dynamic-symbol=getrandom");
}
