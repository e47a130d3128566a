//! Kinds of statements, by their first word.

use super::event::Verb;
use super::sql_words::Dialect;

pub(super) fn verb_of(word: &[u8], dialect: Dialect) -> Option<Verb> {
    Some(match word {
        // PostgreSQL's undoes a SET.
        b"RESET" if dialect == Dialect::Postgresql => return None,
        // In MySQL a part of stored programs.
        b"DECLARE" if dialect == Dialect::Mysql => return None,
        b"WITH" | b"DECLARE" => Verb::Read,
        b"PREPARE" if dialect == Dialect::Postgresql => Verb::Read,
        b"SELECT"
        | b"TABLE"
        | b"VALUES"
        | b"FETCH"
        | b"MOVE"
        | b"EXPLAIN"
        | b"DESCRIBE"
        | b"DESC"
        | b"HANDLER"
        | b"CHECK"
        | b"CHECKSUM"
        | b"BASE_BACKUP"
        | b"START_REPLICATION"
        | b"READ_REPLICATION_SLOT" => Verb::Read,
        b"INSERT" | b"UPDATE" | b"DELETE" | b"MERGE" | b"REPLACE" | b"COPY" | b"LOAD" | b"TRUNCATE"
        | b"CALL" | b"DO" | b"IMPORT" | b"LOCK" | b"NOTIFY" => Verb::Write,
        b"CREATE"
        | b"ALTER"
        | b"DROP"
        | b"GRANT"
        | b"REVOKE"
        | b"RENAME"
        | b"COMMENT"
        | b"VACUUM"
        | b"ANALYZE"
        | b"ANALYSE"
        | b"REINDEX"
        | b"CLUSTER"
        | b"REFRESH"
        | b"REASSIGN"
        | b"SECURITY"
        | b"CHECKPOINT"
        | b"FLUSH"
        | b"KILL"
        | b"RESET"
        | b"PURGE"
        | b"CHANGE"
        | b"INSTALL"
        | b"UNINSTALL"
        | b"OPTIMIZE"
        | b"REPAIR"
        | b"SHUTDOWN"
        | b"STOP"
        | b"BACKUP"
        | b"BINLOG"
        | b"CREATE_REPLICATION_SLOT"
        | b"DROP_REPLICATION_SLOT"
        | b"ALTER_REPLICATION_SLOT" => Verb::Admin,
        _ => return None,
    })
}

/// Of transactions and of the session: they touch no data. What EXECUTE does was told with its PREPARE.
pub(super) fn is_neutral(word: &[u8]) -> bool {
    matches!(
        word,
        b"BEGIN"
            | b"START"
            | b"COMMIT"
            | b"END"
            | b"ROLLBACK"
            | b"ABORT"
            | b"SAVEPOINT"
            | b"RELEASE"
            | b"SET"
            | b"SHOW"
            | b"RESET"
            | b"USE"
            | b"LISTEN"
            | b"UNLISTEN"
            | b"DISCARD"
            | b"DEALLOCATE"
            | b"CLOSE"
            | b"EXECUTE"
            | b"UNLOCK"
            | b"XA"
            | b"HELP"
            | b"IDENTIFY_SYSTEM"
            | b"TIMELINE_HISTORY"
    )
}

/// What begins a statement that changes something, within another one.
pub(super) fn changes(word: &[u8], dialect: Dialect) -> Option<Verb> {
    match (word, dialect) {
        (b"INSERT" | b"UPDATE" | b"DELETE", _)
        | (b"MERGE", Dialect::Postgresql)
        | (b"REPLACE", Dialect::Mysql) => Some(Verb::Write),
        (b"CREATE", _) => Some(Verb::Admin),
        _ => None,
    }
}

/// Whether a statement is read otherwise for this word, whatever its case.
pub(super) fn is_kind(word: &[u8]) -> bool {
    let word = word.to_ascii_uppercase();
    let others: [&[u8]; 7] = [b"INTO", b"FOR", b"GLOBAL", b"PERSIST", b"STATEMENT", b"PASSWORD", b"DEFAULT"];
    verb_of(&word, Dialect::Mysql).is_some() || others.contains(&&word[..])
}
