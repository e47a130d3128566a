//! Roles: what the client of a real server may do, in every protocol that shows it in the clear. What is
//! allowed is answered with yes and told of by nobody; what is not is an alert that says what it was.

use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tests::servers::{self, Security, Server, program, python};
use tests::{Authorisation, Certificates, Daemon, DaemonOptions, Lab, Place, Suite, Units, finish};

const PORT: u16 = 34_570;
const HOST: &str = "10.213.0.2";
/// The slowest client on a busy host.
const CLIENT: Duration = Duration::from_secs(60);

/// A server, who may do what there, and clients that do.
struct Row {
    name: &'static str,
    programs: &'static [&'static str],
    server: fn(&Lab, &Certificates, u16) -> Result<Server>,
    client: fn(&Place, &[&str]) -> Command,
    /// What is done before anybody looks.
    before: &'static [&'static [&'static str]],
    payments: &'static str,
    audit: &'static str,
    /// Who (`payments` or `audit`), and the words for the client.
    right: &'static [(&'static str, &'static [&'static str])],
    /// And what stands in the alert.
    wrong: &'static [(&'static str, &'static [&'static str], &'static str)],
    /// Who, and words that the server may read otherwise than we do: neither yes nor no.
    unclear: &'static [(&'static str, &'static [&'static str])],
}

fn command(place: &Place, program: &str, arguments: &[&str], words: &[&str]) -> Command {
    let mut command = place.command(program);
    command.args(arguments).args(words);
    command
}

fn of_python(place: &Place, what: &str, words: &[&str]) -> Command {
    let mut command = place.command(python());
    command.arg(program("roles_client.py")).args([what, HOST, &PORT.to_string()]).args(words);
    command
}

/// How mosquitto_sub ends when its time is over.
const TIMED_OUT: i32 = 27;

