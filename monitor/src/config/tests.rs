#![allow(clippy::unwrap_used)]

use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::api::tests::Place;

fn parse(text: &str) -> Result<Config, FileError> {
    parse_toml(Path::new("streamwatch.toml"), text)
}

#[test]
fn the_shipped_file_is_the_defaults() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/streamwatch.toml");
    // Whoever has the sources has it.
    let shipped = parse(&std::fs::read_to_string(path).unwrap()).unwrap();
    assert_eq!(shipped, Config::default());
    shipped.check().unwrap();
}

#[test]
fn the_shipped_file_names_every_key() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/streamwatch.toml");
    let text = std::fs::read_to_string(path).unwrap();
    let all = Config {
        kernel: Kernel { cgroup: Some("/x".into()), ..Kernel::default() },
        policy: PolicyFile { file: Some("/x".into()) },
        alerts: Alerts { state: Some("/x".into()), ..Alerts::default() },
        api: Api { viewers: Some("x".into()), operators: Some("x".into()), ..Api::default() },
        state: State {
            vault: VaultService {
                ca: Some("/x".into()),
                namespace: Some("x".into()),
                ..VaultService::default()
            },
            aws: AwsService {
                role: Some("x".into()),
                endpoint: Some("x".into()),
                ca: Some("/x".into()),
                ..AwsService::default()
            },
            ..State::default()
        },
        ..Config::default()
    };
    for line in toml::to_string(&all).unwrap().lines() {
        let Some((key, _)) = line.split_once(" = ") else { continue };
        let named = text.lines().any(|line| line.trim_start_matches("# ").starts_with(&format!("{key} = ")));
        assert!(named, "{key} is not in deploy/streamwatch.toml");
    }
}

#[test]
fn errors_say_where_and_what_was_expected() {
    for (text, expected) in [
        ("[flows]\ncapacty = 4\n", "streamwatch.toml:2:1: unknown field `capacty`, expected one of"),
        ("[flows]\ncapacty = 4\n", "did you mean `capacity`?"),
        (
            "[flows]\ncapacity = \"many\"\n",
            "streamwatch.toml:2:12: invalid type: string \"many\", expected u32",
        ),
        ("[flows]\ncapacity = -1\n", "streamwatch.toml:2:12: invalid value: integer `-1`, expected u32"),
        ("[flows\n", "streamwatch.toml:1:7: "),
        ("[output]\nformat = \"xml\"\n", "streamwatch.toml:2:10: unknown variant `xml`, expected one of"),
        ("é = \u{1b}[31m", "streamwatch.toml:1:"),
    ] {
        let message = parse(text).unwrap_err().to_string();
        assert!(message.contains(expected), "{text:?}: {message}");
        assert!(!message.chars().any(char::is_control), "{message:?}");
    }
}

#[test]
fn a_missing_file_is_named() {
    let error = Config::load(Some(Path::new("/nonexistent/streamwatch.toml"))).unwrap_err();
    assert!(error.to_string().starts_with("/nonexistent/streamwatch.toml: can't be read: "));
}

#[test]
fn a_file_that_somebody_else_can_change_is_refused() {
    use std::os::unix::fs::{PermissionsExt, chown, symlink};
    let place = Place::new();
    let directory = place.socket().parent().unwrap().to_owned();
    let mode = |path: &Path, mode| std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
    mode(&directory, 0o755);
    let (path, link) = (directory.join("streamwatch.toml"), directory.join("link.toml"));
    std::fs::write(&path, "[flows]\ncapacity = 5000\n").unwrap();
    symlink(&path, &link).unwrap();
    let read = |path: &Path| {
        let read = Config::read(Some(path), Overrides::default());
        read.map(|(config, _)| config.flows.capacity).map_err(|error| error.to_string())
    };
    mode(&path, 0o644);
    assert_eq!((read(&path), read(&link)), (Ok(5000), Ok(5000)));
    for bad in [0o664, 0o646] {
        mode(&path, bad);
        for path in [&path, &link] {
            let shown = path.display();
            let expected = format!(
                "{shown}: not taken: it has mode {bad:04o}: others can change it; chmod go-w {shown}"
            );
            assert_eq!(read(path), Err(expected));
        }
    }
    mode(&path, 0o644);
    mode(&directory, 0o777);
    assert!(read(&path).unwrap_err().contains("not taken: it is in "), "{:?}", read(&path));
    mode(&directory, 0o755);
    // Only root can give a file away.
    if rustix::process::geteuid().is_root() {
        chown(&path, Some(1), None).unwrap();
        let told = read(&path).unwrap_err();
        assert!(told.contains("belongs to user 1, who can change it: expected root; chown root"), "{told}");
        assert!(!told.contains('\n'), "{told}");
    }
}

