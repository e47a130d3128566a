//! Statements of SQL: what a server does is told, or known not to have been. What stands here was run by
//! PostgreSQL 15 and MariaDB 10.11, but for what names another server.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

use dissect::activity::{Event, Observer};
use dissect::{End, Plain, Protection, Protocol};

/// `read SELECT, write DELETE`; `?` at the end: there may be more.
fn told(protocol: Protocol, text: &[u8]) -> String {
    let mut observer = Observer::new(Protection::Plaintext(Plain::Protocol(protocol))).unwrap();
    let fingerprint = |_: &[u8]| 0;
    let message = match protocol {
        Protocol::Postgresql => {
            let startup = [&8u32.to_be_bytes()[..], &(3u32 << 16).to_be_bytes()].concat();
            observer.feed(End::Client, &startup, &fingerprint);
            [b"Q", &((text.len() + 5) as u32).to_be_bytes()[..], text, &[0]].concat()
        }
        _ => [&((text.len() + 1) as u32).to_le_bytes()[..3], &[0, 3], text].concat(),
    };
    observer.feed(End::Client, &message, &fingerprint);
    let mut shown: Vec<String> = observer
        .take()
        .into_iter()
        .filter_map(|event| match event {
            Event::Operation(operation) => {
                Some(format!("{} {}", operation.verb.as_str(), operation.object.unwrap()))
            }
            _ => None,
        })
        .collect();
    if !observer.is_in_step() {
        shown.push("?".into());
    }
    shown.join(", ")
}

fn postgresql(rows: &[(&str, &str)]) {
    for (text, expected) in rows {
        assert_eq!(told(Protocol::Postgresql, text.as_bytes()), *expected, "{text}");
    }
}

fn mysql(rows: &[(&str, &str)]) {
    for (text, expected) in rows {
        assert_eq!(told(Protocol::Mysql, text.as_bytes()), *expected, "{text}");
    }
}

#[test]
fn what_a_query_of_postgresql_holds_is_told() {
    let delete = "write DELETE";
    postgresql(&[
        ("with x as (select 1 as for) delete from t where a between 2 and 10", delete),
        ("with x as (select 1 as key) update t set a = 0", "write UPDATE"),
        ("with x as (delete from t returning a) insert into t select * from x", "write DELETE, write INSERT"),
        ("(with x as (delete from t returning a) select * from x)", delete),
        ("with x as (select 1) select 1 as a into n", "write SELECT"),
        ("insert into t with x as (delete from t returning a) select * from x", "write INSERT, write DELETE"),
        ("explain analyze with x as (select 1) delete from t", delete),
        ("explain analyze select 1 as a into n", "write EXPLAIN"),
        ("explain (analyze, format text) create table n as select 1", "admin CREATE"),
        ("copy (delete from t returning a) to stdout", delete),
        ("copy (with x as (delete from t returning a) select * from x) to stdout", delete),
        ("copy t to '/tmp/x'", "write COPY"),
        ("prepare p (int) as with x as (select 1) delete from t where a = $1", delete),
        ("merge into t using u on t.a = u.a when matched then delete", "write MERGE"),
        // Where a statement begins behind a name, it is not certain that it does.
        (
            "with recursive x as (select 1 a union all select a + 1 from x where a < 3) cycle a set b using c delete from t",
            "read SELECT, ?",
        ),
        ("commit prepared 'p'", "?"),
        ("start frobnication", "?"),
    ]);
}

#[test]
fn nothing_hides_from_the_reader_of_postgresql() {
    let tag = "a".repeat(70);
    postgresql(&[
        ("select 1 -- x\r; delete from t where a between 11 and 20", "read SELECT, write DELETE"),
        (&format!("select ${tag}$ ' ${tag}$; delete from t; -- '"), "read SELECT, write DELETE"),
        ("select $ö$ ' $ö$; delete from t; -- '", "read SELECT, write DELETE"),
        // Of two literals on two lines the second is as the first.
        ("select e'a'\n'\\'' ; delete from t; --'", "read SELECT, ?"),
        ("select e'a' -- b\n'\\'' ; delete from t; --'", "read SELECT, ?"),
        // With standard_conforming_strings off.
        ("select '\\'' ; delete from t; --'", "read SELECT, ?"),
        ("select '\\'; delete from t; --'", "read SELECT, write DELETE"),
        ("select U&'\\0027'; delete from t; -- '", "read SELECT, write DELETE"),
    ]);
}

