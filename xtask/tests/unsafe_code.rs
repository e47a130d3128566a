//! Which crates hold unsafe code, and that no other does. Bytes from outside are read only where the compiler forbids
//! it.

use std::fs;
use std::path::{Path, PathBuf};

/// What each needs it for. None of them makes sense of bytes: `dissect` and `monitor` do.
const UNSAFE: [(&str, &str); 3] = [
    ("monitor-common", "layouts that are read from bytes of the kernel programs and written to them"),
    ("monitor-ebpf", "the kernel's helpers"),
    ("monitor-sys", "bpf(2), the memory that it maps, and the allocator"),
];

/// Directories with a `Cargo.toml`, of our own.
fn crates() -> Vec<String> {
    let root = root();
    let mut found: Vec<String> = ["", "tests"]
        .iter()
        .flat_map(|below| {
            fs::read_dir(root.join(below)).expect("a directory").flatten().map(|entry| entry.path())
        })
        .filter(|path| path.join("Cargo.toml").is_file())
        .map(|path| path.strip_prefix(&root).expect("below the root").display().to_string())
        .collect();
    found.sort();
    found
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().expect("the root")
}

fn holds_unsafe(name: &str) -> bool {
    UNSAFE.iter().any(|(holder, _)| *holder == name)
}

/// The sources below a directory, but for other crates in it.
fn sources(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            let other = path.join("Cargo.toml").exists() || path.ends_with("target");
            found.extend(if other { Vec::new() } else { sources(&path) });
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}

/// Lines that make something unsafe, or allow to.
fn unsafe_lines(source: &str) -> Vec<&str> {
    let makes = |line: &str| {
        let code = line.split("//").next().unwrap_or_default();
        let mut words =
            code.split(|c: char| c.is_whitespace() || c == '(' || c == '#' || c == '[').peekable();
        while let Some(word) = words.next() {
            let next = words.peek().copied().unwrap_or_default();
            if word == "unsafe"
                && ["{", "fn", "impl", "trait", "extern", "no_mangle"].iter().any(|it| next.starts_with(it))
            {
                return true;
            }
        }
        code.contains("allow(unsafe_code") || code.contains("expect(unsafe_code")
    };
    source.lines().filter(|line| makes(line)).collect()
}

#[test]
fn no_other_crate_holds_unsafe_code() {
    let found = crates();
    assert!(found.len() >= 9, "only these crates were found: {found:?}");
    let mut wrong = Vec::new();
    let mut read = 0;
    for name in &found {
        let mut lines = 0;
        for source in sources(&root().join(name)) {
            // This file speaks of it.
            if source.ends_with("unsafe_code.rs") {
                continue;
            }
            read += 1;
            let text = fs::read_to_string(&source).expect("a source");
            let unsafe_lines = unsafe_lines(&text);
            lines += unsafe_lines.len();
            if !holds_unsafe(name) {
                wrong
                    .extend(unsafe_lines.iter().map(|line| format!("{}: {}", source.display(), line.trim())));
            }
        }
        println!("{name}: {lines} lines that make something unsafe");
        assert!(
            lines > 0 || !holds_unsafe(name),
            "{name} holds no unsafe code any more: take it off the list"
        );
    }
    assert!(read > 200, "only {read} sources were read");
    assert!(wrong.is_empty(), "unsafe code:\n{}", wrong.join("\n"));
}

#[test]
fn the_compiler_forbids_it_in_every_other_crate() {
    let mut wrong = Vec::new();
    for name in crates().iter().filter(|name| !holds_unsafe(name)) {
        let source = root().join(name).join("src");
        let mut roots = vec![source.join("lib.rs"), source.join("main.rs")];
        for entry in fs::read_dir(source.join("bin")).into_iter().flatten().flatten() {
            let path = entry.path();
            roots.push(if path.is_dir() { path.join("main.rs") } else { path });
        }
        let texts: Vec<(PathBuf, String)> = roots
            .into_iter()
            .filter_map(|path| Some((path.clone(), fs::read_to_string(path).ok()?)))
            .collect();
        assert!(!texts.is_empty(), "{name} has no root");
        let open =
            texts.iter().filter(|(_, text)| !text.lines().any(|line| line == "#![forbid(unsafe_code)]"));
        wrong.extend(open.map(|(path, _)| path.display().to_string()));
    }
    assert!(wrong.is_empty(), "without #![forbid(unsafe_code)]:\n{}", wrong.join("\n"));
}

#[test]
fn what_makes_something_unsafe_is_seen() {
    for line in [
        "    let x = unsafe { f() };",
        "pub unsafe fn f() {}",
        "unsafe impl Send for A {}",
        "#[unsafe(no_mangle)]",
        "#![allow(unsafe_code)]",
        "unsafe extern \"C\" {",
    ] {
        assert_eq!(unsafe_lines(line), [line], "{line}");
    }
    for line in
        ["// unsafe { not code }", "#![forbid(unsafe_code)]", "let unsafe_lines = 1;", "it is unsafe to eat"]
    {
        assert!(unsafe_lines(line).is_empty(), "{line}");
    }
}
