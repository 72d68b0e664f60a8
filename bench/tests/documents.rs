//! What the documents name is there: files and folders of the sources.

use std::path::{Path, PathBuf};

/// The documents, and where their readers look for what is named without a folder in front.
const SOURCES: [&str; 6] =
    ["", "core-nostd", "core-nostd/src", "capture/src", "host/src", "xdp-prog/src"];
/// What is made, not written.
const MADE: &str = "target/";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn documents() -> Vec<PathBuf> {
    let mut documents = vec![root().join("README.md"), root().join("ARCHITECTURE.md")];
    for folder in ["docs", "docs/decisions", "docs/formats", "docs/operating"] {
        for entry in std::fs::read_dir(root().join(folder)).expect("the documents") {
            let path = entry.expect("an entry").path();
            documents.extend(path.extension().is_some_and(|ending| ending == "md").then_some(path));
        }
    }
    documents
}

/// Files and folders between backquotes: `capture/src/worker.rs`, `host/src/query/`.
fn named(text: &str) -> impl Iterator<Item = &str> {
    let endings = ["/", ".rs", ".c", ".sh", ".md", ".toml"];
    text.split('`').skip(1).step_by(2).filter(move |word| {
        let is_path = word.contains('/') && !word.contains([' ', '<', '{', '*', ':', '\n']);
        is_path && !word.starts_with('/') && endings.iter().any(|ending| word.ends_with(ending))
    })
}

#[test]
fn files_that_the_documents_name_are_there() {
    let mut names = 0;
    for document in documents() {
        let text = std::fs::read_to_string(&document).expect("a document");
        for name in named(&text).filter(|name| !name.starts_with(MADE)) {
            let there = SOURCES.iter().any(|folder| root().join(folder).join(name).exists());
            assert!(there, "{name} of {} is not there", document.display());
            names += 1;
        }
    }
    assert!(names > 50, "only {names} names were found");
}