#[test]
fn bytes_that_are_not_text_are_placed() {
    let directory = crate::temporary::directory();
    let path = directory.path().join("streamwatch.toml");
    std::fs::write(&path, b"[flows]\n#\xff\n").unwrap();
    let message = Config::load(Some(&path)).unwrap_err().to_string();
    assert!(message.contains(":2:2: a byte that is not UTF-8"), "{message}");
}

#[test]
fn values_out_of_range_are_named() {
    for (text, expected) in [
        (
            "[kernel]\nring_bytes = 5000\n",
            "kernel.ring_bytes = 5000 is out of range: expected a power of two",
        ),
        ("[kernel]\nring_bytes = 1024\n", "kernel.ring_bytes"),
        ("[kernel]\ntick_ms = 0\n", "kernel.tick_ms = 0 is out of range: expected 10 to 60000"),
        (
            "[flows]\ncapacity = 100\nclosed_keep = 101\n",
            "flows.closed_keep = 101 is out of range: expected 0 to 100",
        ),
        (
            "[api]\nsocket = \"api.sock\"\n",
            "api.socket = \"api.sock\" is out of range: expected an absolute path",
        ),
        ("[flows]\ncapacity = 1000000\n", "memory.limit_mib = 256 is out of range: expected at least "),
        ("[memory]\nlimit_mib = 100\n", "memory.limit_mib = 100 is out of range"),
        ("[api]\nviewers = \"\"\n", "api.viewers"),
        ("[api]\ngroup = \"\"\n", "api.viewers"),
        ("[api]\noperators = \"\"\n", "api.operators"),
    ] {
        let message = parse(text).unwrap().check().unwrap_err().to_string();
        assert!(message.contains(expected), "{text:?}: {message}");
    }
}

#[test]
fn overrides_go_before_the_file() {
    let mut config = parse("[output]\nformat = \"text\"\ninterval_s = 5\n").unwrap();
    config.apply(Overrides { format: Some(Format::Ecs), socket: Some("/a".into()), ..Overrides::default() });
    assert_eq!(config.output, Output { format: Format::Ecs, interval_s: 5 });
    assert_eq!(config.api.socket, Path::new("/a"));
}

proptest! {
    #[test]
    fn any_text_is_parsed_or_refused_in_one_line(text in ".{0,200}|(\\[[a-z\\[]{1,9}\\]\n[a-z_]{1,9} ?= ?.{0,9}\n){0,4}") {
        if let Err(error) = parse(&text) {
            prop_assert!(!error.to_string().contains('\n'));
        }
    }

    #[test]
    fn a_place_is_always_found(text in "(.|\n){0,99}", offset in 0_usize..200) {
        let (line, column) = place(&text, offset);
        prop_assert!(line >= 1 && column >= 1);
    }
}

/// No form of a key, and no token, is taken or shown again.
#[test]
fn a_secret_in_the_configuration_is_refused_in_one_line_that_does_not_repeat_it() {
    for (section, key) in
        [("state", "key"), ("state.vault", "token"), ("state.aws", "credentials"), ("state", "previous")]
    {
        for secret in [
            "q83vASNFZ4mrze8BI0VniavN7wEjRWeJq83vASNFZ4k=",
            "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
            "hvs.CAESIJlWh2Zcd",
            "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
            "AKIAIOSFODNN7EXAMPLE",
        ] {
            let value = if key == "previous" { format!("[\"{secret}\"]") } else { format!("\"{secret}\"") };
            let message = parse(&format!("[{section}]\n{key} = {value}\n")).unwrap_err().to_string();
            assert!(message.contains(":2:") && message.contains("and never "), "{message}");
            assert!(!message.contains(secret) && !message.contains('\n'), "{message}");
        }
    }
    let message = parse("[state.aws]\nsecret_access_key = \"wJalrXUtnFEMI\"\n").unwrap_err().to_string();
    assert!(message.contains("unknown field") && !message.contains("wJalr"), "{message}");
}