const ROWS: &[Row] = &[
    Row {
        name: "HTTP: nginx and curl",
        programs: &["nginx", "curl"],
        server: |lab, certificates, port| servers::nginx(lab, certificates, port, Security::Plain),
        client: |place, words| {
            // Two requests, half a second apart.
            let url = format!("http://{HOST}:{PORT}{}", words[1]);
            let method = ["-sS", "--path-as-is", "-m", "20", "--rate", "2/s", "-X", words[0], &url, &url];
            command(place, "curl", &method, &words[2..])
        },
        before: &[],
        payments: "may = [\"read\", \"write\"]\nmethod = [\"GET\", \"POST\"]\npath = \"/payments/\"",
        audit: "may = [\"read\"]\nmethod = [\"GET\"]\npath = [\"/public/\", \"!/public/secret\"]",
        right: &[
            ("payments", &["POST", "/payments/7", "-d", "amount=7"]),
            ("payments", &["GET", "/payments/7"]),
            ("audit", &["GET", "/public/a?b=/payments/"]),
            ("audit", &["GET", "/%70ublic/a"]),
        ],
        wrong: &[
            ("audit", &["POST", "/payments/7", "-d", "amount=7"], "not to write path POST /payments/7"),
            ("audit", &["GET", "/private"], "not to read path GET /private"),
            ("audit", &["GET", "/private?next=http://a/public/"], "not to read path GET /private"),
            ("audit", &["GET", "/public/../payments/"], "not to read path GET /public/../payments/"),
            ("audit", &["GET", "/public/%73ecret"], "not to read path GET /public/%73ecret"),
            (
                "audit",
                &["GET", "/public/a", "--data-binary", "DELETE /payments/7 HTTP/1.1\r\nHost: a\r\n\r\n"],
                "not to write path DELETE /payments/7",
            ),
            ("payments", &["DELETE", "/payments/7"], "not to write path DELETE /payments/7"),
            ("payments", &["POST", "/public/a", "-d", "a=b"], "not to write path POST /public/a"),
        ],
        unclear: &[
            ("audit", &["GET", "/public/a", "-d", "a=b"]),
            ("audit", &["GET", "/public/a", "-H", "X-HTTP-Method-Override: DELETE"]),
        ],
    },
    Row {
        name: "HTTP/2: nginx and curl",
        programs: &["nginx", "curl"],
        server: servers::nginx_http2,
        client: |place, words| {
            // curl 7.88 does not use such a connection twice: two of them, half a second apart.
            let urls = [HOST, "[fd13::2]"].map(|host| format!("http://{host}:{PORT}{}", words[1]));
            let method =
                ["--http2-prior-knowledge", "-g", "-sS", "-m", "20", "--rate", "2/s", "-X", words[0]];
            let words = [&[&*urls[0], &*urls[1]], &words[2..]].concat();
            command(place, "curl", &method, &words)
        },
        before: &[],
        payments: "may = [\"read\", \"write\"]\nmethod = [\"GET\", \"POST\"]\npath = \"/payments/\"",
        audit: "may = [\"read\"]\nmethod = \"GET\"\npath = \"/public/\"",
        right: &[
            // Without a body: nginx answers before it has read one, and a slow curl takes the reset for a failure.
            ("payments", &["POST", "/payments/7"]),
            ("audit", &["GET", "/public/a?b=/payments/"]),
        ],
        wrong: &[
            ("audit", &["POST", "/payments/7"], "not to write path POST /payments/7"),
            ("audit", &["GET", "/private?next=http://a/public/"], "not to read path GET /private"),
        ],
        unclear: &[],
    },
    Row {
        name: "gRPC",
        programs: &[],
        server: |lab, certificates, port| servers::grpc(lab, certificates, port, Security::Plain),
        client: |place, words| of_python(place, "grpc", words),
        before: &[],
        payments: "may = [\"write\"]",
        audit: "may = [\"write\"]\nmethod = \"POST\"\npath = \"/test.Echo/\"",
        right: &[("payments", &["/pay.Payments/Send"]), ("audit", &["/test.Echo/Say"])],
        wrong: &[("audit", &["/pay.Payments/Send"], "not to write path POST /pay.Payments/Send")],
        unclear: &[],
    },
    Row {
        name: "AMQP: RabbitMQ and pika",
        programs: &["rabbitmq-server"],
        server: |lab, certificates, port| servers::rabbitmq(lab, certificates, port, Security::Plain),
        client: |place, words| of_python(place, "amqp", words),
        before: &[&["declare", "payments"], &["declare", "orders"], &["exchange", "payments"]],
        payments: "may = [\"read\", \"write\"]\nqueue = \"payments\"\nexchange = \"payments\"",
        audit: "may = [\"read\"]\nqueue = \"payments\"",
        right: &[
            ("payments", &["publish", "", "payments"]),
            ("payments", &["publish", "payments", "key"]),
            ("audit", &["consume", "payments"]),
        ],
        wrong: &[
            ("audit", &["publish", "", "payments"], "not to write queue payments"),
            ("audit", &["publish", "payments", "key"], "not to write exchange payments"),
            ("audit", &["consume", "orders"], "not to read queue orders"),
            ("payments", &["declare", "other"], "not to admin queue other"),
            ("payments", &["exchange", "other"], "not to admin exchange other"),
        ],
        unclear: &[("payments", &["copy", "payments", "orders"])],
    },
    Row {
        name: "MQTT: Mosquitto",
        programs: &["mosquitto", "mosquitto_pub", "mosquitto_sub"],
        server: |lab, certificates, port| servers::mosquitto(lab, certificates, port, Security::Plain),
        client: |place, words| {
            let port = PORT.to_string();
            match words[0] {
                "publish" => command(
                    place,
                    "mosquitto_pub",
                    &["-h", HOST, "-p", &port, "-m", "7.50", "--repeat", "2", "--repeat-delay", "0.5"],
                    &words[1..],
                ),
                _ => command(place, "mosquitto_sub", &["-h", HOST, "-p", &port, "-W", "1"], &words[1..]),
            }
        },
        before: &[],
        payments: "may = [\"read\", \"write\"]\ntopic = \"payments/#\"",
        audit: "may = [\"read\"]\ntopic = \"payments/#\"",
        right: &[
            ("payments", &["publish", "-t", "payments/in"]),
            ("payments", &["publish", "-V", "5", "-t", "payments/in", "-D", "publish", "topic-alias", "3"]),
            ("audit", &["subscribe", "-t", "payments/+"]),
            ("audit", &["subscribe", "-t", "$share/all/payments/#"]),
        ],
        wrong: &[
            ("audit", &["publish", "-t", "payments/in"], "not to write topic payments/in"),
            ("audit", &["subscribe", "-t", "#"], "not to read topic #"),
            ("audit", &["subscribe", "-t", "$share/all/orders"], "not to read topic orders"),
            (
                "audit",
                &["subscribe", "-t", "payments/in", "--will-topic", "payments/in", "--will-payload", "x"],
                "not to write topic payments/in",
            ),
            ("payments", &["publish", "-V", "5", "-t", "orders"], "not to write topic orders"),
        ],
        unclear: &[],
    },
    Row {
        name: "NATS",
        programs: &["nats-server"],
        server: |lab, certificates, port| servers::nats(lab, certificates, port, Security::Plain),
        client: |place, words| of_python(place, "nats", words),
        before: &[],
        payments: "may = [\"read\", \"write\"]\nsubject = \"payments.>\"",
        audit: "may = [\"read\"]\nsubject = \"payments.>\"",
        right: &[
            ("payments", &["publish", "payments.in"]),
            ("payments", &["request", "payments.in"]),
            ("audit", &["subscribe", "payments.*"]),
            ("audit", &["subscribe", "payments.>"]),
        ],
        wrong: &[
            ("audit", &["publish", "payments.in"], "not to write subject payments.in"),
            ("audit", &["subscribe", ">"], "not to read subject >"),
            ("audit", &["subscribe", "_INBOX.>"], "not to read subject _INBOX.>"),
            ("payments", &["publish", "orders.in"], "not to write subject orders.in"),
        ],
        unclear: &[],
    },
    Row {
        name: "Redis: redis-cli",
        programs: &["redis-server", "redis-cli"],
        server: |lab, certificates, port| servers::redis(lab, certificates, port, Security::Plain),
        client: |place, words| {
            let port = PORT.to_string();
            command(place, "redis-cli", &["-h", HOST, "-p", &port, "-r", "2", "-i", "0.5"], words)
        },
        before: &[],
        payments: "may = [\"read\", \"write\"]",
        audit: "may = [\"read\"]",
        right: &[("payments", &["set", "payments", "7"]), ("audit", &["get", "payments"])],
        wrong: &[
            ("audit", &["set", "payments", "0"], "not to write command SET"),
            ("audit", &["eval", "return redis.call('set', 'a', 'b')", "0"], "not to write command EVAL"),
            ("payments", &["config", "get", "*"], "not to admin command CONFIG"),
        ],
        unclear: &[],
    },
    Row {
        name: "Redis: pipelines of redis-py",
        programs: &["redis-server"],
        server: |lab, certificates, port| servers::redis(lab, certificates, port, Security::Plain),
        client: |place, words| of_python(place, "redis", words),
        before: &[],
        payments: "may = [\"read\", \"write\"]\ncommand = [\"get\", \"set\", \"incr*\"]",
        audit: "may = [\"read\"]",
        right: &[
            ("payments", &["get a", "set a 1", "incrby a 2"]),
            ("audit", &["get a", "ping", "hgetall b", "lrange c 0 1"]),
        ],
        wrong: &[
            ("audit", &["get a", "get b", "flushall"], "not to admin command FLUSHALL"),
            ("payments", &["get a", "del a"], "not to write command DEL"),
        ],
        unclear: &[],
    },
    Row {
        name: "PostgreSQL: psql",
        programs: &["psql", "setpriv"],
        server: |lab, certificates, port| servers::postgresql(lab, certificates, port, Security::Plain),
        client: |place, words| {
            let to = ["-h", HOST, "-p", "34570", "-U", "postgres", "-q", "-v", "ON_ERROR_STOP=1"];
            command(place, "psql", &to, &["-c", words[0], "-c", "select pg_sleep(0.5)"])
        },
        before: &[&["create table payments (a int)"]],
        payments: "may = [\"read\", \"write\"]\nstatement = [\"select\", \"insert\"]",
        audit: "may = [\"read\"]\nstatement = \"SELECT\"",
        right: &[
            ("payments", &["insert into payments values (7)"]),
            ("audit", &["select * from payments"]),
            ("audit", &["with a as (select 1) select * from a"]),
        ],
        wrong: &[
            ("audit", &["insert into payments values (0)"], "not to write statement INSERT"),
            (
                "audit",
                &["with a as (delete from payments returning a) select * from a"],
                "not to write statement DELETE",
            ),
            (
                "audit",
                &["prepare p as update payments set a = 0; execute p"],
                "not to write statement UPDATE",
            ),
            ("audit", &["select a into other from payments"], "not to write statement SELECT"),
            ("audit", &["with a as (select 1 as for) delete from payments"], "not to write statement DELETE"),
            ("audit", &["select 1 -- a\r; delete from payments"], "not to write statement DELETE"),
            (
                "audit",
                &["copy (delete from payments returning a) to stdout"],
                "not to write statement DELETE",
            ),
            ("payments", &["alter table payments add b int"], "not to admin statement ALTER"),
        ],
        unclear: &[(
            "audit",
            &["set standard_conforming_strings = off; select '\\'' ; delete from payments; --'"],
        )],
    },
    Row {
        name: "PostgreSQL: prepared statements of pg8000",
        programs: &["psql", "setpriv"],
        server: |lab, certificates, port| servers::postgresql(lab, certificates, port, Security::Plain),
        client: |place, words| of_python(place, "postgresql", words),
        before: &[&["create table payments (a int)"]],
        payments: "may = [\"read\", \"write\"]",
        audit: "may = [\"read\"]",
        right: &[
            ("payments", &["insert into payments values (:a)"]),
            ("audit", &["select * from payments where a = :a"]),
        ],
        wrong: &[
            ("audit", &["delete from payments where a = :a"], "not to write statement DELETE"),
            ("payments", &["drop table payments"], "not to admin statement DROP"),
        ],
        unclear: &[],
    },
    Row {
        name: "MariaDB: its client",
        programs: &["mariadb", "mariadbd"],
        server: |lab, certificates, port| servers::mariadb(lab, certificates, port, Security::Plain),
        client: |place, words| {
            let to = ["-h", HOST, "-P", "34570", "-u", "test", "--skip-ssl", "-e"];
            command(place, "mariadb", &to, &[&format!("{}; select sleep(0.5)", words[0])])
        },
        before: &[&[
            "create database shop; create table shop.payments (a int); create table shop.orders (a int)",
        ]],
        payments: "may = [\"read\", \"write\"]",
        audit: "may = [\"read\"]",
        right: &[
            ("payments", &["insert into shop.payments values (7)"]),
            ("audit", &["select * from shop.payments"]),
        ],
        wrong: &[
            ("audit", &["insert into shop.payments values (0)"], "not to write statement INSERT"),
            (
                "audit",
                &["set statement max_statement_time = 9 for delete from shop.payments"],
                "not to write statement DELETE",
            ),
            ("audit", &["values (1) into outfile 'payments'"], "not to write statement VALUES"),
            ("audit", &["select 1; /*!50000 delete from shop.payments */"], "not to write statement DELETE"),
            (
                "audit",
                &["execute immediate 'update shop.payments set a = 0'"],
                "not to write statement UPDATE",
            ),
            ("payments", &["drop table shop.payments"], "not to admin statement DROP"),
        ],
        unclear: &[
            ("audit", &["execute immediate concat('delete from', ' shop.orders')"]),
            ("audit", &["/*!99999 select */ delete from shop.orders"]),
        ],
    },
    Row {
        name: "MariaDB: prepared statements of MySQL's connector",
        programs: &["mariadb", "mariadbd"],
        server: |lab, certificates, port| servers::mariadb(lab, certificates, port, Security::Plain),
        client: |place, words| match words {
            ["before", text] => command(
                place,
                "mariadb",
                &["-h", HOST, "-P", "34570", "-u", "test", "--skip-ssl", "-e"],
                &[text],
            ),
            _ => of_python(place, "mysql", words),
        },
        before: &[&["before", "create database shop; create table shop.payments (a int)"]],
        payments: "may = [\"read\", \"write\"]",
        audit: "may = [\"read\"]",
        right: &[
            ("payments", &["insert into payments values (?)"]),
            ("audit", &["select * from payments where a = ?"]),
        ],
        wrong: &[
            ("audit", &["update payments set a = ?"], "not to write statement UPDATE"),
            (
                "payments",
                &["create table other as select * from payments where a = ?"],
                "not to admin statement CREATE",
            ),
        ],
        unclear: &[],
    },
];

