//! Policy files by themselves, without a daemon: what differs between two, what is exported, what is refused.

use std::io::Write;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tests::{Directory, Finished, Suite, binary, finish, servers};

const CLIENT: Duration = Duration::from_secs(30);

fn main() -> ExitCode {
    Suite::new("policy_files")
        .test("files that mean the same show no difference", &[], same)
        .test("a difference is told by what it is of", &[], different)
        .test("what is wrong is told with its file, line and column", &[], wrong)
        .test("the schema is one that the example fulfils", &[], schema)
        .test("an export is what Kubernetes and Istio take", &[], exported)
        .main()
}

fn policy(arguments: &[&str]) -> Result<Finished> {
    let mut command = Command::new(binary());
    command.arg("policy").args(arguments);
    finish(command, CLIENT)
}

fn diff(directory: &Directory, before: &str, after: &str) -> Result<Finished> {
    let (before, after) = (directory.write("before.toml", before)?, directory.write("after.toml", after)?);
    policy(&["diff", &before, &after])
}

const BEFORE: &str = r#"
[groups]
payments = [{ unit = "payment-*.service" }, { address = "10.7.0.0/16" }]

[roles]
audit = [{ may = ["read"], topic = "payments" }]

[[service]]
name = "kafka"
ports = [9092]

[[service.client]]
group = "payments"

[[service.client]]
unit = "audit.service"
role = "audit"

[[service]]
name = "web"
ports = [80, 443]

[[service.client]]
address = ["10.0.0.0/8", "fd00::/8"]

[[client]]
name = "payments"
group = "payments"

[[client.to]]
service = "kafka"
"#;

/// The same: in another order, on other lines, in other words of TOML, with comments.
const AGAIN: &str = r#"
# Web comes first here.
service = [
  { name = "web", ports = [443, 80], client = [{ address = ["fd00::/8", "10.0.0.0/8"] }] },
  { name = "kafka", ports = [9092], action = "alert", client = [
      { unit = "audit.service", role = "audit" },
      { group = "payments" },
  ] },
]
client = [{ name = "payments", group = "payments", to = [{ service = "kafka" }] }]
[roles]
audit = [{ topic = "payments", may = ["read"] }]
[groups]
payments = [{ address = "10.7.0.0/16" }, { unit = ["payment-*.service"] }]
"#;

fn same() -> Result<()> {
    let directory = Directory::new()?;
    for (before, after) in [(BEFORE, BEFORE), (BEFORE, AGAIN), (AGAIN, BEFORE)] {
        let found = diff(&directory, before, after)?;
        ensure!(found.status.code() == Some(0), "{found:?}");
        ensure!(found.stdout == "no difference\n", "{found:?}");
    }
    Ok(())
}

/// What is changed of [`BEFORE`], and the whole of what is said of it.
const CHANGES: &[(&str, &str, &str)] = &[
    (
        "[[service.client]]\nunit = \"audit.service\"\nrole = \"audit\"\n",
        "",
        "~ service kafka\n  - client unit=audit.service (may=read topic=payments)\n",
    ),
    (
        "ports = [9092]\n",
        "ports = [9092]\naction = \"report\"\n",
        "~ service kafka\n  + anything else is only reported\n",
    ),
    (
        "address = \"10.7.0.0/16\"",
        "address = \"10.8.0.0/16\"",
        "~ group payments\n  - member address=10.7.0.0/16\n  + member address=10.8.0.0/16\n",
    ),
    (
        "name = \"web\"",
        "name = \"site\"",
        "+ service site\n  + at 80,443\n  + client address=10.0.0.0/8,fd00::/8\n\
         - service web\n  - at 80,443\n  - client address=10.0.0.0/8,fd00::/8\n",
    ),
    (
        "service = \"kafka\"\n",
        "ports = [9092]\n",
        "~ client payments\n  - to service kafka\n  + to port 9092\n",
    ),
    // A role, and all whose role it is.
    (
        "may = [\"read\"]",
        "may = [\"write\"]",
        "~ role audit\n  - may=read topic=payments\n  + may=write topic=payments\n\
         ~ service kafka\n  - client unit=audit.service (may=read topic=payments)\n  \
         + client unit=audit.service (may=write topic=payments)\n",
    ),
    (
        "[[client]]\nname = \"payments\"\ngroup = \"payments\"\n\n[[client.to]]\nservice = \"kafka\"\n",
        "",
        "- client payments\n  - is group=payments\n  - to service kafka\n",
    ),
];

fn different() -> Result<()> {
    let directory = Directory::new()?;
    for (from, to, expected) in CHANGES {
        let after = BEFORE.replacen(from, to, 1);
        ensure!(after != BEFORE, "{from} is not there");
        let found = diff(&directory, BEFORE, &after)?;
        ensure!(found.status.code() == Some(1), "{found:?}");
        ensure!(&found.stdout == expected, "{}\nand not\n{expected}", found.stdout);
        // The other way round: what was added is missing.
        let back = diff(&directory, &after, BEFORE)?;
        let turned: String = expected
            .chars()
            .map(|mark| match mark {
                '+' => '-',
                '-' => '+',
                other => other,
            })
            .collect();
        let [back_lines, turned_lines] = [&back.stdout, &turned].map(|text| {
            let mut lines: Vec<&str> = text.lines().collect();
            lines.sort_unstable();
            lines.join("\n")
        });
        ensure!(back.status.code() == Some(1), "{back:?}");
        ensure!(back_lines == turned_lines, "{back_lines}\nand not\n{turned_lines}");
    }
    Ok(())
}

