//! Forms for fields that are not written as their parts: layouts of the kernel as their bytes, and views
//! whose JSON leaves out what is not there as that JSON.

use std::marker::PhantomData;

use monitor_common::{Kind, Plain};
use serde::de::{Error as _, Visitor};
use serde::{Deserializer, Serializer};

struct Bytes<T>(PhantomData<T>);

impl<T: Plain> Visitor<'_> for Bytes<T> {
    type Value = T;

    fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{} bytes", size_of::<T>())
    }

    fn visit_bytes<E: serde::de::Error>(self, bytes: &[u8]) -> Result<T, E> {
        let whole = (bytes.len() == size_of::<T>()).then(|| T::read_from(bytes)).flatten();
        whole.ok_or_else(|| E::invalid_length(bytes.len(), &self))
    }
}

/// A layout of the kernel, as its bytes.
pub mod plain {
    use super::*;

    pub fn serialize<T: Plain, S: Serializer>(value: &T, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_bytes(value.as_bytes())
    }

    pub fn deserialize<'de, T: Plain, D: Deserializer<'de>>(from: D) -> Result<T, D::Error> {
        from.deserialize_bytes(Bytes(PhantomData))
    }
}

/// The same in a box.
pub mod plain_box {
    use super::*;

    #[expect(clippy::borrowed_box, reason = "serde hands over the field as it is")]
    pub fn serialize<T: Plain, S: Serializer>(value: &Box<T>, to: S) -> Result<S::Ok, S::Error> {
        plain::serialize(&**value, to)
    }

    pub fn deserialize<'de, T: Plain, D: Deserializer<'de>>(from: D) -> Result<Box<T>, D::Error> {
        plain::deserialize(from).map(Box::new)
    }
}

/// The same, or nothing: no bytes.
pub mod plain_option {
    use super::*;

    struct Perhaps<T>(PhantomData<T>);

    impl<T: Plain> Visitor<'_> for Perhaps<T> {
        type Value = Option<T>;

        fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            write!(formatter, "0 or {} bytes", size_of::<T>())
        }

        fn visit_bytes<E: serde::de::Error>(self, bytes: &[u8]) -> Result<Option<T>, E> {
            if bytes.is_empty() { Ok(None) } else { Bytes(PhantomData).visit_bytes(bytes).map(Some) }
        }
    }

    pub fn serialize<T: Plain, S: Serializer>(value: &Option<T>, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_bytes(value.as_ref().map_or(&[], Plain::as_bytes))
    }

    pub fn deserialize<'de, T: Plain, D: Deserializer<'de>>(from: D) -> Result<Option<T>, D::Error> {
        from.deserialize_bytes(Perhaps(PhantomData))
    }
}

/// A kind of event, as its byte.
pub mod kind {
    use serde::Deserialize;

    use super::*;

    pub fn serialize<S: Serializer>(value: &Kind, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u8(*value as u8)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Kind, D::Error> {
        let byte = u8::deserialize(from)?;
        Kind::from_byte(byte).ok_or_else(|| D::Error::custom(format_args!("kind {byte} is unknown")))
    }
}

/// A view, as its JSON.
pub mod json {
    use serde::de::DeserializeOwned;
    use serde::{Deserialize, Serialize};

    use super::*;

    pub fn serialize<T: Serialize, S: Serializer>(value: &T, to: S) -> Result<S::Ok, S::Error> {
        use serde::ser::Error;
        to.serialize_str(&serde_json::to_string(value).map_err(S::Error::custom)?)
    }

    pub fn deserialize<'de, T: DeserializeOwned, D: Deserializer<'de>>(from: D) -> Result<T, D::Error> {
        let text = <&str>::deserialize(from)?;
        serde_json::from_str(text).map_err(D::Error::custom)
    }
}