#[test]
fn what_stands_behind_a_neutral_word_is_told() {
    mysql(&[
        ("begin not atomic delete from d.t where a=2; end", "?"),
        // With sql_mode = ORACLE.
        ("begin delete from t; end", "?"),
        ("declare a int; begin delete from t; end", "?"),
        ("<<a>> begin delete from t; end", "?"),
        ("set statement max_statement_time=9 for delete from d.t where a=8", "write DELETE"),
        ("set statement max_statement_time=(select 9 for update) for delete from t", "write DELETE"),
        (
            "set statement max_statement_time=9 for set statement lock_wait_timeout=9 for delete from t",
            "write DELETE",
        ),
        ("set statement max_statement_time=9", "?"),
        ("set @a = 1, @@global.b = 2", "admin SET"),
        ("set default role r for u", "admin SET"),
        ("set @a=1, password=password('x')", "admin SET"),
        ("set @a=1 , /* b */ password for u = password('x')", "admin SET"),
        ("set @a = (select 1), default role r for u", "admin SET"),
        ("set @a=1, @@GLOBAL.b = 2", "admin SET"),
        ("set @a=1, @@persist.b = 2", "admin SET"),
        ("set persist_only b = 2", "admin SET"),
        ("start slave", "admin START"),
        ("xa commit 'x'", "?"),
    ]);
}

#[test]
fn what_a_query_of_mysql_holds_is_told() {
    mysql(&[
        ("values (1),(2) into outfile '/tmp/x'", "write VALUES"),
        ("table t into outfile '/tmp/x'", "write TABLE"),
        ("(select 1 into outfile '/tmp/x')", "write SELECT"),
        // MySQL 8.
        ("with x as (select 1) delete from t", "write DELETE"),
        ("with x as (select 1) update t set a = 1", "write UPDATE"),
        ("execute immediate concat('del', 'ete from t')", "?"),
        ("execute immediate 'dele' 'te from t'", "?"),
        ("execute immediate 'with x as (select 1)\\ndelete from t'", "read SELECT, ?"),
        ("prepare p from concat('delete', ' from t')", "?"),
    ]);
}

#[test]
fn nothing_hides_from_the_reader_of_mysql() {
    mysql(&[
        // With NO_BACKSLASH_ESCAPES, or ANSI_QUOTES.
        ("select '\\'; delete from t; -- '", "read SELECT, ?"),
        ("select 1 as \"\\\"; delete from t; -- \"", "read SELECT, ?"),
        // With sql_mode = MSSQL.
        ("select 1 as [']; delete from t; -- ']", "read SELECT, ?"),
        // Of another version than the server's.
        ("/*!99999 select ' */ delete from t -- '", "read SELECT, ?"),
        ("/*!99999 select */ delete from t", "read SELECT, ?"),
        ("select 1 /*!99999 ' */; delete from t -- '", "read SELECT, ?"),
        ("/*!99999 select '*/' */; delete from t -- '", "read SELECT, write DELETE, ?"),
        ("/*!99999 explain */ delete from t", "write DELETE"),
        ("select 1 /*!10000 ; */ /*!99999 select */ drop table t", "read SELECT, ?"),
        ("select 1 /*!1 ; */ /*!2 */ /*!3 */ /*!99999 select */ drop table t", "read SELECT, ?"),
        ("select 1 # ;\n/*!99999 into outfile 'x' */", "write SELECT, ?"),
        ("prepare p from 'select 1 /*!10000 ; */ /*!99999 select */ drop table t'", "read SELECT, ?"),
        ("select 1 /*M!999999 ' */; delete from t -- '", "read SELECT, ?"),
        ("select /*+ QB_NAME(`*/ ' `) */ 1; delete from t -- '", "read SELECT, ?"),
        ("select 1 /* /* */ ; delete from t", "read SELECT, write DELETE"),
        ("select 1 --\x7f'\n; delete from t -- '", "read SELECT, ?"),
        ("select 1 -- a\r; delete from t", "read SELECT"),
        ("select 1\0; delete from t", "read SELECT, write DELETE, ?"),
        ("select 1 as `'`; delete from t -- '", "read SELECT, write DELETE"),
    ]);
    // In latin1 a space, in GBK a character whose second byte is a backslash.
    let in_latin1 = b"select a\xa0into\xa0outfile '/tmp/x' from t";
    assert_eq!(told(Protocol::Mysql, in_latin1), "read SELECT, ?");
    let in_gbk = b"select '\xbf\\\\'; delete from t -- '";
    assert_eq!(told(Protocol::Mysql, in_gbk), "read SELECT, write DELETE");
    for hidden in [
        // The backslash is half a character: what it would escape ends the text.
        &b"select '\xbf\\'; delete from t -- '"[..],
        // In GBK two characters, in SJIS three.
        b"select '\xa5\xe0\\'; delete from t -- '",
        b"select '\xe6\x97\xa5\\'; delete from t -- '",
        b"select 1 as `\xbf`; delete from t -- `",
        b"select 1 as \xbf`; delete from t -- `",
    ] {
        let shown = told(Protocol::Mysql, hidden);
        assert!(shown.contains("DELETE") || shown.ends_with('?'), "{shown}");
    }
    let in_sjis = b"select e'\xe6\x97\xa5\\'; delete from t; -- '";
    assert_eq!(told(Protocol::Postgresql, in_sjis), "read SELECT, ?");
}

