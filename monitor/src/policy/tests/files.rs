//! Files: directories, errors, the schema, what two mean differently.

use std::io::Write;

use super::*;

#[test]
fn errors_of_the_new_parts_say_where_and_what_was_expected() {
    let service = "[[service]]\nname = \"a\"\nports = [1]\n";
    let client = "[[service.client]]\nuser = \"root\"\n";
    for (text, expected) in [
        (format!("{service}action = \"deny\"\n{client}"), "policy.toml:4:10: action \"deny\" is reserved"),
        (format!("{service}action = \"block\"\n{client}"), "policy.toml:4:10: action \"block\", expected"),
        (format!("{service}require = {{}}\n{client}"), "policy.toml:4:11: require is empty, expected"),
        (format!("{service}encrypted = \"no\"\n{client}"), "expected `accept` or `alert`"),
        (
            format!(
                "[groups]\npayments = [{{ unit = \"a\" }}]\n{service}[[service.client]]\ngroup = \"payment\"\n"
            ),
            "policy.toml:7:9: there is no group \"payment\", expected one of [groups]; did you mean \"payments\"?",
        ),
        (format!("[groups]\na = []\n{service}{client}"), "policy.toml:2:1: the group \"a\" is empty"),
        (
            format!("[groups]\na = [{{}}]\n{service}{client}"),
            "policy.toml:2:6: an entry of the group \"a\" is empty",
        ),
        (
            format!("[groups]\na = [{{ group = \"b\" }}]\n{service}{client}"),
            "policy.toml:2:16: a group within a group",
        ),
        (format!("{service}{client}role = \"x\"\n"), "policy.toml:6:8: there is no role \"x\""),
        (
            "[roles]\nr = [{ topic = \"a\" }]\n".to_owned(),
            "policy.toml:2:16: objects without may, expected may =",
        ),
        (format!("{service}{client}may = []\n"), "policy.toml:6:7: may is empty"),
        (
            format!("{service}{client}may = [\"delete\"]\n"),
            "unknown variant `delete`, expected one of `read`",
        ),
        (format!("{service}{client}topic = \"a\"\n"), "policy.toml:6:9: objects without may"),
        (
            format!("{service}sha256 = \"abc\"\n{client}"),
            "policy.toml:4:10: sha256 = \"abc\", expected 64 hex",
        ),
        (
            format!("{service}spiffe = \"x\"\n{client}"),
            "policy.toml:4:10: spiffe = \"x\", expected spiffe://",
        ),
        (
            format!("{service}unit = 7\n{client}"),
            "policy.toml:4:8: invalid type: integer `7`, expected a string or",
        ),
        (format!("{service}unit = [\"a\", \"\"]\n{client}"), "policy.toml:4:14: unit is empty"),
        (format!("{service}unit = []\n{client}"), "policy.toml:4:8: unit is empty"),
        (
            "[[client]]\nname = \"a\"\nuser = \"0\"\n[[client.to]]\nservice = \"db\"\n".to_owned(),
            "policy.toml:5:11: there is no service \"db\"",
        ),
        (
            "[[client]]\nname = \"a\"\nuser = \"0\"\n[[client.to]]\n".to_owned(),
            "policy.toml:4:1: nothing to connect to",
        ),
        ("[[client]]\nname = \"a\"\n".to_owned(), "policy.toml:1:1: the client \"a\" has no selector"),
        (
            "[names]\nresolvers = [\"dns\"]\n".to_owned(),
            "policy.toml:2:14: resolver \"dns\", expected an address",
        ),
    ] {
        let message = parse(&text).unwrap_err().to_string();
        assert!(message.contains(expected), "\n{text}\n  says: {message}\n  want: {expected}");
        assert!(!message.contains('\n'));
    }
}

/// A directory of the test's own.
struct Directory(tempfile::TempDir);

impl Directory {
    fn new() -> Directory {
        Directory(crate::temporary::directory())
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.0.path().join(name), text).unwrap();
    }
}