fn main() -> ExitCode {
    let mut suite = Suite::new("roles");
    for row in ROWS {
        suite = suite.test(&format!("who may do what: {}", row.name), row.programs, || judged(row));
    }
    suite.main()
}

fn policy(row: &Row) -> String {
    let mut policy = format!("[[service]]\nname = \"shop\"\nports = [{PORT}]\n");
    for (unit, grant) in [("payments", row.payments), ("audit", row.audit)] {
        policy += &format!("[[service.client]]\nunit = \"{unit}*.service\"\n{grant}\n");
    }
    policy
}

fn judged(row: &'static Row) -> Result<()> {
    let lab = Lab::new("roles")?;
    let certificates = Certificates::new(&lab.directory)?;
    let units = Units::new(&lab);
    let _server = (row.server)(&lab, &certificates, PORT)?;
    let run = |unit: &str, words: &[&str]| -> Result<()> {
        let ended = finish((row.client)(&units.place(unit)?, words), CLIENT)?;
        let right = ended.status.success() || ended.status.code() == Some(TIMED_OUT);
        ensure!(right, "{words:?}: {ended:?}");
        Ok(())
    };
    for words in row.before {
        run("before.service", words).context("before")?;
    }
    let daemon =
        Daemon::start(&lab, DaemonOptions { policy: Some(policy(row)), ..DaemonOptions::default() })?;
    let told = Authorisation { daemon: &daemon, port: PORT };
    // Everyone in a unit of their own: an alert is told once a stream.
    for (number, (who, words)) in row.right.iter().enumerate() {
        let unit = format!("{who}-right-{number}.service");
        run(&unit, words)?;
        told.answer(&unit, "yes").with_context(|| format!("{who} may {words:?}"))?;
    }
    for (number, (who, words, said)) in row.wrong.iter().enumerate() {
        let unit = format!("{who}-wrong-{number}.service");
        run(&unit, words)?;
        told.answer(&unit, "no").with_context(|| format!("{who} may not {words:?}"))?;
        told.alert(&unit, said)?;
    }
    for (number, (who, words)) in row.unclear.iter().enumerate() {
        let unit = format!("{who}-unclear-{number}.service");
        run(&unit, words)?;
        told.answer(&unit, "unknown").with_context(|| format!("{who} may perhaps {words:?}"))?;
    }
    for (number, (who, _)) in row.right.iter().enumerate() {
        told.no_alert(&format!("{who}-right-{number}.service"))?;
    }
    Ok(())
}
