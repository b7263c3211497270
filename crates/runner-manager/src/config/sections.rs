//! The sections of backends within that of a pool. Which there can be, the build decides, so they
//! are no fields of a type.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeSeed, Deserializer, IntoDeserializer, MapAccess, Visitor};
use serde::{Deserialize, de};

use super::Pool;
use crate::backends;

/// The sections of one pool, by scheme.
pub(super) type Sections = BTreeMap<String, toml::Table>;

impl<'de> Deserialize<'de> for Pool {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(PoolVisitor)
    }
}

struct PoolVisitor;

impl<'de> Visitor<'de> for PoolVisitor {
    type Value = Pool;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("the section of a pool")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Pool, A::Error> {
        let mut sections = Sections::new();
        let keys = Keys {
            map,
            sections: &mut sections,
        };
        // This is the derived one.
        let mut pool = Pool::deserialize(MapAccessDeserializer::new(keys))?;
        pool.sections = sections;
        Ok(pool)
    }
}

/// The keys of a pool, from which the sections of backends are put aside.
struct Keys<'s, A> {
    map: A,
    sections: &'s mut Sections,
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Keys<'_, A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        mut seed: K,
    ) -> Result<Option<K::Value>, A::Error> {
        loop {
            match self.map.next_key_seed(Key(seed))? {
                None => return Ok(None),
                Some(Found::Field(field)) => return Ok(Some(field)),
                Some(Found::Scheme(scheme, unused)) => {
                    self.sections.insert(scheme, self.map.next_value()?);
                    seed = unused;
                }
            }
        }
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, A::Error> {
        self.map.next_value_seed(seed)
    }
}

/// Reads a key; what it is a key of is read by the seed, unless it is a scheme.
struct Key<K>(K);

enum Found<K, V> {
    Field(V),
    Scheme(String, K),
}

impl<'de, K: DeserializeSeed<'de>> DeserializeSeed<'de> for Key<K> {
    type Value = Found<K, K::Value>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        let key = String::deserialize(deserializer)?;
        if backends::all().iter().any(|(scheme, _)| *scheme == key) {
            return Ok(Found::Scheme(key, self.0));
        }
        let key: de::value::StringDeserializer<D::Error> = key.into_deserializer();
        self.0.deserialize(key).map(Found::Field)
    }
}