/// What clients send every day is not doubted.
#[test]
fn ordinary_statements_are_clear() {
    postgresql(&[
        ("BEGIN ISOLATION LEVEL READ COMMITTED, READ ONLY", ""),
        ("begin; select 1; rollback to savepoint a; commit and no chain", "read SELECT"),
        ("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY; RESET ALL; DISCARD ALL", ""),
        ("set client_encoding to 'UTF8'; show transaction_isolation", ""),
        ("select a from t for no key update; select a from t for update of t", "read SELECT"),
        ("with x as (select a from t for update) select * from x", "read SELECT"),
        ("with x as (select replace(a, 'b', 'c') from t) table x", "read SELECT"),
        ("select \"delete\", t.update from t", "read SELECT"),
        ("select a from t where b like '%\\_%' escape '\\' and c = 'it''s'", "read SELECT"),
        ("select e'it\\'s', '\\d+', $1::text, array[1]", "read SELECT"),
        ("copy (select a, b from t where c in (select d from e)) to stdout with (format csv)", "read COPY"),
        ("copy t to stdout", "read COPY"),
        ("insert into t values (1) on conflict (a) do update set a = 2", "write INSERT"),
        ("explain analyze select a from t", "read EXPLAIN"),
        ("insert into t values ('é`a`', 'C:\\日\\本', e'caf\u{e9}\\'s')", "write INSERT"),
    ]);
    mysql(&[
        ("SET NAMES utf8mb4", ""),
        ("/*!40101 SET NAMES utf8mb4 */", ""),
        ("/*!40103 SET TIME_ZONE='+00:00' */;", ""),
        (
            "/*!40101 SET @a=@@sql_mode */; /*!40101 SET NAMES utf8 */; /*!40014 SET @b=1 */; /*!40111 SET @c=1 */",
            "",
        ),
        ("START TRANSACTION /*!40100 WITH CONSISTENT SNAPSHOT */", ""),
        ("LOCK TABLES t READ /*!32311 LOCAL */, u READ", "write LOCK"),
        ("CREATE DATABASE /*!32312 IF NOT EXISTS*/ x", "admin CREATE"),
        (
            "CREATE DATABASE /*!32312 IF NOT EXISTS*/ `x` /*!40100 DEFAULT CHARACTER SET utf8mb4 */;",
            "admin CREATE",
        ),
        ("/*!40000 ALTER TABLE `t` DISABLE KEYS */;", "admin ALTER"),
        ("SELECT /*!40001 SQL_NO_CACHE */ 'it\\'s'", "read SELECT"),
        ("SELECT /*!40001 SQL_NO_CACHE */ * FROM `t`", "read SELECT"),
        ("/* mysql-connector-j-8.0.33 */SHOW VARIABLES", ""),
        ("start transaction with consistent snapshot, read only", ""),
        ("SET autocommit=0, @a := 1, session sql_mode = 'STRICT_TRANS_TABLES'", ""),
        ("set @global = 1, @persist = 2, @password = 3, @default = 4", ""),
        ("set autocommit = default, @b = if(1, 2, password), @c=1", ""),
        ("show create table t", ""),
        ("select replace(a, 'b', 'c'), insert('a', 1, 1, 'b'), t.update from t for update", "read SELECT"),
        ("select 'it\\'s', \"a \\\" b\", größe from `straße` where a = 1 -- b", "read SELECT"),
        ("select a from t where b = 'x' limit 1 # c", "read SELECT"),
        ("prepare p from 'select ?'; execute p using @a; deallocate prepare p", "read SELECT"),
        ("insert into t values (1) on duplicate key update a = 2", "write INSERT"),
        ("rollback; savepoint a; release savepoint a", ""),
        (
            "insert into t values ('café\\'s', '日本\\'s', \"Straße\\\"\", 'größe `x` é`a`日`b`', 'é\\\\')",
            "write INSERT",
        ),
        ("select a as `größé`, `日本`.b from `日本`", "read SELECT"),
    ]);
}
