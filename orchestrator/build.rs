//! A dashboard that was built anew makes the program compile anew. Without one an empty folder stands for it (a missing
//! one would make every build start again); `http/page.rs` then says what to run.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let dist = "../web/dist";
    if let Err(error) = std::fs::create_dir_all(dist) {
        println!("cargo:warning=cannot make {dist}: {error}");
        return;
    }
    println!("cargo:rerun-if-changed={dist}");
}
