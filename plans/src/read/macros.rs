//! The tables that types are declared with.

/// Declares a mapping with known keys: a struct, how it is read and written, and its JSON schema.
///
/// A field's key is its name, or what stands after `as`; further names for the same key follow after `|`. A field is
/// mandatory unless its type has a value for absence (`Option`, `Vec`, `Map`, `bool`).
macro_rules! record {
    (
        $(#[doc = $about:literal])+
        pub struct $name:ident {
            $( $(#[doc = $doc:literal])+ pub $field:ident $(as $key:literal $(| $alias:literal)*)? : $type:ty, )*
        }
    ) => {
        $(#[doc = $about])+
        #[derive(Debug, Clone, PartialEq)]
        pub struct $name {
            $( $(#[doc = $doc])+ pub $field: $type, )*
        }

        impl $name {
            /// Every key, by every name it goes by.
            #[allow(dead_code, reason = "not every record is part of a larger mapping")]
            pub(crate) const KEYS: &'static [&'static str] =
                &[$( $crate::read::record!(@key $field $($key)?), $($($alias,)*)? )*];

            /// Reads the record's keys from a mapping that may hold others.
            pub(crate) fn take(
                fields: &mut $crate::read::Fields<'_, '_>,
                cx: &mut $crate::read::Reader<'_>,
            ) -> Option<Self> {
                $(
                    let $field: Option<$type> =
                        fields.take(&[$crate::read::record!(@key $field $($key)?), $($($alias,)*)?], cx);
                )*
                Some(Self { $($field: $field?,)* })
            }

            /// Describes the record's keys, as JSON schema.
            pub(crate) fn properties(object: &mut $crate::read::schema::Object<'_>) {
                $(
                    object.property::<$type>(
                        &[$crate::read::record!(@key $field $($key)?), $($($alias,)*)?],
                        &[$($doc),+],
                    );
                )*
            }
        }

        impl $crate::read::FromYaml for $name {
            fn read(node: &$crate::yaml::Node<'_>, cx: &mut $crate::read::Reader<'_>) -> Option<Self> {
                let mut fields = $crate::read::Fields::of(node, cx)?;
                let value = Self::take(&mut fields, cx);
                fields.finish(&Self::KEYS.iter().copied(), cx);
                value
            }

            fn overlay(&mut self, over: Self) {
                $( $crate::read::FromYaml::overlay(&mut self.$field, over.$field); )*
            }

            fn schema(definitions: &mut $crate::read::Definitions) -> serde_json::Value {
                definitions.object(stringify!($name), &[$($about),+], Self::properties)
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                use serde::ser::SerializeMap as _;
                let mut map = serializer.serialize_map(None)?;
                $crate::read::record!(@entries self map $($field $($key)?,)*);
                map.end()
            }
        }
    };
    (@key $field:ident) => { stringify!($field) };
    (@key $field:ident $key:literal) => { $key };
    (@entries $self:ident $map:ident $($field:ident $($key:literal)?,)*) => {
        $(
            if !$crate::read::FromYaml::is_absent(&$self.$field) {
                $map.serialize_entry($crate::read::record!(@key $field $($key)?), &$self.$field)?;
            }
        )*
    };
}

/// Declares a closed set of words: an enum, how it is read and written, and its JSON schema.
///
/// Further spellings of a word follow after `|`.
macro_rules! choice {
    (
        $(#[doc = $about:literal])+
        pub enum $name:ident {
            $( $(#[doc = $doc:literal])+ $variant:ident = $word:literal $(| $alias:literal)*, )+
        }
    ) => {
        $(#[doc = $about])+
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name {
            $( $(#[doc = $doc])+ $variant, )+
        }

        impl $name {
            /// Returns the word.
            pub fn as_str(self) -> &'static str {
                match self { $( Self::$variant => $word, )+ }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl $crate::read::FromText for $name {
            fn from_text(text: &str) -> Result<Self, $crate::read::Problem> {
                match text {
                    $( $word $(| $alias)* => Ok(Self::$variant), )+
                    _ => Err($crate::read::unknown_word(text, &[$($word),+])),
                }
            }

            fn text_schema() -> serde_json::Value {
                $crate::read::schema::words(&[$($about),+], &[$($word, $($alias,)*)+])
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }
    };
}

pub(crate) use {choice, record};