#[test]
fn a_directory_is_one_policy() {
    let directory = Directory::new();
    assert!(Policy::load(directory.0.path()).unwrap_err().to_string().contains("has 0 *.toml files"));
    let client = "[[service.client]]\ngroup = \"shop\"\n";
    directory.write("20-web.toml", &format!("[[service]]\nname = \"web\"\nports = [80]\n{client}"));
    directory.write("90-groups.toml", "[groups]\nshop = [{ unit = \"shop.service\" }]\n");
    directory.write(".hidden.toml", "broken");
    directory.write("notes.txt", "broken");
    let policy = Policy::load(directory.0.path()).unwrap();
    let shop = unit("shop.service");
    let decision = policy.decide(&facts(Some(&shop), None, "10.0.0.1:80"));
    assert!(
        matches!(decision, Decision::Allowed { ref place, .. } if &**place == "20-web.toml:4"),
        "{decision:?}"
    );
    directory.write("30-again.toml", &format!("\n[[service]]\nname = \"web\"\nports = [81]\n{client}"));
    let message = Policy::load(directory.0.path()).unwrap_err().to_string();
    let expected =
        "30-again.toml:3:8: the service \"web\" is there twice, expected a name that line 2 of 20-web.toml";
    assert!(message.contains(expected), "{message}");
}

#[test]
fn who_else_can_change_a_policy_is_said() {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let directory = Directory::new();
    let mode = |name: &str, mode| {
        let path =
            if name.is_empty() { directory.0.path().to_owned() } else { directory.0.path().join(name) };
        std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
    };
    mode("", 0o755);
    for name in ["a.toml", "b.toml", "c.toml"] {
        directory.write(name, "");
        mode(name, 0o644);
    }
    let of = |path: &std::path::Path| Policy::texts(path).unwrap().others();
    assert_eq!(of(directory.0.path()), None);
    mode("b.toml", 0o664);
    let b = directory.0.path().join("b.toml");
    let told = format!("the policy {0} has mode 0664: others can change it; chmod go-w {0}", b.display());
    assert_eq!(of(directory.0.path()), Some(told.clone()));
    assert_eq!(of(&b), Some(told.clone()));
    let link = directory.0.path().join("link");
    symlink(&b, &link).unwrap();
    assert!(of(&link).unwrap().contains("has mode 0664"));
    assert_eq!(of(&directory.0.path().join("a.toml")), None);
    mode("c.toml", 0o646);
    assert_eq!(of(directory.0.path()), Some(format!("{told}; and 1 more of its files")));
    // In whose directory it is can put another in its place.
    mode("", 0o777);
    assert!(of(&directory.0.path().join("a.toml")).unwrap().contains("of mode 0777: others can replace it"));
    // What the worker is given does not say it again.
    let texts = Policy::texts(directory.0.path()).unwrap();
    let sent: PolicyTexts = serde_json::from_str(&serde_json::to_string(&texts).unwrap()).unwrap();
    assert_eq!(sent.others(), None);
}

/// Whoever reads it hears nothing else meanwhile.
#[test]
fn a_policy_is_as_long_as_it_may_be_and_no_longer_in_one_file_or_in_many() {
    let directory = Directory::new();
    let comment = |length: usize| format!("#{}\n", "x".repeat(length - 2));
    let most = usize::try_from(crate::config::LARGEST_FILE).unwrap();
    let refused = |path: &std::path::Path| Policy::load(path).map(drop).unwrap_err().to_string();
    let expected = |path: &std::path::Path| {
        format!("{}: is larger than {most} bytes: expected TOML of at most as many", path.display())
    };
    directory.write("a.toml", &comment(most));
    assert!(Policy::load(directory.0.path()).unwrap().is_empty());
    directory.write("a.toml", &comment(most + 1));
    let file = directory.0.path().join("a.toml");
    assert_eq!(refused(&file), expected(&file));
    directory.write("a.toml", &comment(most / 2));
    directory.write("b.toml", &comment(most / 2));
    assert!(Policy::load(directory.0.path()).unwrap().is_empty());
    directory.write("c.toml", "#\n");
    assert_eq!(refused(directory.0.path()), expected(directory.0.path()));
}

