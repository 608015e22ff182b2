//! The API's description: committed, fresh, and served.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::path::Path;

use support::Orchestrator;

#[test]
fn the_committed_document_is_fresh() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("api/openapi.json");
    let fresh = serde_json::to_string_pretty(fog_orchestrator::http::document::document()).unwrap() + "\n";
    if std::env::var_os("UPDATE_OPENAPI").is_some() {
        std::fs::write(&file, &fresh).unwrap();
    }
    assert!(
        std::fs::read_to_string(&file).unwrap_or_default() == fresh,
        "orchestrator/api/openapi.json is stale: run `UPDATE_OPENAPI=1 cargo test -p fog-orchestrator --test openapi` \
         and commit it"
    );
}

#[test]
fn every_reference_leads_somewhere_and_every_name_is_used_once() {
    let document = fog_orchestrator::http::document::document();
    let text = document.to_string();
    for target in text.split("\"$ref\":\"#").skip(1).map(|rest| rest.split('"').next().unwrap()) {
        assert!(document.pointer(target).is_some(), "{target} is not there");
    }
    let mut names = std::collections::BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let name = operation["operationId"].as_str().unwrap();
            assert!(names.insert(name.to_owned()), "{method} {path}: {name} is there twice");
            assert!(operation["summary"].is_string(), "{method} {path} says nothing about itself");
        }
    }
}

#[tokio::test]
async fn it_is_served_with_a_page_that_needs_nothing_from_elsewhere() {
    let orchestrator = Orchestrator::start().await;
    assert_eq!(&orchestrator.get("/openapi.json").await, fog_orchestrator::http::document::document());
    let page = orchestrator.http.get(format!("{}/docs", orchestrator.url)).send().await.unwrap();
    assert_eq!(page.headers()["content-type"], "text/html; charset=utf-8");
    assert!(page.headers()["content-security-policy"].to_str().unwrap().starts_with("default-src 'self'"));
    let page = page.text().await.unwrap();
    for asset in ["/docs/docs.js", "/docs/docs.css"] {
        assert!(page.contains(asset));
        let answer = orchestrator.http.get(format!("{}{asset}", orchestrator.url)).send().await.unwrap();
        assert_eq!(answer.status(), 200);
        assert!(!answer.text().await.unwrap().contains("://"), "{asset} asks somebody else");
    }
    assert!(!page.contains("://"), "the page asks somebody else");
}
