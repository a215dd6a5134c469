//! One declaration of an option, from which everything follows that has to agree about it.
//!
//! The need: a default that stands in one place, a bound in a second and a reason in a third drift apart. The rule: an option is
//! declared once, and the struct, its default, its reading, its printing and its bound are made from that:
//!
//! ```text
//! options! {
//!     /// How queries are cut.
//!     pub struct Split {
//!         /// At most this many parts for one query.
//!         max_parts: usize = 64, bounds::count;
//!         |          |       |   └ what it is held against: fn(&usize) -> Result<(), String>
//!         |          |       └ its default; without one, the default of its type
//!         |          └ its type; `as Size` after it says how it is written, if not as its type is by itself
//!         └ its name, here and in the file
//!     }
//! }
//! ```
//!
//! The comment of a field is also the comment that `promfront print-config` prints above it. A struct that is declared is a
//! value itself, so sections nest. What concerns several options at once is no bound and stands in `check.rs`.

/// Declares a section of the configuration.
macro_rules! options {
    // How an option is written.
    (@form) => { $crate::config::value::Plain };
    (@form $form:ident) => { $crate::config::value::$form };
    // What holds where nothing is written.
    (@default) => { Default::default() };
    (@default $default:expr) => { $default };
    // A section.
    (
        $(#[$about:meta])*
        pub struct $Section:ident {
            $(
                $(#[doc = $doc:literal])+
                $option:ident: $type:ty $(as $form:ident)? $(= $default:expr)? $(, $bound:path)?;
            )*
        }
    ) => {
        $(#[$about])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct $Section {
            $( $(#[doc = $doc])+ pub $option: $type, )*
        }

        impl Default for $Section {
            fn default() -> Self {
                Self { $( $option: options!(@default $($default)?), )* }
            }
        }

        impl $crate::config::value::Value for $Section {
            fn read(node: &$crate::config::yaml::Node, report: &mut $crate::config::problem::Report) -> Option<Self> {
                use $crate::config::value::{Form, section, option};
                let entries = section(node, &[$(stringify!($option)),*], report)?;
                let default = Self::default();
                Some(Self {
                    $( $option: option(
                        entries,
                        stringify!($option),
                        report,
                        <options!(@form $($form)?) as Form<$type>>::read,
                    ).unwrap_or(default.$option), )*
                })
            }

            fn print(&self) -> $crate::config::print::Printed {
                use $crate::config::{print::{Entry, Printed}, value::Form};
                let default = Self::default();
                Printed::Section(vec![$( Entry {
                    name: stringify!($option),
                    reason: &[$($doc),+],
                    is_default: self.$option == default.$option,
                    value: <options!(@form $($form)?) as Form<$type>>::print(&self.$option),
                    example: <options!(@form $($form)?) as Form<$type>>::example(),
                } ),*])
            }

            fn example() -> Option<$crate::config::print::Printed> {
                Some($crate::config::value::Value::print(&Self::default()))
            }

            fn check(&self, report: &mut $crate::config::problem::Report) {
                use $crate::config::value::Form;
                $( report.within(stringify!($option), |report| {
                    $( report.hold(&self.$option, $bound); )?
                    <options!(@form $($form)?) as Form<$type>>::check(&self.$option, report);
                }); )*
            }
        }
    };
    // A section, and another one in which each of its options may be given or not, within the same bounds.
    (
        $(#[$about:meta])*
        pub struct $Section:ident {
            $(
                $(#[doc = $doc:literal])+
                $option:ident: $type:ty $(as $form:ident)? $(= $default:expr)? $(, $bound:path)?;
            )*
        }

        $(#[$about_own:meta])*
        pub struct $Own:ident has each of them or none and {
            $($more:tt)*
        }
    ) => {
        options! {
            $(#[$about])*
            pub struct $Section {
                $( $(#[doc = $doc])+ $option: $type $(as $form)? $(= $default)? $(, $bound)?; )*
            }
        }
        options! {
            $(#[$about_own])*
            pub struct $Own {
                $( $(#[doc = $doc])+ $option: Option<$type> $(as $form)? $(, $bound)?; )*
                $($more)*
            }
        }

        impl $Own {
            /// The options that are given, and are as they would be anyway.
            pub(super) fn same_as(&self, common: &$Section) -> Vec<&'static str> {
                let same = [$( (stringify!($option), self.$option == Some(common.$option)) ),*];
                same.into_iter().filter_map(|(option, is_same)| is_same.then_some(option)).collect()
            }
        }
    };
}

/// Declares a type of which each value has one word.
macro_rules! words {
    (
        $(#[$about:meta])*
        pub enum $Type:ident {
            $( $(#[$about_word:meta])* $Word:ident = $word:literal, )*
        }
    ) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub enum $Type {
            $( $(#[$about_word])* $Word, )*
        }

        impl $crate::config::value::Value for $Type {
            fn read(node: &$crate::config::yaml::Node, report: &mut $crate::config::problem::Report) -> Option<Self> {
                match $crate::config::value::word(node, &[$($word),*], report)? {
                    $( $word => Some(Self::$Word), )*
                    _ => None,
                }
            }

            fn print(&self) -> $crate::config::print::Printed {
                $crate::config::print::Printed::Plain(match self { $( Self::$Word => $word, )* }.to_owned())
            }
        }
    };
}

pub(super) use {options, words};