fn wrong() -> Result<()> {
    let directory = Directory::new()?;
    const ANYONE: &str = "[[service.client]]\nuser = \"root\"\n";
    for (text, expected) in [
        ("ports = [22]\naction = \"deny\"", ":4:10: action \"deny\" is reserved for a later version"),
        ("portz = [22]", ":3:1: unknown field `portz`, expected one of "),
        ("ports = [70000]", ":3:10: port 70000, expected 1 to 65535"),
        ("ports = [1]\n[[service.client]]\ngroup = \"nobody\"", ":5:9: there is no group \"nobody\""),
        ("ports =", ":3:"),
    ] {
        let text = format!("[[service]]\nname = \"x\"\n{text}\n{ANYONE}");
        let file = directory.write("wrong.toml", &text)?;
        for arguments in
            [&["check", &file][..], &["diff", &file, &file], &["export", "--format", "istio", &file]]
        {
            let found = policy(arguments)?;
            ensure!(found.status.code() == Some(2), "{found:?}");
            ensure!(found.stderr.contains("wrong.toml") && found.stderr.contains(expected), "{found:?}");
            ensure!(found.stderr.lines().count() == 1 && found.stdout.is_empty(), "{found:?}");
        }
    }
    Ok(())
}

/// By the schema's own reader in Python.
fn schema() -> Result<()> {
    let directory = Directory::new()?;
    let schema = directory.write("schema.json", &policy(&["schema"])?.success()?.stdout)?;
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/policy.example.toml");
    for (file, fulfils) in [
        (example.display().to_string(), true),
        (directory.write("before.toml", BEFORE)?, true),
        (directory.write("odd.toml", &BEFORE.replace("ports = [9092]", "portz = [9092]"))?, false),
        (directory.write("odd.toml", &BEFORE.replace("[\"read\"]", "[\"reed\"]"))?, false),
    ] {
        let mut command = Command::new(servers::python());
        command.arg(servers::program("validate_policy.py")).args([&schema, &file]);
        let said = finish(command, CLIENT)?;
        if said.status.code() == Some(3) {
            return Err(tests::Skip::because(said.stderr));
        }
        ensure!(said.status.success() == fulfils, "{file}: {said:?}");
    }
    Ok(())
}

const KUBERNETES: &str = r#"
[groups]
shop = [{ namespace = "shop", labels = { "app.kubernetes.io/name" = "cart" } }, { address = "10.7.0.0/16" }]

[[service]]
name = "Pay API"
namespace = "pay"
labels = { app = "pay" }
ports = [8443, "9000-9002"]
transport = "tcp"

[[service.client]]
group = "shop"

[[service.client]]
namespace = ["shop", "audit"]

[[service.client]]
address = ["10.0.0.0/8", "fd00::/8"]

[[service.client]]
spiffe = ["spiffe://cluster.local/ns/audit/sa/*", "spiffe://cluster.local/ns/a/sa/b"]
may = ["read"]
method = ["GET", "HEAD"]
path = ["/v1", "!/v1/admin"]

[[service]]
name = "dns: \"quoted\" # and * odd"
namespace = "kube-system"
labels = { k8s-app = "yes" }
ports = [53]

[[service.client]]
namespace = "*"

[[service.client]]
namespace = "true"

[[client]]
name = "cart"
namespace = "shop"
labels = { app = "cart" }

[[client.to]]
service = "Pay API"

[[client.to]]
ports = [53]
transport = "udp"

[[client.to]]
unit = "x.service"
"#;

fn exported() -> Result<()> {
    let python = servers::python();
    let able = Command::new(&python)
        .args(["-c", "import kubernetes_validate, yaml, cloudcoil.models.istio"])
        .output();
    if !able.is_ok_and(|output| output.status.success()) {
        return Err(tests::Skip::because("the schemas are not installed (cargo xtask setup)"));
    }
    let directory = Directory::new()?;
    let file = directory.write("policy.toml", KUBERNETES)?;
    for (format, expected) in [
        (
            "networkpolicy",
            "NetworkPolicy pay-api-ingress\nNetworkPolicy dns-quoted-and-odd-ingress\nNetworkPolicy cart-egress\n",
        ),
        (
            "istio",
            "AuthorizationPolicy pay-api\nPeerAuthentication pay-api\n\
             AuthorizationPolicy dns-quoted-and-odd\nPeerAuthentication dns-quoted-and-odd\n",
        ),
    ] {
        let made = policy(&["export", "--format", format, &file])?.success()?;
        ensure!(
            made.stderr.contains("streamwatch: not expressed: "),
            "nothing was left out: {}",
            made.stderr
        );
        let taken = validate(&python, &made.stdout)?;
        ensure!(taken.status.success(), "{taken:?}\n{}", made.stdout);
        ensure!(taken.stdout == expected, "{}\nof\n{}", taken.stdout, made.stdout);
        // What it would say of what it should refuse.
        let spoilt = made.stdout.replacen("matchLabels", "matchLabel", 1);
        ensure!(!validate(&python, &spoilt)?.status.success(), "a misspelt key was taken");
    }
    Ok(())
}

fn validate(python: &Path, manifests: &str) -> Result<Finished> {
    let mut command = Command::new(python);
    command.arg(servers::program("validate_manifests.py"));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn()?;
    child.stdin.take().context("no stdin")?.write_all(manifests.as_bytes())?;
    let output = child.wait_with_output()?;
    Ok(Finished {
        status: output.status,
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}
