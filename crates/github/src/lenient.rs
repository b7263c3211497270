//! Reading foreign JSON field by field: what has another form than expected is absent.
//!
//! GitHub's lists hold records of others, and of GitHub's older and newer versions. A field that
//! is missing, `null` or of another type must cost that field, or its record, and never the list.

use std::fmt;
use std::marker::PhantomData;

use jiff::Timestamp;
use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeOwned, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// A value that is made of one JSON value.
pub(crate) trait Field: Sized {
    fn text(_: &str) -> Option<Self> {
        None
    }

    fn number(_: u64) -> Option<Self> {
        None
    }

    fn flag(_: bool) -> Option<Self> {
        None
    }
}

impl Field for String {
    fn text(text: &str) -> Option<Self> {
        Some(text.to_owned())
    }
}

impl Field for u64 {
    fn number(number: u64) -> Option<Self> {
        Some(number)
    }
}

impl Field for bool {
    fn flag(flag: bool) -> Option<Self> {
        Some(flag)
    }
}

impl Field for Timestamp {
    fn text(text: &str) -> Option<Self> {
        text.parse().ok()
    }
}

/// A field, if it is there and of the expected type.
#[derive(Debug)]
pub(crate) struct Maybe<T>(pub(crate) Option<T>);

impl<T> Default for Maybe<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<'de, T: Field> Deserialize<'de> for Maybe<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(FieldVisitor(PhantomData)).map(Self)
    }
}

struct FieldVisitor<T>(PhantomData<T>);

impl<'de, T: Field> Visitor<'de> for FieldVisitor<T> {
    type Value = Option<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        Ok(T::text(text))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Self::Value, E> {
        Ok(T::number(number))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Self::Value, E> {
        Ok(u64::try_from(number).ok().and_then(T::number))
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_bool<E: Error>(self, flag: bool) -> Result<Self::Value, E> {
        Ok(T::flag(flag))
    }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<Self::Value, A::Error> {
        skip_items(items).map(|()| None)
    }

    fn visit_map<A: MapAccess<'de>>(self, fields: A) -> Result<Self::Value, A::Error> {
        skip_fields(fields).map(|()| None)
    }
}

/// An object, or none where something else stands.
pub(crate) struct Record<T>(pub(crate) Option<T>);

impl<T> Default for Record<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<'de, T: DeserializeOwned> Deserialize<'de> for Record<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(RecordVisitor(PhantomData)).map(Self)
    }
}

struct RecordVisitor<T>(PhantomData<T>);

impl<'de, T: DeserializeOwned> Visitor<'de> for RecordVisitor<T> {
    type Value = Option<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_map<A: MapAccess<'de>>(self, fields: A) -> Result<Self::Value, A::Error> {
        T::deserialize(MapAccessDeserializer::new(fields)).map(Some)
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<Self::Value, A::Error> {
        skip_items(items).map(|()| None)
    }
}

/// The objects of a list; empty where something else stands.
pub(crate) struct Records<T>(pub(crate) Vec<Record<T>>);

impl<'de, T: DeserializeOwned> Deserialize<'de> for Records<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(ListVisitor(PhantomData))
            .map(|list: Option<Vec<Record<T>>>| Self(list.unwrap_or_default()))
    }
}

/// The texts of a list. Absent and `null` are an empty list; none where one of them, or the whole,
/// is something else: a part of the labels would be those of another job.
pub(crate) struct Texts(pub(crate) Option<Vec<String>>);

impl Default for Texts {
    fn default() -> Self {
        Self(Some(Vec::new()))
    }
}

impl<'de> Deserialize<'de> for Texts {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let list: Option<Vec<Maybe<String>>> = from.deserialize_any(ListVisitor(PhantomData))?;
        let texts = list.and_then(|list| list.into_iter().map(|text| text.0).collect());
        Ok(Self(texts))
    }
}

/// Visits a list; `null` is an empty one, and anything else is none.
struct ListVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for ListVisitor<T> {
    type Value = Option<Vec<T>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Some(list))
    }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Ok(Some(Vec::new()))
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_map<A: MapAccess<'de>>(self, fields: A) -> Result<Self::Value, A::Error> {
        skip_fields(fields).map(|()| None)
    }
}

fn skip_items<'de, A: SeqAccess<'de>>(mut items: A) -> Result<(), A::Error> {
    while items.next_element::<IgnoredAny>()?.is_some() {}
    Ok(())
}

fn skip_fields<'de, A: MapAccess<'de>>(mut fields: A) -> Result<(), A::Error> {
    while fields.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Deserialize)]
    struct Odd {
        #[serde(default)]
        number: Maybe<u64>,
        #[serde(default)]
        texts: Texts,
    }

    #[test]
    fn a_field_of_another_type_is_absent_and_the_rest_is_read() {
        for odd in [
            "null",
            "\"7\"",
            "-1",
            "1.5",
            "true",
            "[1, [2], {\"a\": 3}]",
            "{\"a\": [1]}",
        ] {
            let text = format!("[{{\"texts\": [\"a\"], \"number\": {odd}}}, {odd}, {{}}]");
            let read: Vec<Record<Odd>> = serde_json::from_str(&text).unwrap();
            let first = read[0].0.as_ref().unwrap();
            assert_eq!(first.number.0, None, "{odd}");
            assert_eq!(first.texts.0.as_deref(), Some(["a".to_owned()].as_slice()));
            assert!(read[2].0.is_some(), "{odd}");
        }
        let texts = |text: &str| serde_json::from_str::<Texts>(text).unwrap().0;
        assert_eq!(texts("null"), Some(Vec::new()));
        for odd in ["[null]", "[\"a\", 1]", "\"a\"", "{\"a\": 1}", "7"] {
            assert_eq!(texts(odd), None, "{odd}");
        }
    }
}