/// Also where another key source is set.
#[test]
fn a_secret_in_the_address_or_the_namespace_of_vault_is_refused_and_not_repeated() {
    for line in [
        "vault.namespace = \"hvs.CAESIJlWh2\"",
        "vault.namespace = \"s.CAESIJlWh2\"",
        "vault.address = \"https://user:CAESIJlWh2@vault:8200\"",
        "aws.endpoint = \"https://CAESIJlWh2@kms\"",
    ] {
        let message = read(&format!("[state]\n{line}\n"), Overrides::default()).unwrap_err();
        assert!(message.starts_with("FILE:2:") && message.contains("state."), "{message}");
        assert!(!message.contains("CAESIJlWh2"), "{message}");
    }
    let line = "[state]\nvault.namespace = \"a.team/hosts\"\n";
    assert!(read(line, Overrides::default()).is_ok());
}

/// What [`Config::read`] says of a file with this text.
fn read(text: &str, overrides: Overrides) -> Result<Config, String> {
    let directory = crate::temporary::directory();
    let path = directory.path().join("streamwatch.toml");
    std::fs::write(&path, text).unwrap();
    let read = Config::read(Some(&path), overrides);
    let shown = path.display().to_string();
    read.map(|(config, _)| config).map_err(|error| error.to_string().replace(&shown, "FILE"))
}

#[test]
fn what_is_out_of_range_is_said_with_its_line() {
    for (text, expected) in [
        ("[memory]\nlimit_mib = 100\n", "FILE:2:13: memory.limit_mib = 100 is out of range"),
        ("[flows]\ncapacity = 1000000\n", "FILE:2:12: memory.limit_mib = 256 is out of range"),
        (
            "[flows]\ncapacity = 100001\n[pipeline]\nsink_queue = 1000000\n",
            "FILE:4:14: memory.limit_mib = 256 is out of range",
        ),
        (
            "[flows]\ncapacity = 100\n",
            "FILE:2:12: flows.closed_keep = 4096 is out of range: expected 0 to 100",
        ),
        ("[api]\ngroup = \"\"\n", "FILE:2:9: api.viewers = \"\" is out of range"),
        ("flows.capacity = 3\n", "FILE:1:18: flows.capacity = 3"),
        ("flows = { capacity = 3 }\n", "FILE:1:22: flows.capacity = 3"),
        (
            "[[alerts.hooks]]\nlog = true\n[[alerts.hooks]]\nlog = true\ntimeout_s = 0\n",
            "FILE:5:13: alerts.hooks.timeout_s = 0 is out of range: expected 1 to 600",
        ),
        (
            "alerts.hooks = [{ log = true }, { log = true, queue = 0 }]\n",
            "FILE:1:55: alerts.hooks.queue = 0 is out of range",
        ),
        ("[[alerts.hooks]]\nlog = true\n[[alerts.hooks]]\nlgo = true\n", "FILE:4:1: unknown field `lgo`"),
        ("[[alerts.hooks]]\nlog = \"yes\"\n", "FILE:2:7: invalid type: string \"yes\""),
        ("[[alerts.hooks]]\nseverity = \"loud\"\n", "FILE:2:12: unknown variant `loud`"),
        (
            "[[alerts.hooks]]\ncommand = \"a b\"\n",
            "FILE:2:11: invalid type: string \"a b\", expected a sequence",
        ),
    ] {
        let message = read(text, Overrides::default()).unwrap_err();
        assert!(message.starts_with(expected) && !message.contains('\n'), "{text:?}: {message}");
    }
}

#[test]
fn what_a_flag_says_is_not_blamed_on_the_file() {
    let text = "[api]\nsocket = \"/run/a\"\n[kernel]\npin = \"off\"\n[output]\ninterval_s = 5\n";
    let of = |overrides| read(text, overrides).unwrap_err();
    let none = Overrides::default;
    for (overrides, expected) in [
        (
            Overrides { interval_s: Some(90_000), ..none() },
            "--interval (or STREAMWATCH_INTERVAL): output.interval_s",
        ),
        (
            Overrides { socket: Some("a".into()), ..none() },
            "--socket (or STREAMWATCH_SOCKET): api.socket = \"a\"",
        ),
        (Overrides { cgroup: Some("a".into()), ..none() }, "--cgroup (or STREAMWATCH_CGROUP): kernel.cgroup"),
        (Overrides { pin: Some("a".to_owned().into()), ..none() }, "--pin (or STREAMWATCH_PIN): kernel.pin"),
    ] {
        let message = of(overrides);
        assert!(message.starts_with(expected), "{message}");
    }
    // A right flag goes before a wrong file.
    let right = Overrides { interval_s: Some(1), ..none() };
    assert_eq!(read("[output]\ninterval_s = 90000\n", right).unwrap().output.interval_s, 1);
    let message = read("[output]\ninterval_s = 90000\n", none()).unwrap_err();
    assert!(message.starts_with("FILE:2:14: output.interval_s = 90000"), "{message}");
}
