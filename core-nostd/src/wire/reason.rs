//! Reasons for refusing input: small numbers to count by, with a name for the counter and a
//! sentence for a person. Nothing is formatted until somebody asks.

/// Declares a `Copy` enum of reasons: `Variant = "counter_name": "prose"`.
///
/// It gets `ALL`, `COUNT`, `index()` (dense, stable in order of declaration), `name()`, and
/// `Display`/`Error` with the prose.
macro_rules! reasons {
    (
        $(#[$meta:meta])*
        pub enum $Name:ident {
            $( $(#[$variant_meta:meta])* $Variant:ident = $name:literal: $prose:literal, )*
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum $Name {
            $( $(#[$variant_meta])* $Variant, )*
        }

        impl $Name {
            /// Every reason, in the order of [`Self::index`].
            pub const ALL: &'static [$Name] = &[$( $Name::$Variant ),*];
            /// How many reasons there are: the length of a table of counters.
            pub const COUNT: usize = Self::ALL.len();

            /// The place of this reason in a table of [`Self::COUNT`] counters.
            #[inline]
            pub const fn index(self) -> usize {
                self as usize
            }

            /// The reason's name, as counters are labelled.
            pub const fn name(self) -> &'static str {
                match self {
                    $( $Name::$Variant => $name, )*
                }
            }
        }

        impl core::fmt::Display for $Name {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                f.write_str(match self {
                    $( $Name::$Variant => $prose, )*
                })
            }
        }

        impl core::error::Error for $Name {}
    };
}
pub(crate) use reasons;
