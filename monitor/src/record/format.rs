//! The choice of format, and the one encoder that the sink holds.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use super::text::{Style, Text};
use super::{Context, ecs, ocsf, zeek};
use crate::model::Record;

/// How records are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Elastic Common Schema, JSON lines.
    #[default]
    Ecs,
    /// OCSF Network Activity and Detection Finding, JSON lines.
    Ocsf,
    /// Zeek's conn.log, ssl.log and notice.log, JSON lines.
    Zeek,
    /// A readable line per alert and a closing summary.
    Text,
}

/// Turns records into lines.
pub struct Encoder {
    context: Context,
    form: Form,
}

enum Form {
    Ecs(Box<ecs::FlowWriter>),
    Ocsf,
    Zeek,
    Text(Box<Text>),
}

impl Encoder {
    /// `style` matters to [`Format::Text`] only.
    pub fn new(format: Format, context: Context, style: Style) -> Self {
        let form = match format {
            Format::Ecs => Form::Ecs(Box::new(ecs::FlowWriter::new(&context))),
            Format::Ocsf => Form::Ocsf,
            Format::Zeek => Form::Zeek,
            Format::Text => Form::Text(Box::new(Text::new(style))),
        };
        Encoder { context, form }
    }

    /// Appends the record's lines: none, one or more, each complete.
    pub fn encode(&mut self, record: &Record, out: &mut Vec<u8>) {
        match &mut self.form {
            Form::Ecs(flows) => match record {
                Record::Flow { flow, action, at } => flows.write(flow, *action, *at, out),
                other => ecs::encode(&self.context, other, out),
            },
            Form::Ocsf => ocsf::encode(&self.context, record, out),
            Form::Zeek => zeek::encode(record, out),
            Form::Text(text) => text.encode(record, out),
        }
    }

    /// Appends what stands after the last record.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        if let Form::Text(text) = &mut self.form {
            text.finish(out);
        }
    }
}