/// A daemon that waited for it would hear no signal any more.
#[test]
fn a_pipe_is_read_to_its_end_and_nobody_waits_for_ever() {
    let directory = Directory::new();
    let pipe = directory.0.path().join("pipe.toml");
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    // Somebody writes to it, and stays.
    let mut writer = std::fs::OpenOptions::new().read(true).write(true).open(&pipe).unwrap();
    writer.write_all(b"[groups]\n").unwrap();
    let message = Policy::load(&pipe).unwrap_err().to_string();
    assert!(message.ends_with("pipe.toml: can't be read: nothing more came of it in 5s"), "{message}");
    drop(writer);

    let path = pipe.clone();
    let writer = std::thread::spawn(move || {
        let mut writer = std::fs::File::create(path).unwrap();
        writer.write_all(b"[[service]]\nname = \"web\"\n").unwrap();
        std::thread::sleep(std::time::Duration::from_millis(20));
        writer.write_all(b"ports = [80]\n[[service.client]]\naddress = [\"0.0.0.0/0\"]\n").unwrap();
    });
    assert_eq!(Policy::load(&pipe).unwrap().service_count(), 1);
    writer.join().unwrap();

    // In a directory there may be a thousand of them.
    let message = Policy::load(directory.0.path()).unwrap_err().to_string();
    assert!(message.ends_with("pipe.toml: can't be read: is no regular file"), "{message}");
}

#[test]
fn every_key_of_the_schema_is_documented_and_known() {
    let schema: serde_json::Value = serde_json::from_str(&schema()).unwrap();
    let mut forms = vec![("FileForm".to_owned(), schema.clone())];
    for (name, form) in schema["$defs"].as_object().unwrap() {
        forms.push((name.clone(), form.clone()));
    }
    let mut keys = 0;
    for (name, form) in &forms {
        let Some(properties) = form.get("properties").and_then(|all| all.as_object()) else { continue };
        assert_eq!(form["additionalProperties"], false, "{name}");
        for (key, property) in properties {
            assert!(property["description"].as_str().is_some_and(|text| !text.is_empty()), "{name}.{key}");
            keys += 1;
        }
    }
    assert!(keys > 80, "{keys}");
    // A key that the parser names as known is in the schema, and the other way round.
    let message = parse("[[service]]\nnme = 1\n").unwrap_err().to_string();
    let named = forms.iter().find(|(name, _)| name == "ServiceForm").unwrap().1["properties"].clone();
    for key in named.as_object().unwrap().keys().take(8) {
        assert!(message.contains(&format!("`{key}`")), "{key}: {message}");
    }
}

#[test]
fn a_difference_is_of_meaning() {
    let before = parse(PAYMENTS).unwrap();
    let moved = PAYMENTS.replace("ports = [5432, \"6000-6010\"]", "# moved\n\nports = [5432, \"6000-6010\"]");
    assert_eq!(diff(&before, &parse(&moved).unwrap()), "");
    let after = parse(
        &PAYMENTS
            .replace("192.168.7.0/24", "192.168.8.0/24")
            .replace("ports = [5432, \"6000-6010\"]", "ports = [5432]"),
    )
    .unwrap();
    assert_eq!(
        diff(&before, &after),
        "~ service payments-db\n  \
         - at 5432,6000-6010/tcp process=postgres\n  \
         - client address=192.168.7.0/24\n  \
         + at 5432/tcp process=postgres\n  \
         + client address=192.168.8.0/24\n"
    );
    let required =
        PAYMENTS.replacen("[[service.client]]", "require = { tls = \"1.3\" }\n[[service.client]]", 1);
    let required = parse(&required).unwrap();
    let added = "~ service payments-db\n  + requires TLS 1.3 or later\n";
    assert_eq!(diff(&before, &required), added);
    let told = Export::new(&required, ExportFormat::Istio).left_out;
    assert!(told.iter().any(|line| line.contains("TLS 1.3 or later")), "{told:?}");
    let removed = diff(&before, &Policy::builtin());
    assert!(removed.starts_with("- service payments-db\n"), "{removed}");
}

proptest! {
    #[test]
    fn any_file_is_parsed_or_refused_in_one_line(
        text in "(\\[\\[(service|client)(\\.client|\\.to)?\\]\\]\n|\\[(groups|roles|names)\\]\n|(name|ports|may|topic|dns|sha256|group|role|labels|action|a) = ([\\[{]?\"?[0-9a-z.*!/:-]{0,12}\"?[\\]}]?)\n|.){0,16}"
    ) {
        if let Err(error) = parse(&text) {
            prop_assert!(!error.to_string().contains('\n'));
        }
    }
}
